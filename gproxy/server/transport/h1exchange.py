"""One connection to an upstream and the exchanges on it: a request out, its answer waited for, its body to be read.

Which connection a request gets is decided in `h1client.py`, how one comes about in `h1connect.py`, what of the bytes
that come in is an answer in `h1answer.py`.
"""

import asyncio
import errno
import math
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Protocol

import httpx

from gproxy.server.transport import h1head
from gproxy.server.transport.deadlines import Deadlines
from gproxy.server.transport.h1answer import Reading
from gproxy.server.transport.h1head import Heads
from gproxy.server.transport.outbox import Outbox
from gproxy.server.transport.sockets import arrivals, reset

WRITE_BYTES = 64 * 1024
"""A larger body goes out in pieces of this size, as the connection takes them."""


class Place:
    """What there is of connections to one origin. `open` is their number, `idle` those of them that nobody uses;
    `heads` is how the answers from there begin, `key` what its owner knows it by."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.open = 0
        self.idle: list[Connection] = []
        self.heads = Heads()


class Owner(Protocol):
    """Who is told of what becomes of a connection. `deadlines` ends what is waited for, `outbox` sends requests."""

    deadlines: Deadlines
    outbox: Outbox

    def release(self, connection: "Connection") -> None:
        """An answer has ended and another request may follow."""

    def forget(self, connection: "Connection") -> None:
        """It is closed. May be told more than once."""


Take = Callable[[bytes], bool]


class Exchange(Reading, httpx.AsyncByteStream):
    """One request's answer: its head once it has a `status`, of which `news` may tell, then the body by `read`.
    `connection` is to be set. `until` is when what was waited for last had to be there.

    Everything that belongs to the answer is here and nothing on its connection, which may be serving the next request
    before this body has been taken.
    """

    connection: "Connection"
    # As it begins: what of it changes is the exchange's own from then on.
    unsent = False  # nothing of the request has gone out, nor will
    unanswered = False  # the connection ended in order, or by a reset, before any byte
    paused = False
    until = math.inf
    heard = 0.0
    _lost_by: Exception | None = None
    _unread = 0  # of what has come since some was taken
    _take: Take | None = None
    _thrown: Exception | None = None
    _waiter: asyncio.Future[bool] | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return self.told.all()

    # What the connection tells.

    def feed(self, data: bytes) -> None:
        """Some of the answer has come in. Afterwards it may be `complete`, or have a `fault`."""
        self.take_in(data)
        goes_on = not self.complete and self.fault is None
        if self._take is not None:
            if self.pieces:
                self._hand_on(self._take)
            if goes_on and self._take is not None:
                return
        elif goes_on and self.pieces:
            self._unread += len(data)
            if self._unread > h1head.MAX_UNREAD_BYTES and not self.paused:
                self.paused = True
                self.connection.pause()
        self._wake()

    def _hand_on(self, take: Take) -> None:
        pieces = self.pieces
        data = pieces.pop() if len(pieces) == 1 else self.taken()
        self.heard = self.connection.loop.time()
        try:
            if not take(data):
                self._take = None
        except Exception as error:  # whoever pours is told of it, whatever it is
            self._take, self._thrown = None, error

    def lose(self, error: Exception | None) -> None:
        """The connection has ended, by `error` unless it was in order."""
        self._parser = None
        if self.complete or self.fault is not None:
            return
        if error is None and self.status and not self.delimited:
            self.complete = True
        else:
            self.fault = str(error or "") or "the connection was closed"
            self._lost_by = error
            ordinary = error is None or (
                isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
            )
            self.unanswered = ordinary and not self.begun
        self._wake()

    def fail(self, fault: str) -> None:
        """Nothing more will come, unless all of it has."""
        self._parser = None
        if not self.complete and self.fault is None:
            self.fault = fault
            self._wake()

    def _wake(self, late: bool = False) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(late)

    @property
    def waits(self) -> bool:
        return self._waiter is not None

    def late(self) -> None:
        self._wake(True)  # an exception would refer to who waits, and so to the future that holds it

    # What the one who asked does.

    def news(self, until: float) -> asyncio.Future[bool]:
        """Done when something has come, or at `until` on the loop's clock, and then True. Raises httpx.ReadError if
        nothing will come."""
        if self.fault is not None:
            raise httpx.ReadError(self.fault) from self._lost_by
        connection = self.connection
        self._waiter = waiter = connection.loop.create_future()
        self.until = until
        deadlines = connection.owner.deadlines
        if until < deadlines.due:
            deadlines.set(until)
        return waiter

    @property
    def over(self) -> bool:
        """Whether all of the answer has come and been taken."""
        return self.complete and not self.pieces

    async def read(self, until: float = math.inf) -> bytes:
        """The next piece, b"" at the end. Raises httpx.ReadError, or TimeoutError at `until` on the loop's clock."""
        while not self.pieces:
            if self.complete:
                return b""
            if await self.news(until):
                raise TimeoutError
        return self.taken()

    async def pour(self, take: Take, until: float) -> bool:
        """Hand each piece to `take` as it comes in, from the event loop, until that returns False; whether the answer
        has ended.

        It spares each piece a task that is woken. Raises as `read` does, and what `take` raises. `heard` is when the
        last piece came.
        """
        if self.pieces and not take(self.taken()):
            return False
        while not self.complete:
            self._take = take
            try:
                late = await self.news(until)
            finally:
                stopped, self._take = self._take is None, None
            if self._thrown is not None:
                thrown, self._thrown = self._thrown, None
                raise thrown
            if stopped:
                return False
            if late:
                raise TimeoutError
        return True

    def taken(self) -> bytes:
        """All that has come and was not read."""
        pieces = self.pieces
        if len(pieces) == 1:
            data = pieces.pop()
        else:
            data = b"".join(pieces)
            pieces.clear()
        self._unread = 0
        if self.paused:
            self.paused = False
            self.connection.resume()
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def abort(self) -> None:
        """Close the connection, unless the answer has come in whole and the connection is in other hands."""
        if not self.complete and self.fault is None:
            self.connection.abort()

    async def aclose(self) -> None:
        self.abort()


class Connection(asyncio.Protocol):
    """One connection. It has at most one exchange, and belongs to `owner` between two of them. `place` is for its
    owner to set."""

    place: Place
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
        self.closing = transport.is_closing
        self.arrived = arrivals(transport)

    @property
    def awaited(self) -> Exchange | None:
        """The exchange, if somebody waits for it."""
        exchange = self._exchange
        return exchange if exchange is not None and exchange.waits else None

    def start(self, head: bytes, body: bytes, bodiless: bool = False) -> Exchange:
        """Send a request; `body` is what its head says. `bodiless`: its answer is a head alone, whatever it says."""
        assert self._exchange is None
        place = self.place
        exchange = Exchange(place.heads, bodiless)
        exchange.connection = self
        if self._lost:
            self.owner.forget(self)
            exchange.lose(self._error)
            return exchange
        self._exchange = exchange
        if len(body) > WRITE_BYTES:
            self._held, self._unsent = head, memoryview(body)
        else:
            self._held = head + body
            if place.open - len(place.idle) > 1:  # others are likely to be sent with it
                self.owner.outbox.put(self._send_held)
                return exchange
        self._send_held()
        return exchange

    def _send_held(self) -> None:
        held = self._held
        if not held:
            return  # it was given up
        # What has come already is the connection's end, or would be taken for the answer. To a new connection it may
        # be what TLS begins with.
        if self.idle_since and self.arrived():
            self._unasked()
            return
        self._held = b""
        self._transport.write(held)
        if self._unsent:
            self._send()

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
            if not exchange.keep or self._unsent or self._transport.get_write_buffer_size():
                self.abort()
                return
            self._exchange = None
            if exchange.paused:
                exchange.paused = False
                self.resume()
            self.owner.release(self)
        elif exchange.fault is not None:
            self.abort()
        elif len(data) > h1head.MAX_UNREAD_BYTES and not exchange.paused:
            self.pause()  # uvloop would read on 31 times before others have their turn
            self.loop.call_soon(self.resume)

    def _unasked(self) -> None:
        """Something has come before a request was sent, which then is not."""
        if self._exchange is not None:
            self._exchange.unsent = self._exchange.unanswered = True
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
        if not self._lost and not self.closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        open_still = not self._lost and not self.closing()
        if open_still and (self._exchange is None or not self._exchange.paused):
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
