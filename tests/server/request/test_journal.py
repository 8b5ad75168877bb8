"""The record says what happened: who asked, what was tried, what was used, and how sure we are of it."""

from typing import Any

import pytest

from gproxy.ledger.rows import line_of
from gproxy.protocols import anthropic_messages, gemini, openai_chat, passthrough
from gproxy.protocols.base import Protocol
from gproxy.routing.failover import Tried
from gproxy.server.request.journal import Journal
from gproxy.values import Record, Route, Target, Usage
from tests.server.parts import ALICE, call, provider, snapshot

HERE = snapshot(provider("http://up") + ALICE)
TARGET = Target("up", "real")
ROUTE = Route("chat", (TARGET,), alias="chat", aggregated=False)
BODY = b'{"model": "chat", "messages": [{"role": "user", "content": "0123456789abcdef"}], "stream": true}'
REPORTED = Usage(input_tokens=9, output_tokens=3, cache_read_tokens=4)


def journal(protocol: Protocol = openai_chat.CHAT, body: bytes = BODY, *, started: float = 0.0) -> Journal:
    return Journal(call(HERE, body, protocol, started=started), ROUTE)


def tried(**more: Any) -> Tried:
    return Tried("up", "up#1", "status 500", 3, **more)


async def test_a_record_says_who_asked_for_what_and_what_answered() -> None:
    it = journal()
    it.attempt(TARGET, "up#1")
    it.observed(REPORTED, whole=True)
    it.first_byte()
    it.ended(200, "ok")
    record = it.record(1500, "config")
    client = it.call.client
    assert record == Record(
        request_id="req_1",
        started_at="2026-11-25T13:20:00.062Z",
        user="alice",
        key_label="laptop",
        key_id=client.key_id,
        provider="up",
        credential="up#1",
        model="real",
        requested_model="chat",
        alias="chat",
        dialect="openai_chat",
        route="scoped",
        stream=True,
        status=200,
        outcome="ok",
        attempts=1,
        usage=REPORTED,
        usage_source="upstream",
        cost_nano=1500,
        price_source="config",
        latency_ms=record.latency_ms,
        ttft_ms=it.ttft_ms,
    )
    it.settle()
    assert it.line(1500, "config") == line_of(it.record(1500, "config"))


async def test_a_request_that_was_never_sent_names_no_provider() -> None:
    it = journal()
    it.ended(400, "refused", "why")
    record = it.record(0, None)
    assert (record.provider, record.credential, record.model, record.attempts) == (None, None, None, 0)
    assert (record.status, record.outcome, record.error) == (400, "refused", "why")
    assert record.ttft_ms is None
    assert it.free


async def test_every_attempt_is_counted_and_the_last_one_named() -> None:
    it = journal()
    it.attempt(TARGET, "up#1")
    assert not it.sent
    it.on_its_way()
    assert it.sent
    it.failed(tried(maybe_billed=True))
    assert not it.sent
    it.attempt(Target("other", "m2"), "other#1")
    it.failed(tried())
    record = it.record(None, None)
    assert (record.attempts, record.provider, record.model) == (2, "other", "m2")
    assert record.maybe_billed
    assert len(it.tried) == 2


async def test_an_attempt_that_cannot_have_been_billed_leaves_no_mark() -> None:
    it = journal()
    it.attempt(TARGET, "up#1")
    it.failed(tried())
    assert not it.record(None, None).maybe_billed


async def test_the_first_byte_is_timed_once() -> None:
    it = journal()
    it.first_byte()
    first = it.ttft_ms
    it.call = journal(started=-1000.0).call
    it.first_byte()
    assert it.ttft_ms == first
    assert it.record(0, None).latency_ms > (first or 0)


async def test_a_count_of_a_whole_answer_is_the_upstreams() -> None:
    it = journal()
    it.observed(REPORTED, whole=True, output_bytes=4000)
    assert (it.usage, it.usage_source) == (REPORTED, "upstream")


async def test_an_answer_without_a_count_is_estimated_from_its_text_and_the_request() -> None:
    it = journal()
    it.observed(None, whole=True, output_bytes=41)
    assert it.usage.output_tokens == 11
    assert it.usage.input_tokens is not None
    assert 4 <= it.usage.input_tokens <= 8
    assert it.usage_source == "estimated"


async def test_an_answer_without_a_count_is_priced_in_the_class_of_service_that_was_asked_for() -> None:
    it = journal(body=BODY.replace(b"{", b'{"service_tier": "priority", ', 1))
    it.observed(None, whole=False, output_bytes=8)
    assert it.usage.service_tier == "priority"
    it.observed(Usage(input_tokens=1), whole=False)
    assert it.usage.service_tier is None, "it was told, and is the ordinary one"


async def test_a_count_that_was_cut_off_is_never_less_than_the_text_that_came() -> None:
    it = journal(anthropic_messages.MESSAGES, BODY.replace(b'"stream"', b'"max_tokens": 9, "stream"'))
    it.observed(Usage(input_tokens=9, output_tokens=1, cache_read_tokens=4), whole=False, output_bytes=40)
    assert it.usage == Usage(input_tokens=9, output_tokens=10, cache_read_tokens=4)
    assert it.usage_source == "partial"


async def test_a_count_that_was_cut_off_is_kept_where_it_is_more_than_the_text() -> None:
    it = journal()
    it.observed(Usage(input_tokens=9, output_tokens=50), whole=False, output_bytes=40)
    assert it.usage.output_tokens == 50


async def test_an_input_that_was_not_reported_is_estimated() -> None:
    it = journal()
    it.observed(Usage(output_tokens=50), whole=False)
    assert it.usage.input_tokens
    assert it.usage_source == "partial"


@pytest.mark.parametrize("told", [Usage(), Usage(service_tier="flex")])
async def test_a_count_that_counts_nothing_is_none(told: Usage) -> None:
    it = journal()
    it.observed(told, whole=True, output_bytes=41)
    assert it.usage.output_tokens == 11
    assert it.usage.input_tokens
    assert it.usage_source == "estimated"


async def test_half_a_count_of_a_whole_answer_is_made_whole_and_marked() -> None:
    it = journal()
    it.observed(Usage(input_tokens=9), whole=True, output_bytes=40)
    assert (it.usage, it.usage_source) == (Usage(input_tokens=9, output_tokens=10), "partial")
    it.observed(Usage(output_tokens=3), whole=True, output_bytes=40)
    assert it.usage.input_tokens
    assert (it.usage.output_tokens, it.usage_source) == (3, "partial")


async def test_an_answer_without_any_output_needs_no_count_of_it() -> None:
    it = journal()
    it.observed(Usage(input_tokens=9), whole=True)
    assert (it.usage, it.usage_source) == (Usage(input_tokens=9), "upstream")


async def test_a_count_of_tokens_is_free_and_uses_none() -> None:
    it = journal(anthropic_messages.COUNT_TOKENS)
    it.observed(REPORTED, whole=True)
    it.ended(200, "ok")
    assert (it.usage, it.usage_source, it.free) == (Usage(), "none", True)


async def test_what_is_not_billed_by_its_text_is_not_estimated() -> None:
    it = journal(passthrough.IMAGES, b'{"model": "chat", "prompt": "a cat"}')
    it.observed(None, whole=False, output_bytes=400)
    assert (it.usage, it.usage_source) == (Usage(), "none")
    it.observed(REPORTED, whole=False)
    assert (it.usage, it.usage_source) == (REPORTED, "partial")
    it.observed(Usage(output_tokens=7), whole=True, output_bytes=400)
    assert (it.usage, it.usage_source) == (Usage(output_tokens=7), "upstream")


@pytest.mark.parametrize(
    ("status", "observed", "free"),
    [(400, False, True), (502, False, True), (499, True, False), (200, False, False), (200, True, False)],
)
async def test_only_a_refusal_that_used_nothing_is_free(status: int, observed: bool, free: bool) -> None:
    it = journal()
    if observed:
        it.observed(None, whole=False)
    it.ended(status, "x")
    assert it.free is free


async def test_counts_that_cannot_be_are_made_possible_and_those_that_are_none_estimated() -> None:
    it = journal()
    it.observed(Usage(input_tokens=100, output_tokens=3, cache_read_tokens=500), whole=True)
    assert (it.usage.input_tokens, it.usage.total_tokens, it.usage_source) == (500, 503, "upstream")
    for field in (b"-1000", b'"12"', b"1e19"):
        answer = b'{"usage": {"prompt_tokens": %b, "completion_tokens": 3}}' % field
        it = journal()
        it.observed(openai_chat.usage_in_body(answer), whole=True, output_bytes=8)
        assert it.usage_source == "partial"
        assert it.usage.input_tokens
        answer = b'{"usage": {"input_tokens": %b, "cache_read_input_tokens": 4, "output_tokens": 3}}' % field
        it = journal(anthropic_messages.MESSAGES)
        it.observed(anthropic_messages.usage_in_body(answer), whole=True, output_bytes=8)
        assert it.usage_source == "partial"
        answer = b'{"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": %b}}' % field
        it = journal()
        it.observed(gemini.usage_in_body(answer), whole=True, output_bytes=8)
        assert (it.usage_source, it.usage.output_tokens) == ("partial", 2)
    start = b'{"usage": {"input_tokens": -1000, "cache_read_input_tokens": 4, "output_tokens": 1}}'
    begun = anthropic_messages.usage_in_body(start)
    done = anthropic_messages.updated(begun, {"output_tokens": 9})
    it = journal(anthropic_messages.MESSAGES)
    it.observed(done, whole=True, output_bytes=8)
    assert (it.usage_source, it.usage.output_tokens) == ("partial", 9)
