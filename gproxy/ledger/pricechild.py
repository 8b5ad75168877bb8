"""The program that knows prices, run as a child process and kept for a while: a line in, a line out.

What is asked, and what an answer means, is `pricebook.py`'s. The child ends with the end of its input, and so with
the process that started it, however that ends.
"""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

ANSWER_TIMEOUT_S = 10.0

KEEP_S = 30.0
"""How long a server keeps a child: models that are new come in flocks, and the child is 30 MB large.

It counts from the child's start, so that a server which always has new models sees an update of the prices too.
"""

MOST_LINE_BYTES = 1 << 20

_GIVEN = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    }
)
"""What of the environment a child gets: the providers' keys stand there too, and are none of its business."""


class PriceChild:
    """Asks one question, or batch of them, at a time; used from one event loop."""

    def __init__(self, command: Sequence[str], keep_s: float = 0.0) -> None:
        """`keep_s` 0: each batch has a child of its own, and there is nothing to `close`."""
        self._command = command
        self._keep_s = keep_s
        self._child: Process | None = None
        self._ends = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, questions: Sequence[Any]) -> list[Any]:
        """The answers, in order. Raises OSError (TimeoutError after `ANSWER_TIMEOUT_S`), or ValueError for a child
        that failed. One that failed after it had waited is replaced first: it may have died meanwhile."""
        waited = self._child is not None
        try:
            return await self._ask(questions)
        except TimeoutError:
            raise
        except (OSError, ValueError):
            if not waited:
                raise
        return await self._ask(questions)

    async def _ask(self, questions: Sequence[Any]) -> list[Any]:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                if self._child is None or self._child.returncode is not None:
                    self._ends = loop.time() + self._keep_s
                    self._child = await self._started()
                answers = await _answers(self._child, questions, last=not self._keep_s)
        except BaseException:  # what it says next would be taken for the answer to another question
            await self.close()
            raise
        if self._keep_s:
            self._timer = loop.call_at(self._ends, self._end)
        else:
            await self.close()
        return answers

    async def close(self) -> None:
        """End the child; the next question has a new one."""
        if self._timer is not None:
            self._timer.cancel()
        child = self._child
        self._end()
        if child is not None:
            await child.wait()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.kill()

    async def _started(self) -> Process:
        # In a session of its own: the Ctrl-C that lets this process finish its requests must leave it their prices.
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=MOST_LINE_BYTES,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name in _GIVEN},
        )


async def _answers(child: Process, questions: Sequence[Any], *, last: bool) -> list[Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("".join(json.dumps(question) + "\n" for question in questions).encode())
    if last:
        child.stdin.close()
    lines = [await child.stdout.readline() for _ in questions]
    if not all(line.endswith(b"\n") for line in lines):
        raise ValueError(await _complaint(child))
    if last and (await child.stdout.read() or await child.wait()):
        raise ValueError(await _complaint(child))
    return [json.loads(line) for line in lines]


async def _complaint(child: Process) -> str:
    """What a child that answers no more says of it."""
    assert child.stderr is not None
    last = (await child.stderr.read()).decode(errors="replace").strip().rpartition("\n")[2]
    return f"exit {await child.wait()}: {last[:200]}"
