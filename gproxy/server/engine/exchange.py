"""One request over HTTP/1.1 and its answer, as the gateway takes them, and as ASGI has them.

What bytes are the request's is `framing.py`'s, what becomes of the connection `http1.py`'s.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, MutableMapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

from gproxy.errors import BadRequest
from gproxy.server.engine.framing import Body, Head
from gproxy.server.request.incoming import ClientLeft
from gproxy.server.request.reply import Headers, lines

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_BODILESS = frozenset((204, 304))
_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"


class Link(Protocol):
    """The connection, as far as an exchange needs it.

    `shared` is what ASGI's scope has for all its requests alike. `blocked`: the client does not take what was
    written; `flow` is set when it does again, or is gone. `paused`: nothing more is read until `body_taken`.
    `draining`: no other request is taken after this one. `drop`: close at once, if the client leaves bytes untaken.
    """

    shared: Mapping[str, Any]
    blocked: bool
    paused: bool
    draining: bool
    flow: asyncio.Event

    def write(self, data: bytes) -> None: ...

    def body_taken(self) -> None: ...

    def drop(self) -> None: ...


class Exchange:
    """A `Request` and its `Wire`. `task` is to be set before it is served. `body` frames what is still to come; None
    if all of it has come, which `come` is.

    `whole`: the body has come to its end, which is none if it is `broken`. `unread` are the bytes of it that the
    application has not taken.

    `started` and `ended` are the answer's. `keep_alive`: the connection can carry another request after it.
    """

    task: asyncio.Task[Any]
    unread = 0
    broken = _chunked = _silent = False
    _scope: dict[str, Any] | None = None
    _fault: BadRequest | None = None
    _leaving: Callable[[], None] | None = None
    _block = b""
    _owed: int | None = None

    def __init__(self, link: Link, head: Head, body: Body | None, come: bytes = b"") -> None:
        self._link = link
        self._head = head
        self._body = body
        self._pieces = [come] if come else []
        self._expects = head.expects
        self.kept = head.kept
        self.length = len(come) if body is None else body.length
        self.whole = body is None
        self.keep_alive = head.persistent
        # What every exchange is asked for: to find it in the class takes ten times as long as to set it.
        self.started = self.ended = self._told = self._left = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def expected(self) -> bool:
        return self._head.expects

    @property
    def wire(self) -> "Exchange":
        return self

    def scope(self) -> dict[str, Any]:
        if self._scope is None:
            head, shared = self._head, self._link.shared
            path, _, query = head.target.partition(b"?")
            self._scope = {
                **shared,
                "http_version": head.version,
                "method": head.method,
                "path": unquote(path.decode()) if b"%" in path else path.decode(),
                "raw_path": path,
                "query_string": query,
                "headers": head.headers_with(self.length),
                "state": shared["state"].copy(),
                "extensions": {},
            }
        return self._scope

    def drop(self) -> None:
        self._link.drop()

    # What the connection tells.

    def feed(self, data: bytes) -> bytes:
        """What has come of the body, which is not whole yet. Returns what follows its end, b"" if it goes on.

        If it cannot be read on, the application is told by an exception out of `receive`, once.
        """
        assert self._body is not None
        self._expects = False
        rest: bytes | None = b""
        try:
            piece, rest = self._body.take(data)
        except BadRequest as error:
            self._fault = error
            self._pieces.clear()
            self.broken = self.whole = True
            self.keep_alive = False
        else:
            self.whole = rest is not None
            if piece:
                self._pieces.append(piece)
                self.unread += len(piece)
        if self._waiter is not None:
            self._wake()
        return rest or b""

    @property
    def more(self) -> bool:
        """`feed` has to be called again, with nothing new: it was given more than it reads at once."""
        return not self.whole and self._body is not None and self._body.more

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
        while True:
            try:
                ready = self.ready()
            except ClientLeft:
                return {"type": "http.disconnect"}
            if ready is not None:
                return {"type": "http.request", "body": ready[0], "more_body": ready[1]}
            if self._expects:
                self._expects = False
                self._link.write(CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def ready(self) -> tuple[bytes, bool] | None:
        """What has come of the body, and whether more will. Raises BadRequest for a body that is broken."""
        if self.ended:
            raise ClientLeft
        pieces, whole = self._pieces, self.whole
        if len(pieces) == 1:
            body = pieces.pop()
        elif self._fault is not None:
            fault, self._fault, self._told = self._fault, None, True
            raise fault
        elif pieces or (whole and not self._told):
            body = b"".join(pieces)
            pieces.clear()
        elif self._left or self.broken:
            raise ClientLeft
        else:
            return None
        self.unread = 0
        self._told = whole
        if self._link.paused:
            self._link.body_taken()
        return body, not whole

    def on_leaving(self, call: Callable[[], None] | None) -> None:
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
            if not self.put(message.get("body", b""), message.get("more_body", False)):
                await self.taken()
        else:
            raise RuntimeError(f"{kind} is no part of an answer")

    # The same, as a `Wire` has it.

    @property
    def blocked(self) -> bool:
        return self._link.blocked

    async def taken(self) -> None:
        await self._link.flow.wait()

    def put(self, body: bytes, more: bool) -> bool:
        if not self.started or self.ended:
            raise RuntimeError("a body out of its turn")
        link = self._link
        if data := self._framed(body, more):
            link.write(data)
        if not more:
            self.ended = True
            if self._waiter is not None:
                self._wake()
        return not link.blocked

    def begin(self, status: int, headers: Headers, own: bytes = b"") -> None:
        self._begin(status)
        passed, closing = [], False
        for name, value in headers:
            key = name.lower()
            if key == b"connection":
                closing = closing or b"close" in value.lower()
                continue
            if key == b"content-length":
                self._owed = int(value)
            passed.append((key, value))
        self._open(status, lines(passed), own, closing)

    def stream(self, status: int, told: bytes, own: bytes) -> None:
        self._begin(status)
        self._open(status, told, own, False)

    def push(self, body: bytes) -> bool:
        link = self._link
        if self._chunked and body and not (self._block or self.ended):
            link.write(b"%x\r\n%b\r\n" % (len(body), body))
            return not link.blocked
        return self.put(body, more=True)

    def answer(self, status: int, told: bytes, own: bytes, body: bytes, close: bool) -> bool:
        self._begin(status)
        if close:
            self.keep_alive = False
        end, sent = b"" if self.keep_alive else _CLOSE, b"" if self._silent else body
        link = self._link
        opening = _opening(status, int(time.time()))
        link.write(b"".join((opening, told, b"content-length: %d\r\n" % len(body), own, end, b"\r\n", sent)))
        self.ended = True  # whoever waits for more of the request is told
        if self._waiter is not None:
            self._wake()
        return not link.blocked

    def _begin(self, status: int) -> None:
        if self.started:
            raise RuntimeError("a second head")
        self.started = True
        self._expects = False
        self._silent = self._head.method == "HEAD" or status in _BODILESS
        if not self.whole or self._link.draining:
            self.keep_alive = False

    def _open(self, status: int, told: bytes, own: bytes, closing: bool) -> None:
        """Have the head go out with the first of the body."""
        if self._owed is None and not self._silent:
            if self._head.version == "1.1":
                self._chunked = True
                told += _CHUNKED
            else:
                closing = True  # a body without length or chunks ends with the connection
        if closing:
            self.keep_alive = False
        end = b"" if self.keep_alive else _CLOSE
        self._block = b"%b%b%b%b\r\n" % (_opening(status, int(time.time())), told, own, end)

    def _framed(self, body: bytes, more: bool) -> bytes:
        """What goes on the wire for a piece of the body, behind the head if that is not out."""
        block, self._block = self._block, b""
        if self._silent:
            return block
        if self._chunked:
            end = b"" if more else b"0\r\n\r\n"
            return b"".join((block, b"%x\r\n" % len(body), body, b"\r\n", end)) if body else block + end
        if self._owed is not None:
            self._owed -= len(body)
            if self._owed < 0 or (self._owed and not more):
                self.keep_alive = False
                raise RuntimeError("an answer of another length than its Content-Length")
        return block + body


@lru_cache(maxsize=32)
def _opening(status: int, now: int) -> bytes:
    """What every head begins with; `now` is whole seconds since the epoch."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # a code of somebody's own
    return f"HTTP/1.1 {status} {phrase}\r\ndate: {formatdate(now, usegmt=True)}\r\n".encode()
