from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gproxy.config.schema import Model, PriceTier
from gproxy.ledger.pricing import (
    MOST_NANO,
    Apart,
    Price,
    Rates,
    Tier,
    cost_nano,
    most_nano,
    price_from_model,
    settle,
)
from gproxy.values import Usage

counts = st.none() | st.integers(-5, 2_000_000)
services = st.none() | st.sampled_from(["flex", "priority", "ultrafast"])
usages = st.builds(
    Usage,
    **{name: counts for name in Usage.__struct_fields__ if name not in ("service_tier", "cost_nano")},
    service_tier=services,
)
amounts = st.integers(0, 100_000_000_000)
aparts = st.builds(Apart, *[amounts] * 7)
tiers = st.builds(Tier, st.none() | st.integers(0, 1_000_000), *[amounts] * 5, st.none() | aparts)
rates = st.builds(Rates, st.lists(tiers, max_size=3).map(tuple), amounts, amounts)
text = st.builds(Rates, st.tuples(st.builds(Tier, st.none(), *[amounts] * 5)), amounts, amounts)
prices = st.builds(
    Price, st.just("config"), rates, st.dictionaries(st.sampled_from(["flex", "priority"]), rates)
)

BUILTIN = Price("genai-prices 1", Rates((Tier(None, 1_000_000_000, 0, 0, 0, 0),)))
FOR_A_CALL = Price("config", Rates(per_call=5))


def model(**changes: object) -> Model:
    return replace(Model(provider_name="main", model_id="large"), **changes)  # type: ignore[arg-type]  # any field


def dollars(usage: Usage, **changes: object) -> float:
    price = price_from_model(model(**changes))
    assert price is not None
    return cost_nano(usage, price) / 1e9


def parts(usage: Usage) -> dict[str, int]:
    """The tokens of each kind, none of them in two: written a second time, by giving out one count after another."""

    def known(count: int | None) -> int:
        return count if count and count > 0 else 0

    found: dict[str, int] = {}

    def give(name: str, wanted: int, left: int) -> int:
        found[name] = min(wanted, left)
        return left - found[name]

    one_hour = known(usage.cache_write_1h_tokens)
    found["cache_write_1h"] = one_hour
    found["cache_write"] = max(known(usage.cache_write_tokens) - one_hour, 0)
    read = known(usage.cache_read_tokens)
    left = give("cache_read_audio", known(usage.cache_read_audio_tokens), read)
    found["cache_read"] = give("cache_read_image", known(usage.cache_read_image_tokens), left)
    fresh = max(known(usage.input_tokens) - read - one_hour - found["cache_write"], 0)
    left = give("input_audio", max(known(usage.input_audio_tokens) - found["cache_read_audio"], 0), fresh)
    found["input"] = give(
        "input_image", max(known(usage.input_image_tokens) - found["cache_read_image"], 0), left
    )
    written = max(known(usage.output_tokens), known(usage.reasoning_tokens))
    left = give("output_audio", known(usage.output_audio_tokens), written)
    left = give("output_image", known(usage.output_image_tokens), left)
    found["output"] = give("reasoning", known(usage.reasoning_tokens), left)
    return found


TEXT_PRICE = {
    **{"input_audio": "input", "input_image": "input", "reasoning": "output"},
    **{"output_audio": "output", "output_image": "output"},
    **{"cache_read_audio": "cache_read", "cache_read_image": "cache_read"},
}


def reference(usage: Usage, price: Price) -> Fraction:
    """The cost in nano-dollars, unrounded: each part of the tokens at its own price."""
    rates = price.classes.get(usage.service_tier or "", price.rates)
    total = Fraction(rates.per_call + rates.per_search * max(usage.web_searches or 0, 0))
    tokens = parts(usage)
    taken_in = sum(count for name, count in tokens.items() if name.startswith(("input", "cache")))
    for tier in rates.tiers:
        if tier.up_to is None or taken_in <= tier.up_to or tier is rates.tiers[-1]:
            for name, count in tokens.items():
                text = getattr(tier, TEXT_PRICE.get(name, name))
                amount = text if tier.apart is None else getattr(tier.apart, name, text)
                total += Fraction(count * amount, 1_000_000)
            break
    return total


@given(usages)
def test_the_parts_of_the_tokens_are_all_of_them(usage: Usage) -> None:
    """Of the reference: what it prices is each token of the input and the output, once."""
    tokens = parts(usage)
    taken_in = sum(count for name, count in tokens.items() if name.startswith(("input", "cache")))
    assert sum(tokens.values()) - taken_in == max(usage.output_tokens or 0, usage.reasoning_tokens or 0, 0)
    assert taken_in >= max(usage.input_tokens or 0, 0)
    assert min(tokens.values()) >= 0


@given(usages, prices)
def test_the_cost_is_the_exact_one_rounded_half_even_once_and_never_negative(
    usage: Usage, price: Price
) -> None:
    cost = cost_nano(usage, price)
    assert cost == min(round(reference(usage, price)), MOST_NANO)
    assert 0 <= cost <= MOST_NANO


@pytest.mark.parametrize("name", [it for it in Usage.__struct_fields__ if it != "cost_nano"])
@settings(max_examples=40)
@given(usages, text, st.dictionaries(st.just("flex"), text))
def test_what_is_counted_beside_nothing_but_text_costs_what_it_does_beside_all(
    name: str, usage: Usage, ordinary: Rates, classes: dict[str, Rates]
) -> None:
    names = ("input_tokens", "output_tokens", name)
    usage, price = Usage(**{it: getattr(usage, it) for it in names}), Price("config", ordinary, classes)
    assert cost_nano(usage, price) == min(round(reference(usage, price)), MOST_NANO)


@given(st.integers(0, MOST_NANO), st.sampled_from([0, 1, 499_999, 500_000, 500_001, 999_999]))
def test_half_a_nano_dollar_goes_to_the_even_neighbour(nano: int, millionths: int) -> None:
    amount = nano * 1_000_000 + millionths
    price = Price("config", Rates((Tier(None, amount, amount, 0, 0, 0),)))
    exact = min(round(Fraction(amount, 1_000_000)), MOST_NANO)
    assert cost_nano(Usage(input_tokens=1), price) == most_nano(1, 0, None, price) == exact


@given(usages, prices, st.integers(0, 1000), st.integers(0, 1000))
def test_more_tokens_never_cost_less_within_a_tier(
    usage: Usage, price: Price, more_in: int, more_out: int
) -> None:
    first = {name: replace(of, tiers=of.tiers[:1]) for name, of in price.classes.items()}
    price = replace(price, rates=replace(price.rates, tiers=price.rates.tiers[:1]), classes=first)
    more = structs.replace(
        usage,
        input_tokens=(usage.input_tokens or 0) + more_in,
        output_tokens=(usage.output_tokens or 0) + more_out,
    )
    assert cost_nano(more, price) >= cost_nano(usage, price)


@given(usages, prices)
def test_tokens_that_no_price_tells_apart_cost_what_text_does(usage: Usage, price: Price) -> None:
    plain = replace(
        price.rates, tiers=tuple(replace(tier, apart=None) for tier in price.rates.tiers), per_search=0
    )
    of_text = Usage(
        input_tokens=usage.input_tokens,
        output_tokens=max(usage.output_tokens or 0, usage.reasoning_tokens or 0),
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
    )
    assert cost_nano(usage, Price("config", plain)) == cost_nano(of_text, Price("config", plain))


@given(st.integers(0, 2_000_000), st.integers(0, 2_000_000), services, prices)
def test_what_is_held_is_the_cost_of_so_many_tokens_of_the_dearest_kind_and_class(
    given: int, output: int, service: str | None, price: Price
) -> None:
    usage = Usage(input_tokens=given, output_tokens=output)
    kinds = [
        usage,
        *(
            structs.replace(usage, **{name: output})
            for name in ("output_audio_tokens", "output_image_tokens", "reasoning_tokens")
        ),
    ]
    costs = [
        cost_nano(structs.replace(kind, service_tier=tier), price)
        for kind in kinds
        for tier in (None, service)
    ]
    assert most_nano(given, output, service, price) == max(costs)


def test_each_token_is_priced_once() -> None:
    usage = Usage(
        input_tokens=1_000_000,
        output_tokens=100_000,
        cache_read_tokens=500_000,
        cache_write_tokens=300_000,
        cache_write_1h_tokens=100_000,
    )
    tier = PriceTier(
        price_input_tokens=3,
        price_output_tokens=15,
        price_cache_read_input_tokens=0.3,
        price_cache_creation_input_tokens_5min=3.75,
        price_cache_creation_input_tokens_1h=6,
    )
    assert dollars(usage, price_tiers=(tier,)) == pytest.approx(0.6 + 1.5 + 0.15 + 0.75 + 0.6, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "read", "five_minutes", "one_hour"),
    [
        ({}, 2, 2, 2),
        ({"price_cache_read_input_tokens": 0.0}, 0, 2, 2),
        ({"price_cache_creation_input_tokens": 3.0}, 2, 3, 3),
        ({"price_cache_creation_input_tokens": 3.0, "price_cache_creation_input_tokens_1h": 5.0}, 2, 3, 5),
        ({"price_cache_creation_input_tokens_5min": 4.0}, 2, 4, 2),
        ({"price_cache_creation_input_tokens": 3.0, "price_cache_creation_input_tokens_5min": 4.0}, 2, 4, 3),
    ],
)
def test_a_cache_price_that_is_absent_is_the_next_more_general_one(
    changes: dict[str, float], read: float, five_minutes: float, one_hour: float
) -> None:
    price = price_from_model(model(price_tiers=(PriceTier(price_input_tokens=2.0, **changes),)))
    assert price is not None
    (tier,) = price.rates.tiers
    expected = tuple(1_000_000_000 * amount for amount in (read, five_minutes, one_hour))
    assert (tier.cache_read, tier.cache_write, tier.cache_write_1h) == expected


def test_a_tier_prices_the_whole_request_and_the_last_takes_the_overflow() -> None:
    tiers = (
        PriceTier(input_tokens_up_to=200_000, price_input_tokens=1.0, price_output_tokens=10.0),
        PriceTier(input_tokens_up_to=400_000, price_input_tokens=2.0, price_output_tokens=20.0),
    )

    def cost(tokens: int) -> float:
        return dollars(Usage(input_tokens=tokens, output_tokens=1_000_000), price_tiers=tiers)

    assert cost(200_000) == 0.2 + 10
    assert cost(200_001) == pytest.approx(0.400002 + 20)
    assert cost(1_000_000) == 2 + 20


def test_a_call_has_a_price_of_its_own_beside_its_tokens() -> None:
    usage = Usage(input_tokens=1_000_000)
    assert dollars(usage, price_each_call=0.01) == 0.01
    assert dollars(usage, price_each_call=0.01, price_tiers=(PriceTier(price_input_tokens=1.0),)) == 1.01


def test_prices_are_taken_by_their_decimal_digits() -> None:
    assert price_from_model(model(price_each_call=0.1)) == Price("config", Rates(per_call=100_000_000))


def test_a_class_of_service_costs_what_the_file_says_of_it_and_else_the_ordinary_price() -> None:
    plain, flex = PriceTier(price_input_tokens=2.0), PriceTier(price_input_tokens=1.0)
    price = price_from_model(
        model(
            price_each_call=0.5,
            price_tiers=(plain,),
            flex_price_tiers=(flex,),
            flex_price_each_call=0.0,
            priority_price_each_call=0.75,
        )
    )
    assert price is not None
    million = Usage(input_tokens=1_000_000)
    costs = {
        tier: cost_nano(structs.replace(million, service_tier=tier), price) / 1e9
        for tier in (None, "flex", "scale", "priority", "fast", "batch")
    }
    assert costs == {None: 2.5, "flex": 1.0, "scale": 2.5, "priority": 2.75, "fast": 2.75, "batch": 2.5}


def test_the_prices_of_a_class_alone_leave_the_ordinary_ones_to_the_table() -> None:
    assert price_from_model(model(flex_price_each_call=0.5, flex_price_tiers=(PriceTier(),))) is None


def test_a_model_without_a_price_leaves_it_to_the_table() -> None:
    assert price_from_model(model()) is None
    assert price_from_model(model(price_each_call=0.0)) is None


def test_the_order_of_truth_is_upstream_configuration_table() -> None:
    usage = Usage(input_tokens=1_000_000)
    configured = FOR_A_CALL
    assert settle(structs.replace(usage, cost_nano=7), configured, BUILTIN) == (7, "upstream")
    assert settle(usage, configured, BUILTIN) == (5, "config")
    assert settle(usage, None, BUILTIN) == (1_000_000_000, "genai-prices 1")
    assert settle(usage, None, None) == (None, None)


def test_an_answer_that_reported_nothing_costs_a_call_or_is_unknown() -> None:
    assert settle(Usage(), None, BUILTIN) == (None, None)
    assert settle(Usage(service_tier="flex"), None, BUILTIN) == (None, None)
    assert settle(Usage(service_tier="flex"), FOR_A_CALL, BUILTIN) == (5, "config")
    assert settle(Usage(output_tokens=0), None, BUILTIN) == (0, "genai-prices 1")


@given(st.integers(-(10**40), 10**40), st.integers(-(10**40), 10**40))
def test_no_figure_of_an_upstream_makes_a_cost_that_does_not_fit(cost: int, tokens: int) -> None:
    for usage in (Usage(cost_nano=cost), Usage(input_tokens=tokens, cache_write_tokens=cost)):
        settled, _ = settle(usage, None, BUILTIN)
        assert settled is not None
        assert 0 <= settled <= MOST_NANO
