"""Cumulative usage whose input leaves the cache out, and the query that clients send."""

import json
from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.protocols import strict
from gproxy.protocols.anthropic_messages import COUNT_TOKENS, MESSAGES
from gproxy.protocols.base import Event, Protocol
from gproxy.values import Usage


def _after(*usages: dict[str, Any]) -> Usage | None:
    """What is known after a message_start with the first of them and a message_delta with each other."""
    usage: Usage | None = None
    for at, fields in enumerate(usages):
        tree: dict[str, Any] = {"type": "message_delta", "usage": fields}
        if at == 0:
            tree = {"type": "message_start", "message": {"usage": fields}}
        data = json.dumps(tree).encode()
        usage = MESSAGES.usage_in_event(Event(data, data), usage)
    return usage


START = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 5,
    "output_tokens": 1,
}


@pytest.mark.parametrize(
    ("deltas", "total_input", "output"),
    [
        ([{"output_tokens": 9}], 18, 9),
        ([{"output_tokens": 4}, {"output_tokens": 9}], 18, 9),
        ([START | {"output_tokens": 9}], 18, 9),
        ([{"input_tokens": 12, "output_tokens": 9}], 20, 9),
        ([{"cache_read_input_tokens": 7, "output_tokens": 9}], 20, 9),
        ([{"input_tokens": None, "output_tokens": 9}], 18, 9),
        ([{"input_tokens": 0, "output_tokens": 9}], 8, 9),
    ],
)
def test_later_counts_replace_and_what_they_leave_out_stays(
    deltas: list[dict[str, Any]], total_input: int, output: int
) -> None:
    usage = _after(START, *deltas)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cache_write_tokens) == (total_input, output, 3)


def test_the_output_count_of_the_beginning_is_a_placeholder_and_counts_as_unreported() -> None:
    usage = _after(START, {})
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (18, None)


def test_a_text_that_is_the_word_reports_nothing() -> None:
    before = _after(START, {"output_tokens": 9})
    data = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"usage"}}'
    assert MESSAGES.usage_in_event(Event(data, data), before) is before


def test_the_split_of_cache_writes_is_no_extra() -> None:
    split = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}
    expected = Usage(input_tokens=18, cache_read_tokens=5, cache_write_tokens=3)
    assert _after(START) == expected
    usage = _after(START | {"cache_creation": split})
    assert usage is not None
    assert (usage.input_tokens, usage.cache_write_1h_tokens) == (18, 2)
    alone = _after({"input_tokens": 1, "cache_creation": split})
    assert alone == Usage(input_tokens=4, cache_write_tokens=3, cache_write_1h_tokens=2)


@pytest.mark.parametrize(
    ("query", "expected"),
    [("", ""), ("beta=true", "?beta=true"), ("key=secret&beta=true&x=1", "?beta=true"), ("x=1", "")],
)
def test_beta_is_all_of_the_query_that_goes_up(query: str, expected: str) -> None:
    assert MESSAGES.upstream_path("m", query) == "/v1/messages" + expected
    assert COUNT_TOKENS.upstream_path("m", query) == "/v1/messages/count_tokens" + expected


@pytest.mark.parametrize("protocol", [MESSAGES, COUNT_TOKENS])
def test_a_query_that_would_make_a_url_that_nobody_takes_is_refused(protocol: Protocol) -> None:
    body = strict.decode(b'{"model":"m"}')
    assert protocol.read(body, None, "beta=true").model == "m"
    with pytest.raises(BadRequest):
        protocol.read(body, None, "beta=" + "%" * 3000)


def test_counting_is_not_metered_and_its_answer_is_no_usage() -> None:
    assert not COUNT_TOKENS.metered
    assert COUNT_TOKENS.usage_in_body(b'{"input_tokens":14,"usage":{"input_tokens":14}}') is None


def test_the_class_of_service_is_told_at_the_start_and_kept() -> None:
    start = {"input_tokens": 1, "service_tier": "standard", "speed": "fast"}
    found = _after(start, {"output_tokens": 2})
    assert found is not None
    assert found.service_tier == "fast"


def test_a_compaction_is_added_once_however_often_it_is_told() -> None:
    compaction = {
        "type": "compaction",
        "input_tokens": 100,
        "output_tokens": 10,
        "cache_read_input_tokens": 5,
    }
    start = {"input_tokens": 1, "cache_read_input_tokens": 0, "output_tokens": 1}
    end = {**start, "output_tokens": 2, "iterations": [compaction, {"type": "message", **start}]}
    assert _after(start, end, end) == Usage(input_tokens=106, output_tokens=12, cache_read_tokens=5)
