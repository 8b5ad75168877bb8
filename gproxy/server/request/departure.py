"""Stops the work for a client that leaves while its request is being served, at once or after a while.

How long it may go on, and what is then recorded, is the pipeline's business.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from gproxy.server.request.incoming import ClientLeft, Incoming

HAS_LEFT = "the client left"


class Departure:
    """`with Departure(incoming):` cancels its body when the client leaves, and raises ClientLeft then.

    To be entered by the request's own task, once its body has been read. Works as `asyncio.timeout` does: a
    cancellation from elsewhere passes through as it is. `unheard` is called once, when the client has left, with the
    reason; it returns for how many seconds the body may go on without it. A body that ends in that time ends as ever.
    """

    _left = _stopped = False
    _end: asyncio.Handle | None = None

    def __init__(self, incoming: Incoming, unheard: Callable[[str], float] = lambda _: 0.0) -> None:
        self._incoming = incoming
        self._unheard = unheard
        self._task = incoming.request.task

    def __enter__(self) -> None:
        self._cancelling = self._task.cancelling()
        self._incoming.request.on_leaving(self._leave)
        self._incoming.on_cut = self._leave

    def _leave(self, why: str = HAS_LEFT) -> None:
        if self._left:
            return
        self._left = True
        seconds = self._unheard(why)
        self._incoming.request.drop()  # what is still to be sent to it would hold a writer, and the socket
        loop = self._task.get_loop()
        # Not now: cancelled while it runs, the task would end by that after the body has ended.
        self._end = loop.call_later(seconds, self._stop) if seconds > 0 else loop.call_soon(self._stop)

    def _stop(self) -> None:
        self._stopped = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._incoming.request.on_leaving(None)
        self._incoming.on_cut = None
        if self._end is not None:
            self._end.cancel()
        if not self._stopped or self._task.uncancel() > self._cancelling:
            return  # in the second case, someone else wants this task to end as well
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientLeft from error
