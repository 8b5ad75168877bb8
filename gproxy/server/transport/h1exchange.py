"""One connection to an upstream and the exchanges on it: bytes out, llhttp in, the answer's body to be read.

Which connection a request gets is decided in `h1client.py`, how one comes about in `h1connect.py`.
"""

import asyncio
import errno
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

import httptools
import httpx

from gproxy.server.transport import h1head
from gproxy.server.transport.deadlines import Deadlines
from gproxy.server.transport.outbox import Outbox
from gproxy.server.transport.sockets import arrivals, reset

WRITE_BYTES = 64 * 1024
"""A larger body goes out in pieces of this size, as the connection takes them."""


class Owner(Protocol):
    """Who is told of what becomes of a connection. `deadlines` ends what is waited for, `outbox` sends requests."""

    deadlines: Deadlines
    outbox: Outbox

    def release(self, connection: "Connection") -> None:
        """An answer has ended and another request may follow."""

    def forget(self, connection: "Connection") -> None:
        """It is closed. May be told more than once."""


Take = Callable[[bytes], bool]


class Exchange(httpx.AsyncByteStream):
    """One request's answer: `status` and `headers` once `head` has returned, then the body by `read`. `first` has
    the first of the headers of each name, in lower case.

    Everything that belongs to the answer is here and nothing on its connection, which may be serving the next request
    before this body has been taken.
    """

    # As it begins: what of it changes is the exchange's own from then on.
    status = 0
    complete = False
    keep = False
    fault: str | None = None
    unanswered = False  # the connection ended in order, or by a reset, before any byte
    paused = False
    until = math.inf  # when the head had to be there
    heard = 0.0
    _lost_by: Exception | None = None
    _begun = False
    _head_bytes = 0
    _status_bytes = 0
    _delimited = False  # by a length or by chunks; otherwise the connection's end is the body's
    _most_pieces = 0  # those of the answer, once it is complete: what follows was not asked for
    _unread = 0  # of what has come since some was taken
    _empty = 0  # of what has come since the last of the body: extensions of chunks, trailers
    _take: Take | None = None
    _thrown: Exception | None = None
    _waiter: asyncio.Future[bool] | None = None

    def __init__(self, connection: "Connection", *, bodiless: bool) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.first: dict[bytes, bytes] = {}
        self._connection = connection
        self._bodiless = bodiless
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # As other clients read answers: not all upstreams write their heads to the letter.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    # What llhttp finds.

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep = False  # what follows an answer was not asked for

    def on_status(self, text: bytes) -> None:
        self._status_bytes += len(text)
        if self._status_bytes > h1head.MAX_FIELD_BYTES:
            raise h1head.Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is a trailer
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self.complete:
            return
        first, delimited, size = h1head.read(self.headers)
        self._head_bytes += size
        if self._head_bytes > h1head.MAX_HEAD_BYTES:
            raise h1head.Refused
        if status < 200:
            if status < 100 or status == 101:
                raise h1head.Refused  # it is none, or changes to what nobody asked for
            self.headers = []
            self._status_bytes = 0
            return
        self.first = first
        self._delimited = delimited
        self.status = status
        if self._bodiless:
            self.complete = True
            self.keep = self._delimited and self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            assert self._parser is not None
            self.complete = True
            self.keep = self._parser.should_keep_alive()
            self._most_pieces = len(self._pieces)

    # What the connection tells.

    def feed(self, data: bytes) -> None:
        """Some of the answer has come in. Afterwards it may be `complete`, or have a `fault`."""
        assert self._parser is not None
        self._begun = True
        before = len(self._pieces)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.keep = False
            if not self.complete:
                self.fault = f"malformed: {error}"
        self._unread += len(data)
        self._empty = 0 if len(self._pieces) > before else self._empty + len(data)
        most = h1head.MAX_EMPTY_BYTES if self.status else h1head.MAX_HEAD_BYTES
        if self._empty > most and self.fault is None and not self.complete:
            self.fault = "it goes on without a body" if self.status else "the head is too large"
        if self.complete and len(self._pieces) > self._most_pieces:
            del self._pieces[self._most_pieces :]
            self.keep = False
        if self.complete or self.fault is not None:
            self._parser = None  # which refers to this exchange
        if self._pieces and self._take is not None:
            self._hand_on(self._take)
        elif self._pieces and self._unread > h1head.MAX_UNREAD_BYTES and not self.paused:
            self.paused = True
            self._connection.pause()
        if self._take is None or self._parser is None:
            self._wake()

    def _hand_on(self, take: Take) -> None:
        self.heard = self._connection.loop.time()
        try:
            if not take(self.taken()):
                self._take = None
        except Exception as error:  # whoever pours is told of it, whatever it is
            self._take, self._thrown = None, error

    def lose(self, error: Exception | None) -> None:
        """The connection has ended, by `error` unless it was in order."""
        self._parser = None
        if self.complete or self.fault is not None:
            return
        if error is None and self.status and not self._delimited:
            self.complete = True
        else:
            self.fault = str(error or "") or "the connection was closed"
            self._lost_by = error
            ordinary = error is None or (
                isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
            )
            self.unanswered = ordinary and not self._begun
        self._wake()

    def fail(self, fault: str) -> None:
        """Nothing more will come, unless all of it has."""
        self._parser = None
        if not self.complete and self.fault is None:
            self.fault = fault
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    # What the one who asked does.

    def _news(self, until: float) -> Coroutine[Any, Any, None]:
        connection = self._connection
        self._waiter = waiter = connection.loop.create_future()
        return connection.owner.deadlines.wait(waiter, until)

    @property
    def over(self) -> bool:
        """Whether all of the answer has come and been taken."""
        return self.complete and not self._pieces

    async def head(self, until: float = math.inf) -> None:
        """Until the head is there. Raises httpx.ReadError, or TimeoutError at `until` on the loop's clock."""
        self.until = until
        while not self.status:
            if self.fault is not None:
                raise httpx.ReadError(self.fault) from self._lost_by
            await self._news(until)

    async def read(self, until: float = math.inf) -> bytes:
        """The next piece, b"" at the end. Raises httpx.ReadError, or TimeoutError at `until` on the loop's clock."""
        while not self._pieces:
            if self._has_ended():
                return b""
            await self._news(until)
        return self.taken()

    async def pour(self, take: Take, until: float) -> bool:
        """Hand each piece to `take` as it comes in, from the event loop, until that returns False; whether the answer
        has ended.

        It spares each piece a task that is woken. Raises as `read` does, and what `take` raises. `heard` is when the
        last piece came.
        """
        if self._pieces and not take(self.taken()):
            return False
        while not self._has_ended():
            self._take = take
            try:
                await self._news(until)
            except TimeoutError:
                if self._take is not None:
                    raise
            finally:
                stopped, self._take = self._take is None, None
            if self._thrown is not None:
                thrown, self._thrown = self._thrown, None
                raise thrown
            if stopped:
                return False
        return True

    def _has_ended(self) -> bool:
        if not self.complete and self.fault is not None:
            raise httpx.ReadError(self.fault)
        return self.complete

    def taken(self) -> bytes:
        """All that has come and was not read."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unread = 0
        if self.paused:
            self.paused = False
            self._connection.resume()
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def abort(self) -> None:
        """Close the connection, unless the answer has come in whole and the connection is in other hands."""
        if not self.complete and self.fault is None:
            self._connection.abort()

    async def aclose(self) -> None:
        self.abort()


class Connection(asyncio.Protocol):
    """One connection. It has at most one exchange, and belongs to `owner` between two of them."""

    _transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle_since = 0.0  # by `h1client.sleepless`, 0 if it never was
        self.way = 0.0  # the most that it can take to the peer and back, in seconds
        self.owner = owner
        self._exchange: Exchange | None = None
        self._lost = False
        self._error: Exception | None = None
        self._blocked = False
        self._held = b""  # a request of which nothing has been sent
        self._unsent = memoryview(b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are of no class of asyncio's
        self.arrived = arrivals(transport)

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it, as far as is known here."""
        return not self._lost and not self._transport.is_closing()

    def start(self, head: bytes, body: bytes, *, bodiless: bool = False) -> Exchange:
        """Send a request; `body` is what its head says. `bodiless`: its answer is a head alone, whatever it says."""
        assert self._exchange is None
        exchange = Exchange(self, bodiless=bodiless)
        if self._lost:
            self.owner.forget(self)
            exchange.lose(self._error)
            return exchange
        self._exchange = exchange
        if len(body) > WRITE_BYTES:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._send()
        elif self.owner.deadlines.waiting:  # so that others are likely to be sent with it
            self._held = head + body
            self.owner.outbox.put(self._send_held)
        else:
            self._transport.write(head + body)
        return exchange

    def _send_held(self) -> None:
        if self._held and self.usable:
            if self.idle_since and self.arrived():  # a new one may still have to read what TLS begins with
                self._unasked()
                return
            held, self._held = self._held, b""
            self._transport.write(held)

    def _send(self) -> None:
        transport = self._transport
        while self._unsent and not self._blocked and not transport.is_closing():
            piece, self._unsent = self._unsent[:WRITE_BYTES], self._unsent[WRITE_BYTES:]
            transport.write(piece)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._send()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or self._held:
            self._unasked()
            return
        exchange.feed(data)
        if exchange.complete:
            self._end(exchange)
        elif exchange.fault is not None:
            self.abort()
        elif len(data) > h1head.MAX_UNREAD_BYTES and not exchange.paused:
            self.pause()  # uvloop would read on 31 times before others have their turn
            self.loop.call_soon(self.resume)

    def _unasked(self) -> None:
        """Something has come before a request was sent: it would be taken for the answer."""
        if self._exchange is not None:
            self._exchange.unanswered = True
        self.abort()

    def _end(self, exchange: Exchange) -> None:
        transport = self._transport
        whole = not self._unsent and not transport.get_write_buffer_size()
        if exchange.keep and whole and not transport.is_closing():
            self._exchange = None
            if exchange.paused:
                exchange.paused = False
                self.resume()
            self.owner.release(self)
        else:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._error = error
        self._unsent = memoryview(b"")
        exchange, self._exchange = self._exchange, None
        self.owner.forget(self)
        if exchange is not None:
            exchange.lose(error)

    def pause(self) -> None:
        if self.usable:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.usable and (self._exchange is None or not self._exchange.paused):
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close it now. What was not sent is not sent, and the system keeps nothing for the other side."""
        self.owner.forget(self)
        self._held = b""
        self._unsent = memoryview(b"")
        exchange, self._exchange = self._exchange, None
        if not self._lost:
            reset(self._transport)
        if exchange is not None:
            exchange.fail("given up")
