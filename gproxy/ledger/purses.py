"""What scopes have spent and hold in their periods, in cells. What fits is `weighing.py`'s to say.

A scope has a purse for `total`, and for some days and months, each of which takes the place of one that nobody holds
anything in. What a process holds has a cell of its own, so that what one that dies held can be released.
"""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache

from msgspec import Struct

from gproxy.errors import StoreError
from gproxy.ledger.bulk import MOST_SPENT_NANO
from gproxy.ledger.cells import Memory
from gproxy.ledger.periods import periods
from gproxy.ledger.weighing import Spent
from gproxy.ledger.windows import Ask
from gproxy.values import Budget

_SPENT_QUERY = "SELECT spent_nano FROM spend WHERE scope = ? AND period = ?"

_KEY, _SPENT, _HELD, _HOLDERS = 0, 1, 2, 3
"""The number of the period, 0 for none; one more than what is spent, 0 if the store is to be asked; what is held by
all, and from there on by each process."""

_DAYS, _MONTHS = 8, 4
_PURSES = 1 + _DAYS + _MONTHS
_PREFIX = "scope "

_MOST_KNOWN = 50_000

_MOST = MOST_SPENT_NANO + 1

Purse = tuple[int, int]
"""Where its cells begin, and the number of the period that it has to have there."""

_NONE: Purse = (0, 0)

Drawn = tuple[int, int, int]
"""The purse of a budget, and the most that what is spent and held there may come to, of which one is nothing."""

_UNKNOWN = (None, -1, -1, ())

_MOVED = "purses moved"
"""The name of a cell with another number each time that a purse is given away, or what is spent is to be read anew.
Until then each is where it was found."""


class _Charged(Struct):
    """The cells that a cost is added to, when they were found, and what was not added yet."""

    moved: int
    places: Sequence[int]
    owed: int = 0


class Purses:
    """All done in the memory's turn.

    Where one process counts alone, costs are added up (`_owed` all of them), and spent when somebody asks for what
    is, or a budget may be passed.
    """

    def __init__(self, memory: Memory, ask: Ask) -> None:
        self._memory, self._ask = memory, ask
        self._alone = memory.alone
        self._known: dict[tuple[str, str], Purse] = {}
        self._charged: dict[tuple[tuple[str, ...], int], _Charged] = {}
        self._owing: list[_Charged] = []
        self._owed = 0
        self._drawn: dict[int, tuple[Sequence[Budget], int, int, Sequence[Drawn]]] = {}
        self._scopes: dict[str, int] = {}
        self._own = _HOLDERS + memory.worker
        self._moved = 0

    def spent(self, scope: str, period: str) -> Spent:
        """Raises `StoreError` if the store has to be asked, and cannot be."""
        self.pay()
        at, number = self._known.get((scope, period), _NONE)
        cells = self._memory.cells
        if not number or cells[at] != number or not cells[at + _SPENT]:
            at = self.purse(scope, period)[0]
            cells = self._memory.cells
        return Spent(cells[at + _SPENT] - 1, cells[at + _HELD])

    def purse(self, scope: str, period: str) -> Purse:
        """That of a scope and the key of a period, with what is spent as the store has it, and what came since.
        Raises `StoreError`."""
        pair = (scope, period)
        purse = self._known.get(pair)
        cells = self._memory.cells
        if purse is not None and cells[purse[0]] == purse[1] and cells[purse[0] + _SPENT]:
            return purse
        purse = self._found(scope, period)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[pair] = purse
        place, cells = purse[0] + _SPENT, self._memory.cells
        if not cells[place]:
            found = self._ask(_SPENT_QUERY, pair)
            cells[place] = min(max(found[0][0], 0), MOST_SPENT_NANO) + 1 if found else 1
        return purse

    def draw(self, budgets: Sequence[Budget], day: int, nano: int) -> Sequence[Drawn] | None:
        """Hold so much of each of the budgets on a UTC day, if it fits into each beside what is spent and held: where
        it is held; None if that is to be weighed. Raises `StoreError`."""
        owed = self._owed
        _, on, moved, drawn = self._drawn.get(id(budgets), _UNKNOWN)
        cells = self._memory.cells
        if on != day or moved != cells[self._moved]:
            drawn = self.drawn(budgets, day)
            cells = self._memory.cells
        for at, _, most in drawn:
            if cells[at + _SPENT] + cells[at + _HELD] + owed + nano > most:
                if not owed:
                    return None
                self.pay()
                return self.draw(budgets, day, nano)
        self.hold(drawn, nano)
        return drawn

    def drawn(self, budgets: Sequence[Budget], day: int) -> Sequence[Drawn]:
        """Where they are held, with what is spent as the store has it, and what came since. Raises `StoreError`."""
        if not budgets:
            return ()
        keys = periods(day)
        drawn = [
            (*self.purse(it.scope, keys[it.period]), it.most_nano - it.carried_nano + 1) for it in budgets
        ]
        if len(self._drawn) >= _MOST_KNOWN:
            self._drawn.clear()
        # The budgets are kept, so that no others come to be where they are.
        self._drawn[id(budgets)] = (budgets, day, self._moves(), drawn)
        return drawn

    def hold(self, drawn: Iterable[Drawn], nano: int) -> None:
        """Hold so much more of each, whether or not it fits; they were found in this turn."""
        cells, own = self._memory.cells, self._own
        for at, _, _ in drawn:
            cells[at + own] += nano
            cells[at + _HELD] += nano

    def release(self, drawn: Iterable[Drawn], nano: int) -> None:
        """Hold so much less of each."""
        cells, own = self._memory.cells, self._own
        for at, number, _ in drawn:
            if cells[at] == number:
                had = cells[at + own]
                given = nano if nano < had else had
                cells[at + own] = had - given
                cells[at + _HELD] -= given

    def charge(self, scopes: tuple[str, ...], day: int, nano: int) -> None:
        """Spend so much of each scope, in every period of that UTC day. What the store cannot be asked for now is
        asked for when it matters, and will have been told."""
        known = self._charged.get((scopes, day))
        if known is None or known.moved != self._memory.cells[self._moved]:
            known = self._found_all(scopes, day)
        if not self._alone:
            self._spend(known.places, nano)
            return
        if not known.owed:
            self._owing.append(known)
        known.owed += nano
        self._owed += nano

    def pay(self) -> None:
        """Spend what costs were added up to."""
        for it in self._owing:
            self._spend(it.places, it.owed)
            it.owed = 0
        self._owing.clear()
        self._owed = 0

    def _spend(self, places: Sequence[int], nano: int) -> None:
        cells = self._memory.cells
        for place in places:
            has = cells[place] + nano
            cells[place] = has if has <= _MOST else _MOST

    def _found_all(self, scopes: tuple[str, ...], day: int) -> _Charged:
        """The cells that a cost of that day is added to."""
        pairs = [(scope, period) for scope in scopes for period in periods(day).values()]
        places = []
        for pair in pairs:
            with contextlib.suppress(StoreError):
                places.append(self.purse(*pair)[0] + _SPENT)
        if len(places) < len(pairs):
            return _Charged(0, places)
        if len(self._charged) >= _MOST_KNOWN:
            self._charged.clear()
        found = self._charged[scopes, day] = _Charged(self._moves(), places)
        return found

    def _moves(self) -> int:
        """Whether anything has moved since shows by this."""
        return self._memory.cells[self._moved]

    def _found(self, scope: str, period: str) -> Purse:
        """The purse of that period, which may have to be read."""
        memory = self._memory
        size = _HOLDERS + memory.workers
        at = self._scopes.get(scope)
        if at is None:
            self._moved = memory.place(_MOVED, 1)
            at = self._scopes[scope] = memory.place(f"{_PREFIX}{scope}", _PURSES * size)
        cells = memory.cells
        first, count, number = _number_of(period)
        purses = [at + (first + (number + step) % count) * size for step in range(count)]
        for purse in purses:
            if cells[purse] == number:
                return purse, number
        free = next((purse for purse in purses if not cells[purse + _HELD]), purses[0])
        if cells[free]:
            self.pay()  # while each place is still where it was found
            cells[self._moved] += 1
        cells[free] = 0  # until it is whole
        for cell in range(free + 1, free + size):
            cells[cell] = 0
        cells[free] = number
        return free, number


@lru_cache(maxsize=64)
def _number_of(period: str) -> tuple[int, int, int]:
    """The first of the purses that are for such a period, how many there are, and the number that tells it from
    others."""
    if period == "total":
        return 0, 1, 1
    if len(period) == len("2026-11-25"):
        return 1, _DAYS, date.fromisoformat(period).toordinal()
    return 1 + _DAYS, _MONTHS, int(period[:4]) * 12 + int(period[5:])


def mend(memory: Memory, name: str, at: int) -> None:
    """Make anew what follows from the rest, where a process was killed between the two."""
    if name.startswith(_PREFIX):
        cells, size = memory.cells, _HOLDERS + memory.workers
        for place, number in enumerate(cells[at : at + _PURSES * size : size]):
            if number:
                purse = at + place * size
                cells[purse + _HELD] = sum(cells[purse + _HOLDERS : purse + size])


def strike(memory: Memory, name: str, at: int) -> None:
    """This process holds nothing."""
    if name.startswith(_PREFIX):
        cells, size, own = memory.cells, _HOLDERS + memory.workers, _HOLDERS + memory.worker
        for place, held in enumerate(cells[at + own : at + _PURSES * size : size]):
            if held:
                purse = at + place * size
                cells[purse + _HELD] -= held
                cells[purse + own] = 0


def forget(memory: Memory, name: str, at: int) -> None:
    """What is spent is to be read anew."""
    if name.startswith(_PREFIX):
        size = _HOLDERS + memory.workers
        moved = memory.place(_MOVED, 1)  # is there: it was made before the scope
        memory.cells[moved] += 1
        for purse in range(at, at + _PURSES * size, size):
            memory.cells[purse + _SPENT] = 0
