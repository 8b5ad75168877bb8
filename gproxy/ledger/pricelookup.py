"""A program that knows genai-prices: questions on standard input, prices on standard output, one JSON a line.

A question is `["provider id", "model"]`. Its answer is null if the price is unknown, else `{"source",
"tiers", "per_call", "until"}`: money as in `pricing.py`, `tiers` the fields of its `Tier`, `until` when the
price may change, in seconds since the epoch, or null. Imports nothing of gproxy, so that it runs by its path.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import genai_prices
from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint, TieredPrices

NANO = 1_000_000_000

TEXT_UNITS = frozenset({"input_mtok", "output_mtok"})

Prices = Mapping[str, Decimal | TieredPrices]
"""By genai-prices' names of units; the unit of `…_mtok` is a million tokens, of `…_kcount` a thousand."""


def look_up(provider: str, model: str, now: datetime) -> dict[str, Any] | None:
    """The answer to one question at `now` (with a time zone)."""
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(),
            model.removeprefix("models/"),
            provider_id=provider,
            genai_request_timestamp=now,
        )
    except LookupError:
        return None
    prices = prices_of(found.model_price)
    if not countable(prices):
        return None
    return {
        "source": f"genai-prices {genai_prices.__version__}",
        "tiers": tiers_of(prices),
        "per_call": _nano(_at(prices, ("requests_kcount",), 0) / 1000),
        "until": next_change(found.model.prices, now),
    }


def prices_of(model_price: ModelPrice) -> Prices:
    return {unit: price for unit, price in vars(model_price).items() if price is not None}


def countable(prices: Prices) -> bool:
    """Whether token counts price an answer of this model.

    Not where nothing is priced by text tokens (audio by the hour, pages), nor where part of the output has a
    price of its own (images, speech, citations): text prices would understate such an answer many times over.
    Other kinds of input and searches are left out. No price at all is genai-prices' way of saying free.
    """
    if any(unit.startswith("output_") and unit not in TEXT_UNITS for unit in prices):
        return False
    return not prices or "requests_kcount" in prices or not TEXT_UNITS.isdisjoint(prices)


def tiers_of(prices: Prices) -> list[list[int | None]]:
    """The prices as tiers of the whole request; a cache price that is absent is the one it falls back to."""
    bounds = sorted(
        {tier.start for price in prices.values() if isinstance(price, TieredPrices) for tier in price.tiers}
    )
    return [_tier(prices, up_to, above) for up_to, above in zip([*bounds, None], [0, *bounds], strict=True)]


def next_change(prices: ModelPrice | list[ConditionalPrice], now: datetime) -> float | None:
    """When another of a model's dated or hourly prices may come into force, in seconds since the epoch."""
    if isinstance(prices, ModelPrice):
        return None
    changes = []
    for condition in (price.constraint for price in prices if price.constraint is not None):
        if isinstance(condition, StartDateConstraint):
            changes.append(_instant(condition.start_date, time(tzinfo=UTC)))
        else:
            today = now.astimezone(UTC).date()
            for day in (today, today + timedelta(days=1)):
                changes += [_instant(day, condition.start_time), _instant(day, condition.end_time)]
    return min((change for change in changes if change > now.timestamp()), default=None)


def answers(questions: Iterable[str]) -> Iterable[str]:
    now = datetime.now(UTC)
    for question in questions:
        provider, model = json.loads(question)
        yield json.dumps(look_up(provider, model, now))


def _tier(prices: Prices, up_to: int | None, above: int) -> list[int | None]:
    write = ("cache_write_mtok", "input_mtok")
    units = (
        ("input_mtok",),
        ("output_mtok",),
        ("cache_read_mtok", "input_mtok"),
        ("cache_write_5m_mtok", *write),
        ("cache_write_1h_mtok", *write),
    )
    return [up_to, *(_nano(_at(prices, names, above)) for names in units)]


def _at(prices: Prices, names: Iterable[str], above: int) -> Decimal:
    """The first price there is of the units named, for an input beyond `above` tokens; 0 without any."""
    price = next((prices[name] for name in names if name in prices), Decimal(0))
    if isinstance(price, TieredPrices):
        return next((tier.price for tier in reversed(price.tiers) if above >= tier.start), price.base)
    return price


def _nano(dollars: Decimal) -> int:
    return int((dollars * NANO).to_integral_value(ROUND_HALF_EVEN))


def _instant(day: date, clock: time) -> float:
    return datetime.combine(day, clock, clock.tzinfo or UTC).timestamp()


if __name__ == "__main__":
    for line in answers(sys.stdin):
        print(line)
