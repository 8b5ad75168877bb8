"""Which models there are for a client: those configured, those of upstreams that list their own, and aliases.

What a list looks like in a dialect is `protocols/models.py`'s; how an upstream is asked for its own, `listing.py`'s.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gproxy.config.snapshot import Client, Provider, Snapshot
from gproxy.errors import NotFound, StoreError, UpstreamFailed, UpstreamFault
from gproxy.ledger import modellists
from gproxy.ledger.writer import Writer
from gproxy.protocols.models import ModelEntry
from gproxy.providers import demo
from gproxy.providers.catalog import CHANNELS
from gproxy.routing import access, resolve, routes
from gproxy.server.control import listing
from gproxy.server.request.tokens import Tokens
from gproxy.server.request.upstream import Upstream
from gproxy.server.tasks import Tasks
from gproxy.values import Target

KEPT_SECONDS = 300.0
FAILURE_KEPT_SECONDS = 10.0
OLDEST = timedelta(days=7)
"""A list in the store that is older does not stand in for one that cannot be fetched."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An upstream's list, None if it could not be fetched, until a time on the event loop's clock."""

    entries: tuple[ModelEntry, ...] | None
    until: float


class ModelLists:
    """The lists of one process, with a cache of what upstreams answered; forgotten at each reload.

    The store keeps what they last answered, which stands in for a list that cannot be fetched.
    """

    def __init__(self, upstream: Upstream, tokens: Tokens, tasks: Tasks, writer: Writer) -> None:
        self._upstream = upstream
        self._tokens = tokens
        self._writer = writer
        self._tasks = tasks
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Task[_Kept]] = {}

    def forget(self) -> None:
        # New tables: what is being asked for now is still kept in the old one.
        self._kept = {}
        self._asking = {}

    async def all(self, snapshot: Snapshot, client: Client, scoped: str | None) -> list[ModelEntry]:
        """Everything `client` may use, sorted by id. Raises NotFound for an unknown provider, UpstreamFailed if
        there is nothing to list since no upstream's list could be fetched."""
        # An upstream whose models are not for this client is not asked for them.
        providers = [p for p in _providers(snapshot, scoped) if access.may_reach(client, p.name)]
        lists = await asyncio.gather(*(self._of(snapshot, p) for p in providers))
        entries: dict[str, ModelEntry] = {}
        for provider, listed in zip(providers, lists, strict=True):
            for entry in listed or ():
                if access.allowed(client, Target(provider.name, entry.id), None):
                    name = entry.id if scoped else f"{provider.name}/{entry.id}"
                    entries[name] = ModelEntry(name, entry.display_name or entry.id, provider.name)
        for alias in snapshot.aliases.values():
            usable = [
                t
                for t in alias.targets
                if scoped in (None, t.provider)
                and access.allowed(client, t, alias.name)
                and resolve.serves(snapshot, t)
            ]
            if usable:
                entries[alias.name] = ModelEntry(alias.name, alias.name, usable[0].provider)
        if not entries and providers and all(listed is None for listed in lists):
            raise UpstreamFailed("No upstream's list of models could be fetched.")
        return [entries[name] for name in sorted(entries)]

    async def single(self, snapshot: Snapshot, client: Client, name: str, scoped: str | None) -> ModelEntry:
        """One model by the name a client would send. Raises as a request for it would, and NotFound if its
        provider's own list does not have it."""
        route = routes.find(snapshot, client, name, scoped)
        target = route.targets[0]
        if route.alias is not None:
            return ModelEntry(name, route.alias, target.provider)
        listed = await self._of(snapshot, snapshot.providers[target.provider])
        if listed is None:
            raise UpstreamFailed("The upstream's list of models could not be fetched.")
        for entry in listed:
            if entry.id == target.model:
                return ModelEntry(name, entry.display_name or entry.id, target.provider)
        raise NotFound("That model does not exist here.")

    async def _of(self, snapshot: Snapshot, provider: Provider) -> tuple[ModelEntry, ...] | None:
        if provider.models is not None:
            return tuple(
                ModelEntry(m.model_id, m.display_name, provider.name) for m in provider.models.values()
            )
        channel = CHANNELS[provider.channel]
        if channel.offline:
            return tuple(ModelEntry(model, model, provider.name) for model in demo.MODELS)
        kept = self._kept.get(provider.name)
        if kept is None or kept.until <= asyncio.get_running_loop().time():
            # Shared by all who ask meanwhile, and not cut off when the first of them leaves.
            task = self._asking.get(provider.name)
            if task is None or task.done():
                task = self._tasks.spawn(self._fetch(snapshot, provider))
                self._asking[provider.name] = task
            kept = await asyncio.shield(task)
        return kept.entries

    async def _fetch(self, snapshot: Snapshot, provider: Provider) -> _Kept:
        loop = asyncio.get_running_loop()
        table = self._kept
        proxy = provider.settings.proxy or snapshot.config.globals.proxy
        deadline = loop.time() + listing.LIST_SECONDS
        address = listing.address_of(provider)
        try:
            entries = await listing.fetch_first(self._upstream, self._tokens, provider, proxy, deadline)
            kept = _Kept(entries, loop.time() + KEPT_SECONDS)
            if address:
                self._keep(provider, address, entries)
        except UpstreamFault:
            found = await asyncio.to_thread(_stored, self._writer.path, provider.name, address)
            kept = _Kept(found, loop.time() + FAILURE_KEPT_SECONDS)
        table[provider.name] = kept
        return kept

    def _keep(self, provider: Provider, address: str, entries: tuple[ModelEntry, ...]) -> None:
        models = [(entry.id, entry.display_name) for entry in entries]
        work = modellists.keeping(provider.name, address, datetime.now(UTC), models)
        self._writer.offer(lambda: work, sum(len(id) + len(name) for id, name in models))


def _stored(store: Path, provider: str, address: str) -> tuple[ModelEntry, ...] | None:
    """The list of a provider that the store has kept, None if it has none that may stand in."""
    try:
        found = modellists.kept(store, {provider: address}).get(provider)
    except StoreError:
        return None
    if found is None or datetime.now(UTC) - found.fetched_at > OLDEST:
        return None
    return tuple(ModelEntry(id, name) for id, name in found.models)


def _providers(snapshot: Snapshot, scoped: str | None) -> list[Provider]:
    if scoped is None:
        return [p for p in snapshot.providers.values() if p.enabled]
    provider = snapshot.providers.get(scoped)
    if provider is None or not provider.enabled:
        raise NotFound("No such provider.")
    return [provider]
