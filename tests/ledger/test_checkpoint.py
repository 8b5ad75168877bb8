import itertools
import secrets
import threading
import time
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import pytest

from gproxy.ledger import checkpoint, sqlite
from gproxy.ledger.checkpoint import LEAST_TRUST, MOST_TRUST, Checkpointer
from gproxy.ledger.lane import Lane
from gproxy.ledger.logs import Body, Content, insert
from gproxy.ledger.sqlite import connect, sqlite3
from gproxy.ledger.store import Work, open_store
from tests.kit.gateway import poll
from tests.ledger.entries import request


class Counted(Checkpointer):
    """Knows how many times it has worked."""

    times = 0

    def _work(self, db: sqlite3.Connection) -> None:
        super()._work(db)
        self.times += 1


def began_anew(path: Path) -> int:
    """How many times the write-ahead log has (https://sqlite.org/fileformat2.html#the_write_ahead_log)."""
    header = path.with_name("gproxy.db-wal").read_bytes()[:32]
    return int.from_bytes(header[12:16], "big")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gproxy.db"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def entry(number: int) -> Work:
    body = Body(secrets.token_hex(32_768), 65_536, "0" * 64)
    return partial(insert, entry=request(f"req_{number}", content=Content([], [], body, body)))


def test_what_was_written_is_brought_into_the_main_file_beside_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_BYTES", 1024 * 1024)
    store = open_store(path)
    with closing(connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    it = Checkpointer(path, nullcontext())
    # Less than what SQLite would do it at by itself.
    for number in range(15):
        store.run([entry(number)])
        it.wrote(131_072)
    until = time.monotonic() + 10
    while path.stat().st_size < before + 900_000 and time.monotonic() < until:
        time.sleep(0.01)
    assert path.stat().st_size >= before + 900_000
    it.close()
    store.close()


def test_the_log_begins_anew_however_much_is_written_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_BYTES", 1024 * 1024)
    turn = threading.Lock()
    store = open_store(path, turn)
    store.relieve()
    store.run([entry(0)])
    it = Counted(path, turn)
    before = began_anew(path)
    until = time.monotonic() + 60
    for number in itertools.count(1):
        store.run([entry(number)])
        it.wrote(131_072)
        if it.times >= 5:
            break
        assert time.monotonic() < until
    it.close()
    assert began_anew(path) - before >= it.times
    store.close()


@pytest.mark.parametrize(
    ("told", "off"),
    [(131_072, LEAST_TRUST), (1024 * 1024, 2.0), (64 * 1024 * 1024, MOST_TRUST)],
    ids=["too little", "too much", "far too much"],
)
def test_how_far_off_is_what_it_is_told_is_seen_in_the_log(path: Path, told: int, off: float) -> None:
    store = open_store(path)
    with closing(connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(RESTART)")
        store.run([entry(number) for number in range(4)])  # half a MiB
        it = Checkpointer(path, nullcontext())
        it._told = told
        it._work(db)
        assert it._enough == pytest.approx(checkpoint.EVERY_BYTES * off, rel=0.1)
        assert it._told == 0
    store.close()


def test_what_it_is_told_is_added_up_until_the_log_begins_anew(path: Path) -> None:
    store = open_store(path)
    it = Checkpointer(path, nullcontext())
    with closing(connect(path)) as db, closing(connect(path)) as reader:
        db.execute("PRAGMA busy_timeout = 0")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM downstream_log").fetchone()
        store.run([entry(1)])
        it._told = 1000
        it._work(db)
        assert it._told == 1000
        reader.execute("ROLLBACK")
        it._work(db)
        assert it._told == 0
    store.close()


def test_who_waits_for_a_reader_holds_nobody_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that is under way keeps the log from beginning anew; the next time will do."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 40_000)
    turn = threading.Lock()
    store = open_store(path, turn)
    store.run([entry(1)])
    it = Checkpointer(path, turn)
    with closing(connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM downstream_log").fetchone()
        store.run([entry(2)])
        began = time.monotonic()
        it.wrote(checkpoint.EVERY_BYTES)
        poll(lambda: not it._due.is_set(), "its work", within=20)
        it.close()
        assert time.monotonic() - began < 20, "SQLite's own patience is 40 s"
        store.run([entry(3)])
    store.close()


def test_a_little_starts_no_thread_and_the_end_leaves_none(path: Path) -> None:
    open_store(path).close()
    it = Checkpointer(path, nullcontext())
    it.wrote(checkpoint.EVERY_BYTES - 1)
    assert "ledger-checkpoint" not in threads()
    it.wrote(1)
    assert "ledger-checkpoint" in threads()
    it.close()
    it.close()
    assert "ledger-checkpoint" not in threads()


def test_a_store_that_cannot_be_opened_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "gproxy.db").mkdir()
    it = Checkpointer(tmp_path / "gproxy.db", nullcontext())
    it.wrote(checkpoint.EVERY_BYTES)
    it.close()


def test_the_lane_tells_how_much_it_wrote(path: Path) -> None:
    told: list[int] = []
    store = open_store(path)
    lane = Lane(wrote=told.append)
    lane.offer(lambda: entry(1), 700)
    lane.offer(lambda: None, 50)
    lane.offer(lambda: entry(2), 11)
    while lane.wait_s() is not None:
        lane.step(store, lambda: False)
    assert sum(told) == 711
    store.close()


def test_where_sqlite_is_faulty_it_is_left_to_the_writers_own_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "known_fault", lambda: "it loses rows")
    it = Checkpointer(path, nullcontext())
    it.wrote(checkpoint.EVERY_BYTES)
    assert "ledger-checkpoint" not in threads()
    it.close()


def test_a_store_that_could_not_be_opened_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_BYTES", 1024)
    path.mkdir()  # stands in the way
    it = Checkpointer(path, nullcontext())
    it.wrote(1024)
    until = time.monotonic() + 10
    while it._due.is_set() and time.monotonic() < until:
        time.sleep(0.001)
    path.rmdir()
    store = open_store(path)
    store.run([entry(1)])
    before = path.stat().st_size
    it.wrote(1024)
    while path.stat().st_size == before and time.monotonic() < until:
        time.sleep(0.001)
    it.close()
    assert path.stat().st_size > before
    store.close()
