import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import inline
from gproxy.ledger.bulk import Entry
from gproxy.ledger.inline import Busy, Inline
from gproxy.ledger.sqlite import connect, connect_read_only, sqlite3
from gproxy.ledger.store import Work, open_store
from tests.ledger.rows import record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    it = tmp_path / "gproxy.db"
    open_store(it).close()
    return it


@pytest.fixture
def turn() -> threading.Lock:
    return threading.Lock()


@pytest.fixture
def it(path: Path, turn: threading.Lock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inline]:
    monkeypatch.setattr(inline, "SLOW_S", 5.0)  # this machine may be busy
    it = Inline(path, turn)
    yield it
    it.close()


def count(path: Path) -> int:
    with closing(connect_read_only(path)) as db:
        (found,) = db.execute("SELECT count(*) FROM usage").fetchone()
        return int(found)


def test_what_returned_is_committed(it: Inline, path: Path) -> None:
    assert it.commit([Entry(record("a")), lambda db: 7]) == [None, 7]
    assert count(path) == 1


def test_one_that_the_store_refuses_fails_alone(it: Inline, path: Path) -> None:
    outcomes = it.commit([Entry(record("a")), Entry(record("a")), Entry(record("b"))])
    assert outcomes is not None
    assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
    assert count(path) == 2


def test_another_programs_lock_is_not_waited_for(it: Inline, path: Path) -> None:
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(Busy):
            it.commit([Entry(record("a"))])
        assert time.monotonic() - began < 4, "SQLite's own patience is 5 s"
        other.execute("ROLLBACK")
    assert count(path) == 0
    assert it.commit([Entry(record("a"))]) == [None]


def test_another_threads_turn_is_not_waited_for(it: Inline, path: Path, turn: threading.Lock) -> None:
    with turn, pytest.raises(Busy):
        it.commit([Entry(record("a"))])
    assert it.commit([Entry(record("a"))]) == [None]
    assert not turn.locked()


def test_a_store_that_fails_is_left_to_who_can_wait(it: Inline, turn: threading.Lock) -> None:
    assert it.commit([lambda db: db.execute("SELECT * FROM nowhere")]) is None
    assert not turn.locked()


class Clock:
    """Time that passes as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(inline.time, "monotonic", lambda: self.now)

    def taking(self, seconds: float) -> Work:
        def work(db: sqlite3.Connection) -> None:
            self.now += seconds

        return work


def test_after_a_slow_commit_there_is_a_pause(it: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert it.commit([clock.taking(5.1)]) == [None]
    assert it.commit([clock.taking(0)]) is None
    clock.now += inline.FIRST_PAUSE_S
    assert it.commit([clock.taking(0)]) == [None]


def test_the_pause_grows_while_commits_are_slow_and_shrinks_with_those_that_are_not(
    it: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    for pause in (0.1, 0.2, 0.4, 0.8):
        assert it.commit([clock.taking(5.1)]) == [None]
        clock.now += pause - 0.01
        assert it.commit([clock.taking(0)]) is None
        clock.now += 0.02
    for _ in range(3):
        assert it.commit([clock.taking(0)]) == [None]
    assert it.commit([clock.taking(5.1)]) == [None]
    clock.now += 0.21
    assert it.commit([clock.taking(0)]) == [None]


def test_the_pause_has_a_bound(it: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for _ in range(20):
        assert it.commit([clock.taking(5.1)]) == [None]
        clock.now += inline.MOST_PAUSE_S + 0.01
