"""What must not change does not: bodies, event framing, headers; what must change is one value."""

import gzip
import json

import pytest

from tests.kit.calls import BY_ID, CALLS, Call
from tests.kit.gateway import Gateway
from tests.kit.upstream import Script, Upstream

SPACED = (
    '{ "messages":[{"role":"user","content":"\\u00e9 \\"model\\" \U0001f600"}],'
    '\n "model" : %s ,"x":1.0e2, "z":{"model":"in"} }'
)


def test_a_body_whose_model_needs_no_change_goes_up_byte_for_byte(
    gateway: Gateway, upstream: Upstream
) -> None:
    model = upstream.model()
    body = (SPACED % f'"{model}"').encode()
    assert gateway.post("/oa/v1/chat/completions", body).status_code == 200
    assert upstream.only(model).body == body


@pytest.mark.parametrize("name", ['"oa/%s"', '"oa\\/%s"'], ids=["plain", "escaped"])
def test_only_the_model_changes_in_a_body(gateway: Gateway, upstream: Upstream, name: str) -> None:
    model = upstream.model()
    assert gateway.post("/v1/chat/completions", (SPACED % (name % model)).encode()).status_code == 200
    assert upstream.only(model).body == (SPACED % f'"{model}"').encode()


def test_a_large_body_goes_up_whole(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x" * 900_000}]}).encode()
    assert gateway.post("/oa/v1/chat/completions", body).status_code == 200
    assert upstream.only(model).body == body


SAME = [
    call for call in CALLS if call.id not in ("chat-stream", "chat-stream-usage-false", "completions-stream")
]


@pytest.mark.parametrize("call", SAME, ids=lambda call: call.id)
def test_an_answer_that_needs_no_change_comes_down_byte_for_byte(
    gateway: Gateway, upstream: Upstream, call: Call
) -> None:
    model = upstream.model()
    answer = gateway.post(call.url(model, call.provider), call.fields(model))
    exchange = upstream.only(model)
    assert answer.content == b"".join(exchange.sent)
    if call.family != "gemini":
        assert exchange.json() == call.fields(model)


@pytest.mark.parametrize("id", ["chat-stream-usage", "messages-stream", "responses-stream", "stream-sse"])
@pytest.mark.parametrize("cut_every", [1, 7, 64])
def test_only_the_name_changes_in_a_stream_however_it_is_cut(
    gateway: Gateway, upstream: Upstream, id: str, cut_every: int
) -> None:
    call, model = BY_ID[id], upstream.model(Script(cut_every=cut_every))
    name = f"{call.provider}/{model}"
    answer = gateway.post(call.url(name), call.fields(name))
    sent = b"".join(upstream.only(model).sent)
    assert answer.content == sent.replace(f'"{model}"'.encode(), f'"{name}"'.encode())
    assert upstream.only(model).told.differs_from(gateway.row(model=model)) == {}


@pytest.mark.parametrize("id", ["generate", "stream-array", "messages", "chat"])
def test_only_the_name_changes_in_a_body_however_it_is_cut(
    gateway: Gateway, upstream: Upstream, id: str
) -> None:
    call, model = BY_ID[id], upstream.model(Script(cut_every=5))
    name = f"{call.provider}/{model}"
    answer = gateway.post(call.url(name), call.fields(name))
    sent = b"".join(upstream.only(model).sent).replace(f'"{model}"'.encode(), f'"{name}"'.encode())
    # The answer ends where its array does: a line break behind that may still be on its way then.
    assert answer.content in (sent, sent.rstrip())


ODD = (
    b": a comment\n\n"
    b"id: 7\r\nretry: 100\r\nevent: message\r\n"
    b'data: {"id":"a",\r\ndata: "model":"odd","choices":[]}\r\n\r\n'
    b"event: ping\n\n"
    b'data:{"choices":[{"delta":{"content":"no space"}}],"model":"odd"}\n\n'
    b'unknown: field\ndata: {"choices":[],"x":{"model":"inner"}}\n\n'
    b"data:[DONE]\n\n"
)


@pytest.mark.parametrize("cut_every", [0, 1, 3])
def test_comments_ids_and_odd_framing_are_kept(gateway: Gateway, upstream: Upstream, cut_every: int) -> None:
    call = BY_ID["chat-stream-usage"]
    model = upstream.model(Script(chunks=(ODD,), cut_every=cut_every), "odd")
    answer = gateway.post(call.url(model, "oa"), call.fields(model))
    assert answer.content == ODD
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_usage_is_asked_for_and_its_chunk_withheld(gateway: Gateway, upstream: Upstream) -> None:
    call, model = BY_ID["chat-stream"], upstream.model()
    answer = gateway.post(call.url(model, "oa"), call.fields(model))
    exchange = upstream.only(model)
    assert exchange.json() == call.fields(model) | {"stream_options": {"include_usage": True}}
    withheld = [chunk for chunk in exchange.sent if b'"choices": []' in chunk]
    assert len(withheld) == 1
    assert answer.content == b"".join(chunk for chunk in exchange.sent if chunk not in withheld)
    assert answer.content.endswith(b"data: [DONE]\n\n")


def test_other_stream_options_are_kept_when_usage_is_asked_for(gateway: Gateway, upstream: Upstream) -> None:
    call, model = BY_ID["chat-stream"], upstream.model()
    options = {"include_obfuscation": False}
    gateway.post(call.url(model, "oa"), call.fields(model) | {"stream_options": options})
    assert upstream.only(model).json()["stream_options"] == options | {"include_usage": True}


def test_a_provider_can_switch_the_asking_off(gateway: Gateway, upstream: Upstream) -> None:
    call, model = BY_ID["chat-stream"], upstream.model()
    answer = gateway.post(call.url(model, "nousage"), call.fields(model))
    exchange = upstream.only(model)
    assert exchange.json() == call.fields(model)
    assert answer.content == b"".join(exchange.sent)
    assert gateway.row(model=model)["usage_source"] != "upstream"


def test_usage_is_never_asked_for_without_a_stream(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    gateway.post("/oa/v1/chat/completions", BY_ID["chat"].fields(model) | {"stream": False})
    assert "stream_options" not in upstream.only(model).json()


def test_headers_go_both_ways_by_list(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model(
        Script(
            headers={
                "set-cookie": "a=b",
                "server": "secret-server",
                "x-request-id": "up-1",
                "retry-after": "3",
                "openai-organization": "org-secret",
                "openai-processing-ms": "12",
                "alt-svc": 'h3=":443"',
            }
        )
    )
    answer = gateway.post(
        "/oa/v1/chat/completions",
        BY_ID["chat"].fields(model),
        cookie="session=1",
        origin=gateway.url,
        x_forwarded_for="1.2.3.4",
        openai_organization="org-client",
        idempotency_key="once",
        user_agent="my-tool/1",
    )
    assert answer.status_code == 200
    up = upstream.only(model).headers
    assert not {"cookie", "origin", "x-forwarded-for", "openai-organization", "via"} & up.keys()
    assert (up["idempotency-key"], up["user-agent"]) == ("once", "my-tool/1")
    assert up["host"] in upstream.url
    down = answer.headers
    assert not {"set-cookie", "alt-svc", "openai-organization"} & down.keys()
    assert down.get("server") != "secret-server"
    assert down["openai-processing-ms"] == "12"
    assert down["x-gproxy-request-id"]


def test_versions_and_betas_of_the_client_go_up(gateway: Gateway, upstream: Upstream) -> None:
    call, model = BY_ID["messages-beta"], upstream.model()
    gateway.post(
        call.url(model, "an"), call.fields(model), anthropic_version="2026-10-21", anthropic_beta="a, b"
    )
    seen = upstream.only(model)
    assert (seen.headers["anthropic-version"], seen.headers["anthropic-beta"]) == ("2026-10-21", "a, b")
    assert seen.query == "beta=true"
    plain = upstream.model()
    gateway.post("/an/v1/messages", call.fields(plain))
    assert upstream.only(plain).headers["anthropic-version"] == "2023-06-01"


def test_a_key_in_the_query_goes_no_further(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    url = f"/ge/v1beta/models/{model}:streamGenerateContent?key=sk-client-alice&alt=sse"
    assert gateway.post(url, BY_ID["generate"].body, key=None).status_code == 200
    assert upstream.only(model).query == "alt=sse"


@pytest.mark.parametrize("id", ["chat", "generate", "messages"])
def test_a_compressed_answer_is_still_read_and_renamed(gateway: Gateway, upstream: Upstream, id: str) -> None:
    """We ask for identity; some upstreams compress all the same."""
    call, model = BY_ID[id], upstream.model(Script(compress=True))
    name = f"{call.provider}/{model}"
    answer = gateway.post(call.url(name), call.fields(name))
    assert call.names_in(answer.content) == {name}
    assert upstream.only(model).told.differs_from(gateway.row(model=model)) == {}


def test_a_compressed_answer_says_how_it_is_encoded(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model(Script(compress=True))
    with (
        gateway.client() as client,
        client.stream(
            "POST", "/oa/v1/audio/speech", json={"model": model, "input": "x", "voice": "y"}
        ) as answer,
    ):
        raw = b"".join(answer.iter_raw())
        coded = answer.headers.get("content-encoding") == "gzip"
    assert b"ID3" in (gzip.decompress(raw) if coded else raw)
