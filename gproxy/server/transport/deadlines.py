"""Ends waits that take too long, by one timer for all of them.

Who waits for what, and what it means that it took too long, is decided elsewhere.
"""

import asyncio
import math

_NOW_SECONDS = 0.001
"""Event loops count in milliseconds: what ends so soon has ended."""


class Deadlines:
    """Of one event loop, to be made inside it.

    A wait costs an entry in a dictionary. The timer is set for the first of them to end, and set again when it fires:
    nearly all waits are over by then, and have cost none.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends: dict[asyncio.Future[bool], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    @property
    def waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._ends)

    async def wait(self, future: asyncio.Future[bool], until: float) -> None:
        """Until `future` is done; its result is to be False. Raises TimeoutError at `until` on the loop's clock."""
        self._ends[future] = until
        if until < self._due:
            self._set(until)
        try:
            late = await future
        finally:
            del self._ends[future]
        if late:
            raise TimeoutError

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
        for future, until in self._ends.items():
            if until <= over and not future.done():
                future.set_result(
                    True
                )  # an exception would refer to who waits, and so to the future that holds it
        first = min((until for until in self._ends.values() if until > over), default=math.inf)
        if first < math.inf:
            self._set(first)
