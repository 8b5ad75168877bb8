"""Stops the work for a client that leaves while its request is being served.

What is then recorded is the pipeline's business.
"""

import asyncio
import contextlib
from types import TracebackType

from gproxy.server.incoming import ClientLeft, Incoming


class Departure:
    """`async with Departure(incoming):` cancels its body when the client leaves, and raises ClientLeft then.

    To be entered once the request body has been read. Works as `asyncio.timeout` does: a cancellation from
    elsewhere passes through as it is.
    """

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._left = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._watch = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        await self._incoming.departure()
        self._left = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()
        if not self._left:
            return
        if self._task.uncancel() > self._cancelling:
            return  # someone else wants this task to end as well
        if kind is None:
            # The client left while the body was finishing: take back the cancellation that is on its way.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        elif issubclass(kind, asyncio.CancelledError):
            raise ClientLeft from error
