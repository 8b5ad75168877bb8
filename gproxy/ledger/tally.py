"""Counters, spend and what open requests hold, in the memory of a process that serves a store alone.

It decides as `spend.reserve` does, by the same rules (`weighing.py`), without waiting for anything. What it has
counted goes into the store by `Changes`, as what is to be added, never as what it comes to. No other process counts
meanwhile; a change by hand is seen after `reread`. When it is written is `accounts.py`'s.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct, structs

from gproxy.errors import StoreError
from gproxy.ledger.bulk import MOST_SPENT_NANO, Bulk, Counts, Posting, Slot
from gproxy.ledger.periods import DAY_S, kept_from, period_key, periods
from gproxy.ledger.rows import MOST_TOKENS
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.weighing import (
    BY_TOKENS,
    Count,
    Spent,
    kept_of,
    need_of,
    refusal,
    slot_of,
    slots_of,
    standing,
)
from gproxy.values import Admission, Bound, Claim

Ask = Callable[[str, tuple[str, ...]], list[Any]]
"""What a query of the store, with these values, finds. Raises `StoreError`."""

_COUNTERS = "SELECT slot, n FROM counters WHERE rule = ? AND kind = ?"
_SPENT = "SELECT spent_nano FROM spend WHERE scope = ? AND period = ?"


class Hold(Struct, frozen=True):
    """What an open request has counted and holds: (rule, kind, slot, count); (scope, period) of its budgets."""

    at: float
    scopes: tuple[str, ...]
    taken: tuple[tuple[str, str, int, int], ...]
    held: tuple[tuple[str, str], ...]
    cost_nano: int


class _Window:
    """What is counted of one kind of a rule, slot by slot; `used` and `newest` as they are in slot `now`."""

    __slots__ = ("first", "kind", "last", "newest", "now", "slots", "used")

    def __init__(self, kind: str, slots: dict[int, int]) -> None:
        self.kind = kind
        self.slots = slots
        self.now = -1
        self.used = self.first = self.last = 0
        self.newest: int | None = None

    def look(self, now: int) -> None:
        """Make it stand in that slot."""
        if now == self.now:
            return
        self.now = now
        self.first, self.last = slots_of(self.kind, now)
        counting = {slot: n for slot, n in self.slots.items() if n > 0 and self.first <= slot <= self.last}
        self.used = sum(counting.values())
        self.newest = max(counting, default=None)

    def add(self, slot: int, by: int) -> None:
        """Not below 0. Whoever looks next sees it."""
        had = self.slots.get(slot, 0)
        has = max(0, had + by)
        self.slots[slot] = has
        if not self.first <= slot <= self.last:
            return
        self.used += has - had
        if not has or self.newest is None or slot > self.newest:
            self.now = -1

    def forget(self, first: int, last: int) -> list[int]:
        """Drop the slots that are not between the two."""
        gone = [slot for slot in self.slots if not first <= slot <= last]
        for slot in gone:
            del self.slots[slot]
        return gone


class Tally:
    """For one thread; `Changes` are for the one that writes."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._windows: dict[tuple[str, str], _Window] = {}
        self._spent: dict[tuple[str, str], int] = {}
        self._held: dict[tuple[str, str], int] = {}
        self._day = 0
        self._open: dict[str, Hold] = {}
        self._changing = threading.Lock()
        self._added: Counts = {}
        self._gone: set[Slot] = set()
        self._under_way = False

    def reserve(self, claim: Claim) -> Admission:
        """As `spend.reserve`, but for what is written. Raises `StoreError` if it does not know how things stand."""
        self._turn(claim.at)
        counts = [self._count(claim, bound) for bound in claim.bounds]
        if refused := refusal(self, counts, claim):
            return structs.replace(refused, standings=tuple([standing(c, claim.at) for c in counts]))
        taken = []
        for count in counts:
            bound = count.bound
            taken.append((bound.rule, bound.kind, count.now, count.need))
            if count.newest != count.now and bound.kind != "concurrency":
                self._forget(bound.rule, bound.kind, count.now)
            self._add(bound.rule, bound.kind, count.now, count.need)
        held = tuple([(b.scope, period_key(b.period, claim.at)) for b in claim.budgets])
        for pair in held:
            self._held[pair] = self._held.get(pair, 0) + claim.cost_nano
        self._open[claim.request_id] = Hold(claim.at, claim.scopes, tuple(taken), held, claim.cost_nano)
        return Admission(tuple([standing(c, claim.at, c.need) for c in counts]))

    def hold(self, request_id: str) -> Hold | None:
        """What an open request holds."""
        return self._open.get(request_id)

    def settle(self, request_id: str, tokens: int) -> Hold | None:
        """Put the tokens that were used in the place of those that were reserved, and release the rest. None, and
        nothing is done, for a request that is not open."""
        hold = self._open.pop(request_id, None)
        if hold is None:
            return None
        tokens = min(max(tokens, 0), MOST_TOKENS)  # an upstream may report anything
        for rule, kind, slot, n in hold.taken:
            if kind in BY_TOKENS:
                self._correct(rule, kind, slot, tokens - n)
            elif kind == "concurrency":
                self._correct(rule, kind, slot, -n)
        self._release(hold)
        return hold

    def undo(self, request_id: str) -> None:
        """As if it had not been let through."""
        hold = self._open.pop(request_id)
        for rule, kind, slot, n in hold.taken:
            self._correct(rule, kind, slot, -n)
        self._release(hold)

    def charge(self, scopes: Iterable[str], at: float, cost_nano: int) -> None:
        """Add to what is spent. Who calls it sees to it that the store is told, and after this."""
        keys = periods(int(at) // DAY_S).values()
        for scope in scopes:
            for key in keys:
                with contextlib.suppress(
                    StoreError
                ):  # it will be asked when it matters, and will have been told
                    total = self._spent_of(scope, key) + cost_nano
                    self._spent[scope, key] = min(total, MOST_SPENT_NANO)

    def within(self, rule: str, kind: str, first: int, last: int) -> Sequence[tuple[int, int]]:
        slots = self._window(rule, kind).slots
        return sorted([(slot, n) for slot, n in slots.items() if first <= slot <= last])

    def spent(self, scope: str, key: str) -> Spent:
        return Spent(self._spent_of(scope, key), self._held.get((scope, key), 0))

    def reread(self) -> None:
        """Ask the store anew how things stand, now that all of this is written there."""
        self._windows = {key: it for key, it in self._windows.items() if it.kind == "concurrency"}
        self._spent.clear()

    def changes(self) -> "Changes | None":
        """What writes all that is counted until its turn comes; None if one that will is under way."""
        if self._under_way:
            return None
        self._under_way = True
        return Changes(self)

    def take(self, added: Counts, gone: set[Slot]) -> None:
        """Move what was counted since the last time over to what was taken before. For any thread."""
        self._under_way = False  # first: who counts from here on and still sees it is taken below
        with self._changing:
            more, self._added = self._added, {}
            ended, self._gone = self._gone, set()
        for slot in ended:
            added.pop(slot, None)
        gone |= ended
        for slot, n in more.items():
            added[slot] = added.get(slot, 0) + n

    def _count(self, claim: Claim, bound: Bound) -> Count:
        window = self._window(bound.rule, bound.kind)
        now = slot_of(bound.kind, claim.at)
        window.look(now)
        return Count(bound, now, window.used, window.newest, need_of(claim, bound))

    def _window(self, rule: str, kind: str) -> _Window:
        window = self._windows.get((rule, kind))
        if window is None:
            # What is open is so here, and nowhere else.
            found = self._ask(_COUNTERS, (rule, kind)) if kind != "concurrency" else []
            window = self._windows[rule, kind] = _Window(kind, dict(found))
        return window

    def _add(self, rule: str, kind: str, slot: int, by: int) -> None:
        self._windows[rule, kind].add(slot, by)
        if kind != "concurrency":  # also by 0: who settles for a process that has died corrects what is there
            with self._changing:
                key = (rule, kind, slot)
                self._added[key] = self._added.get(key, 0) + by

    def _correct(self, rule: str, kind: str, slot: int, by: int) -> None:
        """A slot that was forgotten stays so."""
        try:
            known = slot in self._window(rule, kind).slots
        except StoreError:
            return  # an estimate that stays
        if known:
            self._add(rule, kind, slot, by)

    def _forget(self, rule: str, kind: str, slot: int) -> None:
        """The first of a slot ends those that no longer count."""
        for gone in self._windows[rule, kind].forget(*kept_of(kind, slot)):
            with self._changing:
                self._added.pop((rule, kind, gone), None)
                self._gone.add((rule, kind, gone))

    def _spent_of(self, scope: str, key: str) -> int:
        spent = self._spent.get((scope, key))
        if spent is None:
            found = self._ask(_SPENT, (scope, key))
            spent = self._spent[scope, key] = found[0][0] if found else 0
        return spent

    def _release(self, hold: Hold) -> None:
        for pair in hold.held:
            left = self._held.get(pair, 0) - hold.cost_nano
            if left > 0:
                self._held[pair] = left
            else:
                self._held.pop(pair, None)

    def _turn(self, now: float) -> None:
        """With a new day, forget what was spent in those that are past."""
        day = int(now) // DAY_S
        if day != self._day:
            self._day = day
            oldest = {len(key): kept_from(key) for key in periods(day).values()}
            self._spent = {pair: n for pair, n in self._spent.items() if pair[1] >= oldest[len(pair[1])]}


class Changes(Posting):
    """Writes what a tally has counted until then and no other has taken. It is kept until it is written."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._added: Counts = {}
        self._gone: set[Slot] = set()

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        self._tally.take(self._added, self._gone)
        for slot in self._gone:
            bulk.forget(*slot)
        for slot, n in self._added.items():
            bulk.count(*slot, n)
