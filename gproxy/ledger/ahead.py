"""What a plan has counted ahead of its windows, in cells of its own, and how the windows get it.

When one may run ahead, and what fits meanwhile, is `plans.py`'s; what counts in a window is `windows.py`'s. The first
cells of a window, in which plans count by themselves, are laid out here.
"""

from collections.abc import Iterable, Sequence

from gproxy.ledger.cells import Memory

NOW, USED, NEWEST, PLACE, LEADER = range(5)
"""Of a window: the slot in which it stands (-1: none), what counts there, and the last slot in which anything does
(-1: none). `PLACE` is the cell of that slot, 0 if the slot has to begin first, or nothing counts in it or later.
`LEADER` is where the cells of the plan are that is ahead of it, 0 if none is. The others follow from the rest."""

TURN, FITTED, LEFT, FREE, ROOM, BARE, BARE_DAYS, _HAD_LEFT, _HAD_FREE, _TIMES, _COUNT, OPEN = range(12)
"""Of a plan: `TURN` says in which second it is ahead, and is another each time; 0 if it is not. `FITTED` is how many
claims of a second fitted plainly, with nobody else in between. While it is ahead: how many requests, tokens and
requests at once still fit; how many tokens would, if a window of minutes, or of days, had none in the slot of this
second; how many requests and tokens fitted when it began; how often it did, and of how many windows. From `OPEN` on,
how many more requests each process has open than then. Its windows follow."""

_WINDOW, _BY, _SLOT, _WHERE, _HAD = range(5)
"""Of each: where its cells are, what counts in it, the slot in which it stood, the cell of that (of what is open, the
first of the processes') and what was in it (of what is open, in each of them)."""

REQUESTS, TOKENS, OPENED = range(3)

_PREFIX = "plan "
_TURNS = 1 << 20

Led = tuple[int, int, int, int]
"""A window that a plan is ahead of, as it is kept but for what it had."""


def place(memory: Memory, name: str, windows: int) -> int:
    """Where the cells of the plan of that name are, which has so many windows. Raises `StoreError`."""
    return memory.place(f"{_PREFIX}{name}", OPEN + memory.workers + windows * _size(memory))


def second_of(turn: int) -> int:
    """The second since 1970 in which it is ahead."""
    return turn // _TURNS


def begin(memory: Memory, at: int, second: int, led: Sequence[Led]) -> None:
    """Be ahead of these windows, which stand nowhere meanwhile; what fits is in its cells already."""
    cells = memory.cells
    for worker in range(memory.workers):
        cells[at + OPEN + worker] = 0
    cells[at + _COUNT] = len(led)
    for it, (window, by, slot, where) in zip(_records(memory, at), led, strict=True):
        cells[it + _WINDOW], cells[it + _BY], cells[it + _SLOT], cells[it + _WHERE] = window, by, slot, where
        for nth in range(memory.workers if by == OPENED else 1):
            cells[it + _HAD + nth] = cells[where + nth]
        cells[window + LEADER], cells[window + NOW] = at, -1
    cells[at + _HAD_LEFT], cells[at + _HAD_FREE] = cells[at + LEFT], cells[at + FREE]
    cells[at + _TIMES] = times = (cells[at + _TIMES] + 1) % _TURNS
    cells[at + TURN] = second * _TURNS + times


def correct_before(memory: Memory, at: int, days: Iterable[int], by: int) -> None:
    """So many tokens more were counted in the windows themselves, in the slot of an earlier second. In those `days`,
    the nth of its windows, that slot is this one. Who is killed in the midst may have added them here too, but has
    taken none twice."""
    cells, records = memory.cells, _records(memory, at)
    for nth in days:
        cells[records[nth] + _HAD] += by
    for cell in (_HAD_FREE, FREE) if by < 0 else (FREE, _HAD_FREE):
        cells[at + cell] -= by
    cells[at + BARE] -= by


def give(memory: Memory, at: int) -> None:
    """Each window what was counted ahead of it: it stands again where it stood. Killed in the midst, it is to be
    done once more, which comes to the same but in `USED`: that `windows.mend` makes anew."""
    cells, workers = memory.cells, memory.workers
    requests, tokens = cells[at + _HAD_LEFT] - cells[at + LEFT], cells[at + _HAD_FREE] - cells[at + FREE]
    for it in _records(memory, at):
        window, by, where, had = cells[it + _WINDOW], cells[it + _BY], cells[it + _WHERE], it + _HAD
        if by == OPENED:
            for worker in range(workers):
                cells[where + worker] = cells[had + worker] + cells[at + OPEN + worker]
            cells[window + USED] = sum(cells[where : where + workers])
        else:
            n = tokens if by == TOKENS else requests
            cells[where] = cells[had] + n
            cells[window + USED] += n
        cells[window + NOW], cells[window + LEADER] = cells[it + _SLOT], 0
    cells[at + TURN] = 0


def give_way(memory: Memory, at: int) -> None:
    """The same, since somebody else counts in one of them; it is not ahead again at once, which for a few claims each
    time would not be worth it."""
    give(memory, at)
    memory.cells[at + FITTED] = 0


def mend(memory: Memory, name: str, at: int) -> None:
    """Somebody was killed in his turn: this plan is ahead no more. After all plans, windows are mended."""
    if name.startswith(_PREFIX) and memory.cells[at + TURN]:
        give(memory, at)


def _size(memory: Memory) -> int:
    return _HAD + memory.workers


def _records(memory: Memory, at: int) -> range:
    """Where that of each window begins."""
    first, size = at + OPEN + memory.workers, _size(memory)
    return range(first, first + size * memory.cells[at + _COUNT], size)
