"""`gproxy models prices`, and how a price is shown. What a model costs is `server/request/prices.py`'s."""

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from gproxy.config.snapshot import Snapshot
    from gproxy.ledger.pricing import Price, Rates, Tier
    from gproxy.values import Target

_NANO = 1e9

_UNKNOWN: dict[str, Any] = {
    **{"source": None, "each_call_usd": None, "each_search_usd": None},
    **{"tiers": [], "classes": {}},
}

_COLUMNS = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


def prices(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Which, as a client would name them; else all in the file."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the prices in force, in USD per million tokens; those of a MODEL in full.

    They are those of [[models]], else of the built-in table; what an upstream says itself that a request cost is
    preferred to both.
    """
    path = files.find(config)
    loaded = files.load(path, with_secrets=False)
    if loaded.snapshot is None:
        name = files.shown(path)
        raise files.refused(name, loaded.errors, tuple(error.render(name) for error in loaded.errors))
    targets = _named(loaded.snapshot, names) if names else _configured(loaded.snapshot)
    found = _found(loaded.snapshot, targets)
    aliases = _aliases(loaded.snapshot)
    if as_json:
        output.show_json(
            [
                {"model": name, "aliases": aliases.get(name, []), **(price or _UNKNOWN)}
                for name, price in found.items()
            ]
        )
    elif names:
        _show_in_full(found)
    else:
        _show(found, aliases)
    for name, price in found.items():
        if price is None and not as_json:
            command = f"`gproxy models price {shlex.quote(name)}`"
            output.note(f"{name}: unknown; {command} sets it, in [[models]].")


def tree(price: "Price", channel: str) -> dict[str, Any]:
    """A price as plain values: of tokens in USD per million, of calls and searches in USD each.

    `classes` are the classes of service that have prices of their own. The price of a search is None where the
    channel's answers do not tell how many there were, so that it is not applied.
    """
    from gproxy.providers.catalog import CHANNELS

    searches = CHANNELS[channel].tells_searches
    classes = {name: _rates(rates, searches) for name, rates in price.classes.items()}
    return {"source": price.source, **_rates(price.rates, searches), "classes": classes}


def rows(price: dict[str, Any]) -> list[dict[str, Any]]:
    """The tiers of such a tree as rows of a table, those of the classes of service after the ordinary ones.

    A column that no row has anything in is left out.
    """
    found = [("", tier) for tier in price["tiers"]]
    found += [(name, tier) for name, rates in price["classes"].items() for tier in rates["tiers"]]
    named = [
        {"class": name, "up_to": tier["up_to"], **{key: tier[key] for key in _COLUMNS}}
        for name, tier in found
    ]
    idle = [key for key in ("class", "up_to") if not any(row[key] for row in named)]
    return [
        {key.replace("_", " "): _short(value) for key, value in row.items() if key not in idle}
        for row in named
    ]


def beside_tokens(price: dict[str, Any]) -> list[str]:
    """What such a tree prices beside text, as lines."""
    found = []
    for name, rates in (("", price), *price["classes"].items()):
        whose = f" in {name}" if name else ""
        if rates["each_call_usd"]:
            found.append(f"each call{whose}: {_short(rates['each_call_usd'])} USD")
        if rates["each_search_usd"] and not name:
            found.append(f"each web search: {_short(rates['each_search_usd'])} USD")
        for tier in rates["tiers"]:
            apart = ", ".join(
                f"{key.replace('_', ' ')} {_short(amount)}" for key, amount in tier["apart"].items()
            )
            if apart:
                bound = f" up to {tier['up_to']}" if tier["up_to"] else ""
                found.append(f"apart from text{whose}{bound}: {apart}")
    return found


def _rates(rates: "Rates", searches: bool) -> dict[str, Any]:
    return {
        "each_call_usd": rates.per_call / _NANO,
        "each_search_usd": rates.per_search / _NANO if searches else None,
        "tiers": [_tier(tier) for tier in rates.tiers],
    }


def _tier(tier: "Tier") -> dict[str, Any]:
    amounts = {name: getattr(tier, name) / _NANO for name in _COLUMNS}
    return {"up_to": tier.up_to, **amounts, "apart": _apart(tier)}


def _apart(tier: "Tier") -> dict[str, float]:
    """The prices that differ from that of text."""
    if tier.apart is None:
        return {}
    of_text = {
        "input_audio": tier.input,
        "input_image": tier.input,
        "cache_read_audio": tier.cache_read,
        "cache_read_image": tier.cache_read,
        "output_audio": tier.output,
        "output_image": tier.output,
        "reasoning": tier.output,
    }
    amounts = {name: getattr(tier.apart, name) for name in of_text}
    return {name: amount / _NANO for name, amount in amounts.items() if amount != of_text[name]}


def _short(value: Any) -> Any:
    """A float by the digits that it needs, for a column of text."""
    return f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def _configured(snapshot: "Snapshot") -> "list[Target]":
    """The models that the file names, in its order."""
    from gproxy.values import Target

    named = [Target(row.provider_name, row.model_id) for row in snapshot.config.models if row.enabled]
    named += [target for alias in snapshot.aliases.values() for target in alias.targets]
    return [target for target in named if target.provider in snapshot.providers]


def _aliases(snapshot: "Snapshot") -> dict[str, list[str]]:
    """By provider and model, the aliases that have it among their targets."""
    found: dict[str, list[str]] = {}
    for name, alias in snapshot.aliases.items():
        for target in alias.targets:
            found.setdefault(f"{target.provider}/{target.model}", []).append(name)
    return found


def _named(snapshot: "Snapshot", names: list[str]) -> "list[Target]":
    """What names of models stand for. Raises a GatewayError for one that stands for nothing."""
    from gproxy.routing.resolve import resolve

    return [target for name in names for target in resolve(snapshot, name, told=lambda _: True).targets]


def _found(snapshot: "Snapshot", targets: "list[Target]") -> dict[str, dict[str, Any] | None]:
    """The price of each, None where it is unknown, by provider and model."""
    import asyncio

    from gproxy.ledger.pricebook import PriceBook
    from gproxy.server.request.prices import Prices
    from gproxy.server.tasks import Tasks

    known = Prices(PriceBook(), Tasks())

    async def look_up() -> "list[Price | None]":
        return await asyncio.gather(*(known.of(snapshot, target) for target in targets))

    names = [f"{target.provider}/{target.model}" for target in targets]
    prices = asyncio.run(look_up())
    channels = [snapshot.providers[target.provider].channel for target in targets]
    return {
        name: None if price is None else tree(price, channel)
        for name, channel, price in zip(names, channels, prices, strict=True)
    }


def _show(found: dict[str, dict[str, Any] | None], aliases: dict[str, list[str]]) -> None:
    """A line for each tier of the ordinary prices, with the model's aliases."""
    lines = [
        {
            "model": f"{name} ({', '.join(aliases[name])})" if name in aliases else name,
            "by": None if price is None else _by(price["source"]),
            "up to": tier["up_to"],
            **_amounts(tier),
        }
        for name, price in found.items()
        for tier in (price or _UNKNOWN)["tiers"] or [dict.fromkeys(("up_to", *_COLUMNS))]
    ]
    output.show(lines, as_json=False, empty="No price is known: name a model, PROVIDER/MODEL.")
    more = [
        name
        for name, price in found.items()
        if price is not None and (price["classes"] or beside_tokens(price))
    ]
    if more:
        output.note(f"`gproxy models prices {shlex.quote(more[0])}` shows what else is priced there.")


def _show_in_full(found: dict[str, dict[str, Any] | None]) -> None:
    for name, price in found.items():
        if price is not None:
            print(f"{name}, USD per million tokens, by {price['source']}:")
            output.show(rows(price), as_json=False, empty="no token has a price")
            for line in beside_tokens(price):
                print(line)


def _by(source: str) -> str:
    return source if source in ("config", "channel") else "table"


def _amounts(tier: dict[str, Any]) -> dict[str, Any]:
    short = {"cache_read": "read", "cache_write": "write", "cache_write_1h": "write 1h"}
    return {short.get(key, key): _short(tier[key]) for key in _COLUMNS}
