"""A request as an ASGI server hands it over, for a gateway that takes it as it takes the fast engine's.

The fast engine's own is `exchange.py`'s; what a request means is found out elsewhere.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from gproxy.server.request.incoming import Receive
from gproxy.server.request.reply import Send

_MOST_DIGITS = 20

DROP = "gproxy.drop"
"""Name of an ASGI extension of ours: `scope["extensions"][DROP]()` is `Request.drop`."""


class AsgiRequest:
    """A `Request` of any ASGI server; to be made inside the task that serves it."""

    wire = None
    whole = False  # it is not known before it is asked for
    expected = False  # `receive` sends 100, and says nothing of it

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.receive, self.send = receive, send
        self.kept: dict[str, Any] = {}
        self._scope = scope
        self._watching: asyncio.Task[None] | None = None

    @property
    def length(self) -> int | None:
        """By the last Content-Length, if that is a number that a body could have."""
        told = dict(self._scope["headers"]).get(b"content-length", b"")
        return int(told) if told.isdigit() and len(told) <= _MOST_DIGITS else None

    def scope(self) -> dict[str, Any]:
        return self._scope

    def ready(self) -> None:
        """Nothing is known of what has come until it is asked for."""

    def on_leaving(self, call: Callable[[], None] | None) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._watching = None if call is None else self.task.get_loop().create_task(self._wait(call))

    async def _wait(self, call: Callable[[], None]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        call()

    def drop(self) -> None:
        drop = self._scope["extensions"].get(DROP)
        if drop is not None:
            drop()
