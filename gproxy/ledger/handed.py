"""An operation on its way to the store, and how who waits for it hears what became of it.

When it is written is `writer.py`'s to say.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from gproxy.errors import StoreError
from gproxy.ledger.store import Work

logger = logging.getLogger(__name__)


class Handed(Struct, frozen=True):
    """What was handed over, and who waits for it: nobody, or a future of a loop."""

    work: Work
    waiter: asyncio.Future[Any] | None = None

    @property
    def forsaken(self) -> bool:
        return self.waiter is None or self.waiter.cancelled()


def resolve(
    batch: Sequence[Handed], outcomes: Sequence[Any], together: Callable[[], None] | None = None
) -> None:
    """Tell all who wait, on their loop, what came of each, and the log what was refused that nobody waits for.

    `together` is called if several were told: they go on in the loop's next turn, one behind the other.
    """
    told = 0
    for handed, outcome in zip(batch, outcomes, strict=True):
        waiter = handed.waiter
        if waiter is None or waiter.done():
            if isinstance(outcome, StoreError) and handed.forsaken:
                logger.error("%s", outcome)
        elif isinstance(outcome, StoreError):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)
            told += 1
    if told > 1 and together is not None:
        together()


def tell(batch: Sequence[Handed], outcomes: Sequence[Any]) -> None:
    """`resolve` from another thread, with one wake-up of each loop."""
    told: dict[asyncio.AbstractEventLoop | None, tuple[list[Handed], list[Any]]] = {}
    for handed, outcome in zip(batch, outcomes, strict=True):
        loop = None if handed.waiter is None else handed.waiter.get_loop()
        of_loop, what = told.setdefault(loop, ([], []))
        of_loop.append(handed)
        what.append(outcome)
    for loop, of_it in told.items():
        if loop is None:
            resolve(*of_it)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(resolve, *of_it)
