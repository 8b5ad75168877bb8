"""Ends waits that take too long, by one timer for all of them.

Who waits for what, and what it means that it took too long, is decided elsewhere.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Protocol

_NOW_SECONDS = 0.001
"""Event loops count in milliseconds: what ends so soon has ended."""


class Wait(Protocol):
    """One that may be `late`, at `until` on the loop's clock."""

    until: float

    def late(self) -> None:
        """It has lasted too long, and is none any more."""


class Deadlines:
    """Of one event loop, to be made inside it. `waits` tells those that there are, when it looks at them at `due`.

    A wait that ends before that is to be told by `set`; any other costs a comparison. When the timer fires it is set
    for the first of those that there are then: nearly all that were before are over.
    """

    def __init__(self, waits: Callable[[], Iterable[Wait]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._waits = waits
        self._timer: asyncio.TimerHandle | None = None
        self.due = math.inf

    def set(self, until: float) -> None:
        """Look at `until`, which is before `due`."""
        self.close()
        self.due = until
        self._timer = self._loop.call_at(until, self._look)

    def close(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        self.due = math.inf
        over = self._loop.time() + _NOW_SECONDS
        waits = list(self._waits())
        for wait in waits:
            if wait.until <= over:
                wait.late()
        first = min((wait.until for wait in waits if wait.until > over), default=math.inf)
        if first < self.due:
            self.set(first)
