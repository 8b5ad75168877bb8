"""Faults of Hypercorn's, mended from outside: connections whose clients have gone, or read nothing, are let go.

Hypercorn 0.18 keeps a connection until its idle timer ends, though its client is gone; it does not look for a
client's leaving while bytes of a next request wait behind the one that is being answered; and it closes a connection
only when the client has taken everything, and in TLS has said goodbye. What is no HTTP/1.1 gets an empty answer,
which is made one of ours. An answer that comes before its request's end is lost where the rest is still on its way.
Where that waits to be read by an application that has ended, the connection stays for ever, as one of HTTP/2 without
TLS does, which has no idle timer: such are not begun. Nor are WebSockets, which it would refuse itself where they are
asked for badly, and then keep. A request that comes just as its idle connection is to end is dropped half done, and
no answer says that the server is ending. What is mended of HTTP/2 is in `http2.py`; no more is touched.
"""

import asyncio
import contextlib
from functools import partial
from typing import Any, cast

import h11
from hypercorn import protocol
from hypercorn.asyncio import run, tcp_server
from hypercorn.events import Closed, Event
from hypercorn.protocol import ProtocolWrapper, h2
from hypercorn.protocol import h11 as h11protocol
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response, StreamClosed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import AppWrapper

from gproxy.errors import BadRequest, HeadersTooLarge
from gproxy.protocols.registry import OPENAI
from gproxy.server.engine.framing import MALFORMED
from gproxy.server.engine.http1 import MAX_PIPELINED
from gproxy.server.engine.http2 import BoundedStreamBuffer, ResettingH2Protocol
from gproxy.server.request.asgi import DROP
from gproxy.server.request.reply import WRITE_TIMEOUT, new_request_id
from gproxy.server.transport.sockets import reset

LINGER_SECONDS = 2.0
_LINGER_LOOKS = 15
"""What comes behind an answer is read on for as long as anything comes, and so many times so long at most."""


class ClosingTCPServer(tcp_server.TCPServer):
    """Hypercorn's connection, which ends when its client does, and which the application can drop."""

    _giving_up: asyncio.TimerHandle | None = None
    _lingers = False

    async def run(self) -> None:
        app = self.app

        async def with_drop(scope: Any, *rest: Any) -> None:
            scope["extensions"][DROP] = self.drop
            await app(scope, *rest)

        self.app = cast(AppWrapper, with_drop)
        _open.add(self)
        try:
            # Cancelled at the end of the process, which asyncio's streams would tell as a fault on Python 3.11.
            with contextlib.suppress(asyncio.CancelledError):
                await super().run()
        finally:
            _open.discard(self)

    def drop(self) -> None:
        """The extension DROP."""
        transport = self.writer.transport
        if transport.get_write_buffer_size():
            reset(transport)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Closed) and not self._lingers and self._is_sent_more():
            await self._begin_lingering()
        else:
            await super().protocol_send(event)

    def _is_sent_more(self) -> bool:
        """Whether the client may still be sending its request, or what it takes for one."""
        spoken = self.protocol.protocol
        if not isinstance(spoken, H11Protocol) or self.reader.at_eof() or self.writer.is_closing():
            return False
        return spoken.connection.their_state in (h11.SEND_BODY, h11.ERROR)

    async def _begin_lingering(self) -> None:
        """Close, but not with bytes unread: the connection would be reset, and the answer be lost on its way."""
        self._lingers = True
        spoken = self.protocol
        self.protocol = cast(ProtocolWrapper, unheard := _Unheard())
        with contextlib.suppress(
            NotImplementedError, OSError, RuntimeError
        ):  # TLS cannot close one side alone
            self.writer.write_eof()
        await spoken.handle(Closed())  # what is broken may have an application that waits for the rest
        await self.idle_task.restart(self._task_group, partial(self._linger, unheard))

    async def _linger(self, unheard: "_Unheard") -> None:
        for _ in range(_LINGER_LOOKS):
            unheard.pieces = 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.context.terminated.wait(), LINGER_SECONDS)
                break
            if not unheard.pieces:
                break
        self._give_up_later()
        self.writer.close()

    async def _read_data(self) -> None:
        if isinstance(self.protocol.protocol, H11Protocol):
            self.protocol.protocol.can_read = _NextRequest(self.protocol.protocol, self.reader)
        with contextlib.suppress(_LeftBehind):
            await super()._read_data()
        await self.idle_task.stop()

    async def _initiate_server_close(self) -> None:
        if self._lingers or self._is_asked():
            return
        self._give_up_later()
        await super()._initiate_server_close()
        self.loop.call_later(LINGER_SECONDS, self._end)

    def _is_asked(self) -> bool:
        """Whether a request has come, just as its connection was to be closed for want of one."""
        spoken = self.protocol.protocol
        if isinstance(spoken, H11Protocol):
            return spoken.connection.their_state in (h11.SEND_BODY, h11.DONE, h11.MUST_CLOSE)
        return not spoken.idle

    def _end(self) -> None:
        """TLS would have its client say goodbye, for 30 s, and who is idle does not read that it should."""
        if not self.writer.transport.get_write_buffer_size():
            self.writer.transport.abort()

    async def _close(self) -> None:
        self._give_up_later()
        try:
            with contextlib.suppress(
                OSError
            ):  # uvloop tells so that the client was gone when our side was closed
                await super()._close()
        finally:
            if self._giving_up is not None:
                self._giving_up.cancel()

    def _give_up_later(self) -> None:
        if self._giving_up is None:
            self._giving_up = self.loop.call_later(WRITE_TIMEOUT, self.drop)


_open: set[ClosingTCPServer] = set()


def cut_off() -> None:
    """Drop all connections whose clients do not take what is there for them."""
    for connection in tuple(_open):
        connection.drop()


class _Unheard:
    """What reads on behind an answer, in the place of a protocol; `pieces` have come since the last look."""

    pieces = 0

    async def handle(self, event: Event) -> None:
        self.pieces += 1


class _LeftBehind(Exception):
    """The client has left, with a request of its own still unread."""


class _NextRequest:
    """Hypercorn's signal that the next request of a connection may be looked at, in the place of its own.

    Whoever waits for it reads on meanwhile: the end of the connection may stand behind bytes that are for later.
    """

    def __init__(self, protocol: H11Protocol, reader: asyncio.StreamReader) -> None:
        self._protocol = protocol
        self._reader = reader
        self._event = asyncio.Event()

    async def set(self) -> None:
        self._event.set()

    async def clear(self) -> None:
        self._event.clear()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        allowed = loop.create_task(self._event.wait())
        kept = 0
        try:
            while not self._event.is_set():
                reading = loop.create_task(self._read())
                try:
                    await asyncio.wait({allowed, reading}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    reading.cancel()  # it is done, or has taken nothing out of the reader
                    await asyncio.wait({reading})
                if not reading.cancelled():
                    data = reading.result()
                    kept += len(data)
                    if not data or kept > MAX_PIPELINED:
                        await self._protocol.handle(Closed())
                        raise _LeftBehind
                    self._protocol.connection.receive_data(data)
        finally:
            allowed.cancel()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(tcp_server.MAX_RECV)
        except OSError:
            return b""


class EndingHTTPStream(HTTPStream):
    """One request, whose connection does not wait for its application to take a body when that has ended."""

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed) and not self.closed:
            queue = getattr(
                getattr(self, "app_put", None), "__self__", None
            )  # its method is all that is kept
            if isinstance(queue, asyncio.Queue) and queue.full():
                while not queue.empty():
                    queue.get_nowait()
        await super().handle(event)


class _Preface(Exception):
    """The connection begins as one of HTTP/2 does."""


class TellingH11Protocol(H11Protocol):
    """HTTP/1.1, where what is no request is refused as any other is: in JSON, and with an id.

    HTTP/2 is spoken where TLS has agreed on it: without, its preface is no request, and an upgrade is not made.
    """

    async def handle(self, event: Event) -> None:
        with contextlib.suppress(_Preface):
            await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """The last answer before the server ends says so: else the client would send its next request after it."""
        if isinstance(event, Response) and event.status_code >= 200 and self.context.terminated.is_set():
            event = Response(event.stream_id, [*event.headers, (b"connection", b"close")], event.status_code)
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.method == b"PRI":
            await self._send_error_response(BadRequest.status)
            await self.send(Closed())
            raise _Preface

    async def _create_stream(self, request: h11.Request) -> None:
        """What asks for a WebSocket is a request like others, before Hypercorn refuses one that asks badly itself."""
        if any(name == b"upgrade" for name, _ in request.headers):
            request = h11.Request(
                method=request.method,
                headers=[field for field in request.headers.raw_items() if field[0].lower() != b"upgrade"],
                target=request.target,
                http_version=request.http_version,
            )
        await super()._create_stream(request)

    async def _send_error_response(self, status_code: int) -> None:
        too_large = status_code == HeadersTooLarge.status
        error = (
            HeadersTooLarge("The head of the request is too large.") if too_large else BadRequest(MALFORMED)
        )
        request_id = new_request_id()
        body = OPENAI.error_body(error, request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-gproxy-request-id", request_id.encode()),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=error.status, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def install() -> None:
    """Put these in the places of Hypercorn's own, if that is where this version of Hypercorn has them."""
    for place, name, own, mended in _SEAMS:
        if getattr(place, name, None) is own:
            setattr(place, name, mended)  # read for each connection or stream


_SEAMS = (
    (run, "TCPServer", tcp_server.TCPServer, ClosingTCPServer),
    (h11protocol, "HTTPStream", HTTPStream, EndingHTTPStream),
    (h2, "HTTPStream", HTTPStream, EndingHTTPStream),
    (h2, "StreamBuffer", h2.StreamBuffer, BoundedStreamBuffer),
    (protocol, "H2Protocol", h2.H2Protocol, ResettingH2Protocol),
    (protocol, "H11Protocol", H11Protocol, TellingH11Protocol),
)
