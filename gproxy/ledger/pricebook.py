"""Built-in prices by (provider's id in genai-prices, model): looked up in a child process, kept in this one.

genai-prices costs 30 MB and up to half a second to import, so no server process does: `pricelookup.py` is run
as a program for it, by `pricechild.py`. What a price means is `pricing.py`'s.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gproxy.ledger.pricechild import PriceChild
from gproxy.ledger.pricing import Apart, Price, Rates, Tier

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""How long a look-up that failed counts as unknown before it is tried again: short, for a quota refuses meanwhile."""

MOST_ENTRIES = 4096

MOST_MODEL_CHARS = 256
"""A longer name is no model's, and clients choose names."""

# By its path and with -P, so that the child imports nothing from the working folder.
COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("pricelookup.py")))


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known of a model: `price` None is "unknown", `until` seconds since the epoch, None for good.

    `failed`: it could not be looked up. `before` is what held until this did.
    """

    price: Price | None
    until: float | None
    failed: bool = False
    before: "_Entry | None" = None


class PriceBook:
    """The built-in prices this process has asked for, at most `MOST_ENTRIES`; used from one event loop."""

    def __init__(
        self, command: Sequence[str] = COMMAND, clock: Callable[[], float] = time.time, keep_s: float = 0.0
    ) -> None:
        """`clock` is seconds since the epoch: prices change by date and time of day. `keep_s` is how long a child
        may wait for more questions; if it is not 0, `close` at the end."""
        self._child = PriceChild(command, keep_s)
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._wanted: dict[tuple[str, str], None] = {}
        self._one_child = asyncio.Lock()
        self._failing = False

    def cached(self, prices_id: str, model: str, at: float | None = None) -> Price | None:
        """What is known without waiting: None if unknown, or not looked up yet. `at` as for `get`."""
        entry = self._fresh((prices_id, model), at)
        return None if entry is None else entry.price

    def known(self, prices_id: str, model: str, at: float | None = None) -> bool:
        """Whether `get` would answer at once."""
        return self._fresh((prices_id, model), at) is not None or not _askable((prices_id, model))

    def lasting(self, prices_id: str, model: str) -> bool:
        """Whether `get` would say the same at any time."""
        pair = (prices_id, model)
        entry = self._entries.get(pair)
        return not _askable(pair) if entry is None else entry.until is None and entry.before is None

    async def get(self, prices_id: str, model: str, at: float | None = None) -> Price | None:
        """The built-in price in force, None if there is none or it cannot be told. Never raises.

        `at` is when a request began, in seconds since the epoch, so that it is not priced anew when a price changes
        under way; else now. Only a pair not known yet waits, some 0.3 s for the first; look-ups share a child.
        """
        if self._fresh((prices_id, model), at) is None:
            await self.warm(((prices_id, model),))
        return self.cached(prices_id, model, at)

    async def warm(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Look up all pairs of (prices id, model) that are not known yet."""
        missing = {pair: None for pair in pairs if _askable(pair) and self._fresh(pair) is None}
        if not missing:
            return
        self._wanted.update(missing)
        async with self._one_child:
            # Who waited here finds that the one before asked for it too, unless that one was cancelled.
            asked = [pair for pair in self._wanted | missing if self._fresh(pair) is None]
            self._wanted.clear()
            if asked:
                await self._look_up(asked)

    async def close(self) -> None:
        await self._child.close()

    def _fresh(self, pair: tuple[str, str], at: float | None = None) -> _Entry | None:
        entry = self._entries.get(pair)
        if entry is None or (entry.until is None and entry.before is None):
            return entry
        now = self._clock()
        then = now if at is None else min(at, now)
        before = entry.before
        if before is not None and before.until is not None and then < before.until:
            return before
        if entry.until is None or (now if entry.failed else then) < entry.until:
            return entry
        return None

    async def _look_up(self, pairs: Sequence[tuple[str, str]]) -> None:
        try:
            answers = [_entry_of(answer) for answer in await self._child.ask(pairs)]
        except (OSError, ValueError, TypeError, LookupError) as error:  # TimeoutError is an OSError
            await self._child.close()
            if not self._failing:
                logger.warning(
                    "Built-in prices cannot be looked up (%r); costs are unknown until they can.", error
                )
            self._failing = True
            answers = [_Entry(None, self._clock() + RETRY_S, failed=True)] * len(pairs)
        else:
            self._failing = False
        for pair, entry in zip(pairs, answers, strict=True):
            old = self._entries.pop(pair, None)
            while len(self._entries) >= MOST_ENTRIES:
                del self._entries[next(iter(self._entries))]
            self._entries[pair] = replace(entry, before=_ended(old))


def _ended(entry: _Entry | None) -> _Entry | None:
    """The last price that was known before another was looked up: requests that began under it are under way."""
    if entry is None or entry.failed:
        return entry and entry.before
    return replace(entry, before=None)


def _askable(pair: tuple[str, str]) -> bool:
    prices_id, model = pair
    return bool(prices_id) and len(model) <= MOST_MODEL_CHARS


def price_of(answer: dict[str, Any]) -> Price:
    """The price in an answer of the look-up. Raises TypeError or LookupError for what is none."""
    classes = {name: _rates_of(rates) for name, rates in answer["classes"].items()}
    return Price(answer["source"], _rates_of(answer["rates"]), classes)


def _entry_of(answer: dict[str, Any] | None) -> _Entry:
    return _Entry(None, None) if answer is None else _Entry(price_of(answer), answer["until"])


def _rates_of(rates: dict[str, Any]) -> Rates:
    return Rates(tuple(map(_tier_of, rates["tiers"])), rates["per_call"], rates["per_search"])


def _tier_of(fields: list[Any]) -> Tier:
    *plain, apart = fields
    return Tier(*[*plain, None if apart is None else Apart(*apart)])
