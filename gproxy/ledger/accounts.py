"""The accounts of one process's requests: each is opened before it goes on, and settled when it ends.

How it is counted is `tally.py`'s, and whether in the memory of this process or of several, the caller's to say. Which
bounds and budgets apply is `routing/limits.py`'s.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from gproxy.errors import StoreError
from gproxy.ledger import spend
from gproxy.ledger.bulk import Bulk, Entry, Posting
from gproxy.ledger.cells import Memory, Own
from gproxy.ledger.inline import Inline
from gproxy.ledger.plans import Correction
from gproxy.ledger.rows import Line
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.tally import Tally
from gproxy.ledger.weighing import counted_open, held
from gproxy.ledger.writer import Writer
from gproxy.values import Admission, Claim

NOTED_AFTER_S = 0.05
"""How long a request is open before that is written: most end before it is worth a row that is taken out again."""

LOOK_S = 0.02
"""How often it is asked whether somebody else has changed the store, which takes as long as to count a request."""

MANY_LOOK_S = 0.1
"""The same where there are several processes, which cannot tell each other's commits from somebody else's."""

_LOOK_SHARE = 50
"""So many times longer than it took to forget what may be stale, it is not done again."""

CATCH_UP_S = 0.05
"""How long after what could not be counted off it is tried again."""

Pending = Callable[[], bytes]
"""Makes the encoded row that is written should this process die (`spend.pending`), empty for none."""


class Noting:
    """Which requests are open; `note` is told of those that have been so for `NOTED_AFTER_S`. One timer for all."""

    def __init__(self, note: Callable[[list[tuple[Claim, Pending]]], None]) -> None:
        self._note = note
        self._young: dict[str, tuple[float, Claim, Pending]] = {}
        self._noted: set[str] = set()
        self._waiting = False

    def opened(self, claim: Claim, pending: Pending, now: float) -> None:
        """`now` is `time.monotonic()`'s."""
        self._young[claim.request_id] = now, claim, pending
        if not self._waiting:
            self._wait(NOTED_AFTER_S)

    def ended(self, request_id: str) -> bool:
        """Whether it is written, or about to be, that it was open."""
        if self._young.pop(request_id, None) is not None or request_id not in self._noted:
            return False
        self._noted.remove(request_id)
        return True

    def _wait(self, seconds: float) -> None:
        self._waiting = True
        asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._waiting = False
        now = time.monotonic()
        old = []
        for began, claim, pending in self._young.values():
            if (left := began + NOTED_AFTER_S - now) > 0:
                self._wait(left)
                break
            old.append((claim, pending))
        for claim, _ in old:
            del self._young[claim.request_id]
            self._noted.add(claim.request_id)
        if old:
            self._note(old)


class Accounts:
    """For the tasks of one event loop. All is decided in memory, at once.

    What was counted is in the store with the next commit, as a rule that of a row, and in a moment (`writer.RIDE_S`)
    if there is none; where it is known that commits do not go as they should, it is waited for, so that nothing goes
    on by counts that cannot be written.
    """

    def __init__(self, writer: Writer, memory: Memory | None = None) -> None:
        """`memory` is that of several processes, None for one that serves its store alone. The writer has been
        started."""
        self._writer = writer
        ask = partial(spend.ask, writer.path) if writer.inline is None else writer.inline.ask
        self._inline = writer.inline
        self._look_s = LOOK_S if memory is None else MANY_LOOK_S
        self._tally = Tally(memory or Own(), ask)
        self._look_at = 0.0
        self._catching_up = False
        self._noting = Noting(self._note)

    async def reserve(self, claim: Claim, pending: Pending) -> Admission:
        """Count and hold all of a claim, or nothing of it (`Tally.reserve`). `pending` makes its row should this
        process die.

        Raises `StoreError` if it cannot be counted; then nothing is. Cancelled, it may be, and is to be settled.
        """
        now = time.monotonic()
        if now >= self._look_at and self._inline is not None and not self._writer.waiting:
            self._look(self._inline, now)
        admission = self._tally.reserve(claim)
        if admission.refused is None:
            prompt = self._writer.prompt(now)
            if not self._tally.under_way:
                self._write()
            if not prompt:
                await self._written(claim)
            self._noting.opened(claim, pending, now)
        return admission

    def open(self, claim: Claim, pending: Pending) -> None:
        """A request that nothing limits goes on. That it is open is written only if it stays so."""
        self._noting.opened(claim, pending, time.monotonic())

    def settle(self, claim: Claim, tokens: int, cost_nano: int | None, line: Line | None) -> Entry:
        """What is to be written of the end of a request that was opened, for the writer. To be called once.

        `cost_nano` is added to the spend; None is a price that is not known.
        """
        tally = self._tally
        corrected = tally.settle(claim, tokens, cost_nano or 0) or ()
        if tally.late:
            self._catch_up_soon()
        return _Closing(tally, claim, corrected, self._noting.ended(claim.request_id), cost_nano, line)

    def _look(self, inline: Inline, now: float) -> None:
        """What somebody has changed in the store by hand is seen while nothing waits to be written. Raises
        `StoreError`."""
        if inline.overtaken():
            self._tally.overtaken()
        self._tally.reread()
        took = time.monotonic() - now
        self._look_at = now + max(self._look_s, _LOOK_SHARE * took)

    def _write(self) -> None:
        changes = self._tally.changes()
        if changes is not None:
            self._writer.ride(changes)

    async def _written(self, claim: Claim) -> None:
        """What was handed over before is written when this is."""
        try:
            await self._writer.run(_nothing)
        except StoreError:
            self._tally.undo(claim.request_id)
            self._write()
            if self._tally.late:
                self._catch_up_soon()
            raise

    def _catch_up_soon(self) -> None:
        """Whatever comes next does what is late; it may be that nothing comes."""
        if not self._catching_up:
            self._catching_up = True
            asyncio.get_running_loop().call_later(CATCH_UP_S, self._catch_up)

    def _catch_up(self) -> None:
        self._catching_up = False
        self._tally.catch_up()
        if self._tally.late:
            self._catch_up_soon()
        else:
            self._write()

    def _note(self, old: Sequence[tuple[Claim, Pending]]) -> None:
        opened = [(it, pending()) for it, pending in old]
        self._writer.put(_Opening(opened, self._writer.worker))


def _nothing(db: sqlite3.Connection) -> None:
    pass


def _hold(bulk: Bulk, claim: Claim, times: int) -> None:
    """What a request holds for as long as it is open; with -1 it is open no more."""
    for rule, kind, slot, n in counted_open(claim):
        bulk.count(rule, kind, slot, times * n)
    for scope, period in held(claim):
        bulk.add_spend(scope, period, 0, times * claim.cost_nano)


class _Opening(Posting):
    """Writes that requests are open, with what they hold: what they count of time is written already."""

    def __init__(self, opened: Sequence[tuple[Claim, bytes]], worker: int) -> None:
        self._opened = opened
        self._worker = worker

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        rows = []
        for claim, pending in self._opened:
            rows.append((claim.request_id, self._worker, spend.reservation(claim), pending))
            _hold(bulk, claim, 1)
        db.executemany("INSERT INTO reservations VALUES (?, ?, ?, ?)", rows)


class _Closing(Entry):
    """The end of a request that was counted in memory; with one that was `noted` goes what `_Opening` wrote.

    Its tokens are corrected with that, not by `Changes`: who settles for a process that was killed does it by what
    `_Opening` wrote.
    """

    def __init__(
        self,
        tally: Tally,
        claim: Claim,
        corrected: Sequence[Correction],
        noted: bool,
        cost_nano: int | None,
        line: Line | None,
    ) -> None:
        self.line = line
        self._tally = tally
        self._claim = claim
        self._corrected = corrected
        self._noted = noted
        self._cost_nano = cost_nano

    def add(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        if self._noted:
            bulk.close(self._claim.request_id)
            _hold(bulk, self._claim, -1)
        for slots, by in self._corrected:
            bulk.correct(slots, by)
        spend.charge(bulk, self._claim.scopes, self._claim.at, self._cost_nano, self.line)

    def committed(self) -> None:
        if not self._written:
            self._tally.written()
        Entry.committed(self)
