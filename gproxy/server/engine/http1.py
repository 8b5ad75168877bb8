"""A client's connection in the fast engine: HTTP/1.1 without TLS, one task to a request.

Keep-alive, pipelining, flow control both ways, time limits, and the client's leaving are decided here. Framing is
`framing.py`'s, a request's ASGI side `exchange.py`'s, and what happens to all connections alike `engine.py`'s.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gproxy.errors import BadRequest, BodyTimeout, GatewayError, HeadersTooLarge, InternalFault
from gproxy.protocols.registry import OPENAI
from gproxy.server.engine.exchange import Exchange
from gproxy.server.engine.framing import (
    EMPTY_LINES,
    MALFORMED,
    MAX_HEAD_BYTES,
    Head,
    Heads,
    Known,
    Sized,
    is_hopeless,
)
from gproxy.server.engine.gate import Gate
from gproxy.server.engine.sender import Sender
from gproxy.server.request.reply import Reply, new_request_id
from gproxy.server.transport.outbox import Outbox
from gproxy.server.transport.sockets import arrivals, reset

Answer = Callable[[Exchange], Awaitable[None]]

MAX_UNREAD_BYTES = 256 * 1024
"""Of a body that the application does not take; then the client is not read."""

MAX_PIPELINED = 1024 * 1024
"""Most bytes that are kept of requests behind the one that is being answered; a client that sends more is dropped. It
is always read on, so that its end is seen, which stands behind all that it sent."""

_TURN_BYTES = 8 * 1024
"""Of what was kept, taken at once: a request costs no more if much waits behind it, and others have their turn."""

_NO_REQUEST = Head("GET", b"", "1.1", [], persistent=False, expects=False)

logger = logging.getLogger("gproxy.http")


@dataclass(slots=True)
class Terms:
    """What all connections of one process go by. Times are seconds.

    `outbox`: answers that are made while it gathers go out together. `gate`: whether a request is begun at once.
    `known`: heads that need not be parsed again.
    `idle`: between two requests. `head`: from the first byte of a head to its last. `write`: without the client
    taking anything of what waits for it. `linger`: reading on after an answer that came before the request's end,
    from its last byte on, and `linger_most` in all. `draining`: each is closed as soon as it is idle.
    """

    answer: Answer
    outbox: Outbox
    gate: Gate
    known: Known
    idle: float
    head: float
    write: float
    linger: float
    linger_most: float
    draining: bool = False


class Connection(Sender, asyncio.Protocol):
    """One client's. `over` is done when it is closed and the last application on it has returned.

    It is in one of these states: between requests (`_exchange` is None); within a request, whose body is still
    coming or whose answer is being made; closed for requests (`_deaf`: what comes is thrown away), to be closed
    altogether when the client has seen its answer.
    """

    def __init__(self, terms: Terms, transport: asyncio.Transport, shared: Mapping[str, Any]) -> None:
        super().__init__(transport, terms.outbox)
        self.loop = asyncio.get_running_loop()
        self.over = self.loop.create_future()
        self.flow = asyncio.Event()
        self.paused = False
        self.draining = terms.draining
        self.shared = shared
        self._terms = terms
        self._heads = Heads(terms.known, shared.get("server"))
        self._exchange: Exchange | None = None
        self._buffer = bytearray()  # a head that is not whole yet
        self._kept = bytearray()  # requests that wait for their turn
        self._deaf = False
        self._left = False  # the client has sent its end
        self._lost = False
        self._lingers_until = 0.0
        self._deadline = self.loop.time() + terms.idle

    # What the event loop tells.

    def data_received(self, data: bytes) -> None:
        if self._deaf or self._left:
            if self._lingers_until and not self.draining:
                self._deadline = min(self._lingers_until, self.loop.time() + self._terms.linger)
            return
        exchange = self._exchange
        if self._kept or (exchange is not None and exchange.whole):
            self._keep(data)
        elif exchange is not None or self._terms.gate.passes():
            if rest := self._read(data) if exchange is None else self._take(exchange, data):
                self._keep(rest)
        else:
            self._keep(data)
            self._terms.gate.wait(self._enter)

    def _enter(self) -> None:
        """Go on with what had to wait until others were begun."""
        self._resume()
        self._go_on(MAX_PIPELINED)
        if self.draining:
            self.drain()

    def _take(self, exchange: Exchange, data: bytes) -> bytes:
        """Take what belongs to the request that is coming; returns what stands behind it."""
        rest = exchange.feed(data)
        if exchange.broken:
            self._deaf = True
        elif not exchange.whole and (exchange.more or exchange.unread > MAX_UNREAD_BYTES):
            self._pause()
            if exchange.more:
                self.loop.call_soon(self._feed_on, exchange)
            return b""
        if self.paused:
            self._resume()
        return rest

    def _feed_on(self, exchange: Exchange) -> None:
        """Go on with what has come already, now that others had their turn."""
        if self._exchange is exchange and not self.closed:
            self.data_received(b"")

    def eof_received(self) -> bool:
        """A client that has sent its end is taken to have left, as nginx does it: what is being made for it is
        stopped, what it had sent behind is not begun. What is there to be sent is sent all the same.
        """
        self._left = True
        self.flush()
        if self._exchange is None or self.closed or not self._exchange.whole:
            self.closed = True
        self._forget()
        if self._exchange is not None:
            self._exchange.leave()
        return not self.closed

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = self.closed = self._left = True
        self.forget()
        self.flow.set()
        self.blocked = False
        self._forget()
        if self._exchange is not None:
            self._exchange.leave()
        else:
            self._end()

    def pause_writing(self) -> None:
        self.blocked = True
        self.flow.clear()

    def resume_writing(self) -> None:
        self.blocked = False
        self.flow.set()

    # What an exchange needs.

    def body_taken(self) -> None:
        if self._exchange is not None and not self._exchange.more:
            self._resume()

    # From bytes to requests.

    def _read(self, data: bytes) -> bytes:
        """Between requests: begin the next one, if `data` brings its head to an end. Returns as `_take`."""
        start = len(self._buffer)
        if start:
            data = bytes(self._buffer) + data
            self._buffer.clear()
        elif (again := self._heads.again(data)) is not None:
            head, at, end = again
            if end > len(data):
                exchange = Exchange(self, head, Sized(end - at))
                self._start(exchange, self._terms.answer)
                return self._take(exchange, data[at:])
            self._start(Exchange(self, head, None, data[at:end]), self._terms.answer)
            return data[end:]
        if data.startswith(b"\r\n"):  # some clients end a body with a line that belongs to nothing
            data = EMPTY_LINES.sub(b"", data, count=1)
        end = data.find(b"\r\n\r\n", max(0, start - 3))
        if end + 4 > MAX_HEAD_BYTES or (end < 0 and len(data) > MAX_HEAD_BYTES):
            self._refuse(HeadersTooLarge(f"The head of the request is larger than {MAX_HEAD_BYTES} bytes."))
        elif end >= 0:
            return self._begin(data[: end + 4], data[end + 4 :])
        elif is_hopeless(data, start):
            self._refuse(BadRequest(MALFORMED))
        elif data:
            self._buffer += data
            if not start:
                self._deadline = self.loop.time() + (
                    self._terms.linger if self.draining else self._terms.head
                )
        return b""

    def _begin(self, raw: bytes, rest: bytes) -> bytes:
        try:
            head, body = self._heads.read(raw)
        except GatewayError as error:
            self._refuse(error)
            return b""
        exchange = Exchange(self, head, body)
        self._start(exchange, self._terms.answer)
        return rest if exchange.whole or not rest else self._take(exchange, rest)

    def _refuse(self, error: GatewayError) -> None:
        """Answer what is no request, and read none from this connection again."""
        self._deaf = True
        self._forget()
        self._start(Exchange(self, _NO_REQUEST, None), partial(_tell, error))

    def _start(self, exchange: Exchange, answer: Answer) -> None:
        self._deadline = math.inf
        self._exchange = exchange
        # With a name of its own for each, as the loop would give it, a task costs a third more.
        exchange.task = asyncio.Task(self._answer(exchange, answer), loop=self.loop, name="request")

    async def _answer(self, exchange: Exchange, answer: Answer) -> None:
        try:
            await answer(exchange)
        except Exception:  # a fault of the application ends its request, not the connection's others
            logger.exception("a fault while a request was being answered")
        finally:
            self._finish(exchange)

    def _keep(self, data: bytes) -> None:
        """What has come behind the request that is being answered, or before it may be begun."""
        self._kept += data
        if self._exchange is None and len(self._kept) > MAX_UNREAD_BYTES:
            self._pause()
        elif len(self._kept) > MAX_PIPELINED:
            self.abort()

    def _go_on(self, most: int = _TURN_BYTES) -> None:
        """Take some of what was kept, for the request whose turn it is. The rest of it stays where it is."""
        exchange = self._exchange
        waits = exchange is not None and exchange.whole
        if self.closed or self._deaf or not self._kept or waits:
            return
        piece = bytes(self._kept[:most])
        rest = self._read(piece) if exchange is None else self._take(exchange, piece)
        del self._kept[: len(piece) - len(rest)]
        if self._kept:
            self.loop.call_soon(self._go_on)

    def _forget(self) -> None:
        self._buffer.clear()
        self._kept.clear()

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            self._transport.resume_reading()

    # After an answer.

    def _finish(self, exchange: Exchange) -> None:
        """Go on with the next request, or close."""
        self._exchange = None
        if exchange.ended and exchange.keep_alive and not (self._left or self.closed or self.draining):
            self._deadline = self.loop.time() + self._terms.idle
            if self.paused or self._kept:
                self._resume()
                self._go_on()
            return
        unread = exchange.broken or self._kept or self._deaf
        if self._lost:
            self._end()
        elif self.closed:
            pass  # what is still to be sent is being sent
        elif not exchange.ended and not exchange.started and not self._deaf and not self._left:
            self._refuse(InternalFault("A fault inside the proxy."))
        elif not exchange.ended and (self._left or self.blocked):
            self.abort()
        elif not exchange.ended or self._left or (exchange.whole and not unread):
            self._close()
        else:
            self._linger()

    def _end(self) -> None:
        if not self.over.done():  # cancelled, if nobody waits any more
            self.over.set_result(None)

    def _close(self) -> None:
        """Close when what was written is sent."""
        self.flush()
        self.closed = True
        self._deadline = math.inf
        self._transport.close()

    def _linger(self) -> None:
        """Close, but not with bytes unread: the connection would be reset, and the answer be lost on its way."""
        self._deaf = True
        self._forget()
        self.flush()
        now = self.loop.time()
        self._lingers_until, self._deadline = now + self._terms.linger_most, now + self._terms.linger
        self._resume()
        with contextlib.suppress(OSError):  # a reset that is not told yet; asyncio's own loop raises it here
            self._transport.write_eof()

    def abort(self) -> None:
        """Close at once: nothing more is sent."""
        self.forget()
        self.closed = True
        self._deadline = math.inf
        reset(self._transport)

    def drop(self) -> None:
        if not self._lost and self._transport.get_write_buffer_size():
            self.abort()

    # From time to time.

    def look(self) -> None:
        """What no event tells: that time is up, or that nothing is taken."""
        if self._lost:
            return
        now = self.loop.time()
        if self.idle_for(now) > self._terms.write:
            self.abort()
        elif now <= self._deadline or self._kept:
            pass  # what is kept is about to be begun
        elif self._buffer:
            self._refuse(BodyTimeout("The rest of the request's head did not come."))
        else:
            self._close()

    def drain(self) -> None:
        """The server is stopping. A request that has begun to come may still be answered, if it goes on soon."""
        self.draining = True
        if self._exchange is not None or self._kept or self._deaf or self.closed:
            return
        if self._buffer or arrivals(self._transport)():  # what has come may not have been read yet
            self._deadline = min(self._deadline, self.loop.time() + self._terms.linger)
        else:
            self._close()

    def leave_it(self) -> None:
        """Close, unless an answer is still being made, or is out and being lingered for."""
        if self._exchange is not None and not self._exchange.ended:
            return
        if not self._lost and self._transport.get_write_buffer_size():
            self.abort()
        elif self._exchange is None and not self._deaf and not self.closed:
            self._close()

    async def cut_off(self) -> None:
        """Leave nothing behind: neither the connection nor what is being done for it."""
        if not self._lost:
            self.abort()
        if self._exchange is not None:
            task = self._exchange.task
            task.cancel()
            await asyncio.wait({task})


async def _tell(error: GatewayError, exchange: Exchange) -> None:
    """Answer what is no request."""
    with contextlib.closing(Reply(new_request_id(), OPENAI.error_body, wire=exchange)) as reply:
        await reply.error(error, close=True)
