"""What a request has counted and holds, from its opening to its end, for a process alone and one of several."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gproxy.errors import StoreError
from gproxy.ledger import accounts as module
from gproxy.ledger import memory, sqlite, writer
from gproxy.ledger.accounts import Accounts, Noting
from gproxy.ledger.inline import MOST_WORKS
from gproxy.ledger.memory import Shared
from gproxy.ledger.periods import DAY_S
from gproxy.ledger.rows import line_of
from gproxy.ledger.spend import pending, recover_store, spent
from gproxy.ledger.sqlite import connect, connect_read_only
from gproxy.ledger.tally import Tally
from gproxy.ledger.verify import verify
from gproxy.ledger.weighing import Spent
from gproxy.ledger.writer import Writer
from gproxy.values import Bound, Budget, Claim
from tests.ledger.memories import as_seen_by
from tests.ledger.rows import record

LIMITS = (Bound("user/a/*", "rpm", 3), Bound("user/a/*", "tpd", 100), Bound("user/a/*", "concurrency", 2))
BUDGET = Budget("user/alice", "total", 100)
BOTH = pytest.mark.parametrize("worker", [None, 1], ids=["alone", "shared"])


@asynccontextmanager
async def serving(folder: Path, worker: int | None) -> AsyncIterator[tuple[Accounts, Writer]]:
    it = Writer(folder / "gproxy.db", worker)
    it.start()
    shared = None
    if worker is not None:
        shared = Shared(2)
        shared.begin(worker)
        shared.strike()
    try:
        yield Accounts(it, shared), it
    finally:
        it.close()
        if shared is not None:
            shared.close()


def claim(name: str, *, limited: bool = True, tokens: int = 0, cost: int = 0) -> Claim:
    return Claim(
        request_id=name,
        scopes=("user/alice", "key/k1"),
        bounds=LIMITS if limited else (),
        budgets=(BUDGET,) if limited else (),
        tokens=tokens,
        cost_nano=cost,
        at=time.time(),
    )


def row(name: str) -> bytes:
    started = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    return pending(record(name, outcome="interrupted", status=503, cost_nano=4, started_at=started))


def table(path: Path, query: str) -> list[Any]:
    with closing(connect_read_only(path)) as db:
        return db.execute(query).fetchall()


async def until(path: Path, query: str) -> list[Any]:
    """What a query finds, once it finds anything."""
    async with asyncio.timeout(5):
        while not (found := table(path, query)):
            await asyncio.sleep(0.005)
    return found


COUNTED = "SELECT kind, sum(n) FROM counters WHERE n != 0 GROUP BY kind ORDER BY kind"
OPEN = "SELECT request_id, worker FROM reservations"


def finished(name: str, cost: int) -> Any:
    started = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    return line_of(record(name, cost_nano=cost, started_at=started))


@BOTH
async def test_a_request_is_counted_held_for_and_settled(tmp_path: Path, worker: int | None) -> None:
    async with serving(tmp_path, worker) as (books, it):
        first, second, third = (claim(name, tokens=20, cost=30) for name in "abc")
        admission = await books.reserve(first, lambda: row("a"))
        assert [s.left for s in admission.told] == [2, 80]
        assert (await books.reserve(second, lambda: row("b"))).refused is None
        assert (await books.reserve(third, lambda: row("c"))).refused == LIMITS[2]
        await it.run(books.settle(first, 7, 90, finished("a", 90)))
        refused = await books.reserve(third, lambda: row("c"))
        assert (refused.refused, refused.fits_alone) == (BUDGET, True)
        await it.run(books.settle(second, 3, 5, finished("b", 5)))
        assert table(it.path, COUNTED) == [("rpm", 2), ("tpd", 10)]
        assert spent(it.path, [("user/alice", "total")], time.time())["user/alice", "total"] == Spent(95, 0)
    assert verify(it.path) == []


@BOTH
async def test_that_a_request_is_open_is_written_with_what_it_holds_if_it_stays_so(
    tmp_path: Path, worker: int | None
) -> None:
    async with serving(tmp_path, worker) as (books, it):
        limited, free = claim("limited", cost=30), claim("free", limited=False)
        await books.reserve(limited, lambda: row("limited"))
        books.open(free, lambda: row("free"))
        await until(it.path, f"{OPEN} WHERE request_id = 'free'")
        assert table(it.path, OPEN) == [("free", worker or 0), ("limited", worker or 0)]
        assert table(it.path, COUNTED) == [("concurrency", 1), ("rpm", 1)]
        assert verify(it.path) == []
        for one in (limited, free):
            await it.run(books.settle(one, 0, 1, finished(one.request_id, 1)))
        assert table(it.path, OPEN) == []
        assert table(it.path, COUNTED) == [("rpm", 1)]
    assert verify(it.path) == []


@BOTH
async def test_a_request_that_ends_soon_leaves_no_trace_of_having_been_open(
    tmp_path: Path, worker: int | None
) -> None:
    async with serving(tmp_path, worker) as (books, it):
        for name in "ab":
            one = claim(name, cost=30)
            await books.reserve(one, lambda: pytest.fail("nobody asked for its row"))
            await it.run(books.settle(one, 0, 1, finished(name, 1)))
        await asyncio.sleep(module.NOTED_AFTER_S * 1.5)
        assert table(it.path, COUNTED) == [("rpm", 2)]


@BOTH
async def test_counts_are_written_with_the_next_row(tmp_path: Path, worker: int | None) -> None:
    async with serving(tmp_path, worker) as (books, it):
        await it.run(lambda db: None)
        first, second = claim("a", tokens=20), claim("b")
        for one in (first, second):
            await books.reserve(one, lambda: b"")
        for _ in range(3):
            await asyncio.sleep(0)
        assert table(it.path, COUNTED) == []
        await it.run(books.settle(first, 7, 1, finished("a", 1)))
        assert table(it.path, COUNTED) == [("rpm", 2), ("tpd", 7)]


@BOTH
async def test_counts_are_in_the_store_soon_though_no_row_comes(tmp_path: Path, worker: int | None) -> None:
    async with serving(tmp_path, worker) as (books, it):
        await it.run(lambda db: None)
        for name in "ab":
            await books.reserve(claim(name), lambda: b"")
        assert await until(it.path, COUNTED) == [("rpm", 2)]
        assert table(it.path, OPEN) == []


@BOTH
async def test_what_a_killed_process_left_open_is_settled_and_its_counts_stand(
    tmp_path: Path, worker: int | None
) -> None:
    """The writer's connection is read behind: nothing of what is in memory but not written reaches the next."""
    copy = tmp_path / "copy.db"
    async with serving(tmp_path, worker) as (books, it):
        await books.reserve(claim("old", cost=30), lambda: row("old"))
        await until(it.path, OPEN)
        await books.reserve(claim("young", cost=30), lambda: row("young"))
        await it.run(lambda db: None)
        with closing(connect(it.path)) as db, closing(sqlite.sqlite3.connect(copy)) as other:
            db.backup(other)
    assert recover_store(copy, None) == 1
    assert table(copy, COUNTED) == [("rpm", 2), ("tpd", 15)]
    assert table(copy, "SELECT request_id, status, outcome FROM usage") == [("old", 503, "interrupted")]
    assert spent(copy, [("user/alice", "total")], time.time())["user/alice", "total"] == Spent(4, 0)
    assert verify(copy) == []


@BOTH
async def test_what_is_settled_twice_is_settled_once(tmp_path: Path, worker: int | None) -> None:
    async with serving(tmp_path, worker) as (books, it):
        for name, limited in (("a", True), ("b", False)):
            one = claim(name, limited=limited, cost=30)
            if limited:
                await books.reserve(one, lambda: b"")
            else:
                books.open(one, lambda: b"")
            entry = books.settle(one, 0, 5, finished(name, 5))
            it.put(entry)
            await asyncio.gather(it.run(entry), it.run(entry))
            await it.run(entry)
        assert not books._tally._memory.unwritten()
        assert table(it.path, "SELECT request_id FROM usage") == [("a",), ("b",)]
    assert verify(it.path) == []


@BOTH
async def test_a_store_that_fails_lets_nothing_through_and_counts_nothing(
    tmp_path: Path, worker: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    async with serving(tmp_path, worker) as (books, it):
        with closing(connect(it.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            for name in "abcd":
                with pytest.raises(StoreError, match="locked"):
                    await books.reserve(claim(name, cost=30), lambda: b"")
            other.execute("ROLLBACK")
        async with asyncio.timeout(5):
            while it.failure:
                await asyncio.sleep(0.005)
        again = claim("again", cost=100)
        assert (await books.reserve(again, lambda: b"")).refused is None
        await it.run(books.settle(again, 0, 1, finished("again", 1)))
        assert table(it.path, COUNTED) == [("rpm", 1)]
    assert verify(it.path) == []


@BOTH
async def test_what_was_let_through_as_the_store_began_to_fail_is_counted_once_it_works(
    tmp_path: Path, worker: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    async with serving(tmp_path, worker) as (books, it):
        with closing(connect(it.path)) as other:
            await it.run(lambda db: None)
            other.execute("BEGIN IMMEDIATE")
            first, second = claim("a", tokens=20), claim("b", tokens=20)
            assert (await books.reserve(first, lambda: b"")).refused is None
            async with asyncio.timeout(5):
                while it.prompt(time.monotonic()):  # until the loop has met the lock
                    await asyncio.sleep(0.001)
            with pytest.raises(StoreError, match="locked"):
                await books.reserve(second, lambda: b"")
            other.execute("ROLLBACK")
        await it.run(books.settle(first, 15, 1, finished("a", 1)))
        assert table(it.path, COUNTED) == [("rpm", 1), ("tpd", 15)]


@BOTH
async def test_a_caller_that_leaves_while_it_is_counted_is_settled_all_the_same(
    tmp_path: Path, worker: int | None
) -> None:
    async with serving(tmp_path, worker) as (books, it):
        one = claim("a", cost=30)
        task = asyncio.ensure_future(books.reserve(one, lambda: b""))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await it.run(books.settle(one, 0, None, None))
        assert table(it.path, OPEN) == []
        assert table(it.path, f"{COUNTED}") in ([("rpm", 1)], [])
        assert spent(it.path, [("user/alice", "total")], time.time())["user/alice", "total"] == Spent(0, 0)


async def test_noting_tells_of_what_stays_open_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTED_AFTER_S", 0.02)
    told: list[str] = []
    noting = Noting(lambda old: told.extend(claim.request_id for claim, _ in old))
    for name in ("a", "b", "c"):
        noting.opened(claim(name, limited=False), lambda: b"", time.monotonic())
    assert noting.ended("b") is False
    async with asyncio.timeout(5):
        while told != ["a", "c"]:
            await asyncio.sleep(0.005)
        noting.opened(claim("d", limited=False), lambda: b"", time.monotonic())
        while told != ["a", "c", "d"]:
            await asyncio.sleep(0.005)
    assert [noting.ended(name) for name in ("a", "a", "d", "x")] == [True, False, True, False]


@BOTH
async def test_what_somebody_changes_by_hand_is_seen_by_the_next_request_that_looks(
    tmp_path: Path, worker: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_S", "MANY_LOOK_S", "_LOOK_SHARE"):
        monkeypatch.setattr(module, name, 0.0)
    async with serving(tmp_path, worker) as (books, it):
        for name in "abc":
            one = claim(name)
            assert (await books.reserve(one, lambda: b"")).refused is None
            await it.run(books.settle(one, 0, 40, finished(name, 40)))
        assert (await books.reserve(claim("d"), lambda: b"")).refused == LIMITS[0]
        with closing(connect(it.path)) as db:
            db.execute("UPDATE counters SET n = 0")
        assert (await books.reserve(claim("e"), lambda: b"")).refused == BUDGET
        with closing(connect(it.path)) as db:
            db.execute("UPDATE spend SET spent_nano = 0")
        last = claim("f")
        assert (await books.reserve(last, lambda: b"")).refused is None
        await it.run(books.settle(last, 0, 3, None))
        assert spent(it.path, [("user/alice", "total")], time.time())["user/alice", "total"] == Spent(3, 0)


@BOTH
async def test_a_charge_that_is_not_written_yet_stands_though_the_clock_is_wrong_for_a_while(
    tmp_path: Path,
    worker: int | None,
) -> None:
    async with serving(tmp_path, worker) as (books, it):
        daily = Budget("user/alice", "day", 100)
        first, ahead, second = (
            structs.replace(claim(name, cost=1), bounds=(), budgets=(daily,)) for name in "abc"
        )
        assert (await books.reserve(first, lambda: b"")).refused is None
        await it.run(lambda db: None)
        it.put(books.settle(first, 0, 100, None))
        ahead = structs.replace(ahead, at=ahead.at + 60 * DAY_S)
        assert (await books.reserve(ahead, lambda: b"")).refused is None
        assert (await books.reserve(second, lambda: b"")).refused == daily


@BOTH
async def test_where_sqlite_has_its_fault_no_count_goes_on_unwritten(
    tmp_path: Path, worker: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread alone writes there."""
    monkeypatch.setattr(writer, "known_fault", lambda: "lost rows")
    async with serving(tmp_path, worker) as (books, it):
        assert it.inline is None
        for name in "abc":
            one = claim(name, tokens=20)
            assert (await books.reserve(one, lambda: b"")).refused is None
            assert table(it.path, COUNTED) == [
                ("rpm", "abc".index(name) + 1),
                ("tpd", "abc".index(name) * 7 + 20),
            ]
            await it.run(books.settle(one, 7, 1, finished(name, 1)))
        assert (await books.reserve(claim("d"), lambda: b"")).refused == LIMITS[0]


@BOTH
async def test_a_kill_between_two_commits_corrects_no_count_twice(tmp_path: Path, worker: int | None) -> None:
    """What one turn leaves may take several commits: a request's tokens are corrected in that which ends it."""
    copy = tmp_path / "copy.db"
    async with serving(tmp_path, worker) as (books, it):
        one, other = claim("one", tokens=60), claim("other")
        await books.reserve(one, lambda: row("one"))
        await until(it.path, OPEN)
        await books.reserve(other, lambda: row("other"))
        await it.run(lambda db: None)
        it.put(books.settle(other, 0, None, None))
        for _ in range(MOST_WORKS):
            it.put(lambda db: None)
        it.put(books.settle(one, 50, 5, finished("one", 5)))
        while it.waiting > MOST_WORKS // 2:
            await asyncio.sleep(0)
        assert it.waiting
        with closing(connect(it.path)) as db, closing(sqlite.sqlite3.connect(copy)) as to:
            db.backup(to)
    assert recover_store(copy, None) == 1
    assert table(it.path, COUNTED) == [("rpm", 2), ("tpd", 50)]
    assert table(copy, COUNTED) == [("rpm", 2), ("tpd", 15)]  # as the row of the killed one says


async def test_what_another_has_counted_and_not_written_is_not_forgotten_for_what_the_store_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MANY_LOOK_S", "_LOOK_SHARE"):
        monkeypatch.setattr(module, name, 0.0)
    async with serving(tmp_path, 1) as (books, it):
        assert isinstance(books._tally._memory, Shared)
        other = Tally(as_seen_by(books._tally._memory, 0), lambda query, values: [])
        first = claim("a", cost=30)
        other.reserve(first)
        changes = other.changes()
        assert changes is not None

        async def left() -> list[int]:
            """By one who finds at each request that the store was changed, and asks it if it may."""
            with closing(connect(it.path)) as db:
                db.execute("INSERT INTO counters SELECT 'of others', 'rpm', count(*), 1 FROM counters")
            never = structs.replace(claim("full"), bounds=(*LIMITS, Bound("never", "rpm", 0)))
            standings = (await books.reserve(never, lambda: b"")).standings[:-1]
            return [standing.left for standing in standings]

        assert await left() == [2, 100, 1]
        settled = other.settle(first, 7, 95)
        assert settled is not None
        assert await left() == [2, 93, 2]
        await it.run(changes)
        assert await left() == [2, 93, 2]
        other.written()  # as if it was
        assert await left() == [2, 100, 2]


async def test_what_ends_while_another_process_has_its_turn_for_long_is_counted_off_though_nothing_else_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, 1) as (books, it):
        one = claim("a", tokens=20, cost=30)
        await books.reserve(one, lambda: b"")
        with monkeypatch.context() as patched:
            patched.setattr(memory.fcntl, "lockf", refuse)
            patched.setattr(memory, "PATIENCE_S", 0.01)
            with pytest.raises(StoreError, match="another worker has its turn for too long"):
                await books.reserve(claim("b"), lambda: b"")
            await it.run(books.settle(one, 7, 5, finished("a", 5)))
        assert books._tally.spent("user/alice", "total") == Spent(0, 30)
        async with asyncio.timeout(5):
            while books._tally.spent("user/alice", "total") != Spent(5, 0):
                await asyncio.sleep(0.005)
        assert table(it.path, COUNTED) == [("rpm", 1), ("tpd", 7)]


def refuse(descriptor: int, how: int) -> None:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
