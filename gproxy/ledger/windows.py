"""What is counted of one kind of a rule, slot by slot, in cells. What fits is `weighing.py`'s to say.

A ring has a cell for each slot that may be kept (`weighing.kept_of`): 0 if nothing was counted there, else one more
than what was. So it needs no slots beside, if it is known which began last. What is open at once has a cell for each
process in its place, so that what one that dies had open can be struck out.
"""

import contextlib
from array import array
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.ahead import LEADER, NEWEST, NOW, PLACE, USED, give, give_way
from gproxy.ledger.cells import Memory
from gproxy.ledger.weighing import BY_TOKENS, SLIDING, kept_of, slots_of

Ask = Callable[[str, tuple[str, ...]], list[Any]]
"""What a query of the store, with these values, finds. Raises `StoreError`."""

_COUNTERS = "SELECT slot, n FROM counters WHERE rule = ? AND kind = ?"

_BEGUN, _STATE, RING = range(LEADER + 1, LEADER + 4)
"""Behind what `ahead.py` lays out: a slot that was begun, by which the others are kept; what is known; the ring."""

_UNREAD, _WHOLE, _PARTIAL = 0, 1, 2
"""Partial: the store has slots for which the ring has no place. Nothing is counted then before a slot begins, which
ends those."""

_PREFIX, _OPEN = "window ", "window concurrency "
_NOTHING = array("q", bytes(128 * 8))

_MOST = 2**62


class Window:
    """One kind of a rule. It is made, and all of it done, in the memory's turn.

    `own` is the cell of this process where it counts what is open, else 0. `written`: the store is told of it as it
    comes.
    """

    __slots__ = (
        "_ahead",
        "_ask",
        "_back",
        "_mask",
        "_memory",
        "at",
        "by_tokens",
        "kind",
        "own",
        "rule",
        "sliding",
        "written",
    )

    def __init__(self, rule: str, kind: str, memory: Memory, ask: Ask) -> None:
        self.rule, self.kind = rule, kind
        self.sliding = kind in SLIDING
        self.by_tokens = kind in BY_TOKENS
        self.written = kind != "concurrency"
        self._memory, self._ask = memory, ask
        self._mask = 127 if self.sliding else 7
        first, self._ahead = kept_of(kind, 0)
        self._back = -first
        size = self._mask + 1 if self.written else memory.workers
        self.at = memory.place(f"{_PREFIX}{kind} {rule}", RING + size)
        self.own = 0 if self.written else self.at + RING + memory.worker

    @property
    def unread(self) -> bool:
        """Whether the store is to be asked before anything else is done."""
        return self._memory.cells[self.at + _STATE] == _UNREAD

    def look(self, slot: int) -> None:
        """Make it stand in that slot. Raises `StoreError`."""
        cells, at = self._memory.cells, self.at
        if leader := cells[at + LEADER]:
            give_way(self._memory, leader)
            if cells[at + NOW] == slot:
                return
        if cells[at + _STATE] != _WHOLE:
            self._read(slot)
        used, newest = self._sum(slot)
        cells[at + USED], cells[at + NEWEST] = used, newest
        cells[at + PLACE] = self.place_of(slot) if newest >= slot else 0
        cells[at + NOW] = slot

    def begin(self, slot: int, need: int) -> tuple[int, int] | None:
        """Count in a slot in which it stands, and which has no `PLACE`. The first of it ends those that no longer
        count, nor will if the clock is set back by hours. Which are left, from the first to the last, if any was
        ended."""
        cells, at = self._memory.cells, self.at
        place = at + RING + (slot & self._mask)
        left = None if self._has_begun(slot, place) else self._end_beside(slot)
        cells[place] = (cells[place] or 1) + need
        if need:
            cells[at + USED] += need
            cells[at + NEWEST] = max(cells[at + NEWEST], slot)
        cells[at + PLACE] = place if cells[at + NEWEST] >= slot else 0
        return left

    def place_of(self, slot: int) -> int:
        """The cell of that slot, 0 if nothing was counted there."""
        place = self.at + RING + (slot & self._mask)
        return place if self._has_begun(slot, place) else 0

    def _has_begun(self, slot: int, place: int) -> bool:
        """Whether anything was counted in that slot, whose cell it would be."""
        cells, at = self._memory.cells, self.at
        whole = cells[at + _STATE] == _WHOLE and -self._back <= slot - cells[at + _BEGUN] <= self._ahead
        return whole and cells[place] != 0

    def _end_beside(self, slot: int) -> tuple[int, int] | None:
        cells, at = self._memory.cells, self.at
        begun, first, last = cells[at + _BEGUN], slot - self._back, slot + self._ahead
        ended = cells[at + _STATE] == _PARTIAL
        low, high = (begun - self._back, first - 1) if begun < slot else (last + 1, begun + self._ahead)
        for gone in self._places(low, high):
            if any(cells[gone]):
                cells[gone] = _NOTHING[: gone.stop - gone.start]
                ended = True
        cells[at + _BEGUN], cells[at + _STATE] = slot, _WHOLE
        return (first, last) if ended else None

    def correct(self, slot: int, by: int) -> bool:
        """Not below 0; whoever looks next sees it. Whether the slot is still kept: one that was forgotten stays so.
        Where the store cannot be asked what it had, an estimate does."""
        cells, at = self._memory.cells, self.at
        if leader := cells[at + LEADER]:
            give_way(self._memory, leader)
        if self.own:
            taken = max(by, -cells[self.own])
            cells[self.own] += taken
            cells[at + USED] += taken
            return True
        if cells[at + _STATE] == _UNREAD:
            with contextlib.suppress(StoreError):
                self._read(slot)
        place = at + RING + (slot & self._mask)
        if not -self._back <= slot - cells[at + _BEGUN] <= self._ahead:
            return cells[at + _STATE] == _PARTIAL  # the store may have it
        if not (had := cells[place]):
            return False
        has = cells[place] = max(1, had + by)
        now = cells[at + NOW]
        if self.sliding:
            if -self._back <= slot - now <= self._ahead:
                cells[at + USED] += has - had
                if has == 1 or slot > cells[at + NEWEST]:
                    cells[at + NOW] = -1
        elif slot == now:
            cells[at + USED] += has - had
            cells[at + NEWEST] = slot if has > 1 else -1  # the only one that counts
            if has == 1:
                cells[at + PLACE] = 0
        return True

    def within(self, first: int, last: int) -> list[tuple[int, int]]:
        """The slots between the two that count anything, and what, in their order."""
        first = max(first, self._memory.cells[self.at + _BEGUN] - self._back)
        begun = filter(itemgetter(1), enumerate(self._counts(first, last), first))
        return [(slot, n - 1) for slot, n in begun if n > 1]

    def _counts(self, first: int, last: int) -> list[int]:
        """The cells of the slots between the two, as far as they are kept."""
        counts: list[int] = []
        for places in self._places(first, last):
            counts += self._memory.cells[places]
        return counts

    def _places(self, first: int, last: int) -> Sequence[slice]:
        """Where the slots between the two are, as far as they are kept."""
        ring, begun = self.at + RING, self._memory.cells[self.at + _BEGUN]
        first, last = max(first, begun - self._back), min(last, begun + self._ahead)
        if first > last:
            return ()
        begin, end = ring + (first & self._mask), ring + (last & self._mask) + 1
        if begin < end:
            return (slice(begin, end),)
        return slice(begin, ring + self._mask + 1), slice(ring, end)

    def _sum(self, slot: int) -> tuple[int, int]:
        """What counts in that slot, and the last in which anything does."""
        cells, at = self._memory.cells, self.at
        now, newest = cells[at + NOW], cells[at + NEWEST]
        if self.sliding and cells[at + _BEGUN] <= now < slot:  # then no slot comes into view ahead
            if newest < slot - self._back:
                return 0, -1
            left = self._counts(now - self._back, slot - self._back - 1)
            return cells[at + USED] - (sum(left) - len(left) + left.count(0)), newest
        first, last = slots_of(self.kind, slot)
        found = self.within(first, last)
        return sum(n for _, n in found), found[-1][0] if found else -1

    def _read(self, slot: int) -> None:
        """As the store has it: all of it if it has a place, else as far as it is kept around that slot."""
        rows = self._ask(_COUNTERS, (self.rule, self.kind))
        cells, at, ring = self._memory.cells, self.at, self.at + RING
        cells[at + NOW], cells[at + _STATE] = -1, _UNREAD  # until all of it is here
        cells[ring : ring + self._mask + 1] = _NOTHING[: self._mask + 1]
        begun = slot
        if rows:
            first, last = min(rows)[0] + self._back, max(rows)[0] - self._ahead
            begun = min(max(slot, last), first) if last <= first else slot
        cells[at + _BEGUN] = begun
        state = _WHOLE
        for found, n in rows:
            if -self._back <= found - begun <= self._ahead:
                cells[ring + (found & self._mask)] = min(max(n, 0), _MOST) + 1
            else:
                state = _PARTIAL
        cells[at + _STATE] = state


def mend(memory: Memory, name: str, at: int) -> None:
    """Make anew what follows from the rest, where a process was killed between the two. No plan is ahead."""
    cells = memory.cells
    if name.startswith(_OPEN):
        cells[at + USED] = sum(cells[at + RING : at + RING + memory.workers])
        cells[at + NOW] = cells[at + LEADER] = 0
    elif name.startswith(_PREFIX):
        cells[at + NOW], cells[at + LEADER] = -1, 0


def strike(memory: Memory, name: str, at: int) -> None:
    """Nothing of this process is open."""
    if name.startswith(_OPEN):
        cells, own = memory.cells, at + RING + memory.worker
        if leader := cells[at + LEADER]:
            give(memory, leader)
        cells[at + USED] -= cells[own]
        cells[own] = 0


def forget(memory: Memory, name: str, at: int) -> None:
    """It is to be read anew, but for what is open: that is so here, and nowhere else."""
    if name.startswith(_PREFIX) and not name.startswith(_OPEN):
        cells = memory.cells
        if leader := cells[at + LEADER]:
            give(memory, leader)
        cells[at + _STATE], cells[at + NOW] = _UNREAD, -1
