"""Upstreams that fail: what the client is told, in its dialect, and what the ledger says of it."""

import json
from typing import Any

import httpx
import pytest

from tests.kit.answers import Told
from tests.kit.calls import BY_ID, Call, documents
from tests.kit.gateway import UPSTREAM_KEY, Gateway
from tests.kit.upstream import Script, Upstream

FAMILIES = [BY_ID["chat"], BY_ID["messages"], BY_ID["generate"]]
STREAMS = [BY_ID[id] for id in ("chat-stream", "responses-stream", "messages-stream", "stream-sse")]
BY_FAMILY = pytest.mark.parametrize("call", FAMILIES, ids=lambda call: call.family)

KINDS = {
    502: {"openai": "upstream_error", "anthropic": "api_error", "gemini": "UNAVAILABLE"},
    504: {"openai": "timeout_error", "anthropic": "timeout_error", "gemini": "DEADLINE_EXCEEDED"},
    529: {"openai": "overloaded_error", "anthropic": "overloaded_error", "gemini": "UNAVAILABLE"},
}


def kind_of(family: str, tree: Any) -> str:
    kind: str = tree["error"]["status" if family == "gemini" else "type"]
    return kind


def failed(
    gateway: Gateway, call: Call, provider: str, model: str, status: int
) -> tuple[str, dict[str, Any]]:
    """Sends the call and asserts the status in its dialect; the message and the row."""
    answer = gateway.post(call.url(model, provider), call.fields(model))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert kind_of(call.family, answer.json()) == KINDS[status][call.family]
    assert UPSTREAM_KEY not in answer.text
    assert "SECRET-TEXT" not in answer.text
    row = gateway.row(model=model)
    assert row["status"] == status
    assert row["error"]
    assert row["outcome"] == "upstream_error"
    return answer.json()["error"]["message"], row


@BY_FAMILY
@pytest.mark.parametrize("status", [401, 403, 500, 502, 503, 302])
def test_an_upstream_failure_is_502_without_its_text(
    gateway: Gateway, upstream: Upstream, call: Call, status: int
) -> None:
    where = {"location": f"{upstream.url}/elsewhere"}
    model = upstream.model(Script(status=status, headers=where, body=b'{"error":{"message":"SECRET-TEXT"}}'))
    # A 401 takes a credential out for good, so it has a provider of its own.
    provider = f"fragile-{call.provider}" if status == 401 else call.provider
    message, row = failed(gateway, call, provider, model, 502)
    assert provider in message
    assert "team" in message
    assert str(status) in message
    assert row["attempts"] >= 1


@BY_FAMILY
@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_the_client_got_wrong_is_passed_on_once(
    gateway: Gateway, upstream: Upstream, call: Call, status: int
) -> None:
    body = json.dumps({"error": {"message": f"no such thing {UPSTREAM_KEY}", "code": 7}}).encode()
    model = upstream.model(Script(status=status, body=body))
    answer = gateway.post(call.url(model, call.provider), call.fields(model))
    assert answer.status_code == status
    assert "no such thing" in answer.text
    assert UPSTREAM_KEY not in answer.text
    assert answer.headers["x-gproxy-request-id"]
    assert len(upstream.exchanges(model)) == 1
    row = gateway.row(model=model)
    assert (row["status"], row["attempts"], row["total_tokens"]) == (status, 1, None)


@BY_FAMILY
def test_an_overloaded_upstream_is_529(gateway: Gateway, upstream: Upstream, call: Call) -> None:
    failed(gateway, call, call.provider, upstream.model(Script(status=529)), 529)


WRONG = {
    "html": Script(content_type="text/html", body=b"<html>SECRET-TEXT</html>"),
    "empty": Script(body=b""),
    "cut-json": Script(body=b'{"id": "SECRET-TEXT", "cho'),
    "reset": Script(stop_after=0, then="reset"),
    "error-in-200": Script(
        body=b'{"type": "error", "error": {"message": "SECRET-TEXT", "type": "api_error", "code": 500}}'
    ),
}


@BY_FAMILY
@pytest.mark.parametrize("id", WRONG)
def test_an_answer_that_is_none_is_502(gateway: Gateway, upstream: Upstream, call: Call, id: str) -> None:
    failed(gateway, call, call.provider, upstream.model(WRONG[id]), 502)


@pytest.mark.parametrize(
    "call", [BY_ID["chat-stream"], BY_ID["messages-stream"], BY_ID["stream-sse"]], ids=str
)
@pytest.mark.parametrize("id", ["html", "empty", "reset"])
def test_a_stream_that_never_starts_is_502_in_json(
    gateway: Gateway, upstream: Upstream, call: Call, id: str
) -> None:
    failed(gateway, call, call.provider, upstream.model(WRONG[id]), 502)


def test_an_error_as_the_first_event_is_no_200(gateway: Gateway, upstream: Upstream) -> None:
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"SECRET-TEXT"}}'
    event = b"event: error\ndata: " + error + b"\n\n"
    model = upstream.model(Script(chunks=(event,)))
    failed(gateway, BY_ID["messages-stream"], "an", model, 529)
    event = b'data: {"error":{"message":"SECRET-TEXT","type":"server_error","code":500}}\n\n'
    model = upstream.model(Script(chunks=(event,)))
    failed(gateway, BY_ID["chat-stream"], "oa", model, 502)


def test_a_refused_connection_is_502(gateway: Gateway, upstream: Upstream) -> None:
    _, row = failed(gateway, BY_ID["chat"], "refused", "gone", 502)
    assert not row["maybe_billed"]


@pytest.mark.parametrize(
    ("call", "provider"),
    [(BY_ID["chat"], "slow-oa"), (BY_ID["messages-stream"], "slow-an"), (BY_ID["generate"], "slow-ge")],
    ids=["openai", "anthropic", "gemini"],
)
def test_no_first_byte_in_time_is_504(
    gateway: Gateway, upstream: Upstream, call: Call, provider: str
) -> None:
    model = upstream.model(Script(silent=True))
    _, row = failed(gateway, call, provider, model, 504)
    assert row["maybe_billed"]
    assert len(upstream.exchanges(model)) == 1
    assert 400 <= row["latency_ms"] < 4000


def broken_end(answer: httpx.Response, call: Call) -> None:
    """A stream that broke: 200, well-formed HTTP (else httpx raises), an error last and no clean end."""
    assert answer.status_code == 200
    assert b"[DONE]" not in answer.content
    assert b"message_stop" not in answer.content
    assert b"response.completed" not in answer.content
    last = documents(answer.content, True)[-1]
    if call.column == "openai_responses":
        assert last["type"] in ("error", "response.failed")
    else:
        assert kind_of(call.family, last) == KINDS[502][call.family]
    if call.family == "anthropic":
        assert b"event: error\n" in answer.content


@pytest.mark.parametrize("call", STREAMS, ids=lambda call: call.id)
@pytest.mark.parametrize("then", ["reset", "cut"])
def test_a_stream_that_breaks_ends_with_an_error_event(
    gateway: Gateway, upstream: Upstream, call: Call, then: Any
) -> None:
    model = upstream.model(Script(stop_after=1 if call.family == "gemini" else 3, then=then))
    answer = gateway.post(call.url(model, call.provider), call.fields(model))
    broken_end(answer, call)
    sent = b"".join(upstream.only(model).sent)
    assert answer.content.startswith(sent)
    row = gateway.wait_row(model=model)
    assert row["outcome"] != "ok"
    assert row["error"]
    assert row["usage_source"] in ("partial", "estimated")


@pytest.mark.parametrize("call", STREAMS[:3], ids=lambda call: call.id)
def test_a_stream_that_ends_without_its_terminator_is_broken(
    gateway: Gateway, upstream: Upstream, call: Call
) -> None:
    model = upstream.model(Script(stop_after=3, then="end"))
    broken_end(gateway.post(call.url(model, call.provider), call.fields(model)), call)
    assert gateway.wait_row(model=model)["outcome"] != "ok"


def test_a_stream_that_breaks_inside_an_event_still_ends_in_whole_events(
    gateway: Gateway, upstream: Upstream
) -> None:
    call = BY_ID["chat-stream"]
    model = upstream.model(Script(cut_every=100, stop_after=4, then="cut"))
    broken_end(gateway.post(call.url(model, "oa"), call.fields(model)), call)


def test_an_array_that_breaks_is_still_closed_as_gemini_would_or_cut(
    gateway: Gateway, upstream: Upstream
) -> None:
    call = BY_ID["stream-array"]
    model = upstream.model(Script(stop_after=1, then="cut"))
    try:
        answer = gateway.post(call.url(model, "ge"), call.fields(model))
    except httpx.RemoteProtocolError:
        return
    assert "error" in documents(answer.content, True)[-1]


def test_a_stream_that_falls_silent_is_ended(gateway: Gateway, upstream: Upstream) -> None:
    call = BY_ID["chat-stream"]
    model = upstream.model(Script(stop_after=2, then="hang"))
    answer = gateway.post(call.url(model, "quiet"), call.fields(model))
    assert answer.status_code == 200
    assert kind_of("openai", documents(answer.content, True)[-1]) in ("timeout_error", "upstream_error")
    assert b"[DONE]" not in answer.content


def test_an_error_event_of_the_upstream_is_passed_on(gateway: Gateway, upstream: Upstream) -> None:
    call = BY_ID["messages-stream"]
    good = upstream.model()
    gateway.post(call.url(good, "an"), call.fields(good))
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
    head = [chunk.replace(good.encode(), b"errs-late") for chunk in upstream.only(good).sent[:4]]
    model = upstream.model(Script(chunks=(*head, error), delay_s=0.05), "errs-late")
    answer = gateway.post(call.url(model, "an"), call.fields(model))
    assert answer.content.count(b"event: error") == 1
    assert b"overloaded_error" in answer.content
    assert gateway.wait_row(model=model)["outcome"] != "ok"


def test_a_body_that_breaks_is_cut_short(gateway: Gateway, upstream: Upstream) -> None:
    """JSON is answered whole or not at all: an error of ours, or a message that visibly ends early."""
    model = upstream.model(Script(cut_every=50, stop_after=2, then="cut"))
    try:
        answer = gateway.post("/oa/v1/chat/completions", BY_ID["chat"].fields(model))
    except httpx.RemoteProtocolError:
        pass
    else:
        assert answer.status_code == 502
    assert gateway.wait_row(model=model)["outcome"] != "ok"
    assert upstream.only(model).told != Told()


def test_a_stream_asked_for_and_answered_in_json_is_relayed(gateway: Gateway, upstream: Upstream) -> None:
    """The content type decides what an answer is, not the request."""
    body = (
        b'{"id":"x","object":"chat.completion","model":"plain","choices":[],"usage":{"prompt_tokens":3,'
        b'"completion_tokens":4,"total_tokens":7}}'
    )
    model = upstream.model(Script(body=body, content_type="application/json"), "plain")
    answer = gateway.post("/oa/v1/chat/completions", BY_ID["chat-stream"].fields(model))
    assert answer.status_code == 200
    assert b'"choices":[]' in answer.content
    assert gateway.wait_row(model=model)["input_tokens"] == 3
