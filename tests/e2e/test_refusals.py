"""What the gateway refuses by itself: the status, the dialect's own error body, and nothing sent upstream."""

import socket

import httpx
import pytest

from tests.kit.calls import BY_ID, CALLS, Call
from tests.kit.errors import message_of
from tests.kit.gateway import KEY, NARROW_KEY, Gateway
from tests.kit.upstream import Upstream

pytestmark = pytest.mark.both_engines

FAMILIES = [BY_ID["chat"], BY_ID["messages"], BY_ID["generate"]]
BY_FAMILY = pytest.mark.parametrize("call", FAMILIES, ids=lambda call: call.family)

BROKEN = {
    "not-json": b"hello",
    "empty": b"",
    "array": b"[]",
    "cut": b'{"model": "oa/x", "messages": [',
    "bad-utf8": b'{"model": "oa/x", "a": "\xff"}',
    "surrogate": b'{"model": "oa/x", "a": "\\ud800"}',
    "nan": b'{"model": "oa/x", "a": NaN}',
    "huge-number": b'{"model": "oa/x", "a": 1e999}',
    "twice": b'{"model": "oa/x", "model": "oa/y"}',
    "twice-other": b'{"model": "oa/x", "a": 1, "a": 2}',
    "deep": b'{"model": "oa/x", "a": ' + b"[" * 200 + b"]" * 200 + b"}",
    "very-deep": b'{"model": "oa/x", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "trailing": b'{"model": "oa/x"} x',
    "control": b'{"model": "oa/x", "a": "\x01"}',
    "bom-only": b"\xef\xbb\xbf",
}


@pytest.mark.parametrize("id", BROKEN)
@BY_FAMILY
def test_a_malformed_body_is_400(gateway: Gateway, call: Call, id: str) -> None:
    url = call.url(f"{call.provider}/{'x'}")
    message_of(gateway.post(url, BROKEN[id]), call.family, 400)


@pytest.mark.parametrize("model", [None, 7, "", "a\nb", ["oa/x"], "\x00"])
@pytest.mark.parametrize("call", FAMILIES[:2], ids=lambda call: call.family)
def test_a_model_that_is_no_name_is_400(gateway: Gateway, call: Call, model: object) -> None:
    message_of(gateway.post(call.path, call.fields("x") | {"model": model}), call.family, 400)


@pytest.mark.parametrize("stream", [1, "true", None, {}])
@pytest.mark.parametrize("call", FAMILIES[:2], ids=lambda call: call.family)
def test_a_stream_flag_that_is_no_boolean_is_400(gateway: Gateway, call: Call, stream: object) -> None:
    message_of(gateway.post(call.path, call.fields(call.alias) | {"stream": stream}), call.family, 400)


@BY_FAMILY
def test_a_name_without_provider_and_alias_names_the_ways_out(gateway: Gateway, call: Call) -> None:
    answer = gateway.post(call.url("gpt-nobody"), call.fields("gpt-nobody"))
    message = message_of(answer, call.family, 400).lower()
    assert "provider/" in message
    assert "alias" in message


@BY_FAMILY
@pytest.mark.parametrize("key", [None, "sk-stranger", "sk-client-alic", KEY + "x", KEY.upper()])
def test_a_missing_or_unknown_key_is_401(gateway: Gateway, call: Call, key: str | None) -> None:
    answer = gateway.post(call.url(call.alias), call.fields(call.alias), key=key)
    assert (key or "no key") not in message_of(answer, call.family, 401)


def test_a_key_works_in_each_of_four_places_and_an_empty_one_counts_as_absent(gateway: Gateway) -> None:
    call = BY_ID["chat"]
    body = call.fields(call.alias)
    for headers in (
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}", "x-api-key": ""},
        {"x-api-key": KEY},
        {"x-goog-api-key": KEY},
        {"x-goog-api-key": KEY, "x-api-key": KEY},
    ):
        assert gateway.post(call.path, body, key=None, **headers).status_code == 200, headers
    assert gateway.post(f"{call.path}?key={KEY}", body, key=None).status_code == 200
    assert gateway.post(f"{call.path}?key={KEY}x", body, key=None).status_code == 401


def test_two_different_keys_are_401_even_if_both_are_good(gateway: Gateway) -> None:
    call = BY_ID["messages"]
    answer = gateway.post(call.path, call.fields(call.alias), x_api_key=NARROW_KEY)
    message_of(answer, call.family, 401)
    message_of(gateway.post(f"{call.path}?key=other", call.fields(call.alias)), call.family, 401)


@BY_FAMILY
def test_a_model_that_is_not_permitted_is_403_whether_it_exists_or_not(gateway: Gateway, call: Call) -> None:
    for model in ("o3", "nothing"):
        name = f"{call.provider}/{model}"
        message_of(gateway.post(call.url(name), call.fields(name), key=NARROW_KEY), call.family, 403)


@pytest.mark.parametrize(
    ("path", "name", "status"),
    [
        ("/v1/chat/completions", "oa/gpt-5", 200),
        ("/oa/v1/chat/completions", "gpt-5", 200),
        ("/v1/chat/completions", "oa/o3", 403),
        ("/v1/chat/completions", "chat-default", 200),
        ("/oa/v1/chat/completions", "chat-default", 200),
        ("/v1/chat/completions", "oa/alias-target", 403),
        ("/v1/chat/completions", "bare-chat", 200),
        ("/v1/chat/completions", "listing/nothing", 404),
        ("/v1/chat/completions", "nousage/gpt-5", 403),
    ],
)
def test_permissions_go_by_target_and_by_alias(gateway: Gateway, path: str, name: str, status: int) -> None:
    assert gateway.post(path, BY_ID["chat"].fields(name), key=NARROW_KEY).status_code == status


def test_what_is_permitted_but_not_listed_is_404(gateway: Gateway) -> None:
    for name in ("listing/nothing", "listing/off"):
        message_of(gateway.post("/v1/chat/completions", BY_ID["chat"].fields(name)), "openai", 404)


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/v1/unknown", "openai"),
        ("/nobody/v1/chat/completions", "openai"),
        ("/nobody/v1/messages", "anthropic"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1beta/models/ge/x:doThings", "gemini"),
        ("/v1beta/files", "gemini"),
        ("/v1//chat/completions", "openai"),
        ("/v1/chat/completions/", "openai"),
        ("/V1/chat/completions", "openai"),
        ("/oa/oa/v1/chat/completions", "openai"),
        ("/oa/v1/../v1/chat/completions%2f", "openai"),
        ("/..%2fadmin", "openai"),
    ],
)
def test_an_unknown_path_is_404(gateway: Gateway, path: str, family: str) -> None:
    message_of(gateway.post(path, BY_ID["chat"].fields("chat-default")), family, 404)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_a_wrong_method_is_405_with_allow(gateway: Gateway, call: Call) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        with gateway.client() as client:
            answer = client.request(method, call.path.replace("{model}", "ge/x"))
        if method == "GET" and answer.status_code == 404 and call.path.startswith("/v1/models/"):
            continue  # a list of models is asked for by the same path
        message_of(answer, call.family, 405)
        assert "POST" in answer.headers["allow"]


@BY_FAMILY
def test_a_body_over_the_limit_is_413(gateway: Gateway, call: Call) -> None:
    padded = call.fields(call.alias) | {"pad": "x" * 1_000_001}
    message_of(gateway.post(call.url(call.alias), padded), call.family, 413)


@pytest.mark.parametrize("key", [KEY, "no-key-of-ours"])
def test_a_refusal_reaches_a_client_that_goes_on_sending(gateway: Gateway, key: str) -> None:
    """Far more than is read before the answer: closed with that unread, the connection would be reset."""
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000000\r\n"
    url, got = httpx.URL(gateway.url), b""
    with socket.create_connection((url.host, url.port or 0), timeout=10) as sock:
        sock.sendall(f"{head}Authorization: Bearer {key}\r\nContent-Type: application/json\r\n\r\n".encode())
        for _ in range(400):
            sock.sendall(b"x" * 100_000)
        while data := sock.recv(65536):
            got += data
    assert got.startswith(b"HTTP/1.1 413 " if key == KEY else b"HTTP/1.1 401 ")
    assert got.endswith(b"}}")


@BY_FAMILY
def test_an_unknown_encoding_is_415(gateway: Gateway, call: Call) -> None:
    answer = gateway.post(call.url(call.alias), b"{}", content_encoding="snappy")
    message_of(answer, call.family, 415)


def test_a_foreign_content_type_is_refused(gateway: Gateway) -> None:
    """A page in a browser can post text/plain without asking first."""
    answer = gateway.post("/v1/chat/completions", b'{"model":"chat-default"}', content_type="text/plain")
    message_of(answer, "openai", 415)


@BY_FAMILY
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.1.2.3", "127.0.0.1.nip.io"])
def test_a_foreign_host_is_421(gateway: Gateway, call: Call, host: str) -> None:
    answer = gateway.post(call.url(call.alias), call.fields(call.alias), host=host)
    message_of(answer, call.family, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST", "[::1]"])
def test_loopback_hosts_are_ours_with_any_port(gateway: Gateway, host: str) -> None:
    for name in (host, f"{host}:1234"):
        answer = gateway.post("/v1/chat/completions", BY_ID["chat"].fields("chat-default"), host=name)
        assert answer.status_code == 200, name


@pytest.mark.parametrize(
    ("call", "scope"),
    [(BY_ID["completions"], "an"), (BY_ID["completions"], "ge"), (BY_ID["embeddings"], "an")],
)
def test_what_cannot_be_translated_for_a_provider_is_400_and_both_dialects_are_named(
    gateway: Gateway, upstream: Upstream, call: Call, scope: str
) -> None:
    model = upstream.model()
    answer = gateway.post(call.url(model, scope), call.fields(model))
    message = message_of(answer, call.family, 400)
    assert call.column in message
    assert {"oa": "openai_chat", "an": "anthropic_messages", "ge": "gemini"}[scope] in message
    assert upstream.exchanges(model) == []
    row = gateway.row(request_id=answer.headers["x-gproxy-request-id"])
    assert (row["status"], row["requested_model"], row["total_tokens"]) == (400, model, None)


def test_a_refused_request_leaves_no_row(gateway: Gateway) -> None:
    before = len(gateway.rows())
    gateway.post("/v1/chat/completions", BROKEN["cut"])
    gateway.post("/v1/chat/completions", BY_ID["chat"].fields("oa/o3"), key=NARROW_KEY)
    gateway.post("/v1/chat/completions", BY_ID["chat"].fields("oa/o3"), key="sk-stranger")
    assert len(gateway.rows()) == before


@pytest.mark.parametrize(
    "head",
    [
        "POST http://127.0.0.1/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n",
        "POST //v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n",
        "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "TRACE /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\nContent-Length: 0\r\n",
        "GET /v1/models HTTP/1.0\r\n",
        "GET /v1/models HTTP/1.1\r\n",
    ],
    ids=["absolute", "slashes", "connect", "trace", "smuggled", "two-hosts", "no-host-1.0", "no-host"],
)
def test_odd_request_heads_are_refused_and_get_one_reply(gateway: Gateway, head: str) -> None:
    url = httpx.URL(gateway.url)
    with socket.create_connection((url.host, url.port or 0), timeout=5) as sock:
        lines = f"{head}Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n0\r\n\r\n"
        sock.sendall(lines.encode())
        reply = b""
        while data := sock.recv(65536):
            reply += data
    assert reply.count(b"HTTP/1.") == 1, reply
    assert reply.split(b" ", 2)[1][:1] == b"4", reply
