import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.ledger.pricebook import _entry_of
from gproxy.ledger.pricelookup import answers, countable, look_up, next_change, prices_of, tiers_of
from gproxy.ledger.pricing import cost_nano
from gproxy.values import Usage

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
COUNTED = {f"{name}_mtok" for name in ("input", "output", "cache_read", "cache_write", "cache_write_1h")}


@st.composite
def consistent_usages(draw: st.DrawFn) -> Usage:
    """Cached tokens inside the input, one-hour writes inside the writes, as genai-prices demands."""
    one_hour, five_minutes, read, plain = (draw(st.integers(0, 300_000)) for _ in range(4))
    return Usage(
        input_tokens=one_hour + five_minutes + read + plain,
        output_tokens=draw(st.integers(0, 300_000)),
        cache_read_tokens=read,
        cache_write_tokens=one_hour + five_minutes,
        cache_write_1h_tokens=one_hour,
    )


def theirs(usage: Usage, provider: Provider, model: ModelInfo) -> Decimal:
    """What genai-prices makes of it, in nano-dollars."""
    asked = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
    )
    calculated = model.calc_price(asked, provider, genai_request_timestamp=NOW)
    return calculated.total_price * 1_000_000_000


@pytest.mark.parametrize("provider", providers, ids=lambda provider: provider.id)
@settings(deadline=None, max_examples=25)  # an example is all models of a provider
@given(usage=consistent_usages())
def test_a_cost_is_that_of_genai_prices_for_every_model_priced_by_tokens(
    provider: Provider, usage: Usage
) -> None:
    for model in provider.models:
        prices = prices_of(model.get_prices(NOW))
        if not prices.keys() <= COUNTED:
            continue
        price = _entry_of({"source": "", "tiers": tiers_of(prices), "per_call": 0, "until": None}).price
        assert price is not None
        assert abs(cost_nano(usage, price) - theirs(usage, provider, model)) <= 1


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-haiku-4-5-20251001"),
        ("azure", "gpt-4.1-mini"),
        ("deepseek", "deepseek-chat"),
        ("fireworks", "accounts/fireworks/models/gpt-oss-120b"),
        ("google", "gemini-2.5-flash"),
        ("groq", "openai/gpt-oss-120b"),
        ("mistral", "mistral-small-latest"),
        ("openai", "gpt-4.1-mini-2025-04-14"),
        ("openai", "text-embedding-3-small"),
        ("openrouter", "openai/gpt-4.1-mini"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("x-ai", "grok-4"),
    ],
)
def test_a_model_of_every_day_has_a_price_under_the_id_its_provider_gives_it(
    provider: str, model: str
) -> None:
    answer = look_up(provider, model, NOW)
    assert answer is not None
    assert all(isinstance(amount, int) and amount >= 0 for tier in answer["tiers"] for amount in tier[1:])
    assert answer["tiers"][-1][1] > 0


def test_a_tiered_model_has_the_tiers_that_were_measured() -> None:
    answer = look_up("google", "gemini-2.5-pro", NOW)
    assert answer is not None
    assert [tier[0] for tier in answer["tiers"]] == [200_000, None]
    price = _entry_of(answer).price
    assert price is not None
    assert cost_nano(Usage(input_tokens=300_000), price) == 750_000_000
    assert answer["source"] == f"genai-prices {genai_prices.__version__}"


def test_a_models_prefix_is_no_part_of_the_name() -> None:
    assert look_up("google", "models/gemini-2.5-pro", NOW) == look_up("google", "gemini-2.5-pro", NOW)


def test_what_the_table_does_not_know_is_null() -> None:
    questions = [
        json.dumps(pair)
        for pair in (("openai", "no-such-model"), ("no-such-provider", "gpt-4.1"), ("openai", ""))
    ]
    assert list(answers(questions)) == ["null", "null", "null"]


@pytest.mark.parametrize(
    ("prices", "counts"),
    [
        ({"input_mtok": 1, "output_mtok": 2, "web_searches_kcount": 10}, True),
        ({"input_mtok": 1, "output_mtok": 2, "input_audio_mtok": 10}, True),
        ({"input_mtok": 1}, True),
        ({"requests_kcount": 5}, True),
        ({}, True),
        ({"audio_hours": 1}, False),
        ({"input_mtok": 1, "output_mtok": 2, "output_image_mtok": 30}, False),
        ({"input_mtok": 1, "output_mtok": 2, "output_reasoning_mtok": 3}, False),
    ],
)
def test_only_what_token_counts_can_price_is_priced(prices: dict[str, Any], counts: bool) -> None:
    assert countable({unit: Decimal(price) for unit, price in prices.items()}) == counts


def test_tiers_of_different_units_are_joined() -> None:
    prices = {
        "input_mtok": TieredPrices(base=Decimal(1), tiers=[Tier(100, Decimal(2)), Tier(300, Decimal(3))]),
        "output_mtok": TieredPrices(base=Decimal(10), tiers=[Tier(200, Decimal(20))]),
        "cache_read_mtok": Decimal("0.5"),
    }
    nano = 1_000_000_000
    assert tiers_of(prices) == [
        [100, nano, 10 * nano, nano // 2, nano, nano],
        [200, 2 * nano, 10 * nano, nano // 2, 2 * nano, 2 * nano],
        [300, 2 * nano, 20 * nano, nano // 2, 2 * nano, 2 * nano],
        [None, 3 * nano, 20 * nano, nano // 2, 3 * nano, 3 * nano],
    ]


def test_a_price_holds_until_the_next_date_or_hour_that_changes_it() -> None:
    plain = ModelPrice(input_mtok=Decimal(1))

    def until(*conditions: Any) -> datetime | None:
        prices = [ConditionalPrice(prices=plain), *(ConditionalPrice(c, prices=plain) for c in conditions)]
        moment = next_change(prices, NOW)
        return None if moment is None else datetime.fromtimestamp(moment, UTC)

    assert next_change(plain, NOW) is None
    assert until() is None
    assert until(StartDateConstraint(NOW.date())) is None
    assert until(StartDateConstraint(NOW.date().replace(month=12))) == datetime(2026, 12, 25, tzinfo=UTC)
    night = TimeOfDateConstraint(NOW.replace(hour=1).timetz(), NOW.replace(hour=4).timetz())
    assert until(night) == datetime(2026, 11, 26, 1, tzinfo=UTC)
    day = TimeOfDateConstraint(NOW.replace(hour=8).timetz(), NOW.replace(hour=16, minute=30).timetz())
    assert until(day, night) == datetime(2026, 11, 25, 16, 30, tzinfo=UTC)


def test_a_price_that_depends_on_the_hour_is_the_one_in_force() -> None:
    hours = {hour: look_up("deepseek", "deepseek-chat", NOW.replace(hour=hour)) for hour in (12, 20)}
    first, second = (answer["tiers"] for answer in hours.values() if answer)
    assert first != second
