"""Counters, spend and what open requests hold, as the processes of a server see them: in memory, without waiting.

It decides by the rules of `weighing.py`. What it has counted goes into the store by `Changes`, as what is to be
added, never as what it comes to; the store is asked once, before anything is counted. Whose memory it is, `cells.py`
and `memory.py` say; when it is written is `accounts.py`'s.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from gproxy.errors import StoreError
from gproxy.ledger import purses, windows
from gproxy.ledger.bulk import Bulk, Counts, Posting
from gproxy.ledger.cells import Memory
from gproxy.ledger.ended import ADDED, TAKEN, Ended
from gproxy.ledger.periods import DAY_S, periods
from gproxy.ledger.purses import Purse, Purses
from gproxy.ledger.rows import MOST_TOKENS
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.weighing import BY_TOKENS, Count, need_of, refusal, slots_at, standings
from gproxy.ledger.windows import NEWEST, PLACE, USED, Ask, Window
from gproxy.values import Admission, Bound, Claim

_MOST_PLANS = 4096

_MOST_STALE = 1000
"""Names that are forgotten in one turn, which takes a millisecond."""

Range = tuple[str, str, int, int]
"""Rule, kind, and the first and the last slot of a counter."""


class _Plan(NamedTuple):
    """Where bounds are counted. How they stand is that of the claim which was looked at last.

    `passing` is what a request gives back or corrects at its end: that it was open, and its tokens.
    """

    pairs: Sequence[tuple[Window, Count]]
    counts: Sequence[Count]
    passing: Sequence[tuple[Window, Bound]]


class Hold(Struct, frozen=True, gc=False):
    """What an open request has counted by a plan, and holds of each (scope, period) of its budgets."""

    at: float
    scopes: tuple[str, ...]
    plan: _Plan
    tokens: int
    held: Sequence[tuple[str, str]]
    purses: Sequence[Purse]
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
    return Hold(claim.at, claim.scopes, _Plan((), (), ()), 0, (), (), 0)


class Settled(Struct, frozen=True, gc=False):
    """What a request that has ended held, and what its tokens came to: rule, kind, slot, and how much more."""

    hold: Hold
    corrected: Sequence[tuple[str, str, int, int]]


class Tally:
    """For one thread; `Changes` are for the one that writes.

    Whatever ends may find that the memory cannot be had now. Then it is `late`, and done as soon as it can be, by
    whatever comes next.
    """

    def __init__(self, memory: Memory, ask: Ask) -> None:
        self._memory = memory
        self._ask = ask
        self._windows: dict[tuple[str, str], Window] = {}
        self._plans: dict[int, tuple[Sequence[Bound], _Plan]] = {}
        self._purses = Purses(memory, ask)
        self._ended = Ended(memory) if memory.workers > 1 else None
        self.spent = self._purses.spent
        self._open: dict[str, Hold] = {}
        self._late: list[Callable[[], object]] = []
        self._added: Counts = {}
        self._gone: set[Range] = set()
        self._times = 0
        self._overtaken = False
        self._stale: list[tuple[str, int]] = []
        self._under_way = False

    def reserve(self, claim: Claim) -> Admission:
        """Count and hold all of a claim, or nothing of it. Raises `StoreError` if it is not known how things stand.

        With each request let through, what is spent and what the open requests were let through for (their
        estimates; for one that was alone, what was left) are within every budget of it together. So spend passes a
        budget by no more than what requests open side by side cost beyond that.
        """
        now = claim.at
        with self._memory.turn:
            if self._late:
                self._catch_up()
            plan = self._plan(claim.bounds)
            self._look(plan, claim)
            counts = plan.counts
            if refused := refusal(self, counts, claim):
                return structs.replace(refused, standings=standings(counts, now))
            if self._ended:
                self._memory.handed()
                self._times += 1
            cells, added = self._memory.cells, self._added
            for window, count in plan.pairs:
                at, need = window.at, count.need
                if place := window.own or cells[at + PLACE]:
                    cells[place] += need
                    cells[at + USED] = count.used = count.used + need
                    if count.newest < count.now and need:
                        cells[at + NEWEST] = count.newest = count.now
                else:
                    self._begin(window, count)
                if counter := window.counter:
                    added[counter] = added.get(counter, 0) + need
            held, purses = self._hold(claim) if claim.budgets else ((), ())
        hold = Hold(now, claim.scopes, plan, claim.tokens, held, purses, claim.cost_nano)
        self._open[claim.request_id] = hold
        return Admission(standings(counts, now))

    def _look(self, plan: _Plan, claim: Claim) -> None:
        """Let the windows stand where a claim is counted, beside what it needs."""
        slots, tokens, cells = slots_at(int(claim.at)), claim.tokens, self._memory.cells
        for window, count in plan.pairs:
            at, slot = window.at, slots[window.kind]
            if cells[at] != slot or window.slot != slot:
                window.look(slot)
            count.now, count.used, count.newest = slot, cells[at + USED], cells[at + NEWEST]
            if window.by_tokens:
                most = count.bound.most
                count.need = tokens if tokens < most else most

    def _begin(self, window: Window, count: Count) -> None:
        """The first of a slot."""
        left = window.begin(count.now, count.need)
        count.take()
        if left is not None:
            rule, kind = window.rule, window.kind
            first, last = left
            self._gone.add((rule, kind, first, last))
            for counter in [it for it in self._added if it[:2] == (rule, kind)]:
                if not first <= counter[2] <= last:
                    del self._added[counter]

    def _hold(self, claim: Claim) -> tuple[Sequence[tuple[str, str]], Sequence[Purse]]:
        keys = periods(int(claim.at) // DAY_S)
        purse = self._purses.purse
        held, purses = [], []
        for budget in claim.budgets:
            scope, key = budget.scope, keys[budget.period]
            held.append((scope, key))
            purses.append(purse(scope, key))
        self._purses.hold(purses, claim.cost_nano)
        return held, purses

    def hold(self, request_id: str) -> Hold | None:
        """What an open request holds."""
        return self._open.get(request_id)

    def settle(self, claim: Claim, tokens: int, cost_nano: int) -> Settled | None:
        """Put the tokens that were used in the place of those that were reserved, release the rest, and add to what
        is spent. None for a request that is not open: then the cost is spent, and that is all.

        Who calls it sees to it that the store is told of what was corrected and spent, together with the end of the
        request, after this, and tells `written` when it was.
        """
        hold = self._open.pop(claim.request_id, None)
        if self._ended:
            self._memory.handed()
        tokens = min(max(tokens, 0), MOST_TOKENS)  # an upstream may report anything
        try:
            with self._memory.turn:
                if self._late:
                    self._catch_up()
                corrected = self._end(hold, tokens, claim, cost_nano)
        except StoreError:
            # The store may have it before the memory: nobody is to read it there meanwhile.
            self._memory.handed()
            self._late.append(partial(self._end_late, hold, tokens, claim, cost_nano))
            corrected = (
                ()
                if hold is None
                else [
                    (rule, kind, slot, tokens - n)
                    for rule, kind, slot, n in hold.counted
                    if kind in BY_TOKENS
                ]
            )
        return None if hold is None else Settled(hold, corrected)

    def _end(
        self, hold: Hold | None, tokens: int, claim: Claim, cost_nano: int, *, late: bool = False
    ) -> Sequence[tuple[str, str, int, int]]:
        """What was corrected of tokens. Killed in the midst, what is added may be so again, nothing taken twice."""
        corrected = []
        noted = self._ended.note(claim.request_id, TAKEN) if self._ended else 0
        if hold is not None:
            slots, cells = slots_at(int(hold.at)), self._memory.cells
            for window, bound in hold.plan.passing:
                slot = slots[window.kind]
                if own := window.own:
                    if cells[own] > 0:
                        cells[own] -= 1
                        cells[window.at + USED] -= 1
                    continue
                by = tokens - (hold.tokens if hold.tokens < bound.most else bound.most)
                if late and by < 0 and window.unread:
                    continue  # the store, which will be read, may have it already
                if window.correct(slot, by):
                    corrected.append((window.rule, window.kind, slot, by))
            if hold.purses:
                self._purses.hold(hold.purses, -hold.cost_nano)
        if cost_nano:
            self._purses.charge(claim.scopes, int(claim.at) // DAY_S, cost_nano)
        if self._ended:
            self._ended.add(noted, ADDED)
        return corrected

    def _end_late(self, hold: Hold | None, tokens: int, claim: Claim, cost_nano: int) -> None:
        self._end(hold, tokens, claim, cost_nano, late=True)
        self._times += 1

    def undo(self, request_id: str) -> None:
        """As if it had not been let through."""
        hold = self._open.pop(request_id)
        self._memory.handed()
        try:
            with self._memory.turn:
                self._take_back(hold)
        except StoreError:
            self._late.append(partial(self._take_back, hold))

    def _take_back(self, hold: Hold) -> None:
        """The store is told of 0, too: who settles for a process that has died corrects what is there."""
        self._times += 1
        added = self._added
        for (window, _), (rule, kind, slot, n) in zip(hold.plan.pairs, hold.counted, strict=True):
            if window.correct(slot, -n) and window.written:
                added[rule, kind, slot] = added.get((rule, kind, slot), 0) - n
        self._purses.hold(hold.purses, -hold.cost_nano)

    @property
    def late(self) -> bool:
        """Whether anything is."""
        return bool(self._late)

    def catch_up(self) -> None:
        """Do what is late, if it can be done now."""
        with contextlib.suppress(StoreError), self._memory.turn:
            self._catch_up()

    def _catch_up(self) -> None:
        late, self._late = self._late, []
        for act in late:
            act()

    def within(self, rule: str, kind: str, first: int, last: int) -> Sequence[tuple[int, int]]:
        return self._windows[rule, kind].within(first, last)

    def overtaken(self) -> None:
        """Somebody else has changed the store: it is to be asked anew how everything stands."""
        self._overtaken = True

    def reread(self) -> None:
        """Do so with some of it, now that all that this process has counted is written; not while another has counted
        what is not. To be called until nothing is left. Raises `StoreError`."""
        if not (self._overtaken or self._stale):
            return
        with self._memory.turn:
            if self._memory.unwritten():
                return
            if not self._stale:
                self._overtaken = False
                self._stale = list(self._memory.places())
            for name, at in self._stale[-_MOST_STALE:]:
                windows.forget(self._memory, name, at)
                purses.forget(self._memory, name, at)
            del self._stale[-_MOST_STALE:]

    def changes(self) -> "Changes | None":
        """What writes all that is counted until its turn comes; None if one that will is under way."""
        if self._under_way:
            return None
        self._under_way = True
        return Changes(self)

    def take(self) -> tuple[Counts, set[Range], int]:
        """What was counted since the last time, of which counters all but some slots are gone, and how often
        `written` is to be told of it. For any thread."""
        self._under_way = False  # first: who counts from here on and still sees it is taken below
        with self._memory.changing:
            added, self._added = self._added, {}
            gone, self._gone = self._gone, set()
            times, self._times = self._times, 0
        return added, gone, times

    def written(self, times: int = 1) -> None:
        """So often something was counted, or settled, that is now written. For any thread."""
        if self._ended:
            self._memory.written(times)

    def _plan(self, bounds: Sequence[Bound]) -> _Plan:
        """Where bounds are counted; the same ones come again and again, and are known by what they are in memory."""
        known = self._plans.get(id(bounds))
        if known is not None and known[0] is bounds:
            return known[1]
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        windows = [self._window(it.rule, it.kind) for it in bounds]
        counts = [Count(bound, need=1) for bound in bounds]
        passing = [(it, b) for b, it in zip(bounds, windows, strict=True) if it.by_tokens or it.own]
        plan = _Plan([*zip(windows, counts, strict=True)], counts, passing)
        self._plans[id(bounds)] = (bounds, plan)
        return plan

    def _window(self, rule: str, kind: str) -> Window:
        window = self._windows.get((rule, kind))
        if window is None:
            window = self._windows[rule, kind] = Window(rule, kind, self._memory, self._ask)
        return window


class Changes(Posting):
    """Writes what a tally has counted until it is first tried and no other has taken. Nothing of what comes after: no
    count goes below 0, so that what takes away has to stand behind what it takes from."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._taken: tuple[Counts, set[Range], int] | None = None

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        if self._taken is None:
            self._taken = self._tally.take()
        added, gone, _ = self._taken
        for left in gone:
            bulk.forget_beside(*left)
        for slot, n in added.items():
            bulk.count(*slot, n)

    def committed(self) -> None:
        if self._taken is not None:
            self._tally.written(self._taken[2])
