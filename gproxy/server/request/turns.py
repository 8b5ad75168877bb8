"""Turns on the event loop: what may take long lets others have theirs.

How much of a stream is looked at in one is `protocols/portions.py`'s to say.
"""

import asyncio
import time

_SECONDS = 0.005


class Turn:
    """A stretch of work on the event loop that began with it."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + _SECONDS

    @property
    def over(self) -> bool:
        return time.perf_counter() > self._until

    async def shared(self) -> None:
        """Let others have theirs, if this one is over; then the next begins."""
        if self.over:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + _SECONDS
