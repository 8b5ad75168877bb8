"""One memory for several processes: names and cells that all see, and a turn that a killed process gives back."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger import memory as module
from gproxy.ledger.ahead import USED
from gproxy.ledger.memory import Shared
from gproxy.ledger.windows import RING
from tests.kit.gateway import ROOT
from tests.ledger.memories import Killed, Mortal, as_seen_by
from tests.ledger.racing import HANGS_S, LIMITS, STOPPED_S


@pytest.fixture(scope="module")
def memory() -> Iterator[Shared]:
    it = Shared(3)
    yield it
    it.close()


def played(scene: str, folder: Path, how: str) -> dict[str, Any]:
    """What came of a scene of `racing.py`, whose processes are forked by a program of its own."""
    program = (sys.executable, "-m", "tests.ledger.racing", scene, str(folder), how)
    with subprocess.Popen(
        program, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True
    ) as it:
        try:
            came, faults = it.communicate(timeout=8 * HANGS_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(it.pid, signal.SIGKILL)  # and all that it forked
    assert it.returncode == 0, faults
    found: dict[str, Any] = json.loads(came)
    return found


NAMES = st.text(st.characters(exclude_categories=()), max_size=40)


@given(st.lists(st.tuples(st.integers(0, 2), NAMES, st.integers(1, 20_000)), max_size=30))
def test_each_sees_what_any_has_named_and_nobody_what_is_anothers(
    asked: list[tuple[int, str, int]],
) -> None:
    """However many there are: it grows, and who has mapped less of it maps it anew."""
    memory = Shared(3)
    workers = [as_seen_by(memory, worker) for worker in range(3)]
    places: dict[str, tuple[int, int]] = {}
    for worker, name, size in asked:
        with workers[worker].turn:
            at = workers[worker].place(name, size)
            known = places.setdefault(name, (at, size))
            assert at == known[0]
            cells = workers[worker].cells
            cells[at], cells[at + known[1] - 1] = at, at
    for worker in workers:
        assert {name: at for name, (at, _) in places.items()} == dict(worker.places())
        for at, size in places.values():
            within = {at + size - 1, at}
            assert [worker.cells[cell] for cell in within] == [at] * len(within)
            assert not any(worker.cells[cell] for cell in range(at + 1, at + size - 1))
    memory.close()


def test_who_has_its_turn_sees_what_another_has_added_without_asking_for_it() -> None:
    memory = Shared(2)
    one, other = as_seen_by(memory, 0), as_seen_by(memory, 1)
    with other.turn:
        at = other.place("large", 10**5)
        other.cells[at + 10**5 - 1] = 7
    with one.turn:
        assert one.cells[at + 10**5 - 1] == 7
    memory.close()


def test_there_may_be_no_room_for_more(memory: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*asked: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", refuse)
    with pytest.raises(StoreError, match="No space left"), memory.turn:
        memory.place("large", 10**6)
    with memory.turn:
        assert memory.place("small", 1) == memory.place("small", 1)


def test_one_that_cannot_map_what_another_has_added_counts_nothing_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Shared(2)
    one, other = as_seen_by(memory, 0), as_seen_by(memory, 1)
    with other.turn:
        other.place("large", 10**5)

    def refuse(*asked: int) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(module.mmap, "mmap", refuse)
        with pytest.raises(StoreError, match="Too many"), one.turn:
            one.place("large", 10**5)
        assert other.cells[0] == 0
        other.cells[0] = 1  # somebody was killed
        with pytest.raises(StoreError, match="Too many"), one.turn:
            pass
        free = "import fcntl, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        lock = memory._fd
        subprocess.run([sys.executable, "-c", free, str(lock)], pass_fds=[lock], check=True)
    with one.turn:
        assert one.place("large", 10**5) == other.place("large", 10**5)
    memory.close()


def test_where_the_system_gives_no_memory_as_a_file_one_of_a_disk_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module.os, "memfd_create", refuse, raising=False)
    monkeypatch.delattr(module.os, "posix_fallocate", raising=False)
    memory = Shared(2)
    seen = [as_seen_by(memory, worker) for worker in range(2)]
    places = []
    for it in seen * 2:
        with it.turn:
            places.append(it.place("large", 10**5))
            it.cells[places[0] + 10**5 - 1] += 1
    assert (len(set(places)), seen[0].cells[places[0] + 10**5 - 1]) == (1, 4)
    memory.close()


def test_what_a_worker_has_counted_is_unwritten_until_it_says_so_or_is_succeeded() -> None:
    memory = Shared(2)
    first, second = as_seen_by(memory, 0), as_seen_by(memory, 1)
    assert not second.unwritten()
    for _ in range(2):
        first.handed()
    first.written(1)
    assert second.unwritten()
    assert first.unwritten()
    first.written(1)
    assert not second.unwritten()
    first.begin(0)  # one that takes its place
    assert second.unwritten()
    first.strike()
    assert not second.unwritten()
    memory.close()


def test_what_one_that_was_killed_began_to_name_is_in_no_cell_of_the_next() -> None:
    memory = Shared(2)
    dying, living = as_seen_by(memory, 0), as_seen_by(memory, 1)
    dying.cells = Mortal(dying.cells, 0)  # type: ignore[assignment]  # as good as a view of memory
    with pytest.raises(Killed):
        dying.place("long" * 100, 1)
    with living.turn:
        at = living.place("short", 100)
    assert not any(living.cells[at : at + 100])
    memory.close()


def test_others_have_their_turns_while_much_is_struck_out() -> None:
    memory = Shared(2)
    dying, other = as_seen_by(memory, 0), as_seen_by(memory, 1)
    for number in range(3000):
        with dying.turn:
            at = dying.place(f"window concurrency {number}", RING + 2)
            dying.cells[at + USED], dying.cells[at + RING], dying.cells[at + RING + 1] = 3, 1, 2
    turns: list[int] = []
    pause = module.time.sleep

    def meanwhile(seconds: float) -> None:
        with other.turn:
            turns.append(sum(other.cells[at + USED] for _, at in other.places()))
        pause(seconds)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module.time, "sleep", meanwhile)
        dying.strike()
    assert turns[0] > turns[1] > turns[-1] == 3000 * 2
    memory.close()


def test_what_fails_in_the_midst_of_a_turn_is_made_anew_by_the_next() -> None:
    memory = Shared(2)
    with memory.turn:
        at = memory.place("window concurrency rule", RING + 2)
    in_turn = contextlib.ExitStack()
    in_turn.enter_context(memory.turn)
    memory.cells[at + RING] = 3  # of the first worker, and not yet in the sum
    fault = LookupError()
    with pytest.raises(LookupError), in_turn:
        raise fault
    with memory.turn:
        assert memory.cells[at + USED] == 3
    memory.close()


def test_what_could_not_be_asked_of_the_store_leaves_nothing_half_done(memory: Shared) -> None:
    with pytest.raises(StoreError), memory.turn:
        raise StoreError("locked")
    assert memory.cells[0] == 0


def test_another_thread_takes_what_was_counted_between_two_turns(memory: Shared) -> None:
    taken = threading.Event()

    def take() -> None:
        with memory.changing:
            taken.set()

    with memory.turn:
        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(0.05)
    assert taken.wait(HANGS_S)
    thread.join()


@pytest.mark.parametrize("name", LIMITS)
def test_exactly_as_many_pass_in_several_processes(tmp_path: Path, name: str) -> None:
    found = played("exactly", tmp_path, name)
    assert found["well"]
    assert found["passed"] == found["exactly"]
    assert found["settled"] == (found["passed"] if name == "concurrency" else 0)
    assert found["counted"] in ({"tpd": 250}.get(name, found["passed"]), None)
    assert (found["left"], found["verify"]) == (0, [])


def test_kills_at_any_time_leave_nothing_open_or_held_let_nothing_more_through_and_hold_nobody_up(
    tmp_path: Path,
) -> None:
    """What one had counted when it was killed, and nobody was told of, may stay counted."""
    found = played("kills", tmp_path, "250")
    assert found["passed"] <= found["counted"] <= found["passed"] + found["kills"]
    assert (found["beyond"], found["open"], found["held"]) == (0, 1, 100)


@pytest.mark.parametrize("how", ["continued", "killed"])
def test_one_that_is_stopped_in_its_turn_holds_the_others_up_for_a_moment_and_once(
    tmp_path: Path, how: str
) -> None:
    """They let nothing through meanwhile, and what ends is counted off when the turn is free."""
    found = played("stopped", tmp_path, how)
    first, second = found["took"]
    assert first > 0.9 * STOPPED_S
    assert 0 < second < HANGS_S / 2, "it would have waited for twice as long"
    assert found["late"] == [True, True, False]
    assert found["corrected"] == [-6, -6]
    assert found["used"] == [3, 14, 3, 14, 2]
    assert found["spent"] == [50, 200]


def test_a_turn_takes_no_time_to_speak_of(memory: Shared) -> None:
    began = time.process_time()
    for _ in range(1000):
        with memory.turn:
            pass
    assert time.process_time() - began < 0.1
