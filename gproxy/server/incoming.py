"""What comes from the client on one request: the pieces of its body, then at most the news that it has left.

What a body may hold and how large it may be is `edge.py`'s to check.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from gproxy.errors import BadRequest, BodyTimeout
from gproxy.server.capture import Trace

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

DROP = "gproxy.drop"
"""Name of an ASGI extension of ours: `scope["extensions"][DROP]()` closes the client's connection at once, by a
reset, if it holds bytes that the client does not take, and else does nothing. Closed in order, it would wait for the
client to take them."""

LEAVING = "gproxy.leaving"
"""Name of an ASGI extension of ours: `scope["extensions"][LEAVING](call)` has `call` called once, from the event
loop, when the client leaves or if it has left; None takes that back. It spares each request a task that waits."""

READY = "gproxy.ready"
"""Name of an ASGI extension of ours: `scope["extensions"][READY]()` is the message that `receive` would return at
once, None if it would wait. What is there already needs no time limit."""

WIRE = "gproxy.wire"
"""Name of an ASGI extension of ours: `scope["extensions"][WIRE]` takes the answer without messages, as a `Wire`."""

EXPECTED = "gproxy.expected"
"""The ASGI extension by which a server says that the client waits for 100, and that `receive` sends it."""

BODY_IDLE_SECONDS = 60.0
"""A sender that is silent for this long inside its body is cut."""

BODY_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 1024
"""A body may take so long as a whole, and a second more for so many bytes that have come: who trickles is cut too."""

_DISCARD_SECONDS = 2.0
_DISCARD_BYTES = 4 * 1024 * 1024


class ClientLeft(Exception):
    """The client closed its connection before the end of the answer."""


class Incoming:
    """ASGI's `receive`, which knows whether the body has come to its end.

    `drop`, `leaving` and `ready` are the extensions DROP, LEAVING and READY of the connection, if it has them.
    `on_cut` hears why a client is taken for gone, `trace`, where requests are logged, of what came. `expected`: the
    client sends the body when it is first asked for, and not before. `known`: it has a key that is valid.
    """

    def __init__(
        self,
        receive: Receive,
        drop: Callable[[], None] | None = None,
        *,
        leaving: Callable[[Callable[[], None] | None], None] | None = None,
        ready: Callable[[], MutableMapping[str, Any] | None] | None = None,
        expected: bool = False,
    ) -> None:
        self.receive = receive
        self.ended = False
        self.known = False
        self.drop = drop or _nothing
        self.on_cut: Callable[[str], None] | None = None
        self.trace: Trace | None = None
        self._leaving = leaving
        self._ready = ready
        self._unasked = expected
        self._waited_from: float | None = None  # the event loop's clock, as the first piece is waited for
        self._size = 0

    def cut(self, why: str) -> None:
        """From here on the client is gone, whether it says so or not."""
        self.drop()
        if self.on_cut is not None:
            self.on_cut(why)

    async def piece(self) -> bytes:
        """The next piece of the body; `ended` is True after the last.

        Raises BodyTimeout, ClientLeft, or BadRequest for a body that is broken.
        """
        data = self.at_hand()
        return self._piece_of(await self._come()) if data is None else data

    def at_hand(self) -> bytes | None:
        """The same, None if it has not come yet, or may have come unseen. Raises as `piece` does."""
        self._unasked = False
        message = None if self._ready is None else self._ready()
        return None if message is None else self._piece_of(message)

    def _piece_of(self, message: MutableMapping[str, Any]) -> bytes:
        if message["type"] == "http.disconnect":
            self.ended = True
            raise ClientLeft
        self.ended = not message.get("more_body", False)
        data = bytes(message.get("body", b""))
        self._size += len(data)
        return data

    async def _come(self) -> MutableMapping[str, Any]:
        """The next message, waited for as long as the body may take."""
        now = asyncio.get_running_loop().time()
        if self._waited_from is None:
            self._waited_from = now
        left = self._waited_from + BODY_SECONDS + self._size / LEAST_BYTES_PER_SECOND - now
        try:
            async with asyncio.timeout(min(left, BODY_IDLE_SECONDS)):
                return await self.receive()
        except TimeoutError:
            raise BodyTimeout("The rest of the body did not come, or comes too slowly.") from None

    async def discard(self) -> bool:
        """Read what is left of a body that was refused, within bounds: closed with bytes unread, the connection
        would be reset, and the client might never see why. Returns whether anything was left."""
        size = 0
        if self._unasked:
            return True
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self.ended and size < _DISCARD_BYTES:
                    size += len(await self.piece())
        except (TimeoutError, BodyTimeout, BadRequest, ClientLeft):
            return True
        return size > 0 or not self.ended

    def watch(self, call: Callable[[], None]) -> Callable[[], object]:
        """Have `call` called when the client has left; for when the body has ended. Returns what ends the watch."""
        if self._leaving is not None:
            self._leaving(call)
            return partial(self._leaving, None)
        return asyncio.get_running_loop().create_task(self._wait(call)).cancel

    async def _wait(self, call: Callable[[], None]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        call()


def _nothing() -> None:
    """Where the connection cannot be dropped, its server closes it in its own time."""
