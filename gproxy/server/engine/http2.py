"""HTTP/2 as Hypercorn speaks it, mended: no client fills memory with it, or keeps a request that it has given up.

Hypercorn 0.18 takes over an answer as fast as that comes, whether the client reads or not, leaves one that ends early
open for ever, waits for ever to send one whose client is gone, and takes frames that it has no place for as its own
fault, others without end; and the package h2 ends a connection that opens one stream too many. These classes stand in
the places of its own where `repair.py` puts them; connections and HTTP/1.1 are mended there.
"""

import contextlib
import time
from typing import Any

from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    UnknownFrameReceived,
)
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import h2
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from priority.priority import MissingStreamError, PriorityError

from gproxy.server.request.turns import Turn

MOST_VAIN, VAIN_PER_SECOND = 200, 20.0
"""Frames of an HTTP/2 connection that ask for work alone, or take a request back: at once, and more each second."""

_VAIN = (StreamReset, PriorityUpdated, PingReceived, RemoteSettingsChanged, UnknownFrameReceived)
_UNFORESEEN = (PriorityError, ProtocolError, LookupError, NameError, ValueError)
_STEP_BYTES = 4096


class BoundedStreamBuffer(h2.StreamBuffer):
    """What one HTTP/2 answer has waiting. Hypercorn's own lets more in whenever little has gone out."""

    async def pop(self, max_length: int) -> bytes:
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < h2.BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class TolerantConnection(H2Connection):
    """The state of a connection, which takes streams above the number that its client was told.

    RFC 9113, 5.1.2 has each of them refused alone: h2 would end the connection with all that is under way on it.
    """

    @property
    def open_inbound_streams(self) -> int:
        return min(super().open_inbound_streams, self.local_settings.max_concurrent_streams - 1)


class ResettingH2Protocol(h2.H2Protocol):
    """HTTP/2, where a stream whose answer ends early is reset, and frames of a client's are no fault of ours."""

    _room, _at = float(MOST_VAIN), 0.0

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.connection.__class__ = TolerantConnection  # as Hypercorn has set it up

    async def handle(self, event: Event) -> None:
        try:
            if isinstance(event, RawData):
                await self._take(event.data)
            else:
                await super().handle(event)
        except _UNFORESEEN:
            with contextlib.suppress(ProtocolError):
                self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                await self._flush()
            await self.send(Closed())
        if isinstance(event, Closed):  # nobody takes what waits to be sent, and nobody is to wait for that
            for buffer in tuple(self.stream_buffers.values()):
                await buffer.close()

    async def _take(self, data: bytes) -> None:
        """In steps, between which others have their turn."""
        turn = Turn()
        for at in range(0, len(data), _STEP_BYTES):
            if self.closed or self.connection.state_machine.state is ConnectionState.CLOSED:
                break
            await super().handle(RawData(data[at : at + _STEP_BYTES]))
            await turn.shared()

    def _count_vain(self) -> None:
        """Raises ProtocolError if there are too many."""
        now = time.monotonic()
        self._room = min(MOST_VAIN, self._room + (now - self._at) * VAIN_PER_SECOND) - 1
        self._at = now
        if self._room < 0:
            raise ProtocolError

    async def _handle_events(self, events: list[H2Event]) -> None:
        # Comes with it, from clients that give every request a priority.
        of_request: PriorityUpdated | None = None
        for event in events:
            if self.closed:
                return
            if isinstance(event, RequestReceived):
                of_request = event.priority_updated
                if code := self._reason_against(event):
                    self._count_vain()
                    self.connection.reset_stream(event.stream_id, code)
                    await self.send(Updated(idle=self.idle))
                    continue
            elif isinstance(event, PriorityUpdated) and event is of_request:
                if event.stream_id not in self.streams:
                    continue  # it was refused: the tree of priorities would keep it for ever
            elif _is_vain(event):
                self._count_vain()
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                # Behind an answer that came before its request's end: they are for nobody, and no reason to end.
                with contextlib.suppress(ProtocolError):
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                continue
            await super()._handle_events([event])
            if isinstance(event, StreamReset) and (buffer := self.stream_buffers.get(event.stream_id)):
                await buffer.close()
        await self._flush()

    def _reason_against(self, request: RequestReceived) -> ErrorCodes | None:
        """Why a request is not begun: its client may go on with others."""
        if any(name == b":method" and value.upper() == b"CONNECT" for name, value in request.headers):
            return (
                ErrorCodes.CONNECT_ERROR
            )  # no WebSocket: one that is refused would keep its connection for ever
        streams, most = self.connection.streams, self.config.h2_max_concurrent_streams
        if len(streams) <= most:
            return None
        # More may have come with this one, and are none of its business.
        before = sum(stream.open for number, stream in streams.items() if number < request.stream_id)
        return ErrorCodes.REFUSED_STREAM if before >= most else None

    async def _create_stream(self, request: RequestReceived) -> None:
        try:
            await super()._create_stream(request)
        except (PriorityError, NameError, ValueError):
            self.streams.pop(request.stream_id, None)  # half made, it could not even be closed
            raise

    async def stream_send(self, event: StreamEvent) -> None:
        buffer = self.stream_buffers.get(event.stream_id)
        if isinstance(event, StreamClosed) and buffer is not None and not buffer._complete:
            with contextlib.suppress(ProtocolError):
                self.connection.reset_stream(event.stream_id, ErrorCodes.INTERNAL_ERROR)
                await self._flush()
            with contextlib.suppress(KeyError, MissingStreamError):
                await buffer.close()
                del self.stream_buffers[event.stream_id]
                self.priority.remove_stream(event.stream_id)
        await super().stream_send(event)


def _is_vain(event: H2Event) -> bool:
    """Also a piece of a body that is empty, and not the last."""
    if isinstance(event, DataReceived):
        return not event.flow_controlled_length and event.stream_ended is None
    return isinstance(event, _VAIN)
