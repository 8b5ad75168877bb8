from datetime import UTC, datetime

import pytest

from gproxy.ledger import pastprices
from gproxy.ledger.pastprices import PastPrices


def moment(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc]  # a date and perhaps a time


def test_a_price_is_that_of_the_time_asked_for() -> None:
    prices = PastPrices()
    march = [prices.at("anthropic", "claude-opus-4-6", moment(2026, 3, day)) for day in (12, 13, 12, 20)]
    assert all(price is not None for price in march)
    assert [len(price.rates.tiers) for price in march if price] == [2, 1, 2, 1]


def test_the_table_is_asked_once_for_the_time_in_which_a_price_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(provider: str, model: str, at: datetime) -> object:
        asked.append((model, at))
        return look_up(provider, model, at)

    look_up = pastprices.look_up
    monkeypatch.setattr(pastprices, "look_up", counted)
    prices = PastPrices()
    for minute in range(60):
        prices.at("openai", "gpt-5", moment(2026, 11, 1, 0, minute))
        prices.at("deepseek", "deepseek-chat", moment(2026, 11, 1, 0, minute))
    assert [model for model, _ in asked] == ["gpt-5", "deepseek-chat", "deepseek-chat"]


def test_what_the_table_does_not_know_is_unknown() -> None:
    prices = PastPrices()
    assert prices.at("openai", "no-such-model", 0.0) is None
    assert prices.at("", "gpt-5", 0.0) is None
