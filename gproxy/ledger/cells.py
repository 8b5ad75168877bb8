"""The memory that counters and spend are kept in: whole numbers in cells, found by the name of what they are for.

Here is that of one process; the one of several is `memory.py`'s. What the cells mean is `windows.py`'s,
`ahead.py`'s and `purses.py`'s.
"""

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol, overload


class Cells(Protocol):
    """A list of numbers, or a view of memory."""

    @overload
    def __getitem__(self, at: int, /) -> int: ...
    @overload
    def __getitem__(self, at: slice, /) -> Iterable[int]: ...
    def __setitem__(self, at: Any, value: Any, /) -> None:
        """A number, or as many in an array as a slice has."""


class Memory(Protocol):
    """`cells` are 64 bits each, and are to be asked for anew after `place`. All is done inside `turn`, which raises
    `StoreError` if it cannot be had.

    `worker` is the slot of this process, of so many `workers`; `alone` if there is no other, so that nobody sees a
    cell but who counts, and he may write later what he knows by himself. `changing` is held inside `turn`, and by
    another thread of this process that takes what was counted.
    """

    worker: int
    workers: int
    alone: bool
    changing: threading.Lock

    @property
    def cells(self) -> Cells: ...

    @property
    def turn(self) -> AbstractContextManager[object]: ...

    def place(self, name: str, size: int) -> int:
        """Where the cells of that name begin; so many, of 0, if there are none yet. Raises `StoreError`."""

    def places(self) -> Iterable[tuple[str, int]]:
        """All names, and where their cells begin."""

    def handed(self) -> None:
        """This process has counted something that is to be written, or is about to. Not only in its turn."""

    def written(self, by: int) -> None:
        """So much of it is. From any thread."""

    def unwritten(self) -> bool:
        """Whether another process has counted what is not written yet."""


class Own:
    """The memory of a process that counts alone."""

    def __init__(self) -> None:
        self.worker, self.workers, self.alone = 0, 1, True
        self.cells: list[int] = []
        self.turn = self.changing = threading.Lock()
        self._places: dict[str, int] = {}

    def place(self, name: str, size: int) -> int:
        at = self._places.get(name)
        if at is None:
            at = self._places[name] = len(self.cells)
            self.cells.extend([0] * size)
        return at

    def places(self) -> Iterable[tuple[str, int]]:
        return list(self._places.items())

    def handed(self) -> None:
        pass  # there is no other that would ask

    def written(self, by: int) -> None:
        pass

    def unwritten(self) -> bool:
        return False
