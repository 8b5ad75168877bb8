"""Where the bounds of a claim are counted, worked out once for all claims that come under the same ones.

A short way for what most claims are: all of it fits, and it is plain which bounds are the tightest. What it gives is
what `weighing.py` says of each bound, which is asked whenever it is not so plain. In whose memory it is counted
`tally.py` says, and what a window does `windows.py`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gproxy.ledger.cells import Memory
from gproxy.ledger.periods import DAY_S
from gproxy.ledger.weighing import WINDOW_S, Count, need_of, slots_at, standing
from gproxy.ledger.windows import NEWEST, PLACE, USED, Window
from gproxy.values import Bound, Claim, Standing

_ENDLESS = 2**63

Added = defaultdict[tuple[str, str], dict[int, int]]
"""By rule and kind: how much was added in which slots."""

Range = tuple[str, str, int, int]
"""Rule, kind, and the first and the last slot of a counter."""

Correction = tuple[str, str, int, int]
"""Rule, kind, slot, and how much more counts in it."""


_Timed = tuple[Window, int, str, int, Bound]


def _is_sliding(timed: _Timed) -> bool:
    return timed[0].sliding


class Plan:
    """All of it done in the memory's turn. `second` is that of the claim which was looked at last, -1 before any.

    `requests` and `tokens` is what was counted in that second, and `spread` has yet to give to every counter; no more
    than `unclipped` tokens of a claim are counted alike by all of them.
    """

    __slots__ = (
        "_counted",
        "_days_last",
        "_families",
        "_memory",
        "_open",
        "_slots",
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
        self._memory = memory
        self.second = -1
        self._slots: Mapping[str, int] = {}
        self.requests = self.tokens = 0
        timed = [(it, bound) for it, bound in zip(windows, bounds, strict=True) if it.written]
        self._counted = [(it, it.at + USED, it.at + PLACE, it.by_tokens, bound.most) for it, bound in timed]
        self._tokens = [(it, it.at, it.kind, bound.most) for it, bound in timed if it.by_tokens]
        self._open = [(it.own, it.at + USED, b.most) for it, b in zip(windows, bounds, strict=True) if it.own]
        self.unclipped = min([most for *_, most in self._tokens], default=_ENDLESS)
        families: dict[bool, list[_Timed]] = {}
        for it, bound in timed:
            families.setdefault(it.by_tokens, []).append((it, it.at, it.kind, bound.most, bound))
        self._families = [(by_tokens, sorted(them, key=_is_sliding)) for by_tokens, them in families.items()]
        self._days_last = False

    def turn(self, second: int, added: Added) -> None:
        """Go to another second."""
        self.spread(added)
        self.second, self._slots = second, slots_at(second)
        self._days_last = (second + 2 * WINDOW_S) // DAY_S == second // DAY_S

    def look(self, tokens: int, now: float) -> list[Standing] | None:
        """The tightest bound on requests and the tightest on tokens, as they will stand when a claim is counted; None
        if it may not fit, or it is not so plain, so that each bound is to be weighed. Raises `StoreError`."""
        if tokens > self.unclipped:
            return None
        cells, slots = self._memory.cells, self._slots
        for _, used, most in self._open:
            if cells[used] >= most:
                return None
        told = []
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
        found = []
        for window, bound in zip(self.windows, self.bounds, strict=True):
            at, slot = window.at, slots[window.kind]
            if cells[at] != slot:
                window.look(slot)
            found.append(Count(bound, need_of(tokens, bound), slot, cells[at + USED], cells[at + NEWEST]))
        return found

    def count(self, tokens: int) -> Sequence[Range]:
        """What was looked at last. Of which counters all but some slots are gone by that."""
        cells = self._memory.cells
        gone: list[Range] = []
        for window, used, first, by_tokens, most in self._counted:
            need = (tokens if tokens < most else most) if by_tokens else 1
            if place := cells[first]:
                cells[place] += need
                cells[used] += need
            elif left := window.begin(self._slots[window.kind], need):
                gone.append((window.rule, window.kind, *left))
        for own, used, _ in self._open:
            cells[own] += 1
            cells[used] += 1
        return gone

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
        cells, slots, reserved = self._memory.cells, slots_at(int(claim.at)), claim.tokens
        change = tokens - reserved
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
            corrected.append((window.rule, kind, slot, by))
        for own, used, _ in self._open:
            if cells[own] > 0:
                cells[own] -= 1
                cells[used] -= 1
        return corrected
