"""A program that knows genai-prices: questions on standard input, prices on standard output, one JSON a line.

A question is `["provider id", "model"]`, or the same with a time in seconds since the epoch, which is else now.
Its answer is null if the price is unknown, else `{"source", "rates", "classes", "until"}`: money and the fields of
`rates` as in `pricing.py`, `classes` the rates of each class of service that has its own, `until` when the price
may change, in seconds since the epoch, or null. Imports nothing of gproxy, so that it runs by its path.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import genai_prices
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices

NANO = 1_000_000_000

TEXT_UNITS = frozenset({"input_mtok", "output_mtok"})

APART_UNITS = (
    ("input_audio_mtok", "input_mtok"),
    ("input_image_mtok", "input_mtok"),
    ("cache_audio_read_mtok", "cache_read_mtok", "input_mtok"),
    ("cache_image_read_mtok", "cache_read_mtok", "input_mtok"),
    ("output_audio_mtok", "output_mtok"),
    ("output_image_mtok", "output_mtok"),
    ("output_reasoning_mtok", "output_mtok"),
)
"""The fields of `Apart`, each with the price it falls back to."""

_APART = frozenset(names[0] for names in APART_UNITS)

CLASSES = {
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
    "batch": {"processing": "batch"},
}
"""Classes of service by the names that `protocols/answers.py` gives them, and genai-prices' words for them."""

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
    # A provider that sells another's models at that one's prices need not have its classes of service.
    own = any(found.model is model for model in found.provider.models)
    contexts = CLASSES if own else {}
    of_class = {name: prices_of(found.model.get_prices(now, context)) for name, context in contexts.items()}
    return {
        "source": f"genai-prices {genai_prices.__version__}",
        "rates": rates_of(prices),
        "classes": {name: rates_of(dear) for name, dear in of_class.items() if dear != prices},
        "until": next_change(found.model, now),
    }


def prices_of(model_price: ModelPrice) -> Prices:
    return {unit: price for unit, price in vars(model_price).items() if price is not None}


def countable(prices: Prices) -> bool:
    """Whether token counts price an answer of this model.

    Not where nothing is priced by tokens that we count (audio by the hour, pages), nor where part of the output has
    a price of its own that we do not (video, citations): text prices would understate such an answer many times
    over. Video in the input is priced as text is. No price at all is genai-prices' way of saying free.
    """
    counted = TEXT_UNITS | _APART
    if any(unit.startswith("output_") and unit not in counted for unit in prices):
        return False
    return not prices or "requests_kcount" in prices or not counted.isdisjoint(prices)


def rates_of(prices: Prices) -> dict[str, Any]:
    """The prices as `Rates`: tiers of the whole request, and amounts for each call and search."""
    bounds = sorted(
        {tier.start for price in prices.values() if isinstance(price, TieredPrices) for tier in price.tiers}
    )
    return {
        "tiers": [
            _tier(prices, up_to, above) for up_to, above in zip([*bounds, None], [0, *bounds], strict=True)
        ],
        "per_call": _nano(_at(prices, ("requests_kcount",), 0) / 1000),
        "per_search": _nano(_at(prices, ("web_searches_kcount",), 0) / 1000),
    }


def next_change(model: ModelInfo, now: datetime) -> float | None:
    """When another of a model's dated or hourly prices may come into force, in seconds since the epoch."""
    dated = [] if isinstance(model.prices, ModelPrice) else model.prices
    changes = []
    for condition in (
        p.constraint for p in (*dated, *(model.price_variants or ())) if p.constraint is not None
    ):
        if isinstance(condition, StartDateConstraint):
            changes.append(_instant(condition.start_date, time(tzinfo=UTC)))
        else:
            today = now.astimezone(UTC).date()
            for day in (today, today + timedelta(days=1)):
                changes += [_instant(day, condition.start_time), _instant(day, condition.end_time)]
    return min((change for change in changes if change > now.timestamp()), default=None)


def answers(questions: Iterable[str]) -> Iterable[str]:
    for question in questions:
        provider, model, *at = json.loads(question)
        moment = datetime.fromtimestamp(at[0], UTC) if at else datetime.now(UTC)
        yield json.dumps(look_up(provider, model, moment))


def _tier(prices: Prices, up_to: int | None, above: int) -> list[Any]:
    """The fields of `Tier`; a price that is absent is the one it falls back to."""
    write = ("cache_write_mtok", "input_mtok")
    units = (
        ("input_mtok",),
        ("output_mtok",),
        ("cache_read_mtok", "input_mtok"),
        ("cache_write_5m_mtok", *write),
        ("cache_write_1h_mtok", *write),
    )
    apart = [_nano(_at(prices, names, above)) for names in APART_UNITS]
    amounts = [_nano(_at(prices, names, above)) for names in units]
    return [up_to, *amounts, None if _APART.isdisjoint(prices) else apart]


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
        print(line, flush=True)
