"""Counters, spend and what open requests hold, in the memory of a process that serves a store alone.

It decides as `spend.reserve` does, by the same rules (`weighing.py`), without waiting for anything. What it has
counted goes into the store by `Changes`, as what is to be added, never as what it comes to. No other process counts
meanwhile; a change by hand is seen after `reread`. When it is written is `accounts.py`'s.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, structs

from gproxy.errors import StoreError
from gproxy.ledger.bulk import MOST_SPENT_NANO, Bulk, Counts, Posting, Slot
from gproxy.ledger.periods import DAY_S, periods
from gproxy.ledger.rows import MOST_TOKENS
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.weighing import (
    BY_TOKENS,
    SLIDING,
    Count,
    Spent,
    Stand,
    kept_of,
    need_of,
    refusal,
    slots_at,
    slots_of,
    standings,
)
from gproxy.values import Admission, Bound, Claim

Ask = Callable[[str, tuple[str, ...]], list[Any]]
"""What a query of the store, with these values, finds. Raises `StoreError`."""

_COUNTERS = "SELECT slot, n FROM counters WHERE rule = ? AND kind = ?"
_SPENT = "SELECT spent_nano FROM spend WHERE scope = ? AND period = ?"

_MOST_PLANS = 4096


class _Window(Stand):
    """What is counted of one kind of a rule, slot by slot. It stands in slot `now`, -1 for none; `known`: as the
    store has it, and what came since. `written`: the store is told of it as it comes."""

    __slots__ = (
        "by_tokens",
        "first",
        "kind",
        "known",
        "last",
        "place",
        "rule",
        "sliding",
        "slots",
        "written",
    )

    def __init__(self, rule: str, kind: str) -> None:
        super().__init__()
        self.rule = rule
        self.kind = kind
        self.sliding = kind in SLIDING
        self.by_tokens = kind in BY_TOKENS
        self.written = kind != "concurrency"
        self.known = not self.written  # what is open is so here, and nowhere else
        self.slots: dict[int, int] = {}
        self.place: Slot = (rule, kind, -1)
        self.first = self.last = 0

    def look(self, now: int) -> None:
        """Make it stand in that slot."""
        self.now = now
        self.place = (self.rule, self.kind, now)
        self.first, self.last = slots_of(self.kind, now)
        counting = {slot: n for slot, n in self.slots.items() if n > 0 and self.first <= slot <= self.last}
        self.used = sum(counting.values())
        self.newest = max(counting, default=None)

    def correct(self, slot: int, by: int) -> bool:
        """Not below 0; whoever looks next sees it. Whether the slot still counts: one that was forgotten stays so."""
        had = self.slots.get(slot)
        if had is None:
            return False
        has = self.slots[slot] = max(0, had + by)
        if self.first <= slot <= self.last:
            self.used += has - had
            if not self.sliding:
                self.newest = slot if has else None  # the only one that counts
            elif not has or self.newest is None or slot > self.newest:
                self.now = -1
        return True

    def forget(self) -> None:
        """It is to be read anew."""
        self.known = not self.written
        self.now = -1


class _Plan(NamedTuple):
    """Where bounds are counted. What is needed is that of the claim which was looked at last.

    `passing` is what a request gives back or corrects at its end: that it was open, and its tokens.
    """

    pairs: Sequence[tuple[_Window, Count]]
    counts: Sequence[Count]
    passing: Sequence[tuple[_Window, Bound]]


class Hold(Struct, frozen=True, gc=False):
    """What an open request has counted by a plan, and holds of each (scope, period) of its budgets."""

    at: float
    scopes: tuple[str, ...]
    plan: _Plan
    tokens: int
    held: Sequence[tuple[str, str]]
    cost_nano: int

    @property
    def counted(self) -> list[tuple[str, str, int, int]]:
        """Rule, kind, slot and how much, of each."""
        slots = slots_at(int(self.at))
        bounds = [count.bound for count in self.plan.counts]
        return [(it.rule, it.kind, slots[it.kind], need_of(self.tokens, it)) for it in bounds]

    def encoded(self) -> str:
        """As it stands in a reservation."""
        hold = (self.at, self.scopes, self.counted, self.held, self.cost_nano)
        return msgspec.json.encode(hold).decode()


def holding_nothing(claim: Claim) -> Hold:
    """Of a request that nothing limits."""
    return Hold(claim.at, claim.scopes, _Plan((), (), ()), 0, (), 0)


class Settled(Struct, frozen=True, gc=False):
    """What a request that has ended held, and what its tokens came to: rule, kind, slot, and how much more."""

    hold: Hold
    corrected: Sequence[tuple[str, str, int, int]]


class _Spending:
    """What one scope has spent in one period."""

    __slots__ = ("nano",)

    def __init__(self, nano: int) -> None:
        self.nano = nano


class Tally:
    """For one thread; `Changes` are for the one that writes."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._windows: dict[tuple[str, str], _Window] = {}
        self._plans: dict[int, tuple[Sequence[Bound], _Plan]] = {}
        self._spent: dict[tuple[str, str], _Spending] = {}
        self._charged: dict[tuple[tuple[str, ...], int], Sequence[_Spending]] = {}
        self._held: dict[tuple[str, str], int] = {}
        self._day = 0
        self._open: dict[str, Hold] = {}
        self._changing = threading.Lock()
        self._added: Counts = {}
        self._gone: set[Slot] = set()
        self._under_way = False

    def reserve(self, claim: Claim) -> Admission:
        """As `spend.reserve`, but for what is written. Raises `StoreError` if it does not know how things stand."""
        now = claim.at
        plan = self._plan(claim.bounds)
        self._look(plan, claim)
        counts = plan.counts
        if refused := refusal(self, counts, claim):
            return structs.replace(refused, standings=standings(counts, now))
        with self._changing:
            added = self._added
            for window, count in plan.pairs:
                slot, need = window.now, count.need
                if window.newest == slot:
                    window.used += need
                    window.slots[slot] += need
                else:
                    self._begin(window, slot, need)
                if window.written:
                    place = window.place
                    added[place] = added.get(place, 0) + need
        keys = periods(int(now) // DAY_S)
        held = []
        for budget in claim.budgets:
            pair = (budget.scope, keys[budget.period])
            held.append(pair)
            self._held[pair] = self._held.get(pair, 0) + claim.cost_nano
        self._open[claim.request_id] = Hold(now, claim.scopes, plan, claim.tokens, held, claim.cost_nano)
        return Admission(standings(counts, now))

    def _look(self, plan: _Plan, claim: Claim) -> None:
        """Let the windows stand where a claim is counted, beside what it needs."""
        slots, tokens = slots_at(int(claim.at)), claim.tokens
        for window, count in plan.pairs:
            slot = slots[window.kind]
            if slot != window.now:
                if not window.known:
                    self._read(window)
                window.look(slot)
            if window.by_tokens:
                most = count.bound.most
                count.need = tokens if tokens < most else most

    def hold(self, request_id: str) -> Hold | None:
        """What an open request holds."""
        return self._open.get(request_id)

    def settle(self, request_id: str, tokens: int) -> Settled | None:
        """Put the tokens that were used in the place of those that were reserved, and release the rest. None, and
        nothing is done, for a request that is not open.

        Who calls it sees to it that the store is told of what was corrected, together with the end of the request.
        """
        hold = self._open.pop(request_id, None)
        if hold is None:
            return None
        tokens = min(max(tokens, 0), MOST_TOKENS)  # an upstream may report anything
        slots = slots_at(int(hold.at))
        corrected = []
        for window, bound in hold.plan.passing:
            slot = slots[window.kind]
            by = tokens - min(hold.tokens, bound.most) if window.by_tokens else -1
            if not window.known:
                self._try_to_read(window)
            if window.correct(slot, by) and window.by_tokens:
                corrected.append((window.rule, window.kind, slot, by))
        self._release(hold)
        return Settled(hold, corrected)

    def undo(self, request_id: str) -> None:
        """As if it had not been let through."""
        hold = self._open.pop(request_id)
        with self._changing:
            for (window, _), (_, _, slot, n) in zip(hold.plan.pairs, hold.counted, strict=True):
                if not window.known:
                    self._try_to_read(window)
                if window.correct(slot, -n):
                    self._count(window, slot, -n)
        self._release(hold)

    def charge(self, scopes: Iterable[str], at: float, cost_nano: int) -> None:
        """Add to what is spent. Who calls it sees to it that the store is told, and after this."""
        whose = (tuple(scopes), int(at) // DAY_S)
        for spending in self._charged.get(whose) or self._spendings(*whose):
            spending.nano = min(spending.nano + cost_nano, MOST_SPENT_NANO)

    def _spendings(self, scopes: tuple[str, ...], day: int) -> Sequence[_Spending]:
        """What a cost of that UTC day is added to. What the store cannot be asked for now is asked for when it
        matters, and will have been told."""
        found = []
        pairs = [(scope, key) for scope in scopes for key in periods(day).values()]
        for pair in pairs:
            with contextlib.suppress(StoreError):
                found.append(self._spending(pair))
        if len(found) == len(pairs):
            self._charged[scopes, day] = found
        return found

    def within(self, rule: str, kind: str, first: int, last: int) -> Sequence[tuple[int, int]]:
        slots = self._windows[rule, kind].slots
        return sorted([(slot, n) for slot, n in slots.items() if first <= slot <= last])

    def spent(self, scope: str, key: str) -> Spent:
        pair = (scope, key)
        return Spent(self._spending(pair).nano, self._held.get(pair, 0))

    def turn(self, now: float) -> None:
        """With a new day, forget what was spent: most of it was in days that are past. To be called when all of it is
        written, for the store is asked anew."""
        day = int(now) // DAY_S
        if day != self._day:
            self._day = day
            self._forget_spent()

    def reread(self) -> None:
        """Ask the store anew how things stand, now that all of this is written there."""
        for window in self._windows.values():
            window.forget()
        self._forget_spent()

    def _forget_spent(self) -> None:
        self._spent.clear()
        self._charged.clear()

    def changes(self) -> "Changes | None":
        """What writes all that is counted until its turn comes; None if one that will is under way."""
        if self._under_way:
            return None
        self._under_way = True
        return Changes(self)

    def take(self) -> tuple[Counts, set[Slot]]:
        """What was counted since the last time, and the slots that are gone. For any thread."""
        self._under_way = False  # first: who counts from here on and still sees it is taken below
        with self._changing:
            added, self._added = self._added, {}
            gone, self._gone = self._gone, set()
        return added, gone

    def _plan(self, bounds: Sequence[Bound]) -> _Plan:
        """Where bounds are counted; the same ones come again and again, and are known by what they are in memory."""
        known = self._plans.get(id(bounds))
        if known is not None and known[0] is bounds:
            return known[1]
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        windows = [self._windows.setdefault((b.rule, b.kind), _Window(b.rule, b.kind)) for b in bounds]
        counts = [Count(b, it, need=1) for b, it in zip(bounds, windows, strict=True)]
        passing = [(it, b) for b, it in zip(bounds, windows, strict=True) if it.by_tokens or not it.written]
        plan = _Plan([*zip(windows, counts, strict=True)], counts, passing)
        self._plans[id(bounds)] = (bounds, plan)
        return plan

    def _read(self, window: _Window) -> None:
        window.slots = dict(self._ask(_COUNTERS, (window.rule, window.kind)))
        window.known = True
        window.now = -1

    def _count(self, window: _Window, slot: int, by: int) -> None:
        """What the store is to be told; of 0, too: who settles for a process that has died corrects what is there."""
        if window.written:
            key = (window.rule, window.kind, slot)
            self._added[key] = self._added.get(key, 0) + by

    def _try_to_read(self, window: _Window) -> None:
        """Before it is corrected. Where the store cannot be asked, an estimate does."""
        with contextlib.suppress(StoreError):
            self._read(window)

    def _begin(self, window: _Window, slot: int, need: int) -> None:
        """The first of a slot ends those that no longer count."""
        first, last = kept_of(window.kind, slot)
        for gone in [it for it in window.slots if not first <= it <= last]:
            del window.slots[gone]
            key = (window.rule, window.kind, gone)
            self._added.pop(key, None)
            self._gone.add(key)
        window.take(need)
        window.slots[slot] = window.slots.get(slot, 0) + need

    def _spending(self, pair: tuple[str, str]) -> _Spending:
        """What is spent as the store has it, kept from now on. Raises `StoreError`."""
        spending = self._spent.get(pair)
        if spending is None:
            found = self._ask(_SPENT, pair)
            spending = self._spent[pair] = _Spending(found[0][0] if found else 0)
        return spending

    def _release(self, hold: Hold) -> None:
        for pair in hold.held:
            left = self._held.get(pair, 0) - hold.cost_nano
            if left > 0:
                self._held[pair] = left
            else:
                self._held.pop(pair, None)


class Changes(Posting):
    """Writes what a tally has counted until it is first tried and no other has taken. Nothing of what comes after: no
    count goes below 0, so that what takes away has to stand behind what it takes from."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._taken: tuple[Counts, set[Slot]] | None = None

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        if self._taken is None:
            self._taken = self._tally.take()
        added, gone = self._taken
        for slot in gone:
            bulk.forget(*slot)
        for slot, n in added.items():
            bulk.count(*slot, n)
