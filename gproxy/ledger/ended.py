"""Which requests a process has counted as ended in the memory of all, while the store may not have been told yet.

So what it did is not done again by who settles for it when it was killed: that is `succession.py`'s.
"""

from gproxy.ledger.cells import Memory

MOST = 4096
"""So many of the last ones are known, for each process. Who is not is taken for open."""

ADDED, TAKEN = 1, 2
"""Of a request: what its end adds is counted; what it takes away is, or is not to be any more."""

_STATE = ADDED | TAKEN


class Ended:
    """The last of them. All done in the memory's turn.

    In a ring of cells, each with a part of the hash of an id, which is the same in all processes that one has forked.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._at = 0

    def note(self, request_id: str, state: int) -> int:
        """Where it is noted. Raises `StoreError` if there is no room for any."""
        at = self._at or self._place()
        cells = self._memory.cells
        count = cells[at]
        cells[at] = count + 1
        place = at + 1 + count % MOST
        cells[place] = hash(request_id) & ~_STATE | state
        return place

    def add(self, place: int, state: int) -> None:
        self._memory.cells[place] |= state

    def find(self, request_ids: list[str]) -> dict[str, int]:
        """Where each is noted, anew and without a state if it was not. Raises `StoreError` likewise."""
        at = self._at or self._place()
        noted = enumerate(self._memory.cells[at + 1 : at + 1 + MOST], at + 1)
        places = {n & ~_STATE: place for place, n in noted if n}
        return {it: places.get(hash(it) & ~_STATE) or self.note(it, 0) for it in request_ids}

    def state(self, place: int) -> int:
        return self._memory.cells[place] & _STATE

    def _place(self) -> int:
        self._at = self._memory.place(f"ended {self._memory.worker}", 1 + MOST)
        return self._at
