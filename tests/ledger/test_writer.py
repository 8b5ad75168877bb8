import asyncio
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, pairwise, repeat
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import inline, lane, retention, sqlite, writer
from gproxy.ledger.bulk import Entry
from gproxy.ledger.logs import Body, Content, insert
from gproxy.ledger.sqlite import connect, connect_read_only
from gproxy.ledger.writer import Writer
from tests.ledger.entries import request
from tests.ledger.rows import record


def ids(path: Path) -> list[str]:
    with closing(connect_read_only(path)) as connection:
        return [name for (name,) in connection.execute("SELECT request_id FROM usage ORDER BY id")]


@contextmanager
def writing(path: Path, worker: int | None = None) -> Iterator[Writer]:
    it = Writer(path, worker)
    it.start()
    try:
        yield it
    finally:
        it.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program's lock on the store."""
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gproxy.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and retries are given up in milliseconds."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)


async def test_a_commit_that_returned_can_be_read_by_anyone(path: Path) -> None:
    with writing(path) as it:
        for number in range(5):
            await it.run(Entry(record(f"req-{number}")))
            assert ids(path)[-1] == f"req-{number}"


async def test_rows_handed_over_together_are_all_written_in_their_order(path: Path) -> None:
    names = [f"req-{number}" for number in range(2 * writer.BATCH_ROWS + 7)]
    with writing(path) as it:
        await asyncio.gather(*(it.run(Entry(record(name))) for name in names))
        assert ids(path) == names


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(("before", "together"), [(writer.SIBLINGS, True), (1, False)])
async def test_after_a_commit_of_many_the_next_waits_a_turn_for_what_comes_beside_it(
    path: Path, before: int, together: bool
) -> None:
    with writing(path) as it:
        await asyncio.gather(*(it.run(Entry(record(f"req-{n}"))) for n in range(before)))
        first = it.run(Entry(record("first")))
        await asyncio.sleep(0)  # its commit was due
        seen = await it.run(lambda _: ids(path))
        await first
        assert ids(path)[-1] == "first"
    assert ("first" not in seen) == together


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(
    ("turns", "commits"),
    [
        ([1, 1, 1], [1, 1, 1]),
        ([4, 1, 1, 1], [7]),
        ([4, 0, 1], [4, 1]),
        ([4, *[1] * 8], [4 + writer.MOST_TURNS, 8 - writer.MOST_TURNS]),
    ],
)
async def test_a_commit_of_several_waits_for_as_long_as_each_turn_brings_more_and_for_so_many_turns(
    path: Path, turns: list[int], commits: list[int]
) -> None:
    written, handed = [0], 0
    with writing(path) as it:
        for turn, count in enumerate(chain(turns, repeat(0))):
            for n in range(count):
                it.run(Entry(record(f"req-{turn}-{n}")))
            handed += count
            await asyncio.sleep(0)
            if (there := len(ids(path))) > written[-1]:
                written.append(there)
            if turn >= len(turns) and there == handed:
                break
    assert [after - before for before, after in pairwise(written)] == commits


@pytest.mark.usefixtures("unhurried")
async def test_a_commit_of_several_waits_for_no_more_once_a_turn_took_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LONG_S", 0.2)  # longer than a turn takes by itself on a busy machine
    with writing(path) as it:
        handed = [it.run(Entry(record(f"req-{n}"))) for n in range(writer.SIBLINGS)]
        await asyncio.sleep(0)
        assert ids(path) == []
        time.sleep(writer.LONG_S + 0.1)  # what others do in this turn
        handed.append(it.run(Entry(record("last"))))
        await asyncio.sleep(0)
        assert len(ids(path)) == len(handed)


async def test_what_a_full_commit_leaves_has_waited_since_it_came(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "SLOW_S", 60.0)
    with writing(path) as it:
        handed = [it.run(Entry(record(f"req-{n}"))) for n in range(inline.MOST_WORKS + 1)]
        time.sleep(2 * writer.LONG_S)  # what others do in this turn
        await asyncio.sleep(0)
        assert len(ids(path)) == inline.MOST_WORKS
        handed.append(it.run(Entry(record("last"))))
        await asyncio.sleep(0)
        assert len(ids(path)) == len(handed)


@pytest.mark.usefixtures("unhurried")
async def test_it_says_when_several_are_told_of_one_commit(path: Path) -> None:
    with writing(path) as it:
        calls: list[list[str]] = []
        it.together = lambda: calls.append(ids(path))
        it.put(Entry(record("a")))
        await it.run(Entry(record("b")))
        assert calls == []
        await asyncio.gather(*(it.run(Entry(record(name))) for name in "cde"))
        assert calls == [list("abcde")]


async def test_what_rides_goes_with_the_next_commit_and_before_it(path: Path) -> None:
    with writing(path) as it:
        for name in "ab":
            it.ride(Entry(record(name)))
        for _ in range(3):
            await asyncio.sleep(0)
        assert (ids(path), it.waiting) == ([], 2)
        assert await it.run(lambda _: ids(path)) == []  # as others see it before the commit of all three
        assert ids(path) == ["a", "b"]


async def test_what_rides_is_committed_soon_though_nothing_comes(path: Path) -> None:
    with writing(path) as it:
        for name in "ab":
            it.ride(Entry(record(name)))
            async with asyncio.timeout(5):
                while it.waiting:
                    await asyncio.sleep(0.001)
            assert ids(path)[-1] == name


async def test_what_rides_waits_for_the_thread_as_all_does(path: Path) -> None:
    with writing(path) as it:
        with locked(path):
            it.ride(Entry(record("a")))
            async with asyncio.timeout(5):
                while not it._unwritten:
                    await asyncio.sleep(0.001)
            it.ride(Entry(record("b")))
        await it.run(Entry(record("c")))
        assert ids(path) == ["a", "b", "c"]


def test_what_rides_is_written_by_close(path: Path) -> None:
    async def hand_over(it: Writer) -> None:
        it.ride(Entry(record("a")))

    with writing(path) as it:
        asyncio.run(hand_over(it))
    assert ids(path) == ["a"]


def test_rows_put_survive_close(path: Path) -> None:
    with writing(path) as it:
        for number in range(2000):
            it.put(Entry(record(f"req-{number}")))
    assert len(ids(path)) == 2000


def test_rows_put_from_many_threads_all_arrive(path: Path) -> None:
    with writing(path) as it:
        threads = [
            threading.Thread(
                target=lambda start=start: [it.put(Entry(record(f"{start}-{n}"))) for n in range(100)]
            )
            for start in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(ids(path))) == 800


async def test_a_cancelled_commit_has_still_handed_over_its_row(path: Path) -> None:
    with writing(path) as it:
        task = it.run(Entry(record("left")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ids(path) == ["left"]


@pytest.mark.usefixtures("impatient")
async def test_a_cancelled_commit_that_then_fails_is_tried_again_as_what_was_put(path: Path) -> None:
    with writing(path) as it:
        with locked(path):
            task = it.run(Entry(record("left")))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(StoreError):
                await it.run(Entry(record("failed")))
        await it.run(Entry(record("after")))
    assert ids(path) == ["left", "after"]


async def test_a_cancelled_task_can_put_its_row(path: Path) -> None:
    with writing(path) as it:

        async def request() -> None:
            try:
                await asyncio.sleep(30)
            finally:
                it.put(Entry(record("client-left")))

        task = asyncio.get_running_loop().create_task(request())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ids(path) == ["client-left"]


async def test_a_row_that_exists_fails_alone_and_the_store_stays_ready(path: Path) -> None:
    with writing(path) as it:
        await it.run(Entry(record("a")))
        outcomes = await asyncio.gather(
            it.run(Entry(record("b"))),
            it.run(Entry(record("a"))),
            it.run(Entry(record("c"))),
            return_exceptions=True,
        )
        assert it.failure is None
    assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
    assert ids(path) == ["a", "b", "c"]


def test_a_row_put_twice_is_written_once_and_said_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with writing(path) as it:
        it.put(Entry(record("a")))
        it.put(Entry(record("a")))
    assert ids(path) == ["a"]
    assert [line.levelno for line in caplog.records] == [logging.ERROR]
    assert "UNIQUE" in caplog.text


async def test_a_store_that_was_moved_away_is_said_once_though_nothing_is_written(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writing(path) as it:
        await it.run(Entry(record("a")))
        for _ in range(2):
            away = path.rename(path.with_name("away"))
            async with asyncio.timeout(5):
                while it.failure is None:
                    await asyncio.sleep(0.01)
            assert it.failure is not None
            away.rename(path)
            assert it.failure is None
    said = [line.getMessage() for line in caplog.records]
    assert ["was removed or replaced" in line for line in said] == [True, True]


@pytest.mark.usefixtures("impatient")
async def test_a_locked_store_fails_commits_keeps_what_was_put_and_recovers(path: Path) -> None:
    with writing(path) as it:
        with locked(path):
            it.put(Entry(record("kept")))
            with pytest.raises(StoreError, match="locked"):
                await it.run(Entry(record("failed")))
            assert it.failure is not None
            assert "locked" in it.failure
        await it.run(Entry(record("after")))
        assert it.failure is None
        assert ids(path) == ["kept", "after"]


@pytest.mark.usefixtures("impatient")
async def test_a_store_that_fails_is_said_once_each_time_though_nobody_asks_why(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writing(path) as it:
        for time in ("first", "second"):
            with locked(path):
                for _ in range(2):
                    with pytest.raises(StoreError):
                        await it.run(Entry(record("failed")))
            await it.run(Entry(record(time)))
    said = [line.getMessage() for line in caplog.records]
    assert ["locked" in line for line in said] == [True, True]


@pytest.mark.usefixtures("impatient")
async def test_what_was_put_is_written_when_the_lock_goes_without_another_row(path: Path) -> None:
    with writing(path) as it:
        with locked(path):
            it.put(Entry(record("kept")))
            with pytest.raises(StoreError):
                await it.run(Entry(record("failed")))
        async with asyncio.timeout(5):
            while it.failure:
                await asyncio.sleep(0.01)
        assert ids(path) == ["kept"]


@pytest.mark.usefixtures("impatient")
async def test_the_store_is_found_usable_again_though_no_row_comes(path: Path) -> None:
    """Who looks at /ready sends no requests until it says so."""
    with writing(path) as it:
        with locked(path), pytest.raises(StoreError):
            await it.run(Entry(record("failed")))
        async with asyncio.timeout(5):
            while it.failure:
                await asyncio.sleep(0.01)


async def test_a_short_lock_is_waited_for(path: Path) -> None:
    with writing(path) as it:
        with locked(path):
            commit = it.run(Entry(record("a")))
            await asyncio.sleep(0.05)
            assert not commit.done()
        await commit
    assert ids(path) == ["a"]


@pytest.mark.usefixtures("impatient")
def test_close_says_how_many_rows_it_could_not_write(path: Path) -> None:
    it = Writer(path)
    it.start()
    with locked(path):
        it.put(Entry(record("a")))
        it.put(Entry(record("b")))
        with pytest.raises(StoreError, match=r"2 usage rows could not be written: .*locked"):
            it.close()


async def test_a_closed_writer_takes_nothing_and_says_so(path: Path) -> None:
    it = Writer(path)
    it.start()
    it.close()
    it.close()
    with pytest.raises(StoreError, match="closed"):
        await it.run(Entry(record("a")))
    with pytest.raises(StoreError, match="closed"):
        it.put(Entry(record("a")))


def test_a_store_that_cannot_be_opened_fails_the_start(tmp_path: Path) -> None:
    (tmp_path / "gproxy.db").write_text("no database" * 100)
    it = Writer(tmp_path / "gproxy.db")
    with pytest.raises(StoreError, match="not a usable SQLite database"):
        it.start()
    it.close()


def _write_from_a_process(path: Path, start: int) -> None:
    with writing(path) as it:
        for number in range(100):
            it.put(Entry(record(f"{start}-{number}")))


def test_several_processes_write_to_one_store(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        pool.starmap(_write_from_a_process, [(path, start) for start in range(3)])
    assert len(set(ids(path))) == 300


_COMMIT_FOR_EVER = """
import asyncio, itertools, sys
from pathlib import Path
from gproxy.ledger.bulk import Entry
from gproxy.ledger.writer import Writer
from tests.ledger.rows import record

async def client(writer, start):
    for number in itertools.count():
        await writer.run(Entry(record(f"{start}-{number}")))
        print(f"{start}-{number}", flush=True)

async def main():
    writer = Writer(Path(sys.argv[1]))
    writer.start()
    await asyncio.gather(*(client(writer, start) for start in range(8)))

asyncio.run(main())
"""


def test_kill_9_loses_no_row_that_was_committed(path: Path) -> None:
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", _COMMIT_FOR_EVER, str(path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        acknowledged = {child.stdout.readline().strip() for _ in range(500)}
        child.send_signal(signal.SIGKILL)
        # The last line may be cut where the kill fell.
        acknowledged |= {line.strip() for line in child.stdout if line.endswith("\n")}
    assert len(acknowledged) >= 500
    assert acknowledged <= set(ids(path))
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def whose(db: object) -> int:
    """The thread that writes."""
    return threading.get_ident()


async def given_to_the_thread(it: Writer) -> None:
    while not it._unwritten:
        await asyncio.sleep(0.001)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit is slow and no turn long, however busy this machine is."""
    monkeypatch.setattr(inline, "SLOW_S", 60.0)
    monkeypatch.setattr(writer, "LONG_S", 60.0)


@pytest.mark.usefixtures("unhurried")
async def test_what_comes_together_is_committed_on_the_loops_own_thread(path: Path) -> None:
    with writing(path) as it:
        outcomes = await asyncio.gather(*(it.run(whose) for _ in range(100)))
    assert set(outcomes) == {threading.get_ident()}


@pytest.mark.usefixtures("unhurried")
async def test_where_the_loop_would_wait_the_thread_writes_and_then_the_loop_again(path: Path) -> None:
    with writing(path) as it:
        with locked(path):
            commits = [it.run(whose) for _ in range(3)]
            await given_to_the_thread(it)
            later = it.run(whose)
            await asyncio.sleep(0)
            assert it.waiting == 4
        assert threading.get_ident() not in await asyncio.gather(*commits)
        assert await later == threading.get_ident()
        assert it.waiting == 0


@pytest.mark.usefixtures("unhurried")
async def test_what_is_handed_over_behind_work_of_the_thread_is_written_behind_it(path: Path) -> None:
    with writing(path) as it:
        with locked(path):
            it.put(Entry(record("a")))
            await given_to_the_thread(it)
            last = asyncio.ensure_future(it.run(Entry(record("c"))))
            await asyncio.sleep(0)
            it.put(Entry(record("b")))
        await last
        assert ids(path) == ["a", "c", "b"]


@pytest.mark.usefixtures("unhurried")
async def test_a_lock_that_goes_soon_is_waited_for_without_the_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_TRIES", 10_000)
    with writing(path) as it:
        with locked(path):
            commit = it.run(whose)
            while not it._tries:
                await asyncio.sleep(0.001)
        assert await commit == threading.get_ident()
        assert it._tries == 0


async def test_a_second_loop_is_served_too(path: Path) -> None:
    async def elsewhere() -> None:
        await it.run(Entry(record("b")))

    with writing(path) as it:
        await it.run(Entry(record("a")))
        await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        await it.run(Entry(record("c")))
        assert ids(path) == ["a", "b", "c"]


async def test_what_the_loop_had_no_time_to_write_is_written_by_close(path: Path) -> None:
    with writing(path) as it:
        it.put(Entry(record("a")))
        waiting = asyncio.ensure_future(it.run(Entry(record("b"))))
        await asyncio.sleep(0)
        it.close()
        await waiting
    assert ids(path) == ["a", "b"]


async def test_a_sqlite_that_may_lose_rows_gets_no_second_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "known_fault", lambda: "it may lose rows")
    with writing(path) as it:
        assert await it.run(whose) != threading.get_ident()
    assert "it may lose rows" in caplog.text
    caplog.clear()
    with writing(path, worker=1):
        assert caplog.text == "", "the first worker has said it"


async def test_what_is_offered_is_written_when_the_ledger_has_nothing_to_do(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with writing(path) as it:
        done = loop.create_future()
        assert it.offer(
            lambda: Entry(record("offered")),
            10,
            lambda outcome: loop.call_soon_threadsafe(done.set_result, outcome),
        )
        async with asyncio.timeout(5):
            await done
        assert ids(path) == ["offered"]


async def test_the_ledger_goes_before_what_was_offered(path: Path) -> None:
    handed_over = threading.Event()
    with writing(path) as it:
        it.offer(lambda: handed_over.wait(10) and None, 10)
        for number in range(200):
            it.offer(lambda number=number: Entry(record(f"offered-{number}")), 10)
        written = it.run(Entry(record("ledger")))
        await asyncio.wait(
            {written}, timeout=1
        )  # by the loop it is written now; else by the thread, which waits
        handed_over.set()
        await written
        assert ids(path).index("ledger") < 10
    assert len(ids(path)) == 201, "and what was offered is written before the end"


async def test_who_is_cancelled_at_the_moment_of_a_failure_has_still_handed_its_work_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 1)
    with writing(path) as it:
        with locked(path):
            with it._turn:  # the thread waits for it
                left = it.run(Entry(record("left")))
                while not it._unwritten:
                    await asyncio.sleep(0)
            while it.failure is None:  # the loop has no turn, so it hears nothing of the failure yet
                time.sleep(0.001)
            left.cancel()
            await asyncio.wait({left})
        assert left.cancelled()
        await it.run(Entry(record("later")))
    assert sorted(ids(path)) == ["later", "left"]


async def test_what_failed_no_longer_waits_when_its_failure_is_heard_of(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a flood that a failing store turns away is taken for a longer one than it is."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr(writer, "FAILING_PATIENCE_MS", 1)
    with writing(path) as it, locked(path):
        for number in range(50):
            with pytest.raises(StoreError):
                await it.run(Entry(record(f"{number}")))
            assert it.waiting == 0


@pytest.mark.usefixtures("impatient")
async def test_what_is_offered_makes_no_store_unready(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "PAUSE_S", 0.005)
    with writing(path) as it:
        it.offer(lambda: Entry(record("a")), 10)
        it.offer(lambda: lambda db: db.execute("SELECT * FROM nowhere"), 10)
        await it.run(Entry(record("b")))
        with locked(path):
            it.offer(lambda: Entry(record("offered")), 10)
            await asyncio.sleep(0.1)
            assert it.failure is None
        await it.run(Entry(record("c")))
    assert sorted(ids(path)) == ["a", "b", "c", "offered"]


def test_a_closed_writer_takes_no_offer(path: Path) -> None:
    with writing(path) as it:
        pass
    assert not it.offer(lambda: None, 10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    argv = [mount or "", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_logs_fill_no_disk_so_the_ledger_goes_on_and_they_can_be_cleared(small_disk: Path) -> None:
    path = small_disk / "gproxy.db"
    body = os.urandom(64 * 1024)
    with writing(path) as it:
        for number in range(600):
            entry = request(f"req-{number}", content=Content([], None, Body(body, len(body), "")))
            it.offer(lambda entry=entry: partial(insert, entry=entry), len(body))
            await it.run(Entry(record(f"row-{number}")))
        assert it.failure is None
    assert it.dropped
    assert len(ids(path)) == 600
    assert retention.count(path, None) == 600 - it.dropped > 10
    assert retention.clear(path, None)
    assert retention.count(path, None) == 0
    with writing(path) as it:
        it.offer(lambda: Entry(record("again")), 10)
    assert ids(path)[-1] == "again"
