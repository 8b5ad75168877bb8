"""How workers live and die. Each test is a process that forks; what its workers do is a line of code."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy.server.process import workers
from tests.kit.gateway import ROOT, poll

PROGRAM = """
import logging, os, select, signal, sys, time
from pathlib import Path
from gproxy.server.process import workers
from gproxy.server.console import LinesHandler
from gproxy.server.process.workers import Workers, run_apart

logging.basicConfig(handlers=[LinesHandler()])
folder = Path(sys.argv[1])
patience_s = 20.0

def starts(slot):
    "How often a worker has begun in this slot, this time with it."
    with (folder / f"starts-{{slot}}").open("a") as file:
        file.write(f"{{os.getpid()}}\\n")
    return len((folder / f"starts-{{slot}}").read_text().split())

def serve(worker):
    worker.ready()
    select.select([worker.stop, worker.now], [], [])
    return 0

told = (folder / "told").touch

{work}

def said(what, result=None):
    return lambda: print(what, flush=True) or result

def obstacle():
    return "nothing there" if (folder / "nothing").exists() else None

def obstacle_beside():
    "Who has begun to serve has open what is there now, and none may begin beside it by anything else."
    print("one serves", flush=True)
    opened = (folder / "other").exists()
    return lambda: "something else" if (folder / "other").exists() != opened else None

stop = said("stopping", patience_s)
def vacant(slot, is_vacant):
    print("vacant" if is_vacant else "open", slot, flush=True)

obstacles = {{"obstacle": obstacle, "obstacle_beside": obstacle_beside}}
hears = {{"on_ready": said("ready"), "on_told": told, "on_stop": stop, "on_vacant": vacant}}
code = Workers({count}, work, **obstacles, **hears).run()
print("cpu", time.process_time(), flush=True)
sys.exit(code)
"""


class Ran:
    def __init__(self, folder: Path, work: str, count: int = 2) -> None:
        self.folder = folder
        text = PROGRAM.format(work=textwrap.dedent(work), count=count)
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                (sys.executable, "-c", text, str(folder)),
                env={**os.environ, "PYTHONPATH": ROOT},
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def starts(self, slot: int) -> list[int]:
        """The processes that have begun in a slot, in order."""
        with contextlib.suppress(FileNotFoundError):
            return [int(pid) for pid in (self.folder / f"starts-{slot}").read_text().split()]
        return []

    def wait_ready(self) -> None:
        poll(lambda: "ready" in self.out, "all workers")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@contextlib.contextmanager
def running(folder: Path, work: str, count: int = 2) -> Iterator[Ran]:
    it = Ran(folder, work, count)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.wait()


GOOD = """
def work(worker):
    starts(worker.slot)
    return serve(worker)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_are_told_to_stop_and_waited_for(tmp_path: Path, number: int) -> None:
    with running(tmp_path, GOOD, 3) as it:
        it.wait_ready()
        assert it.end(number) == 0
        assert it.out.splitlines()[:5] == ["one serves"] * 3 + ["ready", "stopping"]
        assert it.err == ""
        assert not any(alive(it.starts(slot)[0]) for slot in range(3))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_is_replaced_at_once_and_leaves_no_zombie(tmp_path: Path) -> None:
    with running(tmp_path, GOOD) as it:
        it.wait_ready()
        (first,) = it.starts(1)
        os.kill(first, signal.SIGKILL)
        poll(lambda: len(it.starts(1)) == 2, "another", within=workers.STEADY_S / 2)
        poll(lambda: not alive(first), "it is reaped", within=workers.STEADY_S / 2)
        assert len(it.starts(0)) == 1
        assert it.err == "gproxy: worker 1 was killed by signal 9; another takes its place\n"
        assert it.end() == 0


def test_a_worker_may_tell_again_and_each_time_is_heard(tmp_path: Path) -> None:
    work = """
    def work(worker):
        worker.ready()
        while not (folder / "again").exists():
            time.sleep(0.01)
        return serve(worker)
    """
    with running(tmp_path, work) as it:
        it.wait_ready()
        poll((tmp_path / "told").exists, "the first word")
        (tmp_path / "told").unlink()
        (tmp_path / "again").touch()
        poll((tmp_path / "told").exists, "the second")
        assert it.end() == 0
        assert it.out.split().count("ready") == 1


def test_workers_hear_no_signal_that_is_sent_to_them_all(tmp_path: Path) -> None:
    with running(tmp_path, GOOD) as it:
        it.wait_ready()
        for number in (signal.SIGINT, signal.SIGTERM):
            for slot in (0, 1):
                os.kill(it.starts(slot)[0], number)
        time.sleep(0.2)
        assert it.end() == 0
        assert len(it.starts(0) + it.starts(1)) == 2


def test_a_worker_that_cannot_begin_ends_the_server_and_is_not_tried_again(tmp_path: Path) -> None:
    work = """
    def work(worker):
        starts(worker.slot)
        if worker.slot == 1:
            print("gproxy: no store", file=sys.stderr, flush=True)
            return workers.REFUSED
        return serve(worker)
    """
    with running(tmp_path, work) as it:
        assert it.process.wait(20) == 1
        assert (len(it.starts(0)), len(it.starts(1))) == (1, 1)
        assert it.err == "gproxy: no store\n"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9"),
        ("return 0", "ended with code 0"),
        ("raise KeyError", "ended with code 3"),
    ],
)
def test_workers_that_die_before_all_have_served_end_the_server_after_some_tries(
    tmp_path: Path, end: str, told: str
) -> None:
    work = f"""
    def work(worker):
        starts(worker.slot)
        if worker.slot == 1:
            while not (folder / "told").exists():  # that the other serves: what died before counts no more then
                time.sleep(0.01)
            {end}
        return serve(worker)
    """
    with running(tmp_path, work) as it:
        assert it.process.wait(20) == 1
        assert (len(it.starts(0)), len(it.starts(1))) == (1, 5)
        assert ("KeyError" in it.err) == ("KeyError" in end)
        assert it.err.count(f"gproxy: worker 1 {told} before it served; another takes its place\n") == 4
        assert f"gproxy: worker 1 {told} before it served, as 5 in turn did: the server ends.\n" in it.err


def test_workers_that_are_killed_as_they_start_are_tried_again(tmp_path: Path) -> None:
    """At first, and again where none is left that serves; what was tried before counts no more then."""
    work = """
    def work(worker):
        if starts(worker.slot) % 3:  # two of three
            os.kill(os.getpid(), signal.SIGKILL)
        return serve(worker)
    """
    with running(tmp_path, work, 1) as it:
        it.wait_ready()
        assert len(it.starts(0)) == 3
        os.kill(it.starts(0)[-1], signal.SIGKILL)
        poll(lambda: it.out.count("one serves") == 2, "it serves again")
        assert len(it.starts(0)) == 6
        assert it.end() == 0


def test_the_pause_before_a_worker_that_dies_again_and_again_grows(tmp_path: Path) -> None:
    work = """
    def work(worker):
        if starts(worker.slot) > 1 and worker.slot == 1:
            return workers.REFUSED
        if worker.slot == 1:
            worker.ready()
            time.sleep(0.3)
            return 7
        return serve(worker)
    """
    with running(tmp_path, work) as it:
        it.wait_ready()
        poll(lambda: len(it.starts(1)) == 4, "some tries")  # after 0.1, 0.2 and 0.4 s
        time.sleep(0.5)
        assert len(it.starts(1)) == 4
        assert len(it.starts(0)) == 1
        assert it.end() == 0  # in the middle of a pause


def test_none_begins_beside_one_that_serves_by_something_else(tmp_path: Path) -> None:
    with running(tmp_path, GOOD) as it:
        it.wait_ready()
        (tmp_path / "other").touch()
        os.kill(it.starts(1)[0], signal.SIGKILL)
        poll(lambda: it.err.count("gproxy: something else\n") == 2, "it is told of again")
        assert "gproxy: worker 1 could not begin; another takes its place\n" in it.err
        assert len(it.starts(1)) == 1
        (tmp_path / "other").unlink()
        poll(lambda: len(it.starts(1)) == 2, "a successor")
        assert it.end() == 0


def test_clients_are_led_to_those_that_serve_while_none_can_begin_for_long(tmp_path: Path) -> None:
    with running(tmp_path, GOOD) as it:
        it.wait_ready()
        (tmp_path / "other").touch()
        os.kill(it.starts(1)[0], signal.SIGKILL)
        poll(lambda: "vacant 1\n" in it.out, "nobody waits for it")
        assert it.err.count("something else") > 2, "for a moment clients do"
        (tmp_path / "other").unlink()
        poll(lambda: it.out.count("one serves") == 3, "a successor")
        assert it.out.split("one serves")[2].split("\n")[1:-1] == ["ready", "vacant 1", "open 1"]
        assert it.end() == 0


def test_when_none_serves_any_more_the_next_begin_soon_and_clients_wait_for_them(tmp_path: Path) -> None:
    """However often workers have died young: with pauses of ten seconds nobody would be served for so long."""
    with running(tmp_path, GOOD) as it:
        it.wait_ready()
        for death in range(1, 5):
            os.kill(it.starts(1)[-1], signal.SIGKILL)
            poll(lambda death=death: it.out.count("one serves") == 2 + death, "a successor")
        os.kill(it.starts(1)[-1], signal.SIGKILL)
        poll(lambda: "vacant 1\n" in it.out, "the next one comes in 1.6 s")
        began = time.monotonic()
        os.kill(it.starts(0)[-1], signal.SIGKILL)
        poll(lambda: it.out.count("one serves") == 8, "both serve again")
        assert time.monotonic() - began < 1
        assert "open 1" in it.out
        assert it.end() == 0


def test_what_nobody_living_serves_by_is_forgotten(tmp_path: Path) -> None:
    """And what those serve by that come after it is remembered in its place."""
    with running(tmp_path, GOOD, 3) as it:
        it.wait_ready()
        (tmp_path / "other").touch()
        for slot in range(3):
            os.kill(it.starts(slot)[0], signal.SIGKILL)
        poll(lambda: it.out.count("one serves") == 6, "they all serve again")
        (tmp_path / "other").unlink()
        os.kill(it.starts(2)[1], signal.SIGKILL)
        seen = it.err.count("something else")
        poll(lambda: it.err.count("something else") > seen, "none begins beside the others")
        assert len(it.starts(2)) == 2
        assert it.end() == 0


def test_what_lets_none_begin_ends_the_server_once_none_serves(tmp_path: Path) -> None:
    with running(tmp_path, GOOD) as it:
        it.wait_ready()
        (tmp_path / "nothing").touch()
        os.kill(it.starts(0)[0], signal.SIGKILL)
        poll(lambda: "worker 0 could not begin; another takes its place" in it.err, "none begins")
        os.kill(it.starts(1)[0], signal.SIGKILL)
        assert it.process.wait(20) == 1
        assert (len(it.starts(0)), len(it.starts(1))) == (1, 1)
        assert it.err.endswith("gproxy: nothing there\n")


def test_the_last_word_of_a_dead_worker_is_not_taken_for_its_successors(tmp_path: Path) -> None:
    work = """
    def told():
        if (folder / "starts-0").exists():
            time.sleep(0.3)  # its second word and its death come meanwhile

    def work(worker):
        if starts(worker.slot) == 1:
            worker.ready()
            time.sleep(0.1)
            worker.ready()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1)
        return serve(worker)
    """
    with running(tmp_path, work, 1) as it:
        poll(lambda: len(it.starts(0)) == 2, "a successor")
        time.sleep(0.5)
        assert it.out.count("one serves") == 1
        poll(lambda: it.out.count("one serves") == 2, "it serves")
        assert it.end() == 0


def test_nothing_that_serves_is_left_and_none_can_begin(tmp_path: Path) -> None:
    work = """
    def work(worker):
        return workers.REFUSED if starts(worker.slot) > 1 else serve(worker)
    """
    with running(tmp_path, work) as it:
        it.wait_ready()
        for slot in (0, 1):
            os.kill(it.starts(slot)[0], signal.SIGKILL)
        assert it.process.wait(20) == 1
        assert len(it.starts(0)) <= 2


def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    work = """
    patience_s = 0.3
    def work(worker):
        serve(worker)
        time.sleep(60 if worker.slot else 0)
        return 0
    """
    with running(tmp_path, work) as it:
        it.wait_ready()
        assert it.end() == 1
        assert it.err == "gproxy: worker 1 did not end in time and is killed.\n"


def test_a_second_signal_is_told_to_the_workers(tmp_path: Path) -> None:
    work = """
    def work(worker):
        worker.ready()
        select.select([worker.stop], [], [])
        (folder / "stopped").touch()
        return 0 if select.select([worker.now], [], [], 20)[0] else 9
    """
    with running(tmp_path, work) as it:
        it.wait_ready()
        it.process.send_signal(signal.SIGTERM)
        poll((tmp_path / "stopped").exists, "the first")
        assert it.process.poll() is None
        assert it.end(signal.SIGINT) == 0


def test_a_signal_while_workers_begin_ends_them(tmp_path: Path) -> None:
    work = """
    def work(worker):
        starts(worker.slot)
        time.sleep(0.5)
        return serve(worker)
    """
    with running(tmp_path, work) as it:
        poll(lambda: bool(it.starts(0) and it.starts(1)), "both forked")
        assert it.end() == 0
        assert "ready" not in it.out


def test_workers_hear_of_the_death_of_their_parent(tmp_path: Path) -> None:
    work = """
    def work(worker):
        starts(worker.slot)
        worker.ready()
        select.select([worker.stop], [], [])
        select.select([worker.now], [], [])
        (folder / f"heard-{worker.slot}").touch()
        return 0
    """
    with running(tmp_path, work) as it:
        it.wait_ready()
        it.process.kill()
        poll(lambda: all((tmp_path / f"heard-{slot}").exists() for slot in (0, 1)), "they hear of it")


def test_the_parent_sleeps(tmp_path: Path) -> None:
    with running(tmp_path, GOOD) as it:
        it.wait_ready()
        before = cpu_s(it.process.pid)
        time.sleep(1)
        assert cpu_s(it.process.pid) - before <= 0.02


def cpu_s(pid: int) -> float:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_what_runs_apart_tells_its_code(tmp_path: Path) -> None:
    work = """
    assert [run_apart(lambda: 0), run_apart(lambda: 5)] == [0, 5]
    assert run_apart(lambda: 1 / 0) == workers.CRASHED
    work = serve
    """
    with running(tmp_path, work) as it:
        it.wait_ready()
        assert it.end() == 0
        assert len(re.findall("ZeroDivisionError", it.err)) == 1
