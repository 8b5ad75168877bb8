"""What a worker that died had open, and is settled in the store by its successor, brought into the memory of all.

What is settled is `spend.py`'s. It is added before the store has it and taken away after; neither where the dead
one has done it, or one that failed as it succeeded that one (`ended.py`). Who is killed in the midst of a request's
end may leave it counted twice, but never uncounted.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from gproxy.ledger import spend
from gproxy.ledger.ended import ADDED, TAKEN, Ended
from gproxy.ledger.memory import Shared
from gproxy.ledger.periods import DAY_S
from gproxy.ledger.purses import Purses
from gproxy.ledger.windows import Window


def succeed(path: Path, memory: Shared, worker: int) -> int:
    """Begin as the worker of that slot, and settle what the one before left open in the store at `path`; how many
    requests.

    To be called before this one serves, and by the first in its slot too. Raises `StoreError`.
    """
    memory.begin(worker)
    return spend.recover_store(path, worker, _Heir(path, memory))


class _Heir:
    def __init__(self, path: Path, memory: Shared) -> None:
        self._memory = memory
        self._ask = partial(spend.ask, path)
        self._purses = Purses(memory, self._ask)
        self._ended = Ended(memory)
        self._taken: set[str] = set()

    def before(self, left: Sequence[spend.Left]) -> None:
        """Windows that have not been read are, so that nobody does before `after`."""
        with self._memory.turn:
            places = self._ended.find([it.request_id for it in left])
            for it in left:
                place = places[it.request_id]
                state = self._ended.state(place)
                if state & TAKEN:
                    self._taken.add(it.request_id)
                if state & ADDED:
                    continue
                for rule, kind, slot, by in it.corrected:
                    self._window(rule, kind).correct(slot, max(by, 0))
                if it.cost_nano:
                    self._purses.charge(it.scopes, int(it.at) // DAY_S, it.cost_nano)
                self._ended.add(place, ADDED)

    def after(self, left: Iterable[spend.Left]) -> None:
        with self._memory.turn:
            for it in left:
                if it.request_id not in self._taken:
                    for rule, kind, slot, by in it.corrected:
                        self._window(rule, kind).correct(slot, min(by, 0))
        self._memory.strike()

    def _window(self, rule: str, kind: str) -> Window:
        return Window(rule, kind, self._memory, self._ask)
