"""One request over HTTP/1.1 and its answer, as ASGI has them: `receive` and `send`.

What bytes are the request's is `framing.py`'s, what becomes of the connection `http1.py`'s.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

from gproxy.errors import BadRequest
from gproxy.server.framing import Head
from gproxy.server.incoming import DROP, EXPECTED, LEAVING, READY, WIRE

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Link(Protocol):
    """The connection, as far as an exchange needs it.

    `blocked`: the client does not take what was written; `flow` is set when it does again, or is gone.
    `draining`: no other request is taken after this one.
    """

    blocked: bool
    flow: asyncio.Event

    @property
    def draining(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def body_taken(self) -> None: ...


class Exchange:
    """`whole`: the body has come to its end, which is none if it is `broken`. `unread` are the bytes of it that the
    application has not taken.

    `started` and `ended` are the answer's. `keep_alive`: the connection can carry another request after it.
    """

    __slots__ = (
        "_block",
        "_chunked",
        "_expects",
        "_fault",
        "_head",
        "_leaving",
        "_left",
        "_link",
        "_owed",
        "_pieces",
        "_silent",
        "_told",
        "_waiter",
        "broken",
        "ended",
        "keep_alive",
        "started",
        "unread",
        "whole",
    )

    def __init__(self, link: Link, head: Head) -> None:
        self._link = link
        self._head = head
        self._pieces: list[bytes] = []
        self._told = False
        self._left = False
        self._expects = head.expects
        self._fault: BadRequest | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._leaving: Callable[[], None] | None = None
        self._block = b""
        self._owed: int | None = None
        self._chunked = False
        self._silent = False
        self.unread = 0
        self.whole = head.body is None
        self.broken = False
        self.started = False
        self.ended = False
        self.keep_alive = head.persistent

    def scope(self, shared: Mapping[str, Any], drop: Callable[[], None]) -> dict[str, Any]:
        """ASGI's, with our extensions; `drop` is the one of that name, `shared` what all of a connection's have."""
        head = self._head
        path, _, query = head.target.partition(b"?")
        extensions: dict[str, Any] = {DROP: drop, LEAVING: self.on_leaving, READY: self.ready, WIRE: self}
        if head.expects:
            extensions[EXPECTED] = {}
        return {
            **shared,
            "http_version": head.version,
            "method": head.method,
            "path": unquote(path.decode()) if b"%" in path else path.decode(),
            "raw_path": path,
            "query_string": query,
            "headers": head.headers,
            "state": shared["state"].copy(),
            "extensions": extensions,
        }

    # What the connection tells.

    def feed(self, data: bytes) -> bytes:
        """What has come of the body, which is not whole yet. Returns what follows its end, b"" if it goes on.

        If it cannot be read on, the application is told by an exception out of `receive`, once.
        """
        assert self._head.body is not None
        self._expects = False
        rest: bytes | None = b""
        try:
            piece, rest = self._head.body.take(data)
        except BadRequest as error:
            self._fault = error
            self.broken = self.whole = True
            self.keep_alive = False
        else:
            self.whole = rest is not None
            if piece:
                self._pieces.append(piece)
                self.unread += len(piece)
        self._wake()
        return rest or b""

    @property
    def more(self) -> bool:
        """`feed` has to be called again, with nothing new: it was given more than it reads at once."""
        return not self.whole and self._head.body is not None and self._head.body.more

    def leave(self) -> None:
        """The client sends nothing more, or is gone."""
        self._left = True
        self._wake()
        self._tell()

    def _tell(self) -> None:
        if self._leaving is not None:
            call, self._leaving = self._leaving, None
            call()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the application does.

    async def receive(self) -> MutableMapping[str, Any]:
        """ASGI's. Raises BadRequest for a body that is broken."""
        while (message := self.ready()) is None:
            if self._expects:
                self._expects = False
                self._link.write(CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return message

    def ready(self) -> MutableMapping[str, Any] | None:
        """The extension READY. Raises BadRequest for a body that is broken."""
        if self.ended:
            return {"type": "http.disconnect"}
        if self._fault is not None:
            fault, self._fault, self._told = self._fault, None, True
            raise fault
        if self._pieces or (self.whole and not self._told):
            return self._take()
        return {"type": "http.disconnect"} if self._left or self.broken else None

    def _take(self) -> MutableMapping[str, Any]:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.unread = 0
        self._told = self.whole
        self._link.body_taken()
        return {"type": "http.request", "body": body, "more_body": not self.whole}

    def on_leaving(self, call: Callable[[], None] | None) -> None:
        """The extension LEAVING."""
        self._leaving = call
        if call is not None and self._left:
            asyncio.get_running_loop().call_soon(self._tell)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's: one write at most. Returns when the client can take more; does nothing once it is gone.

        Raises RuntimeError or ValueError for what cannot be sent.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self.begin(message["status"], message["headers"])
        elif kind == "http.response.body":
            self.put(message.get("body", b""), message.get("more_body", False))
            if self.blocked:
                await self.taken()
        else:
            raise RuntimeError(f"{kind} is no part of an answer")

    # The same, as the extension WIRE has it.

    @property
    def blocked(self) -> bool:
        return self._link.blocked

    async def taken(self) -> None:
        await self._link.flow.wait()

    def put(self, body: bytes, more: bool) -> None:
        if not self.started or self.ended:
            raise RuntimeError("a body out of its turn")
        if data := self._framed(body, more):
            self._link.write(data)
        if not more:
            self.ended = True
            self._wake()

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.started:
            raise RuntimeError("a second head")
        self.started = True
        self._block = self._head_block(status, headers)

    def _head_block(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The head, which goes out with the first of the body."""
        self._silent = self._head.method == "HEAD" or status in (204, 304)
        self._chunked = self._head.version == "1.1" and not self._silent
        self._expects = False
        closing = not self.whole or self._link.draining
        lines = [_status_line(status)]
        for name, value in headers:
            key = name.lower()
            if key == b"connection":
                closing = closing or b"close" in value.lower()
                continue
            if key == b"content-length":
                self._chunked = False
                self._owed = int(value)
            lines.append(b"%b: %b\r\n" % (key, value))
        lines.append(_date_line(int(time.time())))
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        # A body without length or chunks ends with the connection.
        if closing or (self._owed is None and not self._chunked and not self._silent):
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        block = b"".join(lines)
        if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
            raise ValueError("a line break inside a header")
        return block + b"\r\n"

    def _framed(self, body: bytes, more: bool) -> bytes:
        """What goes on the wire for a piece of the body, behind the head if that is not out."""
        block, self._block = self._block, b""
        if self._silent:
            return block
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return b"%b%b%b" % (block, piece, b"" if more else b"0\r\n\r\n")
        if self._owed is not None:
            self._owed -= len(body)
            if self._owed < 0 or (self._owed and not more):
                self.keep_alive = False
                raise RuntimeError("an answer of another length than its Content-Length")
        return block + body


@cache
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # a code of somebody's own
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_date = (0, b"")


def _date_line(now: int) -> bytes:
    """The Date header; `now` is whole seconds since the epoch."""
    global _date
    if _date[0] != now:
        _date = (now, b"date: %b\r\n" % formatdate(now, usegmt=True).encode())
    return _date[1]
