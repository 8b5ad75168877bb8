"""The answer to one request, as ASGI messages: whole or in pieces, always with its request id.

What stands in it is decided by others; this only knows whether the head is out, and whether it is being taken.
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from msgspec import Struct

from gproxy.errors import GatewayError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

WRITE_TIMEOUT = 60.0
"""Seconds for which a client may take nothing of what is there for it."""

PIECE_BYTES = 64 * 1024
"""Most that is written at once. A client that takes less than this in `write_timeout_s` counts as one that has
stopped; larger, and a slow one would."""

_LINE = b"%b: %b\r\n".__mod__

_REQUEST_ID = b"x-gproxy-request-id: "

STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


def lines(headers: Headers) -> bytes:
    """The lines of a head that headers are. Raises ValueError for one that holds a line break."""
    found = [*map(_LINE, headers)]
    block = b"".join(found)
    if block.count(b"\n") != len(found) or block.count(b"\r") != len(found):
        raise ValueError("a line break inside a header")
    return block


_STREAM_LINES = lines(STREAM_HEADERS)
JSON_LINE = lines([(b"content-type", b"application/json")])


def _headers(block: bytes) -> list[tuple[bytes, bytes]]:
    """What `lines` has made of headers, as headers again."""
    parts = (line.partition(b": ") for line in block.split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in parts]


def new_request_id() -> str:
    """What every answer carries as `x-gproxy-request-id`, and its row in the ledger too.

    The time stands first, in milliseconds: a row so goes behind those before it in the ledger's index, where a
    random one would have a page of its own written. Twelve random digits follow.
    """
    try:
        digits = _random.pop()
    except IndexError:
        digits = _drawn()
    return f"req_{time.time_ns() // 1_000_000:012x}{digits}"


_RANDOM_BYTES = 6
_DIGITS = re.compile("." * 2 * _RANDOM_BYTES)
_random: list[str] = []


def _drawn() -> str:
    """The same digits anew. They are asked of the system for many ids at once."""
    drawn = os.urandom(512 * _RANDOM_BYTES).hex()
    _random.extend(_DIGITS.findall(drawn))
    return _random.pop()


if hasattr(os, "register_at_fork"):  # two processes would draw the same
    os.register_at_fork(after_in_child=_random.clear)


class Wire(Protocol):
    """What takes an answer where no ASGI is needed: its head, then its body; or both at once, as an `answer`. Raises
    as ASGI's `send` would.

    A `stream` is the head of a body whose length is not known. `told` are the lines of headers whose names are in
    lower case and that do not frame the answer, `own` further ones. `close`: nothing more on this connection.
    `blocked`: the client does not take what was put; `taken` returns when it does again, or is gone. `push` puts a
    piece that others follow. What puts some of the body says whether the client takes more.
    """

    @property
    def blocked(self) -> bool: ...

    def begin(self, status: int, headers: Headers, own: bytes) -> None: ...

    def answer(self, status: int, told: bytes, own: bytes, body: bytes, close: bool) -> bool: ...

    def stream(self, status: int, told: bytes, own: bytes) -> None: ...

    def put(self, body: bytes, more: bool) -> bool: ...

    def push(self, body: bytes) -> bool: ...

    async def taken(self) -> None: ...


class Client(Protocol):
    """Who is answered."""

    def cut(self, why: str) -> None:
        """It is taken for gone."""


async def _to_nobody(_: MutableMapping[str, Any]) -> None:
    """ASGI's `send` for a client that has left."""


class Reply(Struct):
    """One answer. `error_body` makes an error's body in the dialect of the route that was called.

    `streaming`: events are going out, so that an error can still be told as one. The `client` is cut when it has
    taken nothing for `write_timeout_s`. `wire` takes the answer, or ASGI's `send` where there is none.
    `lines` are those of headers of ours that are to go out with the answer, whatever it is.
    `check` is the timer that looks for that, once something was waited for: then there is something to close.
    """

    request_id: str
    error_body: Callable[[GatewayError, str], bytes]
    client: Client | None = None
    wire: Wire | None = None
    send: Send = _to_nobody
    started: bool = False
    streaming: bool = False
    status: int = 0
    write_timeout_s: float = WRITE_TIMEOUT
    lines: bytes = b""
    _unsent: bytes = b""  # was pushed and has to wait
    _waiting_since: float | None = None
    check: asyncio.TimerHandle | None = None

    def silence(self) -> None:
        """Send nothing from here on: the client has left, and only the answer's end is of interest."""
        self.send = _to_nobody
        self.wire = None

    def add_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Headers of ours that are to go out with the answer, whatever it is."""
        self.lines += lines([(name.encode(), value.encode()) for name, value in headers])

    def _own(self) -> bytes:
        """Lines of every head: the request's id, then further ones."""
        return _REQUEST_ID + self.request_id.encode() + b"\r\n" + self.lines

    async def send_with_id(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's `send` for an answer that is made elsewhere: it gets the request's id too."""
        if message["type"] == "http.response.start":
            await self.start(message["status"], message["headers"])
        else:
            await self._body(message.get("body", b""), message.get("more_body", False))

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self.status = status
        if self.wire is not None:
            self.wire.begin(status, headers, self._own())
        else:
            told = [*headers, *_headers(self._own())]
            await self._while_waiting(
                self.send({"type": "http.response.start", "status": status, "headers": told})
            )

    async def start_stream(self, status: int, told: bytes) -> None:
        """`told` are the lines of headers whose names are in lower case, and that do not frame it."""
        self.streaming = True
        if self.wire is None:
            await self.start(status, [*_headers(told), *STREAM_HEADERS])
            return
        self.started, self.status = True, status
        self.wire.stream(status, told + _STREAM_LINES, self._own())

    async def piece(self, data: bytes) -> None:
        """Part of the body; returns when the connection can take more."""
        for at in range(0, len(data), PIECE_BYTES):
            part = data if len(data) <= PIECE_BYTES else data[at : at + PIECE_BYTES]
            await self._body(part, more=True)

    def push(self, data: bytes) -> bool:
        """Part of the body, without waiting. False: nothing more before `flow` has returned."""
        if self.wire is not None and len(data) <= PIECE_BYTES:
            return self.wire.push(data)
        self._unsent = data
        return False

    async def flow(self) -> None:
        """Returns when what was pushed is out and the connection can take more."""
        if self._unsent:
            data, self._unsent = self._unsent, b""
            await self.piece(data)
        elif self.wire is not None and self.wire.blocked:
            await self._while_waiting(self.wire.taken())

    async def end(self, data: bytes = b"") -> None:
        if len(data) > PIECE_BYTES:
            await self.piece(data)
            data = b""
        self.streaming = False
        await self._body(data, more=False)

    def close(self) -> None:
        """Nothing more is sent."""
        if self.check is not None:
            self.check.cancel()

    async def whole(self, status: int, told: bytes, body: bytes, close: bool = False) -> None:
        """`told` as for `start_stream`. `close`: nothing more on this connection."""
        wire = self.wire
        if wire is not None and len(body) <= PIECE_BYTES:
            self.started, self.status = True, status
            if not wire.answer(status, told, self._own(), body, close):
                await self._while_waiting(wire.taken())
            return
        ending = [(b"connection", b"close")] if close else []
        await self.start(status, [*_headers(told), (b"content-length", b"%d" % len(body)), *ending])
        await self.end(body)

    async def error(self, error: GatewayError, *, close: bool = False) -> None:
        """The error as the whole answer; `close`: and nothing more on this connection."""
        extra = [(name.encode(), value.encode()) for name, value in error.headers]
        body = self.error_body(error, self.request_id)
        await self.whole(error.status, JSON_LINE + lines(extra), body, close=close)

    async def _body(self, data: bytes, more: bool) -> None:
        if self.wire is None:
            message = {"type": "http.response.body", "body": data, "more_body": more}
            await self._while_waiting(self.send(message))
            return
        if not self.wire.put(data, more):
            await self._while_waiting(self.wire.taken())

    async def _while_waiting(self, taking: Awaitable[None]) -> None:
        self._waiting_since = asyncio.get_running_loop().time()
        if self.check is None:
            self._look_in(self.write_timeout_s)
        await taking
        self._waiting_since = None

    def _look_in(self, seconds: float) -> None:
        # One timer for the whole answer, set again when it fires: one for each piece would cost more than the piece.
        self.check = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        waited = 0.0 if self._waiting_since is None else now - self._waiting_since
        if waited < self.write_timeout_s:
            self._look_in(self.write_timeout_s - waited)
        elif self.client is not None:
            self.client.cut(f"the client took nothing for {self.write_timeout_s:g} s")
