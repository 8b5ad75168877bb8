"""Where the bounds of a claim are counted, worked out once for all claims that come under the same ones.

A short way for what most claims are: all of it fits, and it is plain which bounds are the tightest. What it gives is
what `weighing.py` says of each bound, which is asked whenever it is not so plain. In whose memory it is counted
`tally.py` says, and what a window does `windows.py`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gproxy.ledger.bulk import Slot
from gproxy.ledger.cells import Memory
from gproxy.ledger.periods import DAY_S
from gproxy.ledger.weighing import WINDOW_S, Count, need_of, slots_at, standing
from gproxy.ledger.windows import NEWEST, PLACE, USED, Window
from gproxy.values import Bound, Claim, Standing

_ENDLESS = 2**63

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

    Where it counts alone, a plan may run ahead of its windows: in one second, what is counted alike by all of
    them leaves the same ones the tightest, so that it knows by itself what still fits. Each window stands nowhere
    meanwhile, and whoever asks it has it given what was counted first (`give`).
    """

    __slots__ = (
        "_ahead",
        "_alone",
        "_bare",
        "_bare_days",
        "_began",
        "_counted",
        "_days_last",
        "_families",
        "_fitted",
        "_free",
        "_left",
        "_marks",
        "_memory",
        "_open",
        "_room",
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
        self.bounds, self.windows = bounds, windows
        self._memory, self._alone = memory, memory.alone
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
        self._fitted = 0
        """How many claims of this second fitted plainly, with nobody else in between, where it counts alone."""
        self._ahead = False
        self._left = self._free = self._room = 0
        """While it is ahead: how many requests, tokens and requests at once still fit."""
        self._bare = self._bare_days = 0
        """How many tokens would, if a window of minutes, or of days, had none in the slot of this second."""
        self._began = (0, 0, 0)
        self._tight: list[tuple[bool, Bound, int]] = []
        self._marks: Sequence[Slot] = ()

    def turn(self, second: int, added: Added) -> None:
        """Go to another second."""
        if self._ahead:
            self.give()
        self.spread(added)
        self._fitted = 0
        self.second, self._slots = second, slots_at(second)
        self._days_last = (second + 2 * WINDOW_S) // DAY_S == second // DAY_S

    def look(self, tokens: int, now: float) -> list[Standing] | None:
        """The tightest bound on requests and the tightest on tokens, as they will stand when a claim is counted; None
        if it may not fit, or it is not so plain, so that each bound is to be weighed. Raises `StoreError`."""
        if tokens > self.unclipped:
            return None
        told: list[Standing] = []
        if self._ahead:
            left, free = self._left - 1, self._free - tokens
            if left < 0 or free < 0 or self._room < 1:
                return None
            for by_tokens, bound, end in self._tight:
                told.append(Standing(bound, free if by_tokens else left, end - now))
            return told
        cells, slots = self._memory.cells, self._slots
        for window, at, _, used, most in self._open:
            if cells[at]:
                window.look(0)
            if cells[used] >= most:
                return None
        for by_tokens, windows in self._families:
            need = tokens if by_tokens else 1
            least, tightest = _ENDLESS, windows[0]
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
        self._fitted = 0
        found = []
        for window, bound in zip(self.windows, self.bounds, strict=True):
            at, slot = window.at, slots[window.kind]
            if cells[at] != slot:
                window.look(slot)
            found.append(Count(bound, need_of(tokens, bound), slot, cells[at + USED], cells[at + NEWEST]))
        return found

    def count(self, tokens: int) -> Sequence[Range]:
        """What was looked at last. Of which counters all but some slots are gone by that."""
        if self._ahead:
            self._left -= 1
            self._free -= tokens
            self._room -= 1
            return ()
        cells = self._memory.cells
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
        if self._alone:
            self._fitted += 1
            if self._fitted > _CALM:
                self._run_ahead()
        return gone

    def _run_ahead(self) -> None:
        """If each window has begun to count in this second. A claim has just fitted plainly, and is counted."""
        cells, slots = self._memory.cells, self._slots
        if not all(cells[first] for _, _, first, _, _ in self._counted):
            return
        self._left = self._free = self._room = _ENDLESS
        self._bare = self._bare_days = 2 * _ENDLESS
        self._tight = []
        for by_tokens, windows in self._families:
            window, at, kind, most, bound = min(windows, key=lambda it: it[3] - cells[it[1] + USED])
            left = most - cells[at + USED]
            if by_tokens:
                self._free = left
                for other, place, *_ in windows:
                    bare = left + cells[cells[place + PLACE]] - 1
                    if other.sliding:
                        self._bare = min(self._bare, bare)
                    else:
                        self._bare_days = min(self._bare_days, bare)
            else:
                self._left = left
            end = cells[at + NEWEST] + WINDOW_S if window.sliding else (slots[kind] + 1) * DAY_S
            self._tight.append((by_tokens, bound, end))
        if self._open:
            self._room = min([most - cells[used] for _, _, _, used, most in self._open])
        self._began = (self._left, self._free, self._room)
        self._marks = self._marks_at(slots)
        self._ahead = True
        for each in self.windows:
            each.ahead = self
            cells[each.at] = -1

    def _marks_at(self, slots: Mapping[str, int]) -> Sequence[Slot]:
        """Where tokens are counted."""
        return [(it.rule, kind, slots[kind]) for it, _, kind, _ in self._tokens]

    def give(self) -> None:
        """Each window what was counted ahead of it: it stands again where it stood."""
        cells, slots = self._memory.cells, self._slots
        left, free, room = self._began
        requests, tokens, opened = left - self._left, free - self._free, room - self._room
        for _, used, first, by_tokens, _ in self._counted:
            n = tokens if by_tokens else requests
            cells[cells[first]] += n
            cells[used] += n
        for _, _, own, used, _ in self._open:
            cells[own] += opened
            cells[used] += opened
        for it in self.windows:
            it.ahead = None
            cells[it.at] = slots[it.kind]
        self._ahead = False

    def give_way(self) -> None:
        """The same, and it is not ahead again at once: for a few claims each time it would not be worth it."""
        self.give()
        self._fitted = 0

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
        if self._ahead:
            free = self._free - change
            alike = reserved <= self.unclipped and not late and free < self._bare_days
            if alike and second == self.second and free < self._bare:
                self._free = free
                self._room += 1
                return [(self._marks, change)]
            if alike and second < self.second and self._end_before(second, change):
                return [(self._marks_at(slots_at(second)), change)]
            self.give_way()
        cells, slots = self._memory.cells, slots_at(second)
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
        cells, slots = self._memory.cells, slots_at(second)
        places = []
        for window, at, kind, _ in self._tokens:
            place = window.place_of(slots[kind])
            over = self._slots[kind] - slots[kind] >= (WINDOW_S if window.sliding else 1)
            if over or not place or cells[place] + change <= 1:
                return False
            places += [place, at + USED]
        for place in places:
            cells[place] += change
        left, free, room = self._began
        self._began = left, free - change, room
        self._free -= change
        self._bare -= change  # in those of days that slot is this one
        self._room += 1
        return True
