"""The accounts of one process's requests: each is opened before it goes on, and settled when it ends.

A process that serves its store alone counts in memory (`tally.py`) and waits for no commit; of several, each counts
in the store (`spend.py`). Who asks need not know which. Which bounds and budgets apply is `routing/limits.py`'s.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from msgspec import structs

from gproxy.errors import StoreError
from gproxy.ledger import spend
from gproxy.ledger.bulk import Bulk, Entry, Posting
from gproxy.ledger.inline import Inline
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.tally import Hold, Settled, Tally, holding_nothing
from gproxy.ledger.writer import Writer
from gproxy.values import Admission, Claim, Record

NOTED_AFTER_S = 0.05
"""How long a request is open before that is written: most end before it is worth a row that is taken out again."""

LOOK_S = 0.02
"""How often it is asked whether somebody else has changed the store, which takes as long as to count a request."""

Pending = Callable[[], bytes]
"""Makes the encoded row that is written should this process die (`spend.pending`), empty for none."""


class Accounts(Protocol):
    """For the tasks of one event loop."""

    async def reserve(self, claim: Claim, pending: Pending) -> Admission:
        """Count and hold all of a claim, or nothing of it (`spend.reserve`), at the time of the counting.

        Raises `StoreError` if it cannot be counted; then nothing is. Cancelled, it may be, and is to be settled.
        """

    def open(self, claim: Claim, pending: Pending) -> None:
        """A request that nothing limits goes on. That it is open is written only if it stays so."""

    def settle(self, claim: Claim, tokens: int, cost_nano: int | None, record: Record | None) -> Entry:
        """What is to be written of the end of a request that was opened, for the writer. To be called once.

        `cost_nano` is added to the spend; None is a price that is not known.
        """


def accounts(writer: Writer) -> Accounts:
    """Those of the process that the writer is of, which has been started."""
    inline = writer.inline if writer.alone else None
    return Shared(writer) if inline is None else Alone(writer, inline)


class Noting:
    """Which requests are open; `note` is told of those that have been so for `NOTED_AFTER_S`. One timer for all."""

    def __init__(self, note: Callable[[list[tuple[Claim, Pending]]], None]) -> None:
        self._note = note
        self._young: dict[str, tuple[float, Claim, Pending]] = {}
        self._noted: set[str] = set()
        self._waiting = False

    def opened(self, claim: Claim, pending: Pending) -> None:
        self._young[claim.request_id] = (time.monotonic(), claim, pending)
        if not self._waiting:
            self._wait(NOTED_AFTER_S)

    def noted(self, request_id: str) -> None:
        """It is written already that it is open."""
        self._noted.add(request_id)

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


class Shared:
    """Of a process that is one of several: all is counted in the store, where all see it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._noting = Noting(self._note)
        self._left: dict[str, _Reserving] = {}  # by callers that do not know whether it was done

    async def reserve(self, claim: Claim, pending: Pending) -> Admission:
        self._noting.noted(claim.request_id)
        reserving = _Reserving(claim, self._writer.worker, pending())
        try:
            admission: Admission = await self._writer.run(reserving)
        except StoreError:
            self._noting.ended(claim.request_id)
            raise
        except asyncio.CancelledError:
            self._left[claim.request_id] = reserving
            raise
        if admission.refused is not None:
            self._noting.ended(claim.request_id)
        return admission

    def open(self, claim: Claim, pending: Pending) -> None:
        self._noting.opened(claim, pending)

    def settle(self, claim: Claim, tokens: int, cost_nano: int | None, record: Record | None) -> Entry:
        left = self._left.pop(claim.request_id, None)
        if left is not None:
            left.called_off = True
        if self._noting.ended(claim.request_id):
            unopened = None if left is None else claim
            return spend.Settling(claim.request_id, tokens, cost_nano, record, unopened)
        return spend.Charging(claim.scopes, claim.at, cost_nano, record)

    def _note(self, old: Sequence[tuple[Claim, Pending]]) -> None:
        for claim, pending in old:
            self._writer.put(
                partial(spend.reserve, claim=claim, worker=self._writer.worker, pending=pending())
            )


class _Reserving:
    """Counts a claim in the store, at the time of it: a wait would else put a request into a minute or day that is
    over. `called_off`: its end has been handed over, and behind that nobody would release what it holds.
    """

    def __init__(self, claim: Claim, worker: int, pending: bytes) -> None:
        self.called_off = False
        self._claim = claim
        self._worker = worker
        self._pending = pending

    def __call__(self, db: sqlite3.Connection) -> Admission | None:
        if self.called_off:
            return None
        return spend.reserve(db, structs.replace(self._claim, at=time.time()), self._worker, self._pending)


class Alone:
    """Of a process that serves its store by itself: all is decided in memory, at once.

    What was counted is in the store with the next commit, as a rule that of a row, and in a moment (`writer.RIDE_S`)
    if there is none; where it is known that commits do not go as they should, it is waited for, so that nothing goes
    on by counts that cannot be written.
    """

    def __init__(self, writer: Writer, inline: Inline) -> None:
        self._writer = writer
        self._inline = inline
        self._tally = Tally(inline.ask)
        self._look_at = 0.0
        self._noting = Noting(self._note)

    async def reserve(self, claim: Claim, pending: Pending) -> Admission:
        now = time.monotonic()
        if now >= self._look_at and not self._writer.waiting:
            self._look_at = now + LOOK_S
            self._tally.turn(claim.at)
            if self._inline.overtaken():
                self._tally.reread()
        admission = self._tally.reserve(claim)
        if admission.refused is None:
            prompt = self._writer.prompt
            self._write()
            if not prompt:
                await self._written(claim)
            self._noting.opened(claim, pending)
        return admission

    def open(self, claim: Claim, pending: Pending) -> None:
        self._noting.opened(claim, pending)

    def settle(self, claim: Claim, tokens: int, cost_nano: int | None, record: Record | None) -> Entry:
        if not self._writer.waiting:
            self._tally.turn(time.time())
        settled = self._tally.settle(claim.request_id, tokens)
        if cost_nano:
            self._tally.charge(claim.scopes, claim.at, cost_nano)
        return _Closing(claim, settled, self._noting.ended(claim.request_id), cost_nano, record)

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
            raise

    def _note(self, old: Sequence[tuple[Claim, Pending]]) -> None:
        opened = [
            (it, self._tally.hold(it.request_id) or holding_nothing(it), pending()) for it, pending in old
        ]
        self._writer.put(_Opening(opened))


def _nothing(db: sqlite3.Connection) -> None:
    pass


class _Opening(Posting):
    """Writes that requests are open, with what they hold: what they count of time is written already."""

    def __init__(self, opened: Sequence[tuple[Claim, Hold, bytes]]) -> None:
        self._opened = opened

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        rows = []
        for claim, hold, pending in self._opened:
            rows.append(
                (
                    claim.request_id,
                    0,
                    hold.encoded(),
                    pending,
                )
            )
            for rule, kind, slot, n in hold.counted:
                if kind == "concurrency":
                    bulk.count(rule, kind, slot, n)
            for scope, period in hold.held:
                bulk.add_spend(scope, period, 0, hold.cost_nano)
        db.executemany("INSERT INTO reservations VALUES (?, ?, ?, ?)", rows)


class _Closing(Entry):
    """The end of a request that was counted in memory; with one that was `noted` goes what `_Opening` wrote.

    Its tokens are corrected with that, not by `Changes`: who settles for a process that was killed does it by what
    `_Opening` wrote.
    """

    def __init__(
        self, claim: Claim, settled: Settled | None, noted: bool, cost_nano: int | None, record: Record | None
    ) -> None:
        super().__init__(record)
        self._claim = claim
        self._settled = settled
        self._noted = noted
        self._cost_nano = cost_nano

    def add(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        if self._noted:
            bulk.close(self._claim.request_id)
        if self._settled is not None:
            for correction in self._settled.corrected:
                bulk.correct(*correction)
            if self._noted:
                self._release(bulk, self._settled.hold)
        spend.charge(bulk, self._claim.scopes, self._claim.at, self._cost_nano, self.record)

    def _release(self, bulk: Bulk, hold: Hold) -> None:
        for rule, kind, slot, n in hold.counted:
            if kind == "concurrency":
                bulk.count(rule, kind, slot, -n)
        for scope, period in hold.held:
            bulk.add_spend(scope, period, 0, -hold.cost_nano)
