"""How many requests one turn of the event loop begins; the others begin in the turns that follow, in their order.

What a request is, and what is kept of it meanwhile, is its connection's.

A turn takes what all connections have sent. If it began all of it, hundreds of requests would go forward side by
side, step by step, and with each step the processor's cache would have to be filled with the next one's objects
again. So the answers of those that were begun, which come in between, go first. Where an answer takes longer than a
few turns, as a model's does, nothing waits for any.
"""

import asyncio
from collections import deque
from collections.abc import Callable

MOST_BEGUN = 16


class Gate:
    """Of one event loop, to be made inside it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = MOST_BEGUN
        self._waiting: deque[Callable[[], None]] = deque()

    def passes(self) -> bool:
        """Whether one more may begin in this turn; it is counted. Else it has to `wait`."""
        room = self._room
        if not room:
            return False
        if room == MOST_BEGUN:  # else the next turn is waited for already
            self._loop.call_soon(self._next_turn)
        self._room = room - 1
        return True

    def wait(self, begin: Callable[[], None]) -> None:
        """Have `begin` called in its turn, after `passes` has refused. It raises nothing."""
        self._waiting.append(begin)

    def _next_turn(self) -> None:
        waiting = self._waiting
        if not waiting:
            self._room = MOST_BEGUN
            return
        count = min(MOST_BEGUN, len(waiting))
        self._room = MOST_BEGUN - count
        self._loop.call_soon(self._next_turn)
        for _ in range(count):
            waiting.popleft()()
