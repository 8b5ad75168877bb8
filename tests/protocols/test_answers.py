"""Upstreams send what they like; counts and costs stay whole, positive and finite."""

import json
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gproxy.ledger.pricing import MILLION, Price, Rates, Tier, cost_nano
from gproxy.protocols import anthropic_messages, gemini, openai_chat, openai_responses
from gproxy.protocols.answers import (
    consistent,
    is_crowded,
    is_json,
    json_of,
    merged,
    nano_usd,
    reader,
    reported_cost,
    service_tier,
    size,
    status_of_error,
    tokens,
    total,
)
from gproxy.protocols.base import Event
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.registry import PROTOCOLS
from gproxy.values import Usage

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (0, 0),
        (7, 7),
        (7.0, 7),
        (-1, None),
        (1.5, None),
        (True, None),
        ("7", None),
        (10**30, None),
        ([], None),
        (float("inf"), None),
        (float("nan"), None),
    ],
)
def test_a_count_is_a_whole_number_or_unreported(value: object, expected: int | None) -> None:
    assert tokens(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1, 10**9), (0.1, 10**8), (5e-10, 0), (1.5e-9, 2), (2.5e-9, 2), (0.00123, 1_230_000)]
    + [(bad, None) for bad in (None, True, "1", -0.1, 1e300, float("inf"), float("nan"), {})],
)
def test_a_cost_is_rounded_half_even_to_nano_dollars(value: object, expected: int | None) -> None:
    assert nano_usd(value) == expected


@given(st.floats(min_value=0, max_value=1e6))
def test_a_cost_is_what_decimal_arithmetic_makes_of_it(cost: float) -> None:
    expected = (Decimal(repr(cost)) * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    assert nano_usd(cost) == int(expected)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, None),
        ({"cost": 0.5}, 500_000_000),
        ({"cost_in_usd_ticks": 37_756_000}, 3_775_600),
        ({"cost_in_usd_ticks": 25}, 2),
        ({"cost_in_usd_ticks": -1, "cost": 0.5}, None),
        ({"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}}, 750_000_000),
        ({"cost": 0.5, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.25}}, 500_000_000),
        ({"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, 500_000_000),
        ({"cost": {"total_cost": 1}}, None),
    ],
)
def test_what_an_upstream_says_it_cost_is_read_in_its_own_unit(
    usage: dict[str, Any], expected: int | None
) -> None:
    assert reported_cost(usage) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("priority",), "priority"),
        (("PRIORITY",), "priority"),
        (("standard", "batch"), "batch"),
        (("fast", "priority"), "fast"),
        ((None, "default"), None),
        (("on_demand", "auto"), None),
        (({"a": 1}, "x" * 9999), None),
    ],
)
def test_a_class_of_service_is_one_that_has_its_own_price(
    names: tuple[object, ...], expected: str | None
) -> None:
    assert service_tier(*names) == expected


def test_what_is_unreported_is_not_zero() -> None:
    assert total(None, None) is None
    assert total(None, 0) == 0
    assert merged(None, None) is None
    assert merged(Usage(input_tokens=3), None) == Usage(input_tokens=3)


def test_cumulative_counts_replace_and_absent_ones_stay() -> None:
    before = Usage(input_tokens=3, output_tokens=1)
    assert merged(before, Usage(output_tokens=9)) == Usage(input_tokens=3, output_tokens=9)
    assert merged(before, Usage(output_tokens=0)) == Usage(input_tokens=3, output_tokens=0)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"type": "overloaded_error"}, 529),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, 429),
        ({"code": "503"}, 503),
        ({"code": "rate_limit_exceeded", "type": "x"}, 429),
        ({"code": 200, "type": "authentication_error"}, 401),
        ({"message": "x"}, 500),
        ("broken", 500),
        (None, 500),
    ],
)
def test_an_errors_status_is_what_it_says(error: object, status: int) -> None:
    assert status_of_error(error) == status


def test_size_is_of_bytes_and_strings_only() -> None:
    assert size("ab", "ä", None, 5, ["x"]) == 4


def test_json_is_whole_or_none() -> None:
    assert [is_json(data) for data in (b'{"a":1}', b"5", b'{"a":', b"[DONE]", b"")] == [True, True] + [
        False
    ] * 3


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "usage",
                "usageMetadata",
                "response",
                "message",
                "choices",
                "candidates",
                "delta",
                "error",
                "type",
                "content",
                "output",
                "promptFeedback",
            ]
        ),
        anything
        | st.lists(
            st.dictionaries(st.sampled_from(["delta", "content", "finish_reason"]), anything), max_size=2
        )
        | st.dictionaries(
            st.sampled_from(
                [
                    "usage",
                    "prompt_tokens",
                    "prompt_tokens_details",
                    "cost",
                    "input_tokens",
                    "cache_creation",
                    "promptTokenCount",
                    "thoughtsTokenCount",
                    "cache_read_input_tokens",
                    "output_tokens",
                    "iterations",
                    "service_tier",
                    "server_tool_use",
                    "cost_in_usd_ticks",
                    "promptTokensDetails",
                    "output",
                ]
            ),
            anything,
        ),
    )
)
def test_no_answer_of_any_type_breaks_a_dialect(tree: dict[str, Any]) -> None:
    data = json.dumps(tree).encode()
    event = Event(b"data: " + data + b"\n\n", data)
    for protocol in PROTOCOLS:
        for usage in (protocol.usage_in_body(data), protocol.usage_in_event(event, Usage(input_tokens=5))):
            names = [name for name in Usage.__struct_fields__ if name != "service_tier"]
            counts = [getattr(usage, name) for name in names] if usage else []
            assert all(count is None or 0 <= count < 2**62 for count in counts)
        protocol.restore_body(data, "x")
        protocol.restore_event(event, "x")
        protocol.is_usage_only(event)
        protocol.is_terminal(event)
        protocol.is_complete(event)
        protocol.error_in_event(event)
        assert protocol.output_text(event) >= 0


def test_parts_that_exceed_their_whole_raise_it() -> None:
    told = Usage(input_tokens=100, cache_read_tokens=500, output_tokens=3, reasoning_tokens=9)
    assert consistent(told) == structs.replace(told, input_tokens=500, output_tokens=9)
    hourly = Usage(cache_read_tokens=2, cache_write_1h_tokens=5)
    assert consistent(hourly) == structs.replace(hourly, input_tokens=7, cache_write_tokens=5)


COUNT = st.none() | st.integers(0, 20)


@given(counts=st.lists(COUNT, min_size=6, max_size=6))
def test_made_consistent_nothing_is_lost_and_the_cost_stays(counts: list[int | None]) -> None:
    told = Usage(*counts)
    made = consistent(told)
    assert consistent(made) == made
    assert (made.cache_read_tokens or 0) + (made.cache_write_tokens or 0) <= (made.input_tokens or 0)
    assert (made.cache_write_1h_tokens or 0) <= (made.cache_write_tokens or 0)
    assert (made.reasoning_tokens or 0) <= (made.output_tokens or 0)
    each = [number * MILLION for number in (7, 11, 1, 9, 13)]
    price = Price("config", Rates((Tier(20, *each), Tier(None, *reversed(each)))))
    assert cost_nano(made, price) == cost_nano(told, price)


def test_text_that_is_no_utf8_is_read_as_nothing() -> None:
    event = Event(b"", b'{"choices":[{"delta":{"content":"\xc3"}}],"error":{"code":429}}')
    assert CHAT.output_text(event) == 0
    assert CHAT.error_in_event(event) is None


@pytest.mark.parametrize(
    "data", [b"", b"nul", b'"\\ud800"', b'{"a":"\xff"}', b"[" * 100_000, b"1e999", b"NaN"]
)
def test_what_is_no_json_value_is_none(data: bytes) -> None:
    assert json_of(data) is None


def test_a_reader_asked_again_gives_what_the_data_hold() -> None:
    class Named(msgspec.Struct):
        name: Any = None

    read = reader(Named)
    first, second, broken, long = (
        b'{"name":1}',
        b'{"name":2}',
        b'{"name":',
        b'{"name":"%b"}' % (b"x" * 20_000),
    )
    for data in (first, first, second, None, second, broken, broken, long, first, long, None):
        found = read(data)
        assert found == (None if data in (None, broken) else msgspec.json.decode(data or b"", type=Named))


def test_a_crowd_is_told_by_what_a_large_text_holds() -> None:
    assert is_crowded(b"[" + b"{}," * 400_000 + b"{}]")
    assert is_crowded(b"[" * 1_100_000)
    assert not is_crowded(b"[" + b"1," * 1_000_000 + b"1]")
    assert not is_crowded(b"[" * 300_000)


PLAIN = st.integers(0, 400) | st.none()
ODD = st.sampled_from([2**53, 2**53 + 1, 2**70, -1, 7.0, 1.5, True, "5", {}, []])
TIERS = st.sampled_from([None, "default", "flex", "Priority", "ON_DEMAND_FLEX", 5, {}])
BESIDE = {
    "cost": 0.25,
    "cost_in_usd_ticks": 10**9,
    "server_tool_use": {"web_search_requests": 2},
    "iterations": [{"type": "compaction", "input_tokens": 3, "output_tokens": 3}],
    "cached_tokens": 4,
    "prompt_cache_hit_tokens": 5,
}
"""What is not read quickly."""


def usages(operation: str, count: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A `usage` object with counts of that kind."""

    def made_of(*names: str) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({}, optional=dict.fromkeys(names, count))

    parts = made_of(
        "cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "x"
    )
    kinds = st.fixed_dictionaries(
        {"tokenCount": count}, optional={"modality": st.sampled_from(["TEXT", "AUDIO"])}
    )
    listed = st.lists(kinds, max_size=2) | st.just([{"modality": "TEXT", "tokenCount": 1}])
    counts, others = {
        "chat_completions": (
            ("prompt_tokens", "completion_tokens", "total_tokens"),
            dict.fromkeys(("prompt_tokens_details", "completion_tokens_details"), parts),
        ),
        "responses": (
            ("input_tokens", "output_tokens", "total_tokens"),
            dict.fromkeys(("input_tokens_details", "output_tokens_details"), parts),
        ),
        "messages": (
            ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
            {
                "cache_creation": made_of("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
                "output_tokens_details": made_of("thinking_tokens"),
                "speed": TIERS,
                "service_tier": TIERS,
            },
        ),
        "generateContent": (
            (
                *("promptTokenCount", "candidatesTokenCount", "cachedContentTokenCount"),
                *("thoughtsTokenCount", "toolUsePromptTokenCount"),
            ),
            {
                **dict.fromkeys(("promptTokensDetails", "candidatesTokensDetails"), listed),
                **dict.fromkeys(("cacheTokensDetails", "toolUsePromptTokensDetails"), listed),
                **dict.fromkeys(("serviceTier", "trafficType"), TIERS),
            },
        ),
    }[operation]
    return st.fixed_dictionaries({}, optional=dict.fromkeys(counts, count) | others)


DIALECTS: dict[str, Any] = {
    "chat_completions": openai_chat,
    "responses": openai_responses,
    "messages": anthropic_messages,
    "generateContent": gemini,
}


@pytest.mark.parametrize("operation", DIALECTS)
@settings(max_examples=400)
@given(data=st.data())
def test_usage_that_is_read_quickly_is_what_is_read_of_any(operation: str, data: st.DataObject) -> None:
    told: Any = data.draw(usages(operation, PLAIN))
    match data.draw(st.sampled_from(["plain", "added up", "one that is odd", "more", "no object"])):
        case "added up":
            told["completion_tokens_details"] = told["output_tokens_details"] = {"reasoning_tokens": 3}
            told |= dict.fromkeys(("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"), 5)
            told["total_tokens"] = 13
        case "one that is odd":
            name, *_ = data.draw(st.permutations([*told, "nothing"]))
            told |= {name: data.draw(ODD)} | data.draw(
                usages(operation, ODD).filter(lambda odd: len(odd) < 2)
            )
        case "more":
            told |= dict([data.draw(st.sampled_from(list(BESIDE.items())))])
        case "no object":
            told = data.draw(ODD | st.none())
    name = "usageMetadata" if operation == "generateContent" else "usage"
    answer = {"model": "m", name: told, "service_tier": data.draw(TIERS)}
    if data.draw(st.booleans()):
        answer["output"] = [{"type": "web_search_call", "action": {"type": "search"}}]
        answer["x_groq"] = {"usage": {"prompt_tokens": 5}}
    raw = json.dumps(answer, separators=(",", ":")).encode()
    dialect = DIALECTS[operation]
    assert dialect.usage_in_body(raw) == dialect._usage_in_any(raw)
    if operation in ("responses", "messages"):
        inner = {"response": answer, "message": answer}
        event = json.dumps(
            {"type": data.draw(st.sampled_from(["message_start", "response.completed"])), **inner}
        ).encode()
        before = data.draw(st.sampled_from([None, Usage(input_tokens=5, output_tokens=1)]))
        found = dialect.usage_in_event(Event(event, event), before)
        assert found == dialect._usage_in_any_event(event, before)
