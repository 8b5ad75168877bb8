"""Sends what is to be sent in one turn of the event loop together, as the next turn begins.

What that is, and on which connection, is its owner's. A peer on this machine that sleeps is woken by what it is sent,
which costs the sender as much as all else of the system's call: of what goes out at once, the first alone does that.
"""

import asyncio
from collections.abc import Callable


class Outbox:
    """Of one event loop, to be made inside it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[Callable[[], None]] = []

    def put(self, send: Callable[[], None]) -> None:
        """Have `send` called in the next turn of the loop. It raises nothing."""
        if not self._due:
            self._loop.call_soon(self._send)
        self._due.append(send)

    def _send(self) -> None:
        due, self._due = self._due, []
        for send in due:
            send()
