"""What an answer costs: prices and the arithmetic on them. Pure.

Where built-in prices come from is `pricebook.py`'s.
Money is integer nano-dollars (1e-9 USD), a token price nano-dollars per million tokens.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from gproxy.config import schema
from gproxy.values import Usage

NANO = 1_000_000_000
MILLION = 1_000_000

MOST_NANO = 10**15
"""A million dollars for one request: beyond it a count is nonsense. So bounded, sums stay within 64 bits."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of a whole request whose input is at most `up_to` tokens (None: any).

    `cache_write` is for writes of five minutes, those that are not of an hour.
    """

    up_to: int | None
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model. The first tier that fits the input prices the whole request, the last one what fits none.

    `per_call` is nano-dollars for each call, beside the tokens. `source` is the ledger's `price_source`.
    """

    source: str
    tiers: tuple[Tier, ...] = ()
    per_call: int = 0


def price_from_model(model: schema.Model) -> Price | None:
    """The price that the configuration sets, or None if it leaves the model to the built-in table."""
    per_call = _nano(model.price_each_call or 0)
    if not per_call and not model.price_tiers:
        return None
    return Price("config", tuple(_tier(tier) for tier in model.price_tiers), per_call)


def cost_nano(usage: Usage, price: Price) -> int:
    """The cost, each token priced once, rounded half-even once; from 0 to `MOST_NANO`.

    Counts that contradict each other never lower it: cached tokens beyond the input count as input too, and
    one-hour writes beyond the writes as writes.
    """
    total = price.per_call * MILLION
    if price.tiers:
        read = _count(usage.cache_read_tokens)
        write_1h = _count(usage.cache_write_1h_tokens)
        write = max(_count(usage.cache_write_tokens), write_1h)
        whole = max(_count(usage.input_tokens), read + write)
        tier = next((t for t in price.tiers if t.up_to is None or whole <= t.up_to), price.tiers[-1])
        total += (whole - read - write) * tier.input + _count(usage.output_tokens) * tier.output
        total += (
            read * tier.cache_read + (write - write_1h) * tier.cache_write + write_1h * tier.cache_write_1h
        )
    return min(_half_even(total, MILLION), MOST_NANO)


def settle(usage: Usage, configured: Price | None, builtin: Price | None) -> tuple[int | None, str | None]:
    """(cost in nano-dollars, price source) of an answer, or (None, None) if its cost is unknown.

    What the upstream says it cost comes first, then the configuration, then the built-in table. An answer
    that reported nothing costs what a call costs, where the price has that. Not for calls that failed.
    """
    if usage.cost_nano is not None:
        return min(max(usage.cost_nano, 0), MOST_NANO), "upstream"
    price = configured or builtin
    if price is None or (usage == Usage() and not price.per_call):
        return None, None
    return cost_nano(usage, price), price.source


def _tier(tier: schema.PriceTier) -> Tier:
    plain = tier.price_input_tokens or 0
    write = _first(tier.price_cache_creation_input_tokens, plain)
    return Tier(
        up_to=tier.input_tokens_up_to,
        input=_nano(plain),
        output=_nano(tier.price_output_tokens or 0),
        cache_read=_nano(_first(tier.price_cache_read_input_tokens, plain)),
        cache_write=_nano(_first(tier.price_cache_creation_input_tokens_5min, write)),
        cache_write_1h=_nano(_first(tier.price_cache_creation_input_tokens_1h, write)),
    )


def _first(price: float | None, otherwise: float) -> float:
    return otherwise if price is None else price


def _nano(dollars: float) -> int:
    """By the decimal digits as they were written: 0.1 is 100 000 000, not its binary neighbour."""
    return int((Decimal(repr(dollars)) * NANO).to_integral_value(ROUND_HALF_EVEN))


def _count(tokens: int | None) -> int:
    return max(tokens or 0, 0)


def _half_even(value: int, by: int) -> int:
    whole, rest = divmod(value, by)
    return whole + (2 * rest > by or (2 * rest == by and whole % 2 == 1))
