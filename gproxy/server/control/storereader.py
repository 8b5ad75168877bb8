"""Reads of the store for those who ask over HTTP: beside the event loop, few at once, never holding up the end.

What is read is the callers'.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from gproxy.errors import Unavailable

AT_ONCE = 1
"""What is done to rows in Python takes turns with the event loop: two would take it twice as often."""
MOST_OPEN = 16
"""Beyond so many, those that wait included, one is refused: a report may take seconds."""

T = TypeVar("T")


class StoreReader:
    """Of one process, to be used inside its loop.

    Threads of their own, not those of the loop: what requests to models wait for is done in those, and a process
    that ends waits for them.

    `missing` tells why the files at the store's path are not those that are served from, None if they are: what is
    read there would be nothing, or somebody else's.
    """

    def __init__(self, missing: Callable[[], str | None] = lambda: None) -> None:
        self._missing = missing
        self._open = 0
        self._room = threading.Semaphore(AT_ONCE)

    async def read(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises Unavailable if too much is being read, or the store is gone."""
        if self._open >= MOST_OPEN:
            raise Unavailable("Too many reports are being made at once; try again later.")
        if self._missing() is not None:
            raise Unavailable(
                "The usage store was removed or replaced while the server runs, so nothing can be told of it: "
                "/ready says which file."
            )
        self._open += 1
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            with self._room:
                try:
                    done = partial(self._returned, waiter, work())
                except Exception as error:  # it is raised where it is waited for
                    done = partial(self._raised, waiter, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done)

        threading.Thread(target=run, name="store-reader", daemon=True).start()
        return await waiter

    def _returned(self, waiter: "asyncio.Future[T]", value: T) -> None:
        self._open -= 1
        if not waiter.done():  # its client may have left
            waiter.set_result(value)

    def _raised(self, waiter: "asyncio.Future[T]", error: Exception) -> None:
        self._open -= 1
        if not waiter.done():
            waiter.set_exception(error)
