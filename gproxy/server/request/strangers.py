"""How often requests without a valid key are told of one by one: a flood of them fills neither a disk nor a screen.

What is written of a request is `accesslog.py`'s and `capture.py`'s; metrics count every one.
"""

import asyncio

from gproxy.server.console import LINES

AT_ONCE = 100
"""So many are told of however fast they come."""

PER_SECOND = 10.0
"""So many go on being told of."""

TELL_SECONDS = 10.0
"""How often is said how many were left out."""


class Strangers:
    """Of one process, to be used inside its event loop."""

    def __init__(self) -> None:
        self._room = float(AT_ONCE)
        self._at = 0.0
        self._left_out = 0

    def told(self) -> bool:
        """Whether one that has come now is told of; if not, it is counted."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._room = min(AT_ONCE, self._room + (now - self._at) * PER_SECOND)
        self._at = now
        if self._room >= 1:
            self._room -= 1
            return True
        if not self._left_out:
            loop.call_later(TELL_SECONDS, self._tell)
        self._left_out += 1
        return False

    def _tell(self) -> None:
        count, self._left_out = self._left_out, 0
        LINES.say(f"{count} more requests came without a valid key, and were left out of the logs.")
