"""Memories as the workers of a server see them, in one process."""

import copy
import threading
from typing import Any

from gproxy.ledger.memory import Shared


def as_seen_by(memory: Shared, worker: int) -> Shared:
    """That memory in a worker which was forked before anything was in it."""
    seen = copy.copy(memory)
    seen.changing = threading.Lock()
    seen._places, seen._read = {}, seen._first
    seen.begin(worker)
    seen.cells[seen._writing + 1] = seen.cells[seen._writing]  # there was none before it
    return seen


class Killed(BaseException):
    """In the midst of what it did."""


class Mortal:
    """Cells of one that is killed before it writes the one that follows so many others."""

    def __init__(self, cells: Any, writes: int) -> None:
        self._cells, self._left = cells, writes

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, at: Any) -> Any:
        return self._cells[at]

    def __setitem__(self, at: int, value: int) -> None:
        if self._left <= 0:
            raise Killed
        self._left -= 1
        self._cells[at] = value
