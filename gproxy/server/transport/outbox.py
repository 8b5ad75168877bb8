"""Sends what is to be sent in one turn of the event loop together, as the next turn begins.

What that is, and on which connection, is its owner's. A peer on this machine that sleeps is woken by what it is sent,
which costs the sender as much as all else of the system's call: of what goes out at once, the first alone does that.
"""

import asyncio
from collections.abc import Callable


class Outbox:
    """Of one event loop, to be made inside it. `gathering`: what is put now goes out with others, or may."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[Callable[[], None]] = []
        self.gathering = False

    def gather(self) -> None:
        """Have what is put from here on sent in the next turn of the loop, behind all that is to run by now."""
        if not self.gathering:
            self.gathering = True
            self._loop.call_soon(self._send)

    def put(self, send: Callable[[], None]) -> None:
        """Have `send` called in the next turn of the loop, or with what is gathered. It raises nothing."""
        if not self.gathering:
            self.gather()
        self._due.append(send)

    def _send(self) -> None:
        due, self._due = self._due, []
        self.gathering = False
        for send in due:
            send()
