import asyncio
import secrets
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import retention
from gproxy.ledger.logs import Body, Content, Downstream, Filters, Upstream, listed
from gproxy.ledger.retention import can_shrink, clear, count, keep, remove, shrink, vacuum
from gproxy.ledger.sqlite import connect, connect_read_only
from gproxy.ledger.store import open_store
from gproxy.ledger.when import stamp
from gproxy.ledger.writer import Writer
from tests.ledger.entries import attempt, request, write

OLD = "2026-01-01T00:00:00.000Z"
NEW = "2026-11-25T00:00:00.000Z"
BETWEEN = "2026-06-01T00:00:00.000Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gproxy.db"


def large(name: str, started_at: str) -> Downstream:
    body = Body(secrets.token_hex(50_000), 100_000, "0" * 64)
    return request(name, started_at=started_at, content=Content([], [], body, body))


def names(path: Path) -> list[str]:
    kinds: list[type[Downstream] | type[Upstream]] = [Downstream, Upstream]
    return [row["request_id"] for kind in kinds for row in listed(path, kind, Filters(), limit=1000)]


def test_only_what_is_older_goes_and_both_tables_are_looked_at(path: Path) -> None:
    write(path, request("a", started_at=OLD), request("b", started_at=NEW))
    write(path, attempt("c", 1, started_at=OLD), attempt("d", 1, started_at=BETWEEN))
    with closing(connect(path)) as db:
        assert count(path, BETWEEN) == 2
        while remove(db, BETWEEN):
            pass
        assert names(path) == ["b", "d"]
        assert count(path, None) == 2
        while remove(db, None):
            pass
    assert names(path) == []


def test_a_step_is_small_and_says_that_there_is_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, *(request(f"{number:03}", started_at=OLD) for number in range(450)))
    with closing(connect(path)) as db:
        monkeypatch.setattr(retention, "_STEP_S", 0)
        assert remove(db, NEW)
        assert len(names(path)) == 449
        monkeypatch.setattr(retention, "_STEP_S", 60)
        assert remove(db, NEW)
        assert len(names(path)) == 249
        assert names(path)[0] == "201", "the oldest first"
        assert remove(db, NEW)
        assert not remove(db, NEW)


def test_the_file_shrinks_back_inside_the_steps_of_the_store(path: Path) -> None:
    write(path, request("kept", started_at=NEW))
    before = path.stat().st_size
    write(path, *(large(f"old-{number}", OLD) for number in range(40)))
    with closing(connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert can_shrink(db)
        assert path.stat().st_size > before + 7_000_000
    store = open_store(path)
    steps = 0
    while store.run([lambda db: remove(db, BETWEEN)]) == [True]:
        pass
    while store.run([shrink]) == [True]:
        steps += 1
    store.close()
    assert steps >= 3
    assert names(path) == ["kept"]
    assert path.stat().st_size <= before + 200_000


def of_before(path: Path) -> None:
    """A store that gives nothing back."""
    open_store(path).close()
    with closing(connect(path)) as db:
        db.execute("PRAGMA auto_vacuum = NONE")
        db.execute("VACUUM")


def test_a_store_of_before_is_left_as_it_is_and_the_steps_end(path: Path) -> None:
    of_before(path)
    write(path, *(large(f"old-{number}", OLD) for number in range(3)))
    with closing(connect(path)) as db:
        assert not can_shrink(db)
        while remove(db, None):
            pass
        assert not shrink(db)


async def test_a_server_keeps_what_is_young_enough_and_asks_for_the_days_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 0.01)
    monkeypatch.setattr(retention, "PAUSE_S", 0)
    now = datetime.now(UTC)
    for age in (1, 3, 10):
        write(path, request(f"{age} days", started_at=stamp(now - timedelta(days=age))))
    days = 5
    writer = Writer(path)
    writer.start()
    keeping = asyncio.get_running_loop().create_task(keep(writer, lambda: days))
    try:
        async with asyncio.timeout(10):
            while len(names(path)) > 2:
                await asyncio.sleep(0.01)
            assert names(path) == ["1 days", "3 days"]
            days = 2
            while len(names(path)) > 1:
                await asyncio.sleep(0.01)
    finally:
        keeping.cancel()
        writer.close()
    assert names(path) == ["1 days"]


async def test_days_beyond_the_calendar_keep_everything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 0.01)
    write(path, request("old", started_at=OLD))
    writer = Writer(path)
    writer.start()
    asked = asyncio.Event()
    days = iter([10**6, 10**12])

    def told() -> int:
        found = next(days, None)
        if found is None:
            asked.set()
        return found or 10**6

    keeping = asyncio.create_task(keep(writer, told))
    await asyncio.wait_for(asked.wait(), 10)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    writer.close()
    assert names(path) == ["old"]


async def test_a_store_that_is_closed_ends_no_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 0.01)
    writer = Writer(path)
    writer.start()
    writer.close()
    keeping = asyncio.get_running_loop().create_task(keep(writer, lambda: 1))
    await asyncio.sleep(0.05)
    assert not keeping.done()
    keeping.cancel()


def test_a_reader_sees_the_tables_whole_between_two_steps(path: Path) -> None:
    write(path, *(large(f"old-{number}", OLD) for number in range(5)), request("kept", started_at=NEW))
    store = open_store(path)
    with closing(connect_read_only(path)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM downstream_log").fetchone() == (6,)
        while store.run([lambda db: remove(db, BETWEEN)]) == [True]:
            pass
        store.run([shrink])
        assert reader.execute("SELECT count(*) FROM downstream_log").fetchone() == (6,)
        reader.execute("ROLLBACK")
        assert reader.execute("SELECT count(*) FROM downstream_log").fetchone() == (1,)
    store.close()


def test_clearing_takes_what_is_older_and_gives_the_room_back(path: Path) -> None:
    write(path, *(large(f"old-{number}", OLD) for number in range(20)), request("kept", started_at=NEW))
    with closing(connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = path.stat().st_size
    assert clear(path, BETWEEN)
    assert names(path) == ["kept"]
    assert path.stat().st_size < full / 10
    assert clear(path, None)
    assert count(path, None) == 0


def test_a_store_of_before_is_written_anew_and_gives_room_back_from_then_on(path: Path) -> None:
    of_before(path)
    write(path, *(large(f"old-{number}", OLD) for number in range(20)))
    with closing(connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = path.stat().st_size
    assert not clear(path, None)
    assert path.stat().st_size == full
    vacuum(path)
    assert path.stat().st_size < full / 10
    with closing(connect(path)) as db:
        assert can_shrink(db)


def test_a_store_that_is_not_there_has_nothing_and_one_without_logs_says_what_to_do(path: Path) -> None:
    assert count(path, None) == 0
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(StoreError, match="gproxy serve"):
        count(path, None)


def test_a_step_that_outlives_its_loop_ends_no_writer(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer(path)

    async def begin() -> None:
        asyncio.get_running_loop().create_task(keep(writer, lambda: 1))
        await asyncio.sleep(0)

    asyncio.run(begin())  # the writer does the step only when this loop is closed
    writer.start()
    writer.close()
    assert count(path, None) == 0
    assert caplog.records == []


def test_logs_in_a_damaged_file_are_said_to_be_in_one(path: Path) -> None:
    write(path, *(large(f"old-{number}", OLD) for number in range(20)))
    with closing(connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'downstream_log'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreError, match="damaged"):
        clear(path, None)
