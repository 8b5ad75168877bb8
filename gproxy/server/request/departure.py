"""Stops the work for a client that leaves while its request is being served, at once or after a while.

How long it may go on, and what is then recorded, is the pipeline's business.
"""

import asyncio
from types import TracebackType

from msgspec import Struct

from gproxy.server.request.incoming import ClientLeft, Incoming

HAS_LEFT = "the client left"


class Departure(Struct):
    """`with Departure(incoming):` cancels its body when the client leaves, and raises ClientLeft then.

    To be entered by the request's own task, once its body has been read. Works as `asyncio.timeout` does: a
    cancellation from elsewhere passes through as it is. It is itself what is called when the client has left.
    """

    incoming: Incoming
    _left: bool = False
    _stopped: bool = False
    _end: asyncio.Handle | None = None

    def unheard(self, why: str) -> float:
        """The client has left, which is told once: for how many seconds the body may go on without it. One that ends
        in that time ends as ever."""
        return 0.0

    def __enter__(self) -> None:
        incoming = self.incoming
        incoming.on_cut = self
        incoming.request.on_leaving(self)

    def __call__(self, why: str = HAS_LEFT) -> None:
        if self._left:
            return
        self._left = True
        seconds = self.unheard(why)
        self.incoming.request.drop()  # what is still to be sent to it would hold a writer, and the socket
        loop = self.incoming.request.task.get_loop()
        # Not now: cancelled while it runs, the task would end by that after the body has ended.
        self._end = loop.call_later(seconds, self._stop) if seconds > 0 else loop.call_soon(self._stop)

    def _stop(self) -> None:
        self._stopped = True
        self.incoming.request.task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.incoming.request.on_leaving(None)
        self.incoming.on_cut = None
        if self._end is None:
            return  # it is there still
        self._end.cancel()
        if not self._stopped or self.incoming.request.task.uncancel() > 0:
            return  # in the second case, someone else wants this task to end as well
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientLeft from error
