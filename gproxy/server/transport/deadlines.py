"""Ends waits that take too long, by one timer for all of them.

Who waits for what, and what it means that it took too long, is decided elsewhere.
"""

import asyncio
import math

_NOW_SECONDS = 0.001
"""Event loops count in milliseconds: what ends so soon has ended."""


class Deadlines:
    """Of one event loop, to be made inside it. `ends` is until when who waits.

    A wait costs an entry in a dictionary. The timer is set for the first of them to end, and set again when it fires:
    nearly all waits are over by then, and have cost none.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ends: dict[asyncio.Future[bool], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def wait(self, until: float) -> asyncio.Future[bool]:
        """To be awaited: False from `end`, True at `until` on the loop's clock. Whoever is cancelled ends it too."""
        future: asyncio.Future[bool] = self._loop.create_future()
        self.ends[future] = until
        if until < self._due:
            self._set(until)
        return future

    def end(self, future: asyncio.Future[bool]) -> None:
        """Nobody needs to wait any more."""
        if self.ends.pop(future, None) is not None and not future.done():
            future.set_result(False)

    def close(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = until
        self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        self._timer = None
        self._due = math.inf
        over = self._loop.time() + _NOW_SECONDS
        for future in [future for future, until in self.ends.items() if until <= over]:
            del self.ends[future]
            if not future.done():
                future.set_result(
                    True
                )  # an exception would refer to who waits, and so to the future that holds it
        first = min(self.ends.values(), default=math.inf)
        if first < math.inf:
            self._set(first)
