"""The writing half of a client's connection: at once, or with what others are sent in the same turn of the loop.

When that is decided is the outbox's, what bytes they are `exchange.py`'s, when the connection ends `http1.py`'s.
"""

import asyncio

from gproxy.server.transport.outbox import Outbox
from gproxy.server.transport.sockets import unacknowledged

MAX_HELD_BYTES = 16 * 1024
"""More is written at once, so that it is seen whether the client takes it."""


class Sender:
    """Writes to `transport`; what it holds meanwhile goes out by `outbox`, or by `flush`.

    `blocked`: the client does not take what was written before. `closed`: nothing more is written but what is held.
    """

    def __init__(self, transport: asyncio.Transport, outbox: Outbox) -> None:
        self.blocked = self.closed = False
        self._transport = transport
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        self._outbox = outbox
        self._held = b""
        self._written, self._taken, self._taken_at = 0, -1, 0.0

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        self._written += len(data)
        if self._outbox.gathering and not (self.blocked or self._held) and len(data) <= MAX_HELD_BYTES:
            self._held = data
            self._outbox.put(self.flush)
        else:
            if self._held:
                self.flush()
            self._transport.write(data)

    def flush(self) -> None:
        """Write what is held. To be called before the transport is closed in any way."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def forget(self) -> None:
        """Send nothing more."""
        self._held = b""

    def idle_for(self, now: float) -> float:
        """For how many seconds, by looks at one clock, nothing was taken of what waits; 0 if nothing waits."""
        waiting = self._transport.get_write_buffer_size()
        taken = self._written - waiting - unacknowledged(self._descriptor) if waiting else -1
        if not waiting or taken != self._taken:
            self._taken, self._taken_at = taken, now
        return now - self._taken_at
