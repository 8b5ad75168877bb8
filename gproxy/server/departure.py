"""Stops the work for a client that leaves while its request is being served, at once or after a while.

How long it may go on, and what is then recorded, is the pipeline's business.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from types import TracebackType

from gproxy.server.incoming import ClientLeft, Incoming

HAS_LEFT = "the client left"


class Departure:
    """`async with Departure(incoming):` cancels its body when the client leaves, and raises ClientLeft then.

    To be entered once the request body has been read. Works as `asyncio.timeout` does: a cancellation from
    elsewhere passes through as it is. `unheard` is called once, when the client has left, with the reason; it
    returns for how many seconds the body may go on without it. A body that ends in that time ends as ever.
    """

    def __init__(self, incoming: Incoming, unheard: Callable[[str], float] = lambda _: 0.0) -> None:
        self._incoming = incoming
        self._unheard = unheard
        self._left = False
        self._stopped = False
        self._end: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._unwatch = self._incoming.watch(partial(self._leave, HAS_LEFT))
        self._incoming.on_cut = self._leave

    def _leave(self, why: str) -> None:
        if self._left:
            return
        self._left = True
        seconds = self._unheard(why)
        self._incoming.drop()  # what is still to be sent to it would hold a writer, and the socket
        if seconds > 0:
            self._end = asyncio.get_running_loop().call_later(seconds, self._stop)
        else:
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unwatch()
        self._incoming.on_cut = None
        if self._end is not None:
            self._end.cancel()
        if not self._stopped:
            return
        if self._task.uncancel() > self._cancelling:
            return  # someone else wants this task to end as well
        if kind is None:
            # The client left while the body was finishing: take back the cancellation that is on its way.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        elif issubclass(kind, asyncio.CancelledError):
            raise ClientLeft from error
