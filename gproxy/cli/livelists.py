"""`gproxy models list --live`: the configured models beside what the upstreams list, now or when last reached.

How an upstream is asked is `server/control/listing.py`'s; where lists are kept, `ledger/modellists.py`'s.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gproxy.cli import files, output
from gproxy.config.snapshot import Provider, Snapshot
from gproxy.config.source import Loaded, make_data_dir
from gproxy.errors import ConfigError, StoreError, UpstreamFault
from gproxy.ledger import modellists
from gproxy.ledger.store import open_store
from gproxy.ledger.when import stamp
from gproxy.providers import demo
from gproxy.providers.catalog import CHANNELS
from gproxy.server.control import listing

Models = tuple[tuple[str, str], ...]
"""The id of each model, and its name for people or ""."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of a provider's list: `models` None if nothing is. `fault`: why it could not be fetched now."""

    models: Models | None
    fetched_at: datetime | None = None
    fault: str = ""


def with_lists(path: Path, rows: list[dict[str, str]], *, as_json: bool) -> bool:
    """Show `rows` with what upstreams list; whether of each upstream that has a list one is known.

    Raises ConfigError where the configuration has errors.
    """
    loaded = files.load(path)
    name = files.shown(path)
    if loaded.snapshot is None:
        raise files.refused(name, loaded.errors, tuple(error.render(name) for error in loaded.errors))
    now = datetime.now(UTC)
    lists = _lists(loaded, loaded.snapshot, path, now)
    found = sorted(_rows(loaded.snapshot, rows, lists, now), key=lambda row: str(row["id"]))
    if as_json:
        output.show_json(found)
    else:
        shown = [{key: row[key] for key in ("id", "kind", "upstream")} for row in found]
        output.show(shown, as_json=False, empty="No models: `gproxy providers add` brings some.")
    for provider, listed in lists.items():
        if listed.fault:
            then = f"shown is that of {_ago(listed.fetched_at, now)}" if listed.fetched_at else "none is kept"
            output.note(f"The list of {provider} cannot be fetched ({listed.fault}): {then}.")
    return all(listed.models is not None for listed in lists.values())


def _lists(loaded: Loaded, snapshot: Snapshot, path: Path, now: datetime) -> dict[str, Listed]:
    """By provider, for all that are enabled and have a list."""
    asked = [p for p in snapshot.providers.values() if p.enabled and listing.address_of(p)]
    fetched = asyncio.run(_fetch(snapshot, asked))
    kept = _kept(loaded, path, fetched, {p.name: listing.address_of(p) for p in asked}, now)
    lists = {p.name: Listed(tuple((model, model) for model in demo.MODELS), now) for p in _offline(snapshot)}
    for name, answer in fetched.items():
        if not isinstance(answer, str):
            lists[name] = Listed(answer, now)
        elif name in kept:
            lists[name] = Listed(kept[name].models, kept[name].fetched_at, answer)
        else:
            lists[name] = Listed(None, None, answer)
    return lists


def _offline(snapshot: Snapshot) -> Iterable[Provider]:
    return (p for p in snapshot.providers.values() if p.enabled and CHANNELS[p.channel].offline)


async def _fetch(snapshot: Snapshot, providers: list[Provider]) -> dict[str, Models | str]:
    """The list of each, or why it could not be fetched."""

    async def one(provider: Provider) -> Models | str:
        proxy = provider.settings.proxy or snapshot.config.globals.proxy
        until = asyncio.get_running_loop().time() + listing.LIST_SECONDS
        try:
            entries = await listing.fetch_first(upstream, tokens, provider, proxy, until)
        except UpstreamFault as fault:
            return fault.reason
        return tuple((entry.id, entry.display_name) for entry in entries)

    async with listing.client() as (upstream, tokens):
        answers = await asyncio.gather(*map(one, providers))
    return {provider.name: answer for provider, answer in zip(providers, answers, strict=True)}


def _kept(
    loaded: Loaded,
    path: Path,
    fetched: Mapping[str, Models | str],
    addresses: Mapping[str, str],
    now: datetime,
) -> Mapping[str, modellists.KeptList]:
    """Keep what was fetched, and find what was kept; a store that cannot be used keeps nothing."""
    assert loaded.config is not None
    works = [
        modellists.keeping(name, addresses[name], now, answer)
        for name, answer in fetched.items()
        if not isinstance(answer, str)
    ]
    try:
        file = make_data_dir(loaded.config, path.resolve().parent) / "gproxy.db"
        if works:
            store = open_store(file)
            try:
                store.run(works)
            finally:
                store.close()
        return modellists.kept(file, addresses) if len(works) < len(fetched) else {}
    except (ConfigError, StoreError) as error:
        if works:
            output.note(f"The lists are not kept: {error}")
        return {}


def _rows(
    snapshot: Snapshot, rows: list[dict[str, str]], lists: Mapping[str, Listed], now: datetime
) -> Iterable[dict[str, Any]]:
    off = {name for name, provider in snapshot.providers.items() if not provider.enabled}
    for row in rows:
        listed = lists.get(row["provider"], Listed(None) if row["provider"] in off else None)
        if row["kind"] == "any id" and listed is not None and listed.models is not None:
            for id, name in listed.models:
                said = {
                    "id": f"{row['provider']}/{id}",
                    "kind": "model",
                    "provider": row["provider"],
                    "name": name,
                }
                yield said | _standing(listed, True, now)
        else:
            yield row | _standing(listed, _is_listed(snapshot, row, listed), now)


def _is_listed(snapshot: Snapshot, row: Mapping[str, str], listed: Listed | None) -> bool | None:
    """Whether an upstream lists the model of a row; None if that is not known, or no model is meant."""
    if listed is None or listed.models is None or row["kind"] == "any id":
        return None
    model = row["id"].removeprefix(f"{row['provider']}/")
    if row["kind"] == "alias":
        model = snapshot.aliases[row["id"]].targets[0].model
    return model in {id for id, _ in listed.models}


def _standing(listed: Listed | None, has: bool | None, now: datetime) -> dict[str, Any]:
    if listed is None:
        return {"upstream": "has no list", "fetched_at": None, "stale": False}
    at = listed.fetched_at
    told = "unknown" if has is None else "listed" if has else "not listed"
    when = f" {_ago(at, now)}" if at and listed.fault else ""
    return {
        "upstream": told + when,
        "fetched_at": stamp(at) if at else None,
        "stale": bool(at and listed.fault),
    }


def _ago(at: datetime | None, now: datetime) -> str:
    seconds = max(0, round((now - at).total_seconds())) if at else 0
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
