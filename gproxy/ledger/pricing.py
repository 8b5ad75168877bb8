"""What an answer costs: prices and the arithmetic on them. Pure.

Where built-in prices come from is `pricebook.py`'s.
Money is integer nano-dollars (1e-9 USD), a token price nano-dollars per million tokens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

from gproxy.config import schema
from gproxy.values import Usage

NANO = 1_000_000_000
MILLION = 1_000_000
_HALF = MILLION // 2

MOST_NANO = 10**15
"""A million dollars for one request: beyond it a count is nonsense. So bounded, sums stay within 64 bits."""


@dataclass(frozen=True, slots=True)
class Apart:
    """Prices of the tokens that a model bills apart from text, each of a token inside the count it is named after."""

    input_audio: int
    input_image: int
    cache_read_audio: int
    cache_read_image: int
    output_audio: int
    output_image: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of a whole request whose input is at most `up_to` tokens (None: any).

    `cache_write` is for writes of five minutes, those that are not of an hour. `apart` None: all tokens are billed
    as text is.
    """

    up_to: int | None
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    apart: Apart | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one class of service. The first tier that fits the input prices the whole request, the last one what
    fits none.

    `per_call` is nano-dollars for each call, `per_search` for each web search, both beside the tokens.
    """

    tiers: tuple[Tier, ...] = ()
    per_call: int = 0
    per_search: int = 0

    def tier(self, input_tokens: int) -> Tier:
        """What prices so much input; there must be tiers."""
        for tier in self.tiers:
            if tier.up_to is None or input_tokens <= tier.up_to:
                return tier
        return self.tiers[-1]


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model: its ordinary rates, and those of the `classes` of service that have their own.

    `source` is the ledger's `price_source`.
    """

    source: str
    rates: Rates
    classes: Mapping[str, Rates] = field(default_factory=dict)

    def of(self, service_tier: str | None) -> Rates:
        """The rates of a class of service; the ordinary ones for a class that has none of its own."""
        return self.rates if service_tier is None else self.classes.get(service_tier, self.rates)


def price_from_model(model: schema.Model) -> Price | None:
    """The price that the configuration sets, or None if it leaves the model to the built-in table.

    The prices of a class of service that are absent are the ordinary ones.
    """
    ordinary = _rates(model.price_each_call, model.price_tiers)
    if not (ordinary.per_call or ordinary.tiers):
        return None
    classes = {
        name: _rates(model.price_each_call if call is None else call, tiers or model.price_tiers)
        for name, call, tiers in (
            ("flex", model.flex_price_each_call, model.flex_price_tiers),
            ("scale", model.scale_price_each_call, model.scale_price_tiers),
            ("priority", model.priority_price_each_call, model.priority_price_tiers),
        )
        if call is not None or tiers
    }
    if "priority" in classes:
        classes["fast"] = classes["priority"]  # Anthropic's name for what GPROXY prices so
    return Price("config", ordinary, classes)


def channel_price(own: tuple[float, float] | None) -> Price | None:
    """The price that a channel brings for all its models, in USD per million tokens of input and of output."""
    if own is None:
        return None
    tier = schema.PriceTier(price_input_tokens=own[0], price_output_tokens=own[1])
    return Price("channel", _rates(None, (tier,)))


def cost_nano(usage: Usage, price: Price) -> int:
    """The cost, each token priced once, rounded half-even once; from 0 to `MOST_NANO`.

    Counts that contradict each other never lower it: cached tokens beyond the input count as input too,
    one-hour writes beyond the writes as writes, and reasoning beyond the output as output.
    """
    given, answered, rates = usage.input_tokens or 0, usage.output_tokens or 0, price.rates
    tiers = rates.tiers
    if (
        len(tiers) != 1
        or tiers[0].apart is not None
        or usage.cache_read_tokens
        or usage.cache_write_tokens
        or usage.cache_write_1h_tokens
        or usage.reasoning_tokens
        or usage.web_searches
        or usage.service_tier
        or given < 0
        or answered < 0
    ):
        return _rounded(_in_all(usage, price.of(usage.service_tier)))
    # Of what there is nothing else to is one price of what was given, and one of what was answered.
    return _rounded(rates.per_call * MILLION + given * tiers[0].input + answered * tiers[0].output)


def most_nano(input_tokens: int, output_tokens: int, service_tier: str | None, price: Price) -> int:
    """What to hold for so many tokens before it is known what they cost: as much as if the output were all of the
    dearest kind there is, and if the class of service that was asked for were not the one that serves.
    """
    most = _most_nano(input_tokens, output_tokens, price.rates)
    if service_tier is None:
        return most
    return max(most, _most_nano(input_tokens, output_tokens, price.of(service_tier)))


def _most_nano(input_tokens: int, output_tokens: int, rates: Rates) -> int:
    total = rates.per_call * MILLION
    tiers = rates.tiers
    if tiers:
        tier = tiers[0] if len(tiers) == 1 else rates.tier(input_tokens)
        dearest, apart = tier.output, tier.apart
        if apart is not None:
            dearest = max(dearest, apart.output_audio, apart.output_image, apart.reasoning)
        total += input_tokens * tier.input + output_tokens * dearest
    return _rounded(total)


def settle(usage: Usage, configured: Price | None, builtin: Price | None) -> tuple[int | None, str | None]:
    """(cost in nano-dollars, price source) of an answer, or (None, None) if its cost is unknown.

    What the upstream says it cost comes first, then the configuration, then the built-in table. An answer
    that reported nothing costs what a call costs, where the price has that. Not for calls that failed.
    """
    if usage.cost_nano is not None:
        return min(max(usage.cost_nano, 0), MOST_NANO), "upstream"
    price = configured or builtin
    if price is None:
        return None, None
    if usage.input_tokens is None and not (usage.reported or price.of(usage.service_tier).per_call):
        return None, None
    return cost_nano(usage, price), price.source


def _in_all(usage: Usage, rates: Rates) -> int:
    """What any usage costs, in millionths of a nano-dollar."""
    total = (rates.per_call + rates.per_search * _count(usage.web_searches)) * MILLION
    if not rates.tiers:
        return total
    read, write_1h = _count(usage.cache_read_tokens), _count(usage.cache_write_1h_tokens)
    write = max(usage.cache_write_tokens or 0, write_1h)
    whole = max(usage.input_tokens or 0, read + write)
    output = max(usage.output_tokens or 0, usage.reasoning_tokens or 0, 0)
    tier, fresh = rates.tier(whole), whole - read - write
    total += fresh * tier.input + output * tier.output + read * tier.cache_read
    total += (write - write_1h) * tier.cache_write + write_1h * tier.cache_write_1h
    if tier.apart is not None:
        total += _differences(usage, tier, tier.apart, fresh=fresh, read=read, output=output)
    return total


def _differences(usage: Usage, tier: Tier, apart: Apart, *, fresh: int, read: int, output: int) -> int:
    """What audio, images and reasoning cost beyond the price of text, which all tokens have been given.

    Each of a kind has its place within the count that it is part of, so that none is priced twice.
    """
    read_audio = min(_count(usage.cache_read_audio_tokens), read)
    read_image = min(_count(usage.cache_read_image_tokens), read - read_audio)
    audio = min(max(_count(usage.input_audio_tokens) - read_audio, 0), fresh)
    image = min(max(_count(usage.input_image_tokens) - read_image, 0), fresh - audio)
    out_audio = min(_count(usage.output_audio_tokens), output)
    out_image = min(_count(usage.output_image_tokens), output - out_audio)
    reasoning = min(_count(usage.reasoning_tokens), output - out_audio - out_image)
    return (
        read_audio * (apart.cache_read_audio - tier.cache_read)
        + read_image * (apart.cache_read_image - tier.cache_read)
        + audio * (apart.input_audio - tier.input)
        + image * (apart.input_image - tier.input)
        + out_audio * (apart.output_audio - tier.output)
        + out_image * (apart.output_image - tier.output)
        + reasoning * (apart.reasoning - tier.output)
    )


def _rates(per_call: float | None, tiers: Iterable[schema.PriceTier]) -> Rates:
    return Rates(tuple(_tier(tier) for tier in tiers), _nano(per_call or 0))


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


def _rounded(millionths: int) -> int:
    """In nano-dollars, half-even."""
    nano, rest = divmod(millionths, MILLION)
    if rest >= _HALF and (rest > _HALF or nano & 1):
        nano += 1
    return nano if nano < MOST_NANO else MOST_NANO
