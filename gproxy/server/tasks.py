"""Tasks that outlive the request which started them, each with an owner that holds it until it is done.

Tasks that live inside a request belong to that request's own context managers.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Holds what it spawned, reports what failed, and can wait for all of it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def drain(self, seconds: float) -> None:
        """Wait for all that runs, then cancel what is left."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for task in tuple(self._running):
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a background task failed", "exception": error, "task": task}
            )
