"""The end of a request's accounts: what was reserved becomes what was used, before the client sees the end.

What a model costs is `prices.py`'s, what is written `ledger/accounts.py`'s.
"""

import asyncio
import logging
from collections.abc import Callable

from gproxy.errors import StoreError, Unavailable
from gproxy.ledger.accounts import Accounts
from gproxy.ledger.bulk import Entry
from gproxy.ledger.pricing import settle
from gproxy.ledger.writer import Writer
from gproxy.protocols import estimate
from gproxy.server.request.journal import Journal
from gproxy.server.request.prices import Prices
from gproxy.server.tasks import Tasks
from gproxy.values import Target, Usage

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""While so much waits for a store that fails, some 30 MB, requests that were let in nowhere leave no rows."""


Cost = tuple[int | None, str | None]
"""In nano-dollars, and the source of the price, as in a row; None for what is not known."""


class Settlement:
    """Settles the requests of one process. `told` hears of each that has ended, with its cost if that is known."""

    def __init__(
        self,
        writer: Writer,
        accounts: Accounts,
        prices: Prices,
        tasks: Tasks,
        told: Callable[[Journal, int | None], None] = lambda journal, cost_nano: None,
    ) -> None:
        self._told = told
        self._told_of_loss = False
        self._writer = writer
        self._accounts = accounts
        self._prices = prices
        self._tasks = tasks

    @property
    def failure(self) -> str | None:
        """Why nothing can be written now, or None."""
        return self._writer.failure

    async def settle(self, journal: Journal, *, begun: bool = False) -> None:
        """Return when it is committed. Raises Unavailable if the store does not take it now: it is written when
        the store can be, as a request that was not answered, or (`begun`) whose answer was cut short.
        """
        if journal.settled:
            return
        # Cut off here, it is still open for `settle_late`.
        cost, source = self._known(journal) or await self._cost(journal)
        journal.settle()
        entry = self._entry(journal, cost, source)
        try:
            if entry is not None:
                if journal.status >= 400 and not begun and (failure := self.failure):
                    raise StoreError(failure)  # refused whatever comes: nobody need wait for a lock
                await self._writer.run(entry)
        except StoreError:
            assert entry is not None
            raise self._unwritten(journal, entry, cost, source, begun=begun) from None
        except asyncio.CancelledError:
            if entry is not None and journal.claim is not None:
                # The writer may have failed with nobody left to tell. What is settled twice is settled once.
                self._writer.put(entry)
            raise
        finally:
            self._told(journal, cost)

    def _unwritten(
        self, journal: Journal, entry: Entry, cost: int | None, source: str | None, *, begun: bool
    ) -> Unavailable:
        """The store did not take it: what is to be told, and written once it does."""
        error = Unavailable("The usage record cannot be written now; try again later.")
        journal.ended(journal.status if begun else error.status, "error", error.message)
        if journal.claim is not None or self._writer.waiting < MOST_WAITING:
            if entry.line is not None:
                entry.line = journal.line(cost, source)
            self._writer.put(entry)
        elif not self._told_of_loss:
            self._told_of_loss = True
            logger.error(
                "%d operations wait for the usage store: requests that are refused meanwhile leave no rows",
                MOST_WAITING,
            )
        return error

    def settle_late(self, journal: Journal) -> None:
        """The same for a request whose task is being cancelled: returns at once, the rest follows."""
        if not journal.settled:
            journal.settle()
            self._tasks.spawn(self._put(journal))

    async def _put(self, journal: Journal) -> None:
        try:
            cost, source = await self._cost(journal)
        except asyncio.CancelledError:
            # The process is ending: a row without its price is worth more than none.
            self._hand_over(journal, None, None)
            raise
        self._hand_over(journal, cost, source)

    def _hand_over(self, journal: Journal, cost: int | None, source: str | None) -> None:
        entry = self._entry(journal, cost, source)
        if entry is not None:
            self._writer.put(entry)
        self._told(journal, cost)

    def _entry(self, journal: Journal, cost: int | None, source: str | None) -> Entry | None:
        """What is to be written of a request that has ended, None if nothing is."""
        wanted = journal.call.snapshot.config.globals.enable_usage
        if journal.claim is not None:
            line = journal.line(cost, source) if wanted else None
            return self._accounts.settle(journal.claim, journal.usage.total_tokens or 0, cost, line)
        return Entry(journal.record(cost, source)) if wanted else None

    def _known(self, journal: Journal) -> Cost | None:
        """What it has cost, if nothing has to be looked up or estimated for that."""
        if journal.tried and any(tried.maybe_billed for tried in journal.tried):
            return None
        target = journal.target
        if target is None or journal.free:
            return 0, None
        return self._at_hand(journal, target, journal.usage)

    async def _cost(self, journal: Journal) -> Cost:
        if journal.tried and any(tried.maybe_billed for tried in journal.tried):
            journal.extra_nano = await self._feared(journal)
        if journal.target is None or journal.free:
            return 0, None
        return await self._settled(journal, journal.target, journal.usage)

    async def _feared(self, journal: Journal) -> int | None:
        """What failed attempts may have cost: what they reported, else the input, and nothing for what nobody saw.

        None if it is not known.
        """
        protocol, body = journal.call.protocol, journal.call.facts.body
        if not protocol.metered:
            return None
        feared = [tried for tried in journal.tried if tried.maybe_billed]
        given = 0
        if protocol.estimable and any(tried.spent is None for tried in feared):
            given = await asyncio.to_thread(estimate.input_tokens, body.tree, body.tools)
        usage = Usage(input_tokens=given) if given else Usage()
        costs = [
            (await self._settled(journal, Target(tried.provider, tried.model), tried.spent or usage))[0]
            for tried in feared
        ]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known else None

    async def _settled(self, journal: Journal, target: Target, usage: Usage) -> Cost:
        cost = self._at_hand(journal, target, usage)
        if cost is None:
            call = journal.call
            cost = settle(usage, None, await self._prices.builtin(call.snapshot, target, call.started_at))
        return cost

    def _at_hand(self, journal: Journal, target: Target, usage: Usage) -> Cost | None:
        """None where the built-in table is to be asked, and waited for."""
        call = journal.call
        configured = self._prices.configured(call.snapshot, target)
        if configured is not None or usage.cost_nano is not None:
            return settle(usage, configured, None)
        known, builtin = self._prices.builtin_at_hand(call.snapshot, target, call.started_at)
        return settle(usage, None, builtin) if known else None
