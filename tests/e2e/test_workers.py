"""Several workers are one server: they share its address, its limits, its end, and lose only what a dead one held."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.calls import BY_ID
from tests.kit.gateway import ROOT, Gateway, poll
from tests.kit.settings import alias, chatting, provider
from tests.kit.upstream import SOON_S, Script, Upstream

CHAT, STREAM = BY_ID["chat"], BY_ID["chat-stream"]
OPEN = 16
"""How many streams make it certain enough that each of two workers has some."""


def two(folder: Path, upstream: Upstream, *flags: str) -> Gateway:
    return Gateway(folder, chatting(upstream.url), "--workers", "2", *flags)


def workers(gateway: Gateway) -> list[int]:
    """The processes below the server's."""
    listed = subprocess.run(("ps", "-A", "-o", "pid=,ppid="), capture_output=True, text=True, check=True)
    pairs = (map(int, line.split()) for line in listed.stdout.splitlines())
    return [pid for pid, parent in pairs if parent == gateway.process.pid]


def holders(gateway: Gateway) -> dict[str, int]:
    """The worker that holds each open request, by the model that it asked for."""
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT worker, record FROM reservations")
        return {json.loads(record)["model"]: worker for worker, record in rows}


class Streams:
    """Streams that are held open by the upstream, each by a connection and for a model of its own."""

    def __init__(self, gateway: Gateway, upstream: Upstream, count: int = OPEN) -> None:
        self.models = [upstream.model(Script(stop_after=2, then="gate")) for _ in range(count)]
        self.got: dict[str, bytes] = dict.fromkeys(self.models, b"")
        self.broken: set[str] = set()
        self._gateway, self._upstream = gateway, upstream
        self._threads = [threading.Thread(target=self._read, args=(model,)) for model in self.models]
        for thread in self._threads:
            thread.start()
        poll(lambda: all(self.got.values()), "every stream has begun")
        poll(lambda: len(holders(gateway)) == count, "each is known to the store")

    def _read(self, model: str) -> None:
        try:
            with (
                self._gateway.client() as client,
                client.stream("POST", STREAM.url(model, "oa"), json=STREAM.fields(model)) as answer,
            ):
                for piece in answer.iter_bytes():
                    self.got[model] += piece
        except httpx.TransportError:
            self.broken.add(model)

    def finish(self) -> None:
        for model in self.models:
            self._upstream.open_gate(model)
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    @property
    def whole(self) -> set[str]:
        return {model for model, got in self.got.items() if got.endswith(b"data: [DONE]\n\n")}


@contextmanager
def load(gateway: Gateway) -> Iterator[list[tuple[float, float, str]]]:
    """Requests from eight threads, each on a connection of its own: (begun, ended, fault) of every one."""
    made: list[tuple[float, float, str]] = []
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.01):
            begun = time.monotonic()
            try:
                answer = gateway.post("/v1/chat/completions", CHAT.fields("chat-default"))
                fault = "" if answer.status_code == 200 else answer.text
            except httpx.TransportError as error:
                fault = repr(error)
            made.append((begun, time.monotonic(), fault))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the workers share one queue, as it comes")
def test_connections_are_spread_over_the_workers(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        streams = Streams(gateway, upstream, 32)
        share = list(holders(gateway).values())
        streams.finish()
    assert set(share) == {0, 1}
    assert min(share.count(0), share.count(1)) >= 4


def test_a_worker_that_is_killed_takes_only_its_own_requests_along(
    upstream: Upstream, tmp_path: Path
) -> None:
    with two(tmp_path, upstream) as gateway:
        before = workers(gateway)
        assert len(before) == 2
        streams = Streams(gateway, upstream)
        held = {model: slot for model, slot in holders(gateway).items() if model in streams.models}
        with load(gateway) as made:
            poll(lambda: len(made) > 50, "some load")
            killed_at = time.monotonic()
            os.kill(before[0], signal.SIGKILL)
            slot = int(
                gateway.wait_line(r"worker (\d) was killed by signal 9; another takes its place").group(1)
            )
            poll(lambda: len(workers(gateway)) == 2 and before[0] not in workers(gateway), "a new one")
            seen = len(made)
            poll(lambda: len(made) > seen + 50, "more load")
        lost = {model for model in streams.models if held[model] == slot}
        # What the dead worker held is settled by the one that takes its place.
        rows = {row["model"]: row for row in gateway.rows() if row["model"] in lost}
        poll(lambda: not lost & set(holders(gateway)), "it is settled")
        streams.finish()
        rows = {row["model"]: row for row in gateway.rows() if row["model"] in streams.models}
        assert holders(gateway) == {}
    assert lost
    assert streams.broken == lost
    assert streams.whole == set(streams.models) - lost
    assert {model: row["outcome"] for model, row in rows.items()} == {
        model: "interrupted" if model in lost else "ok" for model in streams.models
    }
    failed = [(begun, ended, fault) for begun, ended, fault in made if fault]
    assert [each for each in failed if not each[0] <= killed_at <= each[1] + 0.2] == []
    assert len(failed) <= 8
    after = [(ended - begun) for begun, ended, _ in made if begun > killed_at]
    assert max(after) < 2 * SOON_S


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_second_server_on_one_store_is_refused(upstream: Upstream, tmp_path: Path, count: str) -> None:
    with Gateway(tmp_path, chatting(upstream.url), "--workers", count) as gateway:
        done = subprocess.run(
            (sys.executable, "-m", "gproxy", "serve", "--config", str(gateway.path), "--port", "0"),
            env={**os.environ, "PYTHONPATH": ROOT},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if "warning" not in line]
        assert re.fullmatch(
            r"gproxy: another gproxy serves from .*: stop it, or choose another data_dir\.", line
        )
        assert gateway.get("/health").text == "OK"


def test_streams_of_every_worker_finish_after_sigterm(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        streams = Streams(gateway, upstream)
        assert set(holders(gateway).values()) == {0, 1}
        gateway.process.send_signal(signal.SIGTERM)
        poll(lambda: refuses(gateway.url), "no new connection is taken")
        assert gateway.process.poll() is None
        streams.finish()
        gateway.ended()
        assert streams.whole == set(streams.models)
        assert {row["outcome"] for row in gateway.rows()} == {"ok"}


def refuses(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", trust_env=False, timeout=2)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        pass
    return False


def test_a_signal_to_all_processes_at_once_is_one_signal(upstream: Upstream, tmp_path: Path) -> None:
    """As a terminal sends it at Ctrl-C, and a service manager to all of a service."""
    with two(tmp_path, upstream) as gateway:
        streams = Streams(gateway, upstream)
        for pid in (gateway.process.pid, *workers(gateway)):
            os.kill(pid, signal.SIGINT)
        poll(lambda: refuses(gateway.url), "no new connection is taken")
        streams.finish()
        gateway.ended()
        assert streams.whole == set(streams.models)


def test_a_second_signal_ends_every_worker_at_once(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        streams = Streams(gateway, upstream)
        gateway.process.send_signal(signal.SIGTERM)
        poll(lambda: refuses(gateway.url), "no new connection is taken")
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        streams.join()
        gateway.ended()
        assert time.monotonic() - began < 5
        assert streams.whole == set()
        assert all(b"overloaded_error" in got for got in streams.got.values())
        rows = gateway.rows()
        assert len(rows) == OPEN
        assert {row["outcome"] for row in rows} == {"interrupted"}


def test_streams_that_outlast_the_drain_are_ended(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream, "--drain-seconds", "1") as gateway:
        streams = Streams(gateway, upstream)
        gateway.process.send_signal(signal.SIGTERM)
        streams.join()
        gateway.ended()
        assert streams.broken == set()
        assert all(b"overloaded_error" in got for got in streams.got.values())


def test_a_signal_while_a_worker_is_being_replaced_ends_them_all(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        os.kill(workers(gateway)[0], signal.SIGKILL)
        gateway.wait_line("another takes its place")
        gateway.stop()


def test_the_death_of_the_supervisor_is_the_end_of_its_workers(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        streams = Streams(gateway, upstream)
        below = workers(gateway)
        gateway.process.kill()
        gateway.process.wait()
        poll(lambda: not any(map(alive, below)), "no worker is left")
        streams.join()
        gateway.lines.clear()
        gateway.start()  # the store is free again
        assert {row["outcome"] for row in gateway.rows()} == {"interrupted"}
        assert len(gateway.rows()) == OPEN


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    found = subprocess.run(("ps", "-o", "stat=", "-p", str(pid)), capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


def test_all_processes_killed_lose_no_store(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        streams = Streams(gateway, upstream)
        for pid in (gateway.process.pid, *workers(gateway)):
            os.kill(pid, signal.SIGKILL)
        gateway.process.wait()
        streams.join()
        gateway.lines.clear()
        gateway.start()
        assert holders(gateway) == {}
        assert {row["outcome"] for row in gateway.rows()} == {"interrupted"}
        assert gateway.post(CHAT.url("m", "oa"), CHAT.fields("m")).status_code == 200


def test_an_edit_reaches_every_worker_and_is_told_of_once(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        gateway.edit(lambda text: text + alias("fresh", "oa", "m"))
        gateway.wait_line("configuration reloaded")

        def everywhere() -> bool:
            answers = [gateway.post("/v1/chat/completions", CHAT.fields("fresh")) for _ in range(12)]
            return all(answer.status_code == 200 for answer in answers)

        poll(everywhere, "the alias")
        assert gateway.stderr.count("configuration reloaded") == 1
        seen = len(gateway.lines)
        gateway.edit(lambda text: text + "nonsense")
        gateway.wait_line("the edit is not in force", since=seen)
        time.sleep(0.5)
        assert gateway.stderr.count("the edit is not in force") == 1


def served(gateway: Gateway, model: str) -> bool:
    """Whether many connections, and so every worker, are answered."""
    answers = [gateway.post("/v1/chat/completions", CHAT.fields(model)) for _ in range(12)]
    return all(answer.status_code == 200 for answer in answers)


def kill(gateway: Gateway, pids: list[int]) -> None:
    """And wait until they are gone: what comes to one in its last moment goes with it."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    poll(lambda: not {*workers(gateway)} & {*pids}, "they are gone")


def replace(gateway: Gateway, dead: list[int]) -> None:
    kill(gateway, dead)
    poll(lambda: len(workers(gateway)) == 2, "their successors")


@pytest.mark.parametrize("count", [1, 2], ids=["one", "all"])
def test_workers_that_die_while_the_file_is_bad_are_replaced_by_the_last_good_version(
    upstream: Upstream, tmp_path: Path, count: int
) -> None:
    with two(tmp_path, upstream) as gateway:
        whole = gateway.path.read_text()
        gateway.edit(lambda text: text + alias("fresh", "oa", "m"))
        poll(lambda: served(gateway, "fresh"), "the alias")
        gateway.edit(lambda text: text + "nonsense")
        gateway.wait_line("the edit is not in force")
        for _ in range(2):
            replace(gateway, workers(gateway)[:count])
            assert served(gateway, "fresh")
        answers = [gateway.get("/ready") for _ in range(12)]
        assert {answer.status_code for answer in answers} == {503}
        assert all("not in force" in answer.text for answer in answers)
        gateway.edit(lambda text: whole + alias("mended", "oa", "m"))
        poll(lambda: served(gateway, "mended"), "the mended file")
        assert {gateway.get("/ready").status_code for _ in range(12)} == {200}


def test_a_version_that_only_successors_have_read_is_the_last_good_one_too(
    upstream: Upstream, tmp_path: Path
) -> None:
    with two(tmp_path, upstream) as gateway:
        gateway.edit(lambda text: text + alias("fresh", "oa", "m"))
        replace(gateway, workers(gateway))
        assert served(gateway, "fresh")
        gateway.edit(lambda text: text + "nonsense")
        replace(gateway, workers(gateway))
        assert served(gateway, "fresh")


@pytest.mark.parametrize("count", [2, 4])
def test_workers_that_all_die_at_once_are_replaced_each_time(
    upstream: Upstream, tmp_path: Path, count: int
) -> None:
    """The first of their successors makes a new write-ahead log, in which the others join it."""
    with two(tmp_path, upstream, "--workers", str(count)) as gateway:
        for _ in range(4):
            # So many connections come to every worker, and wait until it serves.
            assert {gateway.get("/ready", key=None).status_code for _ in range(12 * count)} == {200}
            assert served(gateway, "chat-default")
            kill(gateway, workers(gateway))
        assert {gateway.get("/ready", key=None).status_code for _ in range(12 * count)} == {200}
        assert len(workers(gateway)) == count
        assert "could not begin" not in gateway.stderr
        assert "removed or replaced" not in gateway.stderr


def test_a_worker_that_takes_a_place_leaves_to_a_restart_what_needs_one(
    upstream: Upstream, tmp_path: Path
) -> None:
    with two(tmp_path, upstream) as gateway:
        (tmp_path / "new.pem").write_text("not for now")
        tls = 'tls_certificate = "new.pem"\ntls_key = "new.pem"\n'
        gateway.edit(lambda text: text.replace("[global]\n", f"[global]\n{tls}") + alias("fresh", "oa", "m"))
        gateway.wait_line(r"restart to apply \[global\] tls_certificate, tls_key")
        replace(gateway, workers(gateway)[:1])
        poll(lambda: served(gateway, "fresh"), "the rest of the edit")
        assert not gateway.stderr.count("before it served")


def test_lines_on_stderr_are_whole(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream, "--log-format", "json") as gateway:
        with load(gateway) as made:
            # 3.5 s of CPU, nearly all of it here: a client for each request.
            poll(lambda: len(made) > 200, "some load", within=30.0)

        def lines_of_requests() -> list[str]:
            return [line for line in gateway.lines if '"status"' in line]

        lines = poll(lambda: found if len(found := lines_of_requests()) >= len(made) else None, "the lines")
        assert {json.loads(line)["status"] for line in lines} == {200}
        assert all(json.loads(line)["message"] for line in gateway.lines if line not in lines)


def test_a_loop_through_another_worker_ends_at_once(upstream: Upstream, tmp_path: Path) -> None:
    with two(tmp_path, upstream) as gateway:
        loop = provider("loop", "openai", f"{gateway.url}/loop/v1")
        gateway.edit(lambda text: text + loop)
        answered = 0

        def everywhere() -> bool:
            nonlocal answered
            answers = [gateway.post("/v1/chat/completions", CHAT.fields("loop/m")) for _ in range(12)]
            stopped = sum("508" in answer.text for answer in answers)
            answered += stopped
            return stopped == 12

        poll(everywhere, "the provider")
        # The second time around is refused at the door, whichever worker it came to, and leaves no row.
        assert len(gateway.rows(provider="loop")) == answered


def test_a_store_that_is_broken_is_one_sentence_and_one(upstream: Upstream, tmp_path: Path) -> None:
    gateway = two(tmp_path, upstream)
    gateway.database.mkdir(parents=True)
    done = subprocess.run(
        (
            sys.executable,
            "-m",
            "gproxy",
            "serve",
            "--config",
            str(gateway.path),
            "--port",
            "0",
            "--workers",
            "2",
        ),
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert "gproxy.db" in line


def test_the_demo_is_served_by_several_with_one_key(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        (sys.executable, "-m", "gproxy", "serve", "--demo", "--workers", "2", "--port", "0"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            until = lines_until(process, "curl ")
            url = re.search(r"http://[\d.:]+", until)
            key = re.search(r"op_\w+", until)
            assert url is not None
            assert key is not None
            headers = {"authorization": f"Bearer {key[0]}"}
            body = {"model": "demo/echo-1", "messages": [{"role": "user", "content": "Hello"}]}
            path = f"{url[0]}/v1/chat/completions"
            for _ in range(12):
                answer = httpx.post(path, json=body, headers=headers, trust_env=False, timeout=20)
                assert answer.status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err.count("listening on") == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def lines_until(process: subprocess.Popen[str], holding: str) -> str:
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if holding in line:
            break
    return read
