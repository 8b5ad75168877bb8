import logging
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger import lane
from gproxy.ledger.bulk import Entry
from gproxy.ledger.lane import Lane, Prepare, Room
from gproxy.ledger.sqlite import connect, connect_read_only
from gproxy.ledger.store import Store, Work, open_store
from tests.ledger.rows import record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gproxy.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    it = open_store(path)
    yield it
    it.close()


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step does is then not a matter of how busy the machine is."""
    monkeypatch.setattr(lane, "_BATCH_S", 60)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "PATIENCE_MS", 10)
    monkeypatch.setattr(lane, "PAUSE_S", 0.05)


def row(name: str) -> Prepare:
    return partial(Entry, record(name))


def ids(path: Path) -> list[str]:
    with closing(connect_read_only(path)) as connection:
        return [name for (name,) in connection.execute("SELECT request_id FROM usage ORDER BY id")]


def never() -> bool:
    return False


def test_a_step_does_what_waits_in_order_and_tells_what_became_of_it(path: Path, store: Store) -> None:
    it, told = Lane(), list[Any]()
    assert it.wait_s() is None
    assert it.offer(row("a"), 10, told.append)
    assert it.offer(lambda: lambda db: 7, 10, told.append)
    assert it.offer(lambda: None, 10, told.append)
    assert it.wait_s() == 0
    it.step(store, never)
    assert ids(path) == ["a"]
    assert told == [None, None, 7] or told == [None, 7, None]
    assert it.wait_s() is None


def test_who_waits_for_work_is_woken_by_the_first_entry(store: Store) -> None:
    woken: list[int] = []
    it = Lane(lambda: woken.append(1))
    it.offer(row("a"), 10)
    it.offer(row("b"), 10)
    assert len(woken) == 1
    it.step(store, never)
    it.offer(row("c"), 10)
    assert len(woken) == 2


def test_a_step_ends_early_when_the_ledger_has_work(path: Path, store: Store) -> None:
    it = Lane()
    for name in "abc":
        it.offer(row(name), 10)
    it.step(store, lambda: True)
    assert ids(path) == ["a"]


def test_a_step_takes_only_so_many_and_only_for_so_long(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Lane()
    for number in range(20):
        it.offer(row(f"quick-{number}"), 10)
    it.step(store, never)
    assert len(ids(path)) == 8
    monkeypatch.setattr(lane, "_BATCH_S", 0.002)

    def slow(name: str) -> Work:
        until = time.monotonic() + 0.005
        while time.monotonic() < until:
            pass
        return Entry(record(name))

    it = Lane()
    it.offer(partial(slow, "slow-1"), 10)
    it.offer(partial(slow, "slow-2"), 10)
    it.step(store, never)
    assert "slow-2" not in ids(path)


def test_beyond_its_bound_entries_are_dropped_and_counted(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane, "MOST_BYTES", 100)
    it = Lane()
    assert it.offer(row("large"), 1000), "one of any size has room when nothing waits"
    assert not it.offer(row("more"), 1)
    it.step(store, never)
    assert it.offer(row("a"), 60)
    assert not it.offer(row("b"), 60)
    assert it.offer(row("c"), 40)
    it.step(store, never)
    assert ids(path) == ["large", "a", "c"]
    assert "1 entries of the request logs were dropped" in caplog.text
    it.close(store, 1)
    assert len(caplog.records) == 2, "told at most once a minute, and at the end"


def test_an_entry_that_cannot_be_made_or_written_takes_no_other_along(
    path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    it, told = Lane(), list[Any]()

    def broken() -> Work:
        raise ValueError("cannot")

    it.offer(broken, 10, told.append)
    it.offer(row("a"), 10)
    it.offer(row("a"), 10, told.append)
    it.offer(row("b"), 10)
    it.step(store, never)
    assert ids(path) == ["a", "b"]
    assert told == [None, None]
    assert "2 entries" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_a_locked_store_costs_a_moment_and_loses_nothing(
    path: Path, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "PAUSE_S", 2)
    it = Lane()
    it.offer(row("a"), 10)
    it.offer(row("b"), 10)
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        it.step(store, never)
        it.step(store, never)
        assert time.monotonic() - began < 2
        assert 0 < (it.wait_s() or 0) <= 2
        other.execute("ROLLBACK")
    it.close(store, 5)
    assert ids(path) == ["a", "b"]
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("impatient")
def test_at_the_end_what_cannot_be_written_is_given_up(
    path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    it, told = Lane(), list[Any]()
    it.offer(row("a"), 10, told.append)
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        it.close(store, 0.1)
        other.execute("ROLLBACK")
    assert told == [None]
    assert "1 entries" in caplog.text
    assert ids(path) == []


@pytest.mark.usefixtures("impatient")
def test_an_entry_that_can_never_be_written_stops_the_others_only_for_a_while(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "MOST_TRIES", 3)
    it = Lane()
    it.offer(lambda: lambda db: db.execute("SELECT * FROM nowhere"), 10)
    it.offer(row("a"), 10)
    it.close(store, 5)
    assert ids(path) == ["a"]


def test_where_the_disk_has_no_room_beyond_the_reserve_only_what_makes_room_is_done(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(lane, "LEAST_RESERVE_BYTES", 0)
    free, told = 5_000, list[Any]()
    it = Lane(measure=lambda: (free, 100_000))
    for name in "ab":
        it.offer(row(name), 10, told.append)
    it.offer(row("makes room"), 0)
    it.step(store, never)
    assert (ids(path), it.dropped, told) == (["makes room"], 2, [None, None])
    assert "2 entries" in caplog.text
    assert "gproxy logs clear" in caplog.text
    free = 5_021
    it.offer(row("c"), 10)
    it.step(store, never)
    assert ids(path) == ["makes room", "c"]
    assert len(caplog.records) == 1, "told at most once a minute"


def test_the_reserve_is_a_share_but_within_bounds() -> None:
    mega = 1024 * 1024
    for free, total in ((64, 100_000), (20, 400), (16, 100)):
        assert Room(lambda free=free, total=total: (free * mega + 100, total * mega)).take(10)
        assert not Room(lambda free=free, total=total: (free * mega, total * mega)).take(10)


def test_the_disk_is_looked_at_once_in_a_while_and_what_was_taken_since_is_counted() -> None:
    looks: list[int] = []

    def measure() -> tuple[int, int]:
        looks.append(1)
        return lane.LEAST_RESERVE_BYTES + 100, 100_000

    room = Room(measure)
    assert [room.take(20) for _ in range(4)] == [True, True, False, False]
    assert len(looks) == 1


def test_a_disk_that_cannot_be_measured_has_room() -> None:
    def measure() -> tuple[int, int]:
        raise OSError("gone")

    assert Room(measure).take(10**12)


def gathering() -> tuple[Lane, list[float | None]]:
    """A lane that gathers for a minute, and how long it said that there was nothing to do whenever it woke."""
    woken: list[float | None] = []
    it = Lane(wake=lambda: woken.append(it.wait_s()), gather_s=60)
    return it, woken


def test_a_first_entry_waits_for_others_until_there_are_many(path: Path, store: Store) -> None:
    it, woken = gathering()
    it.offer(row("0"), 10)
    it.step(store, never)
    assert ids(path) == []
    assert 0 < (woken[0] or 0) <= 60
    for number in range(1, 64):
        it.offer(row(str(number)), 10)
    assert woken[1:] == [0]
    while it.wait_s() == 0:
        it.step(store, never)
    assert len(ids(path)) == 64


def test_what_somebody_waits_for_is_done_at_once_and_so_is_all_at_the_end(path: Path, store: Store) -> None:
    it, woken = gathering()
    it.offer(row("a"), 10)
    it.offer(row("b"), 10, lambda outcome: None)
    assert woken[1:] == [0]
    it.step(store, never)
    assert ids(path) == ["a", "b"]
    it.offer(row("c"), 10)
    it.close(store, 60)
    assert ids(path) == ["a", "b", "c"]
