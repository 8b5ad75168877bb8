"""What the writer's thread does when the ledger leaves it time: work that may be dropped, as request logs may.

When its turn comes is `writer.py`'s to say. What the work is, its callers'.
"""

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.store import Store, Work

logger = logging.getLogger(__name__)

MOST_BYTES = 32 * 1024 * 1024
"""How much may wait, by the sizes that were told: more is dropped."""

TOLD_EVERY_S = 60.0

PATIENCE_MS = 50
"""How long another process's lock is waited for; the ledger may need this thread meanwhile."""

PAUSE_S = 0.5
"""How long after a failure nothing is tried."""

MOST_TRIES = 20
"""After so many failures the entry in hand is given up, lest one that can never be written stop all others."""

RESERVE_BYTES = 64 * 1024 * 1024
RESERVE_SHARE = 0.05
"""Of the store's file system the smaller of the two is left free: the ledger is in the same file as the logs, and to
clear these takes room as well."""

LEAST_RESERVE_BYTES = 16 * 1024 * 1024
"""And never less than this, which is twice what the write-ahead log takes."""

LOOK_EVERY_S = 1.0

GATHER_S = 0.1
"""How long a first entry waits for others: after each commit of this thread's, who counts in memory asks the store
anew how things stand."""

_MANY = 64
"""So many wait no longer for others."""

_BATCH = 8
_BATCH_S = 0.002
"""A batch ends when it has taken this long to prepare: what the ledger has to commit waits no longer than that."""

Prepare = Callable[[], Work | None]
"""Makes the work, outside of any transaction; None: there is nothing to do after all."""


Measure = Callable[[], tuple[int, int]]
"""Bytes that are free in a file system, and those of all of it. May raise OSError."""


class Room:
    """What a file system has free beyond the reserve, measured once in `LOOK_EVERY_S` at most."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._left = 0.0
        self._looked = -LOOK_EVERY_S

    def take(self, size: int) -> bool:
        """Whether there is room for an entry of about `size` bytes, which then is taken."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked, self._left = now, self._beyond_reserve()
        self._left -= 2 * size  # it stands in the write-ahead log and in the main file
        return self._left > 0

    def _beyond_reserve(self) -> float:
        try:
            free, total = self._measure()
        except OSError:
            return float("inf")  # what is wrong with it the writing will tell
        return free - max(LEAST_RESERVE_BYTES, min(RESERVE_BYTES, total * RESERVE_SHARE))


@dataclass(frozen=True, slots=True)
class _Entry:
    prepare: Prepare
    size: int
    done: Callable[[Any], None] | None


class Lane:
    """A bounded queue beside the writer's own. `offer` is for any thread, `step` for the writer's alone.

    `dropped` counts what was not done, from the beginning.
    `wake` is called when there is something to do again, `wrote` in `step` with the bytes that were written. An entry
    that has a size is dropped where `measure` leaves it no room; one without makes room. Entries nobody hears of are
    done together, the first `gather_s` after it came.
    """

    def __init__(
        self,
        wake: Callable[[], None] = lambda: None,
        wrote: Callable[[int], None] = lambda size: None,
        measure: Measure | None = None,
        gather_s: float = 0.0,
    ) -> None:
        self._wake = wake
        self._wrote = wrote
        self._room = Room(measure) if measure is not None else None
        self._gather_s = gather_s
        self._gathering_until = 0.0
        self._scarce = False
        self._waiting: deque[_Entry] = deque()
        self._lock = threading.Lock()
        self._bytes = 0
        self.dropped = 0
        self._dropped_told = 0
        self._told = 0.0
        self._not_before = 0.0
        self._failures = 0

    def offer(self, prepare: Prepare, size: int, done: Callable[[Any], None] | None = None) -> bool:
        """Queue work that holds about `size` bytes; False, and counted, if too much waits already.

        `done` is called in the writer's thread: with what the work returned, or None if it was not done. It must
        not raise.
        """
        with self._lock:
            if self._waiting and self._bytes + size > MOST_BYTES:
                self.dropped += 1
                return False
            first = not self._waiting
            self._bytes += size
            self._waiting.append(_Entry(prepare, size, done))
            hurried = done is not None or len(self._waiting) == _MANY
            if first or hurried:
                self._gathering_until = 0.0 if hurried else time.monotonic() + self._gather_s
        if first or hurried:
            self._wake()
        return True

    def wait_s(self) -> float | None:
        """Seconds until there is something to do, None if nothing waits."""
        if not self._waiting:
            return None
        return max(0.0, max(self._not_before, self._gathering_until) - time.monotonic())

    def step(self, store: Store, interrupted: Callable[[], bool]) -> None:
        """Do a little of what waits, less if `interrupted`. Raises nothing, whatever the work does."""
        if self.wait_s() != 0:
            return
        entries, works = self._prepared(interrupted)
        try:
            outcomes = store.run(works, patience_ms=PATIENCE_MS) if works else []
        except StoreError:
            self._put_back(entries)
            return
        self._failures = 0
        self._wrote(sum(entry.size for entry in entries))
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                self._drop(entry)
            elif entry.done is not None:
                entry.done(outcome)
        self.tell()

    def close(self, store: Store, seconds: float) -> None:
        """Do what can be done within `seconds`, and give up the rest."""
        self._gathering_until = 0.0
        until = time.monotonic() + seconds
        while self._waiting and (wait := until - time.monotonic()) > 0:
            time.sleep(min(wait, self.wait_s() or 0))
            self.step(store, lambda: False)
        while self._waiting:
            self._drop(self._taken())
        self.tell(now=True)

    def tell(self, *, now: bool = False) -> None:
        """Say how many entries were dropped, once in a while."""
        if self.dropped > self._dropped_told and (now or time.monotonic() - self._told >= TOLD_EVERY_S):
            with self._lock:
                dropped, self._dropped_told = self.dropped - self._dropped_told, self.dropped
            self._told = time.monotonic()
            reason = (
                "the disk is nearly full, and what is left is the ledger's (`gproxy logs clear --yes` makes room)"
                if self._scarce
                else "the store did not keep up"
            )
            self._scarce = False
            logger.warning("%d entries of the request logs were dropped: %s", dropped, reason)

    def _prepared(self, interrupted: Callable[[], bool]) -> tuple[list[_Entry], list[Work]]:
        """The next entries and their works, one for each."""
        entries: list[_Entry] = []
        works: list[Work] = []
        until = time.monotonic() + _BATCH_S
        most = 1 if self._failures else _BATCH
        while self._waiting and len(works) < most:
            if entries and (interrupted() or time.monotonic() >= until):
                break
            entry = self._taken()
            if self._room is not None and entry.size and not self._room.take(entry.size):
                self._scarce = True
                self._drop(entry)
                continue
            try:
                work = entry.prepare()
            except Exception:
                logger.exception("an entry of the request logs could not be made")
                self._drop(entry)
                continue
            if work is not None:
                entries.append(entry)
                works.append(work)
            elif entry.done is not None:
                entry.done(None)
        return entries, works

    def _put_back(self, entries: list[_Entry]) -> None:
        """Keep what could not be written for later. The ledger's own work tells of a store that cannot be written."""
        self._not_before = time.monotonic() + PAUSE_S
        self._failures += 1
        if self._failures >= MOST_TRIES:
            self._failures = 0
            for entry in entries:
                self._drop(entry)
            return
        with self._lock:
            self._waiting.extendleft(reversed(entries))
            self._bytes += sum(entry.size for entry in entries)

    def _taken(self) -> _Entry:
        with self._lock:
            entry = self._waiting.popleft()
            self._bytes -= entry.size
            return entry

    def _drop(self, entry: _Entry) -> None:
        with self._lock:
            self.dropped += 1
        if entry.done is not None:
            entry.done(None)


def measure(folder: Path) -> tuple[int, int]:
    """A `Measure` of the file system of a folder: what is free there for this user."""
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total
