"""The fast engine of one process: its connections as transports of the event loop, from the first to the last.

What one of them does is `http1.py`'s; how they come from Hypercorn, `handover.py`'s.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from gproxy.server.engine.framing import Known
from gproxy.server.engine.gate import Gate
from gproxy.server.engine.http1 import Answer, Connection, Terms
from gproxy.server.request.reply import WRITE_TIMEOUT
from gproxy.server.transport.outbox import Outbox


class Engine:
    """To be made inside its loop. The times are those of `Terms`, in seconds; `look`: between two looks at all
    connections, which have no timers of their own.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        idle: float = 75.0,
        head: float = 30.0,
        write: float = WRITE_TIMEOUT,
        linger: float = 2.0,
        linger_most: float = 30.0,
        look: float = 0.5,
    ) -> None:
        self.terms = Terms(answer, Outbox(), Gate(), Known(), idle, head, write, linger, linger_most)
        self.connections: set[Connection] = set()
        self._every = look
        self._turn_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def serve(
        self, transport: asyncio.Transport, early: bytes, ended: bool, shared: Mapping[str, Any]
    ) -> None:
        """Serve a connection to its end. `shared` is what ASGI's scope has for all its requests alike.

        `early` has been read from it before; `ended`: so has its end, which is not told again.
        """
        connection = Connection(self.terms, transport, shared)
        self.connections.add(connection)
        transport.set_protocol(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(self._every, self._look)
        if early:
            connection.data_received(early)
        if ended and not connection.eof_received():
            transport.close()
        if self.terms.draining:
            connection.drain()
        try:
            await connection.over
        finally:
            await connection.cut_off()
            self.connections.discard(connection)

    def drain(self) -> None:
        """Close what is idle now, and the others at the end of the answer that they are waiting for."""
        self.terms.draining = True
        for connection in tuple(self.connections):
            connection.drain()

    def cut_off(self) -> None:
        """Wait for no client any more. Connections whose answer is still being made end by it."""
        for connection in tuple(self.connections):
            connection.leave_it()

    def _look(self) -> None:
        self._timer = None
        if self.connections:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._every, self._look)
            if loop.time() >= self._turn_at:
                self._turn_at = loop.time() + self.terms.idle
                self.terms.known.turn()
        else:
            self.terms.known.clear()
        for connection in tuple(self.connections):
            connection.look()
