"""The end of a request's accounts: its price, and its row committed before the client sees the end.

The arithmetic is `ledger/pricing.py`'s, the writing `ledger/writer.py`'s.
"""

import asyncio

from gproxy.config.snapshot import Snapshot
from gproxy.errors import StoreError, Unavailable
from gproxy.ledger.pricebook import PriceBook
from gproxy.ledger.pricing import price_from_model, settle
from gproxy.ledger.writer import Writer
from gproxy.providers.catalog import CHANNELS
from gproxy.server.journal import Journal
from gproxy.server.tasks import Tasks
from gproxy.values import Record, Target


class Settlement:
    """Prices and writes the rows of one process."""

    def __init__(self, writer: Writer, prices: PriceBook, tasks: Tasks) -> None:
        self._writer = writer
        self._prices = prices
        self._tasks = tasks

    @property
    def failure(self) -> str | None:
        """Why rows cannot be written now, or None."""
        return self._writer.failure

    async def warm(self, snapshot: Snapshot) -> None:
        """Look up the built-in price of every model that the configuration names."""
        named = [Target(m.provider_name, m.model_id) for m in snapshot.config.models if m.enabled]
        named += [t for alias in snapshot.aliases.values() for t in alias.targets]
        pairs = {(_prices_id(snapshot, t), t.model) for t in named if t.provider in snapshot.providers}
        await self._prices.warm(sorted(pairs))

    def foresee(self, snapshot: Snapshot, target: Target) -> None:
        """A request for `target` is on its way: have its price at hand when it ends."""
        prices_id = _prices_id(snapshot, target)
        if not self._prices.known(prices_id, target.model):
            self._tasks.spawn(self._prices.get(prices_id, target.model))

    async def settle(self, journal: Journal) -> None:
        """Return when the row is committed. Raises Unavailable if the store does not take it."""
        if journal.settled or not _wanted(journal):
            return
        record = await self._record(journal)  # cut off here, the row is still open for `settle_late`
        journal.settled = True
        try:
            await self._writer.commit(record)
        except StoreError:
            raise Unavailable("The usage record cannot be written now; try again later.") from None

    def settle_late(self, journal: Journal) -> None:
        """The same for a request whose task is being cancelled: returns at once, the row follows."""
        if journal.settled or not _wanted(journal):
            return
        journal.settled = True
        self._tasks.spawn(self._put(journal))

    async def _put(self, journal: Journal) -> None:
        try:
            record = await self._record(journal)
        except asyncio.CancelledError:
            # The process is ending: a row without its price is worth more than none.
            self._writer.put(journal.record(None, None))
            raise
        self._writer.put(record)

    async def _record(self, journal: Journal) -> Record:
        cost, source = await self._cost(journal)
        return journal.record(cost, source)

    async def _cost(self, journal: Journal) -> tuple[int | None, str | None]:
        target = journal.target
        if journal.free or target is None:
            return 0, None
        snapshot = journal.call.snapshot
        listed = (snapshot.providers[target.provider].models or {}).get(target.model)
        configured = price_from_model(listed) if listed else None
        builtin = None
        if configured is None and journal.usage.cost_nano is None:
            builtin = await self._prices.get(_prices_id(snapshot, target), target.model)
        return settle(journal.usage, configured, builtin)


def _wanted(journal: Journal) -> bool:
    return journal.call.snapshot.config.globals.enable_usage


def _prices_id(snapshot: Snapshot, target: Target) -> str:
    channel = CHANNELS.get(snapshot.providers[target.provider].channel)
    return channel.prices if channel else ""
