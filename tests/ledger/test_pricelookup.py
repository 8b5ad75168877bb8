import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import (
    ClauseContains,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.ledger.pricebook import price_of
from gproxy.ledger.pricelookup import CLASSES, answers, countable, look_up, next_change, prices_of, rates_of
from gproxy.ledger.pricing import Price, cost_nano
from gproxy.values import Usage

ANY = ClauseContains("")
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
UNCOUNTED = ("hours", "mchars", "gpixels", "kpages", "kcount", "video", "citation")
"""Parts of the names of units that our usage has no count of."""


@st.composite
def consistent_usages(draw: st.DrawFn) -> Usage:
    """Each part inside the whole it belongs to, as genai-prices demands; audio and images are not cached."""
    one_hour, five_minutes, read, audio, image, plain = (draw(st.integers(0, 300_000)) for _ in range(6))
    written = [draw(st.integers(0, 100_000)) for _ in range(4)]
    return Usage(
        input_tokens=one_hour + five_minutes + read + audio + image + plain,
        output_tokens=sum(written),
        cache_read_tokens=read,
        cache_write_tokens=one_hour + five_minutes,
        cache_write_1h_tokens=one_hour,
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_audio_tokens=written[0],
        output_image_tokens=written[1],
        reasoning_tokens=written[2],
        web_searches=draw(st.integers(0, 9)),
        service_tier=draw(st.none() | st.sampled_from(sorted(CLASSES))),
    )


def theirs(usage: Usage, provider: Provider, model: ModelInfo) -> Decimal:
    """What genai-prices makes of it, in nano-dollars."""
    asked = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        input_image_tokens=usage.input_image_tokens,
        cache_audio_read_tokens=0,
        cache_image_read_tokens=0,
        output_audio_tokens=usage.output_audio_tokens,
        output_image_tokens=usage.output_image_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        web_searches=usage.web_searches,
    )
    calculated = model.calc_price(
        asked,
        provider,
        genai_request_timestamp=NOW,
        price_context=CLASSES.get(usage.service_tier or ""),
    )
    return calculated.total_price * 1_000_000_000


@cache
def counted(provider_id: str) -> list[tuple[ModelInfo, Price]]:
    """The models of a provider whose units we count, each with its price."""
    (provider,) = (each for each in providers if each.id == provider_id)
    found = []
    for model in provider.models:
        prices = prices_of(model.get_prices(NOW))
        kinds = [unit for unit in prices if unit not in ("web_searches_kcount", "requests_kcount")]
        if countable(prices) and not any(part in unit for unit in kinds for part in UNCOUNTED):
            classes = {
                name: rates_of(prices_of(model.get_prices(NOW, context))) for name, context in CLASSES.items()
            }
            found.append((model, price_of({"source": "", "rates": rates_of(prices), "classes": classes})))
    return found


@pytest.mark.parametrize("provider", providers, ids=lambda provider: provider.id)
@settings(deadline=None, max_examples=25)  # an example is all models of a provider
@given(usage=consistent_usages())
def test_a_cost_is_that_of_genai_prices_for_every_model_whose_units_we_count(
    provider: Provider, usage: Usage
) -> None:
    for model, price in counted(provider.id):
        assert abs(cost_nano(usage, price) - theirs(usage, provider, model)) <= 1, model.id


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
    tiers = answer["rates"]["tiers"]
    assert all(isinstance(amount, int) and amount >= 0 for tier in tiers for amount in tier[1:-1])
    assert tiers[-1][1] > 0


def test_a_tiered_model_has_the_tiers_that_were_measured() -> None:
    answer = look_up("google", "gemini-2.5-pro", NOW)
    assert answer is not None
    assert [tier[0] for tier in answer["rates"]["tiers"]] == [200_000, None]
    price = price_of(answer)
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
        ({"output_image_mtok": 30}, True),
        ({"input_mtok": 1, "output_mtok": 2, "output_reasoning_mtok": 3}, True),
        ({"input_mtok": 1, "output_mtok": 2, "output_video_mtok": 30}, False),
        ({"input_mtok": 1, "output_mtok": 2, "output_citation_mtok": 3}, False),
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
    assert rates_of(prices)["tiers"] == [
        [100, nano, 10 * nano, nano // 2, nano, nano, None],
        [200, 2 * nano, 10 * nano, nano // 2, 2 * nano, 2 * nano, None],
        [300, 2 * nano, 20 * nano, nano // 2, 2 * nano, 2 * nano, None],
        [None, 3 * nano, 20 * nano, nano // 2, 3 * nano, 3 * nano, None],
    ]


def test_what_is_billed_apart_from_text_falls_back_to_what_text_costs() -> None:
    prices = {"input_mtok": Decimal(1), "output_mtok": Decimal(2), "input_audio_mtok": Decimal(10)}
    (tier,) = rates_of(prices)["tiers"]
    assert tier[-1] == [nano * 1_000_000_000 for nano in (10, 1, 1, 1, 2, 2, 2)]


def test_classes_of_service_that_have_prices_of_their_own_are_told_apart() -> None:
    answer = look_up("openai", "gpt-5", NOW)
    assert answer is not None
    assert sorted(answer["classes"]) == ["batch", "fast", "flex", "priority"]
    assert answer["classes"]["flex"]["tiers"][0][1:4] == [625_000_000, 5_000_000_000, 62_500_000]
    fast = look_up("anthropic", "claude-opus-4-8", NOW)
    assert fast is not None
    assert fast["classes"]["fast"]["tiers"][0][1] == 2 * fast["rates"]["tiers"][0][1]
    assert "priority" not in fast["classes"]
    borrowed = look_up("azure", "gpt-4o", NOW)
    assert borrowed is not None
    assert borrowed["classes"] == {}, "Azure's are not OpenAI's"


def test_a_question_may_be_of_a_time_that_is_past() -> None:
    then = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    now, before = (
        json.loads(next(iter(answers([json.dumps(question)]))))
        for question in (["anthropic", "claude-opus-4-6"], ["anthropic", "claude-opus-4-6", then])
    )
    assert [tier[0] for tier in before["rates"]["tiers"]] == [200_000, None]
    assert before["until"] == datetime(2026, 3, 13, tzinfo=UTC).timestamp()
    assert [tier[0] for tier in now["rates"]["tiers"]] == [None]


def test_a_price_holds_until_the_next_date_or_hour_that_changes_it() -> None:
    plain = ModelPrice(input_mtok=Decimal(1))

    def until(*conditions: Any, of_class: Any = None) -> datetime | None:
        prices = [ConditionalPrice(prices=plain), *(ConditionalPrice(c, prices=plain) for c in conditions)]
        variants = [PriceVariant(when={"processing": "batch"}, prices=plain, constraint=of_class)]
        moment = next_change(ModelInfo(id="m", match=ANY, prices=prices, price_variants=variants), NOW)
        return None if moment is None else datetime.fromtimestamp(moment, UTC)

    assert next_change(ModelInfo(id="m", match=ANY, prices=plain), NOW) is None
    december = datetime(2026, 12, 1, tzinfo=UTC)
    assert until(of_class=StartDateConstraint(december.date())) == december
    assert until() is None
    assert until(StartDateConstraint(NOW.date())) is None
    assert until(StartDateConstraint(NOW.date().replace(month=12))) == datetime(2026, 12, 25, tzinfo=UTC)
    night = TimeOfDateConstraint(NOW.replace(hour=1).timetz(), NOW.replace(hour=4).timetz())
    assert until(night) == datetime(2026, 11, 26, 1, tzinfo=UTC)
    day = TimeOfDateConstraint(NOW.replace(hour=8).timetz(), NOW.replace(hour=16, minute=30).timetz())
    assert until(day, night) == datetime(2026, 11, 25, 16, 30, tzinfo=UTC)


def test_a_price_that_depends_on_the_hour_is_the_one_in_force() -> None:
    hours = {hour: look_up("deepseek", "deepseek-chat", NOW.replace(hour=hour)) for hour in (12, 20)}
    first, second = (answer["rates"]["tiers"] for answer in hours.values() if answer)
    assert first != second
