"""Usage objects as each provider's documentation has them, against prices worked out by hand.

`tests/fixtures/prices/*.json`: `shape` and `price` say where the object and the price come from, `parts` is the
arithmetic: for each part how many tokens there are, and USD per million of them.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger.pricebook import price_of
from gproxy.ledger.pricelookup import look_up
from gproxy.ledger.pricing import settle
from gproxy.protocols.base import Event
from gproxy.protocols.registry import PROTOCOLS

FILES = sorted((Path(__file__).parents[1] / "fixtures" / "prices").glob("*.json"))
CASES = [(f"{file.stem}: {case['case']}", case) for file in FILES for case in json.loads(file.read_text())]
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_what_a_provider_reports_costs_what_its_price_list_says(case: dict[str, Any]) -> None:
    by_hand = sum(count * Decimal(str(price)) for count, price in case["parts"].values()) / 1_000_000
    assert by_hand == Decimal(case["cost_usd"])

    protocol = next(p for p in PROTOCOLS if p.operation == case["operation"])
    usage = protocol.usage_in_body(json.dumps(case["answer"]).encode())
    known = look_up(case["prices_id"], case["model"], NOON)
    assert usage is not None
    assert known is not None
    cost, source = settle(usage, None, price_of(known))
    assert source == case.get("price_source", known["source"])
    assert cost == by_hand * 1_000_000_000


def _events(operation: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream that carry what a whole answer does."""
    if operation == "responses":
        return [{"type": "response.completed", "response": answer}]
    if operation == "messages":
        start = {**answer, "usage": {**answer["usage"], "output_tokens": 1, "iterations": None}}
        end = {
            k: v for k, v in answer["usage"].items() if k not in ("cache_creation", "service_tier", "speed")
        }
        return [{"type": "message_start", "message": start}, {"type": "message_delta", "usage": end}]
    return [answer]


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_a_stream_tells_the_same(case: dict[str, Any]) -> None:
    protocol = next(p for p in PROTOCOLS if p.operation == case["operation"])
    usage = None
    for tree in _events(case["operation"], case["answer"]):
        data = json.dumps(tree).encode()
        usage = protocol.usage_in_event(Event(data, data), usage)
    whole = protocol.usage_in_body(json.dumps(case["answer"]).encode())
    assert usage == whole


def test_each_dialect_and_each_provider_with_a_price_list_is_among_them() -> None:
    assert {case["operation"] for _, case in CASES} >= {
        *("chat_completions", "responses", "embeddings", "messages", "generateContent", "images_generations")
    }
    assert {case["prices_id"] for _, case in CASES} >= {
        *("openai", "azure", "anthropic", "google", "openrouter", "x-ai", "deepseek", "groq", "mistral"),
        *("together", "fireworks"),
    }
