"""However a request was addressed, its row is what the upstream said, and is there when the answer ends."""

import json
from typing import Any

import httpx
import pytest

from tests.kit.answers import TEXT, TOOL_ARGUMENTS, Told
from tests.kit.calls import BY_ID, CALLS, Call
from tests.kit.gateway import Gateway
from tests.kit.settings import provider, user
from tests.kit.upstream import Exchange, Script, Upstream

ADDRESSED = ("aggregated", "scoped", "scoped-prefixed", "alias", "scoped-alias")


def send(gateway: Gateway, call: Call, how: str, model: str) -> tuple[str, httpx.Response]:
    """The name that the client used, and the answer."""
    name = call.alias if how.endswith("alias") else model
    if how in ("aggregated", "scoped-prefixed"):
        name = f"{call.provider}/{model}"
    scope = call.provider if how.startswith("scoped") else ""
    return name, gateway.post(call.url(name, scope), call.fields(name))


def exchange_of(upstream: Upstream, answer: httpx.Response, model: str) -> Exchange:
    """The upstream's side of an answer: found by the id inside it, where the dialect has room for one."""
    seen = upstream.exchanges(model)
    inside = [exchange for exchange in seen if exchange.uid.encode() in answer.content]
    return (inside or seen)[-1]


@pytest.mark.parametrize("how", ADDRESSED)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_the_row_is_what_the_upstream_said(
    gateway: Gateway, upstream: Upstream, call: Call, how: str
) -> None:
    model = "alias-target" if how.endswith("alias") else upstream.model()
    name, answer = send(gateway, call, how, model)
    assert answer.status_code == 200, answer.text
    row = gateway.row(request_id=answer.headers["x-gproxy-request-id"])
    exchange = exchange_of(upstream, answer, model)

    if row["usage_source"] == "estimated":
        assert exchange.told == Told()
    else:
        assert exchange.told.differs_from(row) == {}
    expected: dict[str, Any] = {
        "user": "alice",
        "key_label": "laptop",
        "provider": call.provider,
        "credential": "team",
        "model": model,
        "requested_model": name,
        "alias": name if how.endswith("alias") else None,
        "route": "scoped" if how.startswith("scoped") else "aggregated",
        "stream": int(call.stream),
        "status": 200,
        "outcome": "ok",
        "attempts": 1,
        "maybe_billed": 0,
        "error": None,
    }
    assert {column: row[column] for column in expected} == expected
    assert call.column in ("", row["dialect"])
    assert (row["usage_source"] == "upstream") == (exchange.told.input_tokens is not None)
    assert row["latency_ms"] >= 0
    assert call.names_in(answer.content) == ({name} if call.names else set())


def test_figures_hold_over_many_draws(gateway: Gateway, upstream: Upstream) -> None:
    metered = [
        BY_ID[i] for i in ("chat", "chat-stream", "messages", "messages-stream", "generate", "stream-sse")
    ]
    wrong = []
    for call in metered * 12:
        model = upstream.model()
        _, answer = send(gateway, call, "scoped", model)
        row = gateway.row(request_id=answer.headers["x-gproxy-request-id"])
        wrong += [(call.id, upstream.only(model).told.differs_from(row))]
    assert [found for found in wrong if found[1]] == []


def test_the_request_reaches_the_upstream_with_its_own_key_alone(
    gateway: Gateway, upstream: Upstream
) -> None:
    for id, header, value in (
        ("chat", "authorization", "Bearer sk-provider-canary-4711"),
        ("messages", "x-api-key", "sk-provider-canary-4711"),
        ("generate", "x-goog-api-key", "sk-provider-canary-4711"),
    ):
        model = upstream.model()
        send(gateway, BY_ID[id], "scoped", model)
        seen = upstream.only(model)
        assert seen.headers[header] == value
        keys = {"authorization", "x-api-key", "x-goog-api-key", "api-key"} & seen.headers.keys()
        assert keys == {header}
        assert "sk-client" not in str(seen.headers) + seen.query


@pytest.mark.parametrize("id", ["chat-tools", "messages-stream-tools"], ids=["openai", "anthropic"])
def test_tool_arguments_named_model_stay_as_they_are(gateway: Gateway, upstream: Upstream, id: str) -> None:
    call, model = BY_ID[id], upstream.model()
    _, answer = send(gateway, call, "alias", model)
    assert "inner-model" in answer.text
    if not call.stream:
        calls = answer.json()["choices"][0]["message"]["tool_calls"]
        assert calls[0]["function"]["arguments"] == TOOL_ARGUMENTS


def test_text_that_looks_like_a_model_stays_as_it_is(gateway: Gateway, upstream: Upstream) -> None:
    answer = gateway.post("/v1/chat/completions", BY_ID["chat"].fields("chat-default"))
    assert answer.json()["choices"][0]["message"]["content"] == TEXT


def test_the_price_in_the_file_is_the_cost_of_the_row(gateway: Gateway, upstream: Upstream) -> None:
    upstream.model(Script(), "gold")
    for _ in range(6):
        answer = gateway.post("/priced/v1/chat/completions", BY_ID["chat"].fields("gold"))
        row = gateway.row(request_id=answer.headers["x-gproxy-request-id"])
        cached = row["cache_read_tokens"] or 0
        nano = (row["input_tokens"] - cached) * 2000 + cached * 500 + row["output_tokens"] * 8000
        assert row["cost_usd"] == pytest.approx(nano / 1e9, abs=1e-12)
        assert row["price_source"]


def test_an_unknown_price_is_null(gateway: Gateway, upstream: Upstream) -> None:
    answer = gateway.post("/oa/v1/chat/completions", BY_ID["chat"].fields(upstream.model()))
    assert gateway.row(request_id=answer.headers["x-gproxy-request-id"])["cost_usd"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_cost_that_the_upstream_reports_is_the_cost_of_the_row(
    gateway: Gateway, upstream: Upstream, stream: bool
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "cost": 0.00123}
    tree = {"id": "x", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}], "usage": usage}
    text = json.dumps(tree).encode()
    chunks = (b"data: " + text + b"\n\n", b"data: [DONE]\n\n")
    model = upstream.model(Script(chunks=chunks) if stream else Script(body=text))
    gateway.post("/router/v1/chat/completions", BY_ID["chat-stream" if stream else "chat"].fields(model))
    row = gateway.row(model=model)
    assert (row["cost_usd"], row["input_tokens"], row["output_tokens"]) == (0.00123, 9, 4)
    assert row["price_source"]


def test_without_enable_usage_no_row_is_written(upstream: Upstream, tmp_path: Any) -> None:
    text = (
        "[global]\nenable_usage = false\n" + provider("oa", "openai", upstream.url) + user("a", "sk-a", "*")
    )
    with Gateway(tmp_path, text) as gateway:
        answer = gateway.post("/oa/v1/chat/completions", BY_ID["chat"].fields(upstream.model()), key="sk-a")
        assert answer.status_code == 200
        assert gateway.rows() == []


def test_a_figure_that_is_nonsense_never_reaches_the_ledger(gateway: Gateway, upstream: Upstream) -> None:
    """Negative, fractional, huge or non-numeric usage must not become a charge, nor break the answer."""
    for figure in (-5, 1.5, "7", 1e400, 10**40, None, True, [1]):
        usage = {"prompt_tokens": figure, "completion_tokens": figure, "total_tokens": figure}
        text = json.dumps({"id": "x", "model": "m", "choices": [], "usage": usage})
        text = text.replace("Infinity", "1e400")  # which is JSON
        model = upstream.model(Script(body=text.encode()))
        answer = gateway.post("/oa/v1/chat/completions", BY_ID["chat"].fields(model))
        assert answer.status_code == 200
        row = gateway.row(request_id=answer.headers["x-gproxy-request-id"])
        assert 0 <= (row["input_tokens"] or 0) < 2**62
        assert 0 <= (row["total_tokens"] or 0) < 2**63
