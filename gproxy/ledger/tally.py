"""Counters, spend and what open requests hold, as the processes of a server see them: in memory, without waiting.

It decides by the rules of `weighing.py`. What it has counted goes into the store by `Changes`, as what is to be
added, never as what it comes to; the store is asked once, before anything is counted. Whose memory it is, `cells.py`
and `memory.py` say; when it is written is `accounts.py`'s.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct, structs

from gproxy.errors import StoreError
from gproxy.ledger import purses, windows
from gproxy.ledger.bulk import Bulk, Posting
from gproxy.ledger.cells import Memory
from gproxy.ledger.ended import ADDED, TAKEN, Ended
from gproxy.ledger.periods import DAY_S
from gproxy.ledger.plans import Added, Correction, Plan, Range
from gproxy.ledger.purses import Drawn, Purses
from gproxy.ledger.rows import MOST_TOKENS
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.weighing import BY_TOKENS, counted, refusal, standings, tightest
from gproxy.ledger.windows import Ask, Window
from gproxy.values import Admission, Bound, Claim

_MOST_PLANS = 4096

_MOST_STALE = 1000
"""Names that are forgotten in one turn, which takes a millisecond."""


class Hold(Struct, frozen=True, gc=False):
    """Where an open request is counted, and what it holds of its budgets."""

    claim: Claim
    plan: Plan
    drawn: Sequence[Drawn]


class Tally:
    """For one thread; `Changes` are for the one that writes.

    Whatever ends may find that the memory cannot be had now. Then it is `late`, and done as soon as it can be, by
    whatever comes next. `under_way`: there are changes that will write what is counted now.
    """

    def __init__(self, memory: Memory, ask: Ask) -> None:
        self._memory = memory
        self._ask = ask
        self._windows: dict[tuple[str, str], Window] = {}
        self._plans: dict[int, Plan] = {}
        self._planned_for: list[Sequence[Bound]] = []
        self._alike: dict[Sequence[Bound], Plan] = {}
        self._counted: list[Plan] = []
        self._purses = Purses(memory, ask)
        self._ended = Ended(memory) if memory.workers > 1 else None
        self.spent = self._purses.spent
        self._open: dict[str, Hold] = {}
        self.late: list[Callable[[], object]] = []
        self._added: Added = defaultdict(dict)
        self._gone: set[Range] = set()
        self._times = 0
        self._overtaken = False
        self._stale: list[tuple[str, int]] = []
        self.under_way = False

    def reserve(self, claim: Claim) -> Admission:
        """Count and hold all of a claim, or nothing of it. Raises `StoreError` if it is not known how things stand.

        With each request let through, what is spent and what the open requests were let through for (their
        estimates; for one that was alone, what was left) are within every budget of it together. So spend passes a
        budget by no more than what requests open side by side cost beyond that.
        """
        now, tokens = claim.at, claim.tokens
        with self._memory.turn:
            if self.late:
                self._catch_up()
            plan, second = self._plans.get(id(claim.bounds)), int(now)
            if plan is None:
                plan = self._planned(claim.bounds)
            if plan.second != second:
                plan.turn(second, self._added)
            told, drawn, budgets = plan.look(tokens, now), None, claim.budgets
            if told is not None:
                drawn = self._purses.draw(budgets, second // DAY_S, claim.cost_nano) if budgets else ()
            if told is None or drawn is None:
                counts = plan.counts(tokens)
                if refused := refusal(self, counts, claim):
                    stands = standings(counts, now)
                    return structs.replace(refused, told=tightest(stands), standings=stands)
                for count in counts:
                    count.take()
                told = tightest(standings(counts, now))
                drawn = self._purses.drawn(budgets, second // DAY_S)
                self._purses.hold(drawn, claim.cost_nano)
            if self._ended:
                self._memory.handed()
                self._times += 1
            for gone in plan.count(tokens):
                self._forget(gone)
            if tokens > plan.unclipped:
                self._add(claim)
            else:
                if not plan.requests:
                    self._counted.append(plan)
                plan.requests += 1
                plan.tokens += tokens
        self._open[claim.request_id] = Hold(claim, plan, drawn)
        return Admission(told)

    def _add(self, claim: Claim) -> None:
        """The store is to be told of what was counted, which is not the same of each bound."""
        for rule, kind, slot, n in counted(claim):
            if kind != "concurrency":
                slots = self._added[rule, kind]
                slots[slot] = slots.get(slot, 0) + n

    def _spread(self) -> None:
        for plan in self._counted:
            plan.spread(self._added)
        self._counted.clear()

    def _forget(self, gone: Range) -> None:
        """What is counted of other slots is so no more."""
        self._spread()
        rule, kind, first, last = gone
        self._gone.add(gone)
        slots = self._added[rule, kind]
        for slot in [it for it in slots if not first <= it <= last]:
            del slots[slot]

    def settle(self, claim: Claim, tokens: int, cost_nano: int) -> Sequence[Correction] | None:
        """Put the tokens that were used in the place of those that were reserved, release the rest, and add to what
        is spent. What was corrected; None for a request that is not open: then
        the cost is spent, and that is all.

        Who calls it sees to it that the store is told of what was corrected and spent, together with the end of the
        request, after this, and tells `written` when it was.
        """
        hold = self._open.pop(claim.request_id, None)
        if self._ended:
            self._memory.handed()
        if not 0 <= tokens <= MOST_TOKENS:  # an upstream may report anything
            tokens = 0 if tokens < 0 else MOST_TOKENS
        try:
            with self._memory.turn:
                if self.late:
                    self._catch_up()
                return self._end(hold, tokens, claim, cost_nano, False)
        except StoreError:
            # The store may have it before the memory: nobody is to read it there meanwhile.
            self._memory.handed()
            self.late.append(partial(self._end_late, hold, tokens, claim, cost_nano))
        if hold is None:
            return None
        return [
            ([(rule, kind, slot)], tokens - n)
            for rule, kind, slot, n in counted(hold.claim)
            if kind in BY_TOKENS
        ]

    def _end(
        self, hold: Hold | None, tokens: int, claim: Claim, cost_nano: int, late: bool
    ) -> Sequence[Correction] | None:
        """What was corrected of tokens. Killed in the midst, what is added may be so again, nothing taken twice."""
        corrected = None
        noted = self._ended.note(claim.request_id, TAKEN) if self._ended else 0
        if hold is not None:
            corrected = hold.plan.end(hold.claim, tokens, late)
            if hold.drawn:
                self._purses.release(hold.drawn, hold.claim.cost_nano)
        if cost_nano:
            self._purses.charge(claim.scopes, int(claim.at) // DAY_S, cost_nano)
        if self._ended:
            self._ended.add(noted, ADDED)
        return corrected

    def _end_late(self, hold: Hold | None, tokens: int, claim: Claim, cost_nano: int) -> None:
        self._end(hold, tokens, claim, cost_nano, True)
        self._times += 1

    def undo(self, request_id: str) -> None:
        """As if it had not been let through."""
        hold = self._open.pop(request_id)
        self._memory.handed()
        try:
            with self._memory.turn:
                self._take_back(hold)
        except StoreError:
            self.late.append(partial(self._take_back, hold))

    def _take_back(self, hold: Hold) -> None:
        """The store is told of 0, too: who settles for a process that has died corrects what is there."""
        self._times += 1
        for window, (rule, kind, slot, n) in zip(hold.plan.windows, counted(hold.claim), strict=True):
            if window.correct(slot, -n) and window.written:
                slots = self._added[rule, kind]
                slots[slot] = slots.get(slot, 0) - n
        self._purses.release(hold.drawn, hold.claim.cost_nano)

    def catch_up(self) -> None:
        """Do what is late, if it can be done now."""
        with contextlib.suppress(StoreError), self._memory.turn:
            self._catch_up()

    def _catch_up(self) -> None:
        late, self.late = self.late, []
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
            self._purses.pay()
            for name, at in self._stale[-_MOST_STALE:]:
                windows.forget(self._memory, name, at)
                purses.forget(self._memory, name, at)
            del self._stale[-_MOST_STALE:]

    def changes(self) -> "Changes | None":
        """What writes all that is counted until its turn comes; None if one that will is under way."""
        if self.under_way:
            return None
        self.under_way = True
        return Changes(self)

    def take(self) -> tuple[Added, set[Range], int]:
        """What was counted since the last time, of which counters all but some slots are gone, and how often
        `written` is to be told of it. For any thread."""
        self.under_way = False  # first: who counts from here on and still sees it is taken below
        with self._memory.changing:
            self._spread()
            added, self._added = self._added, defaultdict(dict)
            gone, self._gone = self._gone, set()
            times, self._times = self._times, 0
        return added, gone, times

    def written(self, times: int = 1) -> None:
        """So often something was counted, or settled, that is now written. For any thread."""
        if self._ended:
            self._memory.written(times)

    def _planned(self, bounds: Sequence[Bound]) -> Plan:
        """Where bounds are counted; the same ones come again and again, and are known by where they are in memory,
        where nothing else comes to be as long as they are kept. Those that are alike, of other models or keys, have
        one plan."""
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
            self._planned_for.clear()
            self._alike.clear()
        plan = self._alike.get(bounds)
        if plan is None:
            windows = [self._window(it.rule, it.kind) for it in bounds]
            plan = self._alike[bounds] = Plan(bounds, windows, self._memory)
        self._plans[id(bounds)] = plan
        self._planned_for.append(bounds)
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
        self._taken: tuple[Added, set[Range], int] | None = None

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        if self._taken is None:
            self._taken = self._tally.take()
        added, gone, _ = self._taken
        for left in gone:
            bulk.forget_beside(*left)
        for (rule, kind), slots in added.items():
            for slot, n in slots.items():
                bulk.count(rule, kind, slot, n)

    def committed(self) -> None:
        if self._taken is not None:
            self._tally.written(self._taken[2])
