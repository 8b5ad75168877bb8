"""What comes from the client on one request: the pieces of its body, then at most the news that it has left.

What a body may hold and how large it may be is `edge.py`'s to check, how it comes from a server `exchange.py`'s and
`asgi.py`'s.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from msgspec import Struct

from gproxy.config.snapshot import Client
from gproxy.errors import BadRequest, BodyTimeout
from gproxy.server.request.capture import Trace
from gproxy.server.request.reply import Send, Wire

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_IDLE_SECONDS = 60.0
"""A sender that is silent for this long inside its body is cut."""

BODY_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 1024
"""A body may take so long as a whole, and a second more for so many bytes that have come: who trickles is cut too."""

_DISCARD_SECONDS = 2.0
_DISCARD_BYTES = 4 * 1024 * 1024


class ClientLeft(Exception):
    """The client closed its connection before the end of the answer."""


class Request(Protocol):
    """One request, by whichever engine it came.

    `kept` is what has been made of its head but for the length of its body, by who did; the next request to the same
    address that begins so finds it. `length` is that of the body in bytes, None if that is not known. `whole`: all of
    it is known to have come. `expected`: the client sends the body when it is first asked for, and not before. `task`
    is the one that serves it. `wire` takes the answer instead of `send`, if there is one.
    """

    @property
    def kept(self) -> dict[str, Any]: ...

    @property
    def length(self) -> int | None: ...

    @property
    def whole(self) -> bool: ...

    @property
    def expected(self) -> bool: ...

    @property
    def task(self) -> asyncio.Task[Any]: ...

    @property
    def wire(self) -> Wire | None: ...

    def scope(self) -> dict[str, Any]:
        """ASGI's; `receive` and `send` are too."""

    @property
    def receive(self) -> Receive: ...

    @property
    def send(self) -> Send: ...

    def ready(self) -> tuple[bytes, bool] | None:
        """What has come of the body, and whether more will; None if one has to wait for it, by `receive`.

        Raises ClientLeft, or BadRequest for a body that is broken.
        """

    def on_leaving(self, call: Callable[[], None] | None) -> None:
        """Have `call` called once, from the event loop, when the client leaves or if it has left.

        To be asked for when the body has ended. None takes it back.
        """

    def drop(self) -> None:
        """Close the connection at once, by a reset, if it holds bytes that the client does not take; else do nothing.
        Closed in order, it would wait for the client to take them."""


class Incoming(Struct):
    """A request's body, and whether it has come to its end.

    `on_cut` hears why a client is taken for gone, and `why_cut` is the first such reason. `trace`, where
    requests are logged, hears of what came. `client` is whose key it has, which is valid; `unknown` says why
    it has none. `model` is the name it asks for, which holds no key, "" until that is read.
    """

    request: Request
    ended: bool = False
    client: Client | None = None
    model: str = ""
    on_cut: Callable[[str], None] | None = None
    trace: Trace | None = None
    why_cut: str | None = None
    unknown: str = ""
    _asked: bool = False
    _waited_from: float | None = None  # the event loop's clock, as the first piece is waited for
    _size: int = 0

    def cut(self, why: str) -> None:
        """From here on the client is gone, whether it says so or not."""
        self.why_cut = self.why_cut or why
        self.request.drop()
        if self.on_cut is not None:
            self.on_cut(why)
        elif (
            self.request.wire is None
        ):  # by HTTP/2 there may be nothing to drop, and its task would wait for ever
            self.request.task.cancel()

    def greet(self, client: Client) -> None:
        """It has a key, which is valid."""
        self.client = client
        if self.trace is not None:
            self.trace.client = client

    async def piece(self) -> bytes:
        """The next piece of the body; `ended` is True after the last.

        Raises BodyTimeout, ClientLeft, or BadRequest for a body that is broken.
        """
        data = self.at_hand()
        if data is not None:
            return data
        message = await self._come()
        if message["type"] == "http.disconnect":
            self.ended = True
            raise ClientLeft
        data = bytes(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        self._size += len(data)
        return data

    def whole(self) -> bytes:
        """All of the body, which has come (`Request.whole`), none of it taken yet. Raises as `piece` does."""
        self._asked = True
        ready = self.request.ready()
        self.ended = True
        return ready[0] if ready is not None else b""

    def at_hand(self) -> bytes | None:
        """The next piece, None if it has not come yet, or may have come unseen. Raises as `piece` does."""
        self._asked = True
        try:
            ready = self.request.ready()
        except ClientLeft:
            self.ended = True
            raise
        if ready is None:
            return None
        data, more = ready
        self.ended = not more
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
                return await self.request.receive()
        except TimeoutError:
            raise BodyTimeout("The rest of the body did not come, or comes too slowly.") from None

    async def discard(self) -> bool:
        """Read what is left of a body that was refused, within bounds: closed with bytes unread, the connection
        would be reset, and the client might never see why. Returns whether anything was left."""
        size = 0
        if self.request.expected and not self._asked:
            return True
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self.ended and size < _DISCARD_BYTES:
                    size += len(await self.piece())
        except (TimeoutError, BodyTimeout, BadRequest, ClientLeft):
            return True
        return size > 0 or not self.ended
