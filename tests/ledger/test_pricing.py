from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.schema import Model, PriceTier
from gproxy.ledger.pricing import MOST_NANO, Price, Tier, cost_nano, price_from_model, settle
from gproxy.values import Usage

counts = st.none() | st.integers(-5, 2_000_000)
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
    cache_write_1h_tokens=counts,
    reasoning_tokens=counts,
)
amounts = st.integers(0, 100_000_000_000)
tiers = st.builds(Tier, st.none() | st.integers(0, 1_000_000), amounts, amounts, amounts, amounts, amounts)
prices = st.builds(Price, st.just("config"), st.lists(tiers, max_size=3).map(tuple), amounts)

BUILTIN = Price("genai-prices 1", (Tier(None, 1_000_000_000, 0, 0, 0, 0),))


def model(**changes: object) -> Model:
    return replace(Model(provider_name="main", model_id="large"), **changes)  # type: ignore[arg-type]  # any field


def dollars(usage: Usage, **changes: object) -> float:
    price = price_from_model(model(**changes))
    assert price is not None
    return cost_nano(usage, price) / 1e9


def reference(usage: Usage, price: Price) -> Fraction:
    """The cost in nano-dollars, unrounded, written a second time and the long way."""

    def known(count: int | None) -> int:
        return count if count and count > 0 else 0

    one_hour = known(usage.cache_write_1h_tokens)
    five_minutes = max(known(usage.cache_write_tokens) - one_hour, 0)
    read = known(usage.cache_read_tokens)
    plain = max(known(usage.input_tokens) - read - five_minutes - one_hour, 0)
    total = Fraction(price.per_call)
    for tier in price.tiers:
        if (
            tier.up_to is None
            or plain + read + five_minutes + one_hour <= tier.up_to
            or tier is price.tiers[-1]
        ):
            for tokens, amount in (
                (plain, tier.input),
                (known(usage.output_tokens), tier.output),
                (read, tier.cache_read),
                (five_minutes, tier.cache_write),
                (one_hour, tier.cache_write_1h),
            ):
                total += Fraction(tokens * amount, 1_000_000)
            break
    return total


@given(usages, prices)
def test_the_cost_is_the_exact_one_rounded_half_even_once_and_never_negative(
    usage: Usage, price: Price
) -> None:
    cost = cost_nano(usage, price)
    assert cost == min(round(reference(usage, price)), MOST_NANO)
    assert 0 <= cost <= MOST_NANO


@given(usages, prices, st.integers(0, 1000), st.integers(0, 1000))
def test_more_tokens_never_cost_less_within_a_tier(
    usage: Usage, price: Price, more_in: int, more_out: int
) -> None:
    price = replace(price, tiers=price.tiers[:1])
    more = replace(
        usage,
        input_tokens=(usage.input_tokens or 0) + more_in,
        output_tokens=(usage.output_tokens or 0) + more_out,
    )
    assert cost_nano(more, price) >= cost_nano(usage, price)


@given(usages, prices)
def test_reasoning_is_inside_the_output_and_not_paid_twice(usage: Usage, price: Price) -> None:
    assert cost_nano(usage, price) == cost_nano(replace(usage, reasoning_tokens=None), price)


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
    (tier,) = price.tiers
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
    assert price_from_model(model(price_each_call=0.1)) == Price("config", (), 100_000_000)


def test_a_model_without_a_price_leaves_it_to_the_table() -> None:
    assert price_from_model(model()) is None
    assert price_from_model(model(price_each_call=0.0)) is None


def test_the_order_of_truth_is_upstream_configuration_table() -> None:
    usage = Usage(input_tokens=1_000_000)
    configured = Price("config", per_call=5)
    assert settle(replace(usage, cost_nano=7), configured, BUILTIN) == (7, "upstream")
    assert settle(usage, configured, BUILTIN) == (5, "config")
    assert settle(usage, None, BUILTIN) == (1_000_000_000, "genai-prices 1")
    assert settle(usage, None, None) == (None, None)


def test_an_answer_that_reported_nothing_costs_a_call_or_is_unknown() -> None:
    assert settle(Usage(), None, BUILTIN) == (None, None)
    assert settle(Usage(), Price("config", per_call=5), BUILTIN) == (5, "config")
    assert settle(Usage(output_tokens=0), None, BUILTIN) == (0, "genai-prices 1")


@given(st.integers(-(10**40), 10**40), st.integers(-(10**40), 10**40))
def test_no_figure_of_an_upstream_makes_a_cost_that_does_not_fit(cost: int, tokens: int) -> None:
    for usage in (Usage(cost_nano=cost), Usage(input_tokens=tokens, cache_write_tokens=cost)):
        settled, _ = settle(usage, None, BUILTIN)
        assert settled is not None
        assert 0 <= settled <= MOST_NANO
