"""How much of a stream is looked at before others have their turn: an upstream may send nothing but line ends.

What is done with it is `opened.py`'s and `relay.py`'s.
"""

import asyncio
import time
from collections.abc import Sequence

_MOST_LINES = 512
_LEAST_BYTES = 1024
_SECONDS = 0.005


def parts(data: bytes) -> Sequence[bytes]:
    """A piece of a stream cut into such as take some milliseconds: by its lines, each of which may end an event."""
    if len(data) <= _LEAST_BYTES:
        return (data,)
    lines = data.count(b"\n") + data.count(b"\r")
    if lines <= _MOST_LINES:
        return (data,)
    size = max(_LEAST_BYTES, len(data) * _MOST_LINES // lines)
    return [data[at : at + size] for at in range(0, len(data), size)]


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
