"""Writes the ledger: operations from the event loop in, commits out, several to a commit.

What comes in one turn of the loop is committed at its end, on the loop's own thread (`inline.py`), and what need only
be written soon goes with it. Where that would have to wait, for a lock, a disk or a store that fails, a thread does
it. What an operation does is `store.py`'s and `spend.py`'s. What belongs in a row is decided in `server/`. What may
wait for a moment of leisure, and be lost, goes by `lane.py`.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from gproxy.errors import StoreError, without_frames
from gproxy.ledger.checkpoint import Checkpointer
from gproxy.ledger.handed import Handed, resolve, tell
from gproxy.ledger.inline import MOST_WORKS, Busy, Inline
from gproxy.ledger.lane import GATHER_S, Lane, Prepare, measure
from gproxy.ledger.presence import Presence
from gproxy.ledger.sqlite import known_fault
from gproxy.ledger.store import Store, Work, open_store

logger = logging.getLogger(__name__)

BATCH_ROWS = 500
"""Most rows in one commit, so that the first of a flood does not wait for the last."""

PROMPT_S = 0.05
"""How long after a commit of the loop's the next is taken to come as promptly."""

SIBLINGS, MOST_TURNS, LONG_S = 4, 6, 0.005
"""Where so many come together, or came in the last commit, one waits for as long as each turn of the loop brings
more, so many turns at most, and no more once they took so long: hundreds of streams make them long."""

RIDE_S = 0.02
"""For how long what only has to be written soon waits for a commit that is made anyway."""

TRY_AGAIN_S, MOST_TRIES = 0.001, 10
"""While another worker writes, the loop tries again, so often; then the thread waits. The thread has to wait for the
interpreter too, with every statement, and holds the lock meanwhile: two busy workers would hold each other up."""

RETRY_S = 0.5
"""Pause before rows that nobody waits for are tried again."""

FAILING_PATIENCE_MS = 500
"""How long another process's lock is waited for by a store that fails already; it is tried again anyway, and the end
of the server waits for it."""

CLOSE_TRIES = 3
"""How often the last rows are tried before `close` gives them up."""

COMMIT_BYTES, WORK_BYTES = 20 * 1024, 10 * 1024
"""What a commit adds to the write-ahead log, about, and each operation in it."""

LANE_CLOSE_S = 1.0
"""How long `close` may take for what came by `offer`."""

_NUDGE = Handed(lambda db: None)
"""Is not written: it wakes the thread for what waits in the lane."""


class Writer:
    """Writes the store at `path`. Made, started and closed in one process, never carried over a fork.

    `worker` is the slot of this process among the server's, None for one that serves the store alone; that is slot 0.
    `inline` is the loop's own connection, once `start` has returned; None where SQLite has a known fault.
    `together` is called where several who wait are told of one commit, as they are about to go on.
    Nothing is ever dropped for want of room; what comes by `offer` may be.

    `_gathered` is what one loop, the first that comes, has handed over in its turn. `_queue` is what the thread is to
    write, and while that has something to do the loop only gathers: so all is written in its order.
    """

    def __init__(self, path: Path, worker: int | None = None) -> None:
        self.worker = worker or 0
        self.path = path
        self._turn = threading.Lock()
        self.inline: Inline | None = None
        self.together: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: list[Handed] = []
        self._due = self._riding = False
        self._tries = 0
        self._committed = -PROMPT_S
        self._since = 0.0  # by the loop's clock: when the commit that is due came to be
        self._carried = self._seen = self._turns = 0
        self._unwritten = 0
        self._queue: SimpleQueue[Handed | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._opened: Future[None] = Future()
        self._checkpointer = Checkpointer(path, self._turn)
        self._lane = Lane(
            lambda: self._queue.put(_NUDGE),
            self._checkpointer.wrote,
            partial(measure, path.parent),
            GATHER_S,
        )
        self._stores: list[Store] = []
        self._closed = False
        self._last = threading.Lock()
        self._lost = 0
        self._failure: str | None = None
        self._presence: Presence | None = None
        self._said = False

    @property
    def failure(self) -> str | None:
        """Why the last write failed, or the next one will: the files are not there, which the log is told likewise.
        None if neither: a reason not to be ready."""
        fault = self._failure or self.missing()
        if fault is None:
            self._said = False
        else:
            self._say(fault)
        return fault

    def missing(self) -> str | None:
        """Why the files at the store's path are not those that are open, None if they are."""
        return None if self._presence is None else self._presence.fault()

    @property
    def waiting(self) -> int:
        """How many operations wait to be written, about."""
        return len(self._gathered) + self._unwritten

    @property
    def dropped(self) -> int:
        """How much that came by `offer` was given up, from the beginning."""
        return self._lane.dropped

    @property
    def rows_refused(self) -> int:
        """How many requests were ended without their rows, from the beginning."""
        return sum(store.rows_refused for store in self._stores)

    def prompt(self, now: float) -> bool:
        """Whether what the loop hands over now (`time.monotonic()`'s) is committed at the end of its turn, as far as
        can be told: so it was a moment ago, and nothing waits since."""
        at_work = self._unwritten or self._tries or self._failure is not None
        return not at_work and now - self._committed < PROMPT_S

    def start(self) -> None:
        """Open the store in the writer's thread and wait until it is. Raises `StoreError`."""
        if self.worker == 0 and (warning := known_fault()):
            logger.warning("%s", warning)
        self._thread.start()
        self._opened.result()

    def run(self, work: Work) -> asyncio.Future[Any]:
        """What `work` returned, when it is committed, or `StoreError` if it could not be; it is then not kept.

        It is handed over when this returns, and stays so if nobody waits for it any more, as by `put`.
        """
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._hand_over(Handed(work, waiter), loop)
        return waiter

    def put(self, work: Work) -> None:
        """Hand work over without waiting, from any task or thread; it is tried until it is committed."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        self._hand_over(Handed(work), loop)

    def ride(self, work: Work) -> None:
        """As `put`, for work of the loop's that the next commit is soon enough for; `RIDE_S` later it has its own."""
        self._hand_over(Handed(work), asyncio.get_running_loop(), rides=True)

    def offer(self, prepare: Prepare, size: int, done: Callable[[Any], None] | None = None) -> bool:
        """Hand over work of the second rank, from any task or thread: see `Lane.offer`.

        `prepare` runs in the writer's thread, once nothing of the ledger waits. False if there is no room for it.
        """
        return not self._closed and self._lane.offer(prepare, size, done)

    def close(self) -> None:
        """Write what was handed over and end the thread. Raises `StoreError` if rows could not be written."""
        with self._last:
            if self._closed:
                return
            self._closed = True
            self._to_thread(self._gathered)
            self._queue.put(None)
        if not self._thread.is_alive():
            return
        self._thread.join()
        if self._lost:
            raise StoreError(f"{self._lost} usage rows could not be written: {self._failure}")

    def _hand_over(
        self, entry: Handed, loop: asyncio.AbstractEventLoop | None, *, rides: bool = False
    ) -> None:
        with self._last:
            if self._closed:
                raise StoreError("The usage store is closed.")
            if loop is None or loop is not self._loop:
                if loop is None or self.inline is None or self._loop is not None:
                    self._to_thread([entry])
                    return
                self._loop = loop
            self._gathered.append(entry)
            if self._due:
                return
            if not rides:
                self._due, self._since = True, loop.time()
                loop.call_soon(self._commit)
            elif not self._riding:
                self._riding = True
                loop.call_later(RIDE_S, self._alight)

    def _alight(self) -> None:
        """What came by `ride` has waited long enough, if it still does."""
        with self._last:
            self._riding = False
            if not self._gathered or self._due:
                return
            self._due, self._since = True, 0.0
        self._commit()

    def _to_thread(self, entries: Sequence[Handed]) -> None:
        self._unwritten += len(entries)
        for entry in entries:
            self._queue.put(entry)

    def _commit(self) -> None:
        """Write what was gathered; the thread calls for it again if it has still something to do itself."""
        with self._last:
            if self._closed or (self._unwritten and self._failure is None):
                return
            assert self._loop is not None
            if self._more_come(self._loop.time()):
                self._loop.call_soon(self._commit)
                return
            batch = self._gathered[:MOST_WORKS]
            try:
                outcomes = self._at_once(batch)
            except Busy:
                self._tries += 1
                self._loop.call_later(TRY_AGAIN_S, self._commit)
                return
            self._tries = 0
            self._carried, self._seen, self._turns = len(batch), 0, 0
            del self._gathered[: len(batch)]
            self._due = bool(self._gathered)
            if self._due:
                self._loop.call_soon(self._commit)
            if outcomes is None:
                self._to_thread(batch)
                return
            self._committed = time.monotonic()
        self._count(batch)
        resolve(batch, outcomes, self.together)

    def _more_come(self, now: float) -> bool:
        """Whether the commit that is due waits for another turn of the loop."""
        come, seen = len(self._gathered), self._seen
        enough = self._turns == MOST_TURNS or now - self._since > LONG_S
        if enough or not seen < come < MOST_WORKS or max(come, self._carried) < SIBLINGS:
            return False
        self._seen = come
        self._turns += 1
        return True

    def _at_once(self, batch: Sequence[Handed]) -> list[Any] | None:
        """None if it is the thread's to do. Raises `Busy` if the loop should try again."""
        assert self.inline is not None
        if self._failure is not None:
            return None
        try:
            return self.inline.commit([entry.work for entry in batch])
        except Busy:
            if self._tries < MOST_TRIES:
                raise
            return None

    def _run(self) -> None:
        try:
            store = open_store(self.path, self._turn, checkpoints=self.worker == 0)
            store.begin_use()
            self._presence = Presence(self.path)
            if known_fault() is None:
                self.inline = Inline(self.path, self._turn)
                store.relieve()
                self._stores.append(self.inline.store)
            self._stores.append(store)
        except BaseException as error:  # whatever it is, `start` waits for it
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            self._write_until_closed(store)
        finally:
            self._checkpointer.close()
            store.end_use()
            store.close()
            if self.inline is not None:
                self.inline.close()

    def _count(self, batch: Sequence[Handed]) -> None:
        self._checkpointer.wrote(COMMIT_BYTES + WORK_BYTES * len(batch))

    def _write_until_closed(self, store: Store) -> None:
        kept: list[Handed] = []
        closing = False
        while not closing:
            batch, closing = self._next_batch(kept)
            kept = self._write(store, batch)
            if self._failure is None and self._queue.empty():
                self._lane.step(store, lambda: not self._queue.empty())
        for _ in range(CLOSE_TRIES):
            if not kept:
                break
            time.sleep(RETRY_S)
            kept = self._write(store, kept)
        self._lost = len(kept)
        self._lane.close(store, LANE_CLOSE_S if self._failure is None else 0)

    def _written(self, count: int) -> None:
        """The thread is done with so many: the loop may go on."""
        with self._last:
            self._unwritten -= count
            if self._due and self._loop is not None and (not self._unwritten or self._failure is not None):
                with contextlib.suppress(RuntimeError):  # the loop is closed: `close` takes what it has left
                    self._loop.call_soon_threadsafe(self._commit)

    def _next_batch(self, kept: list[Handed]) -> tuple[list[Handed], bool]:
        """What is to be written next, and whether it is the last: `kept`, and what the queue holds by now.

        After a failure it may be nothing, soon: so the store is tried again though no request comes. Likewise when
        something waits in the lane.
        """
        batch = list(kept)
        most = len(kept) + BATCH_ROWS
        wait_s = RETRY_S if self._failure else self._lane.wait_s()
        while len(batch) < most:
            try:
                entry = self._queue.get(timeout=wait_s) if wait_s != 0 else self._queue.get_nowait()
            except Empty:
                break
            if entry is None:
                return batch, True
            if entry is not _NUDGE:
                batch.append(entry)
            wait_s = 0
        return batch, False

    def _write(self, store: Store, batch: Sequence[Handed]) -> list[Handed]:
        """Write a batch and tell who waits; returns what has to be tried again.

        It is counted before it is told: who hears of a failure asks how much waits.
        """
        if not batch and self._failure is None:
            return []
        try:
            patience_ms = None if self._failure is None else FAILING_PATIENCE_MS
            outcomes = store.run([entry.work for entry in batch], patience_ms)
        except Exception as error:  # whatever it is, who waits must hear of it
            failed = without_frames(
                error if isinstance(error, StoreError) else StoreError(f"The usage store failed: {error!r}.")
            )
            self._failure = str(failed)
            self._say(self._failure)
            kept: list[Handed] = []
            told: list[Handed] = []
            for entry in batch:
                (kept if entry.forsaken else told).append(entry)
            self._written(len(told))
            for entry in told:
                assert entry.waiter is not None
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    entry.waiter.get_loop().call_soon_threadsafe(self._fail, entry, failed)
            return kept
        if self._failure is not None:
            self._failure, self._said = None, False
        self._count(batch)
        self._written(len(batch))
        tell(batch, outcomes)
        return []

    def _say(self, fault: str) -> None:
        """To the log, once until all is well again. From any thread: two may say it at once."""
        if not self._said:
            self._said = True
            logger.error("%s", fault)

    def _fail(self, entry: Handed, failed: StoreError) -> None:
        """On the loop of who waits, who may have been cancelled meanwhile: then it is as if it had been `put`."""
        if entry.forsaken:
            self.put(entry.work)
        elif entry.waiter is not None:
            entry.waiter.set_exception(failed)
