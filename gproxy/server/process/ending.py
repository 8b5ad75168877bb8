"""How a process of the server ends: when it is told to, how long it waits, and what it says of that meanwhile.

What is served until then is `serving.py`'s, and how workers are told, `workers.py`'s.
"""

import asyncio
import math
from collections.abc import Callable

from gproxy.server.app import Gateway
from gproxy.server.console import LINES
from gproxy.server.engine import repair
from gproxy.server.engine.engine import Engine
from gproxy.server.process.workers import Worker, endings, ignore_endings

FORCED_END_SECONDS = 3.0
"""How long requests that the end of the drain has cut off may take to say so."""

TELL_SECONDS = 5.0
"""Between two lines about what is waited for."""


class Ending:
    """The end of one process's serving. To be made in its running loop: from then on it hears what ends it.

    The first signal (a worker: word of its parent) sets `told`; the second cuts off what is left.
    """

    def __init__(self, gateway: Gateway, engine: Engine | None, worker: Worker | None) -> None:
        self.told = asyncio.Event()
        self._gateway = gateway
        self._engine = engine
        self._who = "" if worker is None else f"worker {worker.slot} "
        self._end = math.inf
        loop = asyncio.get_running_loop()
        if worker is None:
            for number in endings():
                loop.add_signal_handler(number, self._asked)
        else:
            loop.add_reader(worker.stop, self._once, worker.stop, self.told.set)
            loop.add_reader(worker.now, self._once, worker.now, self._now)

    async def run(self, serving: asyncio.Task[None]) -> None:
        """Let `serving`, which takes no more requests, finish those under way for `drain_seconds`; end the others.

        Hypercorn's own deadline is not reliable on Python 3.12 and later (pgjones/hypercorn#308).
        """
        self._gateway.draining = True
        if self._engine is not None:
            self._engine.drain()
        seconds = self._gateway.snapshot.config.globals.drain_seconds
        loop = asyncio.get_running_loop()
        self._end = min(self._end, loop.time() + seconds)
        text = f"waits up to {seconds:g} s for {{}} to finish; a second signal ends it at once"
        while not serving.done() and (left := self._end - loop.time()) > 0:
            self._tell(text)
            await asyncio.wait({serving}, timeout=min(left, TELL_SECONDS))
            text = f"still waits for {{}}, {self._end - loop.time():.0f} s at most"
        if not serving.done():
            if self._end:
                self._cut_off()
            await asyncio.wait({serving}, timeout=FORCED_END_SECONDS)

    def close(self) -> None:
        """Hear no signals any more. The loop, as it closes, would leave them to end the process where it is."""
        loop = asyncio.get_running_loop()
        for number in endings():
            loop.remove_signal_handler(number)
        ignore_endings()

    def _tell(self, text: str) -> None:
        """Say what is done about the requests under way, if there are any."""
        if count := self._gateway.under_way:
            requests = "1 request" if count == 1 else f"{count} requests"
            LINES.say(self._who + text.format(requests))

    def _asked(self) -> None:
        if self.told.is_set():
            self._now()
        self.told.set()

    def _now(self) -> None:
        self._end = 0.0
        self._cut_off()
        self.told.set()

    def _once(self, descriptor: int, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)  # an end of file stays readable
        call()

    def _cut_off(self) -> None:
        self._tell("cuts off {}")
        self._gateway.cut_off()
        if self._engine is not None:
            self._engine.cut_off()
        # By then all have been told.
        asyncio.get_running_loop().call_later(FORCED_END_SECONDS - 1, repair.cut_off)
