"""Which models there are for a client: those configured, those of upstreams that list their own, and aliases.

What a list looks like in a dialect is `protocols/models.py`'s.
"""

import asyncio
from dataclasses import dataclass, replace

from gproxy.config.snapshot import Client, Provider, Snapshot
from gproxy.errors import AnswerRefused, NotFound, UpstreamFailed, UpstreamFault
from gproxy.protocols.models import ModelEntry, next_page, parse_model_list
from gproxy.providers import demo, endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.routing import access, resolve
from gproxy.server.tasks import Tasks
from gproxy.server.upstream import Attempt, Upstream
from gproxy.values import Target

KEPT_SECONDS = 300.0
FAILURE_KEPT_SECONDS = 10.0
LIST_SECONDS = 10.0
_MAX_LIST_BYTES = 16 * 1024 * 1024
_MOST_PAGES = 20
"""More of an upstream's list are not asked for: a thousand models are on each."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An upstream's list, None if it could not be fetched, until a time on the event loop's clock."""

    entries: tuple[ModelEntry, ...] | None
    until: float


class ModelLists:
    """The lists of one process, with a cache of what upstreams answered; forgotten at each reload."""

    def __init__(self, upstream: Upstream, tasks: Tasks) -> None:
        self._upstream = upstream
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
        named = resolve.resolve(snapshot, name, scoped)
        route = resolve.available(snapshot, access.permit(client, named))
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
        try:
            entries = await self._ask(snapshot, provider, loop.time() + LIST_SECONDS)
            kept = _Kept(entries, loop.time() + KEPT_SECONDS)
        except (UpstreamFault, NotFound):
            kept = _Kept(None, loop.time() + FAILURE_KEPT_SECONDS)
        table[provider.name] = kept
        return kept

    async def _ask(self, snapshot: Snapshot, provider: Provider, deadline: float) -> tuple[ModelEntry, ...]:
        channel = CHANNELS[provider.channel]
        where = endpoints.list_url(channel, provider.settings)
        if where is None:
            return ()
        url, carrier = where
        secret = provider.credentials[0].secret if provider.credentials else None
        if secret is None and channel.needs_key:
            raise AnswerRefused("no usable credential")
        headers = {
            **dict(endpoints.default_headers(channel, carrier)),
            **dict(endpoints.auth_headers(channel, carrier, secret)),
            "accept": "application/json",
            "accept-encoding": "identity",
            **{name.lower(): value for name, value in provider.settings.headers.items()},
        }
        attempt = Attempt(
            method="GET",
            url=url,
            headers=[(n.encode(), v.encode()) for n, v in headers.items()],
            body=b"",
            settings=provider.settings,
            proxy=provider.settings.proxy or snapshot.config.globals.proxy,
            deadline=deadline,
        )
        entries: list[ModelEntry] = []
        for _ in range(_MOST_PAGES):
            page = await self._page(attempt)
            entries += parse_model_list(page)
            more = next_page(page, carrier)
            if not more:
                break
            attempt = replace(attempt, url=f"{url}&{more}")
        return tuple(entries)

    async def _page(self, attempt: Attempt) -> bytes:
        answer = await self._upstream.send(attempt)
        try:
            if answer.status != 200:
                raise AnswerRefused(f"status {answer.status}")
            return await answer.whole(_MAX_LIST_BYTES)
        finally:
            answer.close()


def _providers(snapshot: Snapshot, scoped: str | None) -> list[Provider]:
    if scoped is None:
        return [p for p in snapshot.providers.values() if p.enabled]
    provider = snapshot.providers.get(scoped)
    if provider is None or not provider.enabled:
        raise NotFound("No such provider.")
    return [provider]
