"""The price of a target under a configuration: what the file says, else its channel, else the built-in table.

The arithmetic is `ledger/pricing.py`'s, the table `ledger/pricebook.py`'s.
"""

from gproxy.config import unpriced
from gproxy.config.snapshot import Memory, Snapshot
from gproxy.ledger.pricebook import PriceBook
from gproxy.ledger.pricing import Price, channel_price, price_from_model
from gproxy.providers.catalog import CHANNELS
from gproxy.server.tasks import Tasks
from gproxy.values import Target


class Prices:
    """The prices of one process, by the snapshot that a request is served by.

    `warm` goes with every new configuration, `foresee` with every target that is tried. `of` is the price, for who
    can wait for the table; `at_hand` is what is known of it at once, `lasting` whether it holds at any time.
    `configured` and `builtin` are its sources apart: for a request that has ended the table is asked only where file
    and channel leave the price to it, and for the time when it began. `builtin_at_hand` asks it without waiting.
    """

    def __init__(self, book: PriceBook, tasks: Tasks) -> None:
        self._book = book
        self._tasks = tasks
        self._snapshot: Snapshot | None = None
        self._remembered: Memory[Target, tuple[Price | None, str]] = Memory()

    async def warm(self, snapshot: Snapshot) -> None:
        """Look up the built-in price of every model that the configuration names and gives no price.

        To be called when a configuration comes into force, so that the first request for a model waits for nothing.
        """
        named = [Target(m.provider_name, m.model_id) for m in snapshot.config.models if m.enabled]
        named += [t for alias in snapshot.aliases.values() for t in alias.targets]
        unpriced = [
            t for t in named if t.provider in snapshot.providers and self.configured(snapshot, t) is None
        ]
        await self._book.warm(sorted({(self._found(snapshot, t)[1], t.model) for t in unpriced}))

    def foresee(self, snapshot: Snapshot, target: Target) -> bool:
        """A request for `target` is on its way: have its price at hand when it ends. Waits for nothing.

        Returns whether it is, for others to come too.
        """
        configured, prices_id = self._found(snapshot, target)
        if configured is not None:
            return True
        if not self._book.known(prices_id, target.model):
            self._tasks.spawn(self._book.get(prices_id, target.model))
            return False
        return self._book.lasting(prices_id, target.model)

    def configured(self, snapshot: Snapshot, target: Target) -> Price | None:
        """What `[[models]]` says, else the channel itself; None if the table is then to be asked (`builtin`)."""
        if snapshot is self._snapshot and (found := self._remembered.get(target)) is not None:
            return found[0]
        return self._found(snapshot, target)[0]

    async def builtin(self, snapshot: Snapshot, target: Target, at: float | None = None) -> Price | None:
        """What the table says, None if it does not know the model. Waits for a model not yet looked up.

        `at` is when the request began, in seconds since the epoch; else now.
        """
        return await self._book.get(self._found(snapshot, target)[1], target.model, at)

    def builtin_at_hand(self, snapshot: Snapshot, target: Target, at: float) -> tuple[bool, Price | None]:
        """Whether `builtin` need not wait, and what it then says."""
        prices_id, model = self._found(snapshot, target)[1], target.model
        known = self._book.known(prices_id, model, at)
        return known, self._book.cached(prices_id, model, at) if known else None

    def lasting(self, snapshot: Snapshot, target: Target) -> bool:
        """Whether `of` would say the same at any time: what is worked out by it once may be kept."""
        configured, prices_id = self._found(snapshot, target)
        return configured is not None or self._book.lasting(prices_id, target.model)

    def at_hand(self, snapshot: Snapshot, target: Target) -> Price | None:
        """What is known without waiting, for what needs no price to go on: None if the table has still to be asked
        too.
        """
        configured, prices_id = self._found(snapshot, target)
        return configured or self._book.cached(prices_id, target.model)

    async def close(self) -> None:
        await self._book.close()

    async def of(self, snapshot: Snapshot, target: Target) -> Price | None:
        """The price now, None if nobody knows one. Waits for a model not yet looked up."""
        return self.configured(snapshot, target) or await self.builtin(snapshot, target)

    def _found(self, snapshot: Snapshot, target: Target) -> tuple[Price | None, str]:
        """The price that the file or the channel sets, and the name under which the table has the provider."""
        if snapshot is not self._snapshot:
            self._snapshot, self._remembered = snapshot, Memory()
        found = self._remembered.get(target)
        return self._remembered.keep(target, _find(snapshot, target)) if found is None else found


def pricing_command(snapshot: Snapshot, target: Target, *, by_call: bool = False) -> str:
    """What sets the price of a target in the file that `snapshot` came of, as `unpriced.command`."""
    listed = snapshot.providers[target.provider].models or {}
    name = f"{target.provider}/{target.model}"
    return unpriced.command(name, add=target.model not in listed, by_call=by_call)


def _find(snapshot: Snapshot, target: Target) -> tuple[Price | None, str]:
    provider = snapshot.providers[target.provider]
    listed = (provider.models or {}).get(target.model)
    channel = CHANNELS.get(provider.channel)
    configured = None if listed is None else price_from_model(listed)
    if channel is None:
        return configured, ""
    return configured or channel_price(channel.own_price), channel.prices
