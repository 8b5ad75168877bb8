"""Where the bounds of a claim are counted, worked out once for all claims that come under the same ones.

A short way for what most claims are: all of it fits, and it is plain which bounds are the tightest. What it gives is
what `weighing.py` says of each bound, which is asked whenever it is not so plain. In whose memory it is counted
`tally.py` says, and what a window does `windows.py`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gproxy.ledger import ahead
from gproxy.ledger.ahead import BARE, BARE_DAYS, FITTED, FREE, LEFT, NEWEST, OPEN, PLACE, ROOM, TURN, USED
from gproxy.ledger.bulk import Slot
from gproxy.ledger.cells import Memory
from gproxy.ledger.periods import DAY_S
from gproxy.ledger.weighing import WINDOW_S, Count, need_of, slots_at, standing
from gproxy.ledger.windows import Window
from gproxy.values import Bound, Claim, Standing

_BEYOND = 2**63
"""No bound is as wide."""

_ENDLESS = 2**61
"""What fits where nothing bounds it, with room in a cell for what is given back."""

_CALM = 8
"""After so many claims of one second that fitted, with nobody else in between, a plan runs ahead. To begin it, and to
give what was counted, takes half as long as to look at a claim in each window and to count it there."""

Added = defaultdict[tuple[str, str], dict[int, int]]
"""By rule and kind: how much was added in which slots."""

Range = tuple[str, str, int, int]
"""Rule, kind, and the first and the last slot of a counter."""

Correction = tuple[Sequence[Slot], int]
"""Slots, and how much more counts in each."""


_Timed = tuple[Window, int, str, int, Bound]


def _is_sliding(timed: _Timed) -> bool:
    return timed[0].sliding


class Plan:
    """All of it done in the memory's turn. `second` is that of the claim which was looked at last, -1 before any.

    `requests` and `tokens` is what was counted in that second, and `spread` has yet to give to every counter of the
    store; no more than `unclipped` tokens of a claim are counted alike by all of them.

    A plan may run ahead of its windows: in one second, what is counted alike by all of them leaves the same ones the
    tightest, so that it is known without them what still fits (`ahead.py`). It does so in the memory, together with
    the plans of the same bounds in other processes.
    """

    __slots__ = (
        "_at",
        "_counted",
        "_days",
        "_days_last",
        "_families",
        "_joined",
        "_marks",
        "_memory",
        "_of",
        "_open",
        "_own",
        "_slots",
        "_tight",
        "_tokens",
        "bounds",
        "requests",
        "second",
        "tokens",
        "unclipped",
        "windows",
    )

    def __init__(self, bounds: Sequence[Bound], windows: Sequence[Window], memory: Memory) -> None:
        """Raises `StoreError`."""
        self.bounds, self.windows = bounds, windows
        self._memory = memory
        self._at = ahead.place(memory, repr(bounds), len(windows))
        self.second = -1
        self._slots: Mapping[str, int] = {}
        self.requests = self.tokens = 0
        timed = [(it, bound) for it, bound in zip(windows, bounds, strict=True) if it.written]
        self._counted = [(it, it.at + USED, it.at + PLACE, it.by_tokens, bound.most) for it, bound in timed]
        self._tokens = [(it, it.at, it.kind, bound.most) for it, bound in timed if it.by_tokens]
        opened = [(it, bound) for it, bound in zip(windows, bounds, strict=True) if it.own]
        self._open = [(it, it.at, it.own, it.at + USED, bound.most) for it, bound in opened]
        self.unclipped = min([most for *_, most in self._tokens], default=_ENDLESS)
        families: dict[bool, list[_Timed]] = {}
        for it, bound in timed:
            families.setdefault(it.by_tokens, []).append((it, it.at, it.kind, bound.most, bound))
        self._families = [(by_tokens, sorted(them, key=_is_sliding)) for by_tokens, them in families.items()]
        self._days_last = False
        self._days = [nth for nth, (it, *_) in enumerate(self._counted) if it.by_tokens and not it.sliding]
        self._own = self._at + OPEN + memory.worker
        self._joined = self._of = 0
        """When it was ahead, and in which second, if what follows from that is known."""
        self._tight: list[tuple[bool, Bound, int]] = []
        self._marks: Sequence[Slot] = ()

    def turn(self, second: int, added: Added) -> None:
        """Go to another second."""
        self.spread(added)
        self._memory.cells[self._at + FITTED] = 0
        self.second, self._slots = second, slots_at(second)
        self._days_last = (second + 2 * WINDOW_S) // DAY_S == second // DAY_S

    def look(self, tokens: int, now: float) -> list[Standing] | None:
        """The tightest bound on requests and the tightest on tokens, as they will stand when a claim is counted; None
        if it may not fit, or it is not so plain, so that each bound is to be weighed. Raises `StoreError`."""
        if tokens > self.unclipped:
            return None
        told: list[Standing] = []
        cells, slots, here = self._memory.cells, self._slots, self._at
        if turn := cells[here + TURN]:
            if turn != self._joined:
                self._join(turn)
            if self._of == self.second:
                left, free = cells[here + LEFT] - 1, cells[here + FREE] - tokens
                if left < 0 or free < 0 or cells[here + ROOM] < 1:
                    return None
                for by_tokens, bound, end in self._tight:
                    told.append(Standing(bound, free if by_tokens else left, end - now))
                return told
        for window, at, _, used, most in self._open:
            if cells[at]:
                window.look(0)
            if cells[used] >= most:
                return None
        for by_tokens, windows in self._families:
            need = tokens if by_tokens else 1
            least, tightest = _BEYOND, windows[0]
            for it in windows:
                window, at, kind, most, _ = it
                if cells[at] != slots[kind]:
                    window.look(slots[kind])
                room = most - cells[at + USED]
                if room < least:
                    least, tightest = room, it
                elif room == least and not (need and self._days_last and cells[at + NEWEST] <= slots[kind]):
                    return None  # else what comes first lasts as long, or longer
            if least < need:
                return None
            _, at, kind, most, bound = tightest
            slot, newest = slots[kind], cells[at + NEWEST]
            if need and newest < slot:
                newest = slot
            told.append(standing(bound, most - least + need, slot, newest, now))
        return told

    def counts(self, tokens: int) -> list[Count]:
        """How each bound stands, and what a claim needs of it. Raises `StoreError`."""
        cells, slots = self._memory.cells, self._slots
        cells[self._at + FITTED] = 0
        found = []
        for window, bound in zip(self.windows, self.bounds, strict=True):
            at, slot = window.at, slots[window.kind]
            if cells[at] != slot:
                window.look(slot)
            found.append(Count(bound, need_of(tokens, bound), slot, cells[at + USED], cells[at + NEWEST]))
        return found

    def count(self, tokens: int) -> Sequence[Range]:
        """What was looked at last. Of which counters all but some slots are gone by that."""
        cells, here = self._memory.cells, self._at
        if cells[here + TURN]:
            cells[here + LEFT] -= 1
            cells[here + FREE] -= tokens
            cells[here + ROOM] -= 1
            cells[self._own] += 1
            return ()
        gone: list[Range] = []
        for window, used, first, by_tokens, most in self._counted:
            need = (tokens if tokens < most else most) if by_tokens else 1
            if place := cells[first]:
                cells[place] += need
                cells[used] += need
            elif left := window.begin(self._slots[window.kind], need):
                gone.append((window.rule, window.kind, *left))
        for _, _, own, used, _ in self._open:
            cells[own] += 1
            cells[used] += 1
        cells[here + FITTED] = fitted = cells[here + FITTED] + 1
        if fitted > _CALM:
            self._run_ahead()
        return gone

    def _run_ahead(self) -> None:
        """If each window has begun to count in this second. A claim has just fitted plainly, and is counted."""
        cells, here, slots = self._memory.cells, self._at, self._slots
        if not self.windows or not all(cells[first] for _, _, first, _, _ in self._counted):
            return
        cells[here + LEFT] = cells[here + FREE] = cells[here + ROOM] = _ENDLESS
        bare = {True: 2 * _ENDLESS, False: 2 * _ENDLESS}
        for by_tokens, windows in self._families:
            least = min([most - cells[at + USED] for _, at, _, most, _ in windows])
            cells[here + (FREE if by_tokens else LEFT)] = least
            for window, at, *_ in windows if by_tokens else ():
                bare[window.sliding] = min(bare[window.sliding], least + cells[cells[at + PLACE]] - 1)
        cells[here + BARE], cells[here + BARE_DAYS] = bare[True], bare[False]
        if self._open:
            cells[here + ROOM] = min([most - cells[used] for _, _, _, used, most in self._open])
        led = [
            (it.at, ahead.TOKENS if it.by_tokens else ahead.REQUESTS, slots[it.kind], cells[first])
            for it, _, first, _, _ in self._counted
        ]
        led += [(at, ahead.OPENED, 0, own - self._memory.worker) for _, at, own, _, _ in self._open]
        ahead.begin(self._memory, here, self.second, led)

    def _join(self, turn: int) -> None:
        """What follows from being ahead."""
        cells = self._memory.cells
        self._joined, self._of = turn, ahead.second_of(turn)
        slots = slots_at(self._of)
        self._tight = []
        for by_tokens, windows in self._families:
            window, at, kind, _, bound = min(windows, key=lambda it: it[3] - cells[it[1] + USED])
            end = cells[at + NEWEST] + WINDOW_S if window.sliding else (slots[kind] + 1) * DAY_S
            self._tight.append((by_tokens, bound, end))
        self._marks = self._marks_at(slots)

    def _marks_at(self, slots: Mapping[str, int]) -> Sequence[Slot]:
        """Where tokens are counted."""
        return [(it.rule, kind, slots[kind]) for it, _, kind, _ in self._tokens]

    def spread(self, added: Added) -> None:
        """Add to each counter of the store what was counted since the last time."""
        if not self.requests:
            return
        for window, _, _, by_tokens, _ in self._counted:
            slots, slot = added[window.rule, window.kind], self._slots[window.kind]
            slots[slot] = slots.get(slot, 0) + (self.tokens if by_tokens else self.requests)
        self.requests = self.tokens = 0

    def end(self, claim: Claim, tokens: int, late: bool) -> Sequence[Correction]:
        """Put so many tokens in the place of those of a claim that was counted, which is open no more. What was
        corrected."""
        second, reserved = int(claim.at), claim.tokens
        change = tokens - reserved
        cells, here = self._memory.cells, self._at
        if turn := cells[here + TURN]:
            if turn != self._joined:
                self._join(turn)
            free = cells[here + FREE] - change
            alike = reserved <= self.unclipped and not late and free < cells[here + BARE_DAYS]
            if alike and second == self._of and free < cells[here + BARE]:
                cells[here + FREE] = free
                cells[here + ROOM] += 1
                cells[self._own] -= 1
                return [(self._marks, change)]
            if alike and second < self._of and self._end_before(second, change):
                return [(self._marks_at(slots_at(second)), change)]
        slots = slots_at(second)
        corrected: list[Correction] = []
        for window, at, kind, most in self._tokens:
            slot = slots[kind]
            by = change if reserved <= most else tokens - most
            if cells[at] == slot and (place := cells[at + PLACE]) and (has := cells[place] + by) > 1:
                cells[place] = has
                cells[at + USED] += by
            elif late and by < 0 and window.unread:
                continue  # the store, which will be read, may have it already
            elif not window.correct(slot, by):
                continue
            corrected.append(([(window.rule, kind, slot)], by))
        for window, at, own, used, _ in self._open:
            if cells[at]:
                window.look(0)
            if cells[own] > 0:
                cells[own] -= 1
                cells[used] -= 1
        return corrected

    def _end_before(self, second: int, change: int) -> bool:
        """End a claim of an earlier second while it is ahead, if all windows still count that second."""
        memory, here = self._memory, self._at
        cells, slots, now = memory.cells, slots_at(second), slots_at(self._of)
        places = []
        for window, at, kind, _ in self._tokens:
            place = window.place_of(slots[kind])
            over = now[kind] - slots[kind] >= (WINDOW_S if window.sliding else 1)
            if over or not place or cells[place] + change <= 1:
                return False
            places += [place, at + USED]
        for place in places:
            cells[place] += change
        ahead.correct_before(memory, here, self._days, change)
        cells[here + ROOM] += 1
        cells[self._own] -= 1
        return True
