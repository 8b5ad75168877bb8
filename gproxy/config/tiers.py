"""What the commands change of a model's prices in gproxy.toml, on a `Document`. Prints and writes nothing.

The rest of what commands change is `changes.py`'s, which says how they fail; what a tier means to a request is
decided in `ledger/pricing.py`.
"""

from collections.abc import Mapping
from typing import Any

from gproxy.config.changes import need, put
from gproxy.config.document import Document
from gproxy.errors import ConfigError

_UP_TO = "input_tokens_up_to"
_EACH_CALL = "price_each_call"
_NEEDED = {"price_input_tokens", "price_output_tokens"}
_WRITE, _WRITE_5MIN = "price_cache_creation_input_tokens", "price_cache_creation_input_tokens_5min"

Tier = dict[str, Any]


def set_price(
    document: Document,
    provider: str,
    model: str,
    prices: Mapping[str, float | None],
    *,
    above: int = 0,
    add: bool = False,
) -> list[Tier]:
    """Set prices of the tier for inputs of more than `above` tokens, which is made if need be. Returns all tiers.

    `prices` are USD per million tokens by the keys of a tier; None takes one out, and what is not given stays, also
    where a tier is divided. One for cache writes takes the place of one for those of five minutes. With `add` a model
    that is not in `[[models]]` comes into it.
    """
    index = _row(document, provider, model, add=add)
    array = ("models", index, "price_tiers")
    before = document.tables(*array)
    tiers = [dict(tier) for tier in before]
    place = _place(tiers, above, f"{provider}/{model}")
    changed = tiers[place] | dict(prices)
    if _WRITE in prices:
        changed.pop(_WRITE_5MIN, None)  # which would go over it
    tiers[place] = {name: value for name, value in changed.items() if value is not None}
    if not tiers[place].keys() >= _NEEDED and not before:
        raise ConfigError(f"{provider}/{model} has no such price yet: give both --input and --output")
    if not before:
        document.set(array[:-1], array[-1], tiers)
        return tiers
    for number, tier in enumerate(tiers):
        if number < len(before):
            put(document, (*array, number), tier, before[number].keys() - tier.keys())
        else:
            document.add(array, tier)
    return tiers


def set_call_price(
    document: Document, provider: str, model: str, usd: float | None, *, add: bool = False
) -> None:
    """Set what each call costs, beside its tokens; None takes it out. `add` as for `set_price`."""
    table = ("models", _row(document, provider, model, add=add))
    if usd is None:
        document.unset(table, _EACH_CALL)
    else:
        put(document, table, {_EACH_CALL: usd})


def _row(document: Document, provider: str, model: str, *, add: bool) -> int:
    """The index of the model's row."""
    need(document, "providers", "name", provider, "provider")
    named = {"provider_name": provider, "model_id": model}
    rows = document.tables("models")
    found = next((i for i, row in enumerate(rows) if row.items() >= named.items()), None)
    if found is not None:
        return found
    if not add:
        raise ConfigError(
            f"{provider}/{model} is not in [[models]]: --add puts it there; a provider serves the models that it has "
            "there alone, if it has any"
        )
    document.add(("models",), named)
    return len(rows)


def _place(tiers: list[Tier], above: int, name: str) -> int:
    """Where the tier for inputs of more than `above` stands: one that reaches further down is divided there."""
    lower = 0
    for number, tier in enumerate(tiers):
        if above <= lower:
            return number
        bound = tier.get(_UP_TO)
        if not isinstance(bound, int | None):
            raise ConfigError(f"{name} has a tier up to what is no number: `gproxy check` says where")
        last = number == len(tiers) - 1  # takes what fits none
        if last or bound is None or above < bound:
            rest = dict(tier)
            if bound is not None and above >= bound:
                del rest[_UP_TO]
            tiers[number] = tier | {_UP_TO: above}
            tiers.insert(number + 1, rest)
            return number + 1
        lower = bound
    if above:
        raise ConfigError(f"{name} has no price in [[models]] to begin with: set one without --above first")
    tiers.append({})
    return 0
