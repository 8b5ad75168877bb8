"""What real clients and upstreams do at the edges of HTTP: uploads in chunks, odd names, endless ends, proxies."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, UPSTREAM_KEY, Gateway
from tests.kit.settings import alias, free_port, model, provider, user
from tests.kit.upstream import Script, Upstream

pytestmark = pytest.mark.both_engines

CHAT = BY_ID["chat"]
CHAT_PATH = "/oa/v1/chat/completions"


def test_an_upload_in_chunks_is_read_whole(gateway: Gateway, upstream: Upstream) -> None:
    name = upstream.model()
    body = b'{"model": "%s", "messages": [%s]}' % (name.encode(), b'"x",' * 5000 + b'"y"')

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 999):
            yield body[at : at + 999]

    with gateway.client() as client:
        answer = client.post(CHAT_PATH, content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert upstream.only(name).body == body


def test_a_client_that_waits_for_100_continue_gets_it(gateway: Gateway, upstream: Upstream) -> None:
    name = upstream.model()
    body = f'{{"model": "{name}", "messages": []}}'.encode()
    url = httpx.URL(gateway.url)
    head = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 0), timeout=5) as sock:
        sock.sendall(head.encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 100")
        sock.sendall(body)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    assert "expect" not in upstream.only(name).headers


@pytest.mark.parametrize(
    "headers",
    [[("x-many", "1")] * 150, [("x-long", "y" * 70_000)]],
    ids=["many", "long"],
)
def test_headers_beyond_measure_are_431(gateway: Gateway, headers: list[tuple[str, str]]) -> None:
    with gateway.client() as client:
        answer = client.post(CHAT_PATH, json=CHAT.fields("m"), headers=[*client.headers.items(), *headers])
    assert answer.status_code == 431


@pytest.mark.parametrize("id", ["chat-stream", "messages-stream"])
def test_a_stream_is_over_at_its_terminator_even_if_the_upstream_holds_on(
    gateway: Gateway, upstream: Upstream, id: str
) -> None:
    """Else this would wait for `idle_timeout_s`, longer than a test may take."""
    call, name = BY_ID[id], upstream.model(Script(stop_after=99, then="hang"))
    gateway.post(call.url(name, call.provider), call.fields(name))
    row = gateway.row(model=name)
    assert row["outcome"] == "ok"
    assert upstream.only(name).told.differs_from(row) == {}


@pytest.mark.parametrize("id", ["chat-stream", "messages-stream", "stream-sse", "responses-stream"])
def test_a_compressed_stream_is_still_understood(gateway: Gateway, upstream: Upstream, id: str) -> None:
    call, name = BY_ID[id], upstream.model(Script(compress=True))
    sent_name = f"{call.provider}/{name}"
    answer = gateway.post(call.url(sent_name), call.fields(sent_name))
    assert call.names_in(answer.content) == {sent_name}
    assert upstream.only(name).told.differs_from(gateway.row(model=name)) == {}


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_usage_is_asked_for_whatever_else_the_options_say(
    gateway: Gateway, upstream: Upstream, options: object
) -> None:
    call, name = BY_ID["chat-stream"], upstream.model()
    answer = gateway.post(CHAT_PATH, call.fields(name) | {"stream_options": options})
    assert answer.status_code == 200, answer.text
    assert b'"choices": []' not in answer.content
    assert upstream.only(name).json()["stream_options"]["include_usage"] is True
    assert upstream.only(name).told.differs_from(gateway.row(model=name)) == {}


@pytest.mark.parametrize("name", ["llama3:8b", "org/family/model", "a.b_c-d@2", "ünï/雪"])
def test_ids_of_every_kind_reach_the_upstream_as_they_are(
    gateway: Gateway, upstream: Upstream, name: str
) -> None:
    answer = gateway.post("/v1/chat/completions", CHAT.fields(f"oa/{name}"))
    assert (answer.status_code, answer.json()["model"]) == (200, f"oa/{name}")
    assert upstream.exchanges(name)[-1].json()["model"] == name


@pytest.mark.parametrize("path", ["ge/{}", "ge%2F{}", "models%2Fge%2F{}"])
def test_a_model_in_the_path_may_be_escaped(gateway: Gateway, upstream: Upstream, path: str) -> None:
    name = upstream.model(name=f"llama:{path.count('%')}-{upstream.model()}")
    call = BY_ID["generate"]
    answer = gateway.post(call.url(path.format(name)), call.body)
    assert answer.status_code == 200, answer.text
    assert upstream.only(name).raw_path.startswith("/v1beta/models/llama")


@pytest.mark.parametrize("name", ["..", "../x", "a/../b", "a?b", "a#b", "a b", "a\\b"])
def test_a_model_that_could_change_the_path_goes_nowhere(gateway: Gateway, name: str) -> None:
    call = BY_ID["generate"]
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    answer = gateway.post(call.url(f"ge/{quoted}"), call.body)
    assert answer.status_code in (400, 404), answer.text


def test_a_configured_proxy_is_used_for_requests_and_lists(upstream: Upstream, tmp_path: Path) -> None:
    """The scripted upstream plays the proxy: it is the only one that can answer for a name that does not exist."""
    nowhere = "http://upstream.invalid"
    text = (
        f'[global]\nproxy = "{upstream.url}"\n'
        + provider("all", "openai", nowhere)
        + provider("own", "openai", nowhere, proxy=upstream.url)
        + user("alice", KEY, "*")
    )
    with Gateway(tmp_path, text) as gateway:
        for scope in ("all", "own"):
            name = upstream.model()
            answer = gateway.post(f"/{scope}/v1/chat/completions", CHAT.fields(name))
            assert answer.status_code == 200, answer.text
            assert upstream.only(name).headers["host"] == "upstream.invalid"
            assert "listed-a" in gateway.get(f"/{scope}/v1/models").text


LOOPING = (CHAT, BY_ID["messages-stream"])
"""In the dialect of the upstream, and translated."""


def test_a_loop_through_ourselves_ends_at_once(tmp_path: Path) -> None:
    port = free_port()
    text = provider("self", "custom", f"http://127.0.0.1:{port}/up", protocols=["openai_chat"])
    text += provider("up", "custom", f"http://127.0.0.1:{port}/self", protocols=["openai_chat"])
    with Gateway(tmp_path, text + user("me", UPSTREAM_KEY, "*"), "--port", str(port)) as gateway:
        for call in LOOPING:
            answer = gateway.post(call.url("m", "self"), call.fields("m"), key=UPSTREAM_KEY)
            assert answer.status_code == 508, answer.text
        assert [row["status"] for row in gateway.rows()] == [508, 508]


def test_a_loop_through_another_proxy_ends_at_once(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    a_key, b_key = KEY, UPSTREAM_KEY
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    # Each leads on to the other, which is asked in another dialect each time.
    to_b = provider("on", "custom", f"http://127.0.0.1:{ports[1]}/on", protocols=["openai_chat"])
    to_a = provider("on", "custom", f"http://127.0.0.1:{ports[0]}/on", protocols=["anthropic_messages"])
    to_a = to_a.replace(b_key, a_key)
    with (
        Gateway(tmp_path / "a", to_b + user("me", a_key, "*"), "--port", str(ports[0])) as a,
        Gateway(tmp_path / "b", to_a + user("me", b_key, "*"), "--port", str(ports[1])) as b,
    ):
        for number, call in enumerate(LOOPING, 1):
            answer = a.post(call.url("m", "on"), call.fields("m"), key=a_key)
            assert answer.status_code == 508, answer.text
            assert [len(proxy.rows()) for proxy in (a, b)] == [number, number]


def test_keys_and_users_that_are_off_expired_or_narrowed(upstream: Upstream, tmp_path: Path) -> None:
    text = provider("oa", "openai", upstream.url) + alias("short", "oa", "long-name")
    text += provider("off", "openai", upstream.url).replace("channel", "enabled = false\nchannel", 1)
    text += model("off", "m")
    text += user("alice", KEY, "*")
    for label, more in {
        "disabled": "enabled = false",
        "expired": "expires_at = 2020-01-01T00:00:00Z",
        "ahead": "expires_at = 2999-01-01T00:00:00Z",
        "narrow": 'models = ["oa/gpt-*", "short"]',
    }.items():
        text = text.replace(
            "[[users.keys]]",
            f'[[users.keys]]\nlabel = "{label}"\napi_key = "sk-{label}"\n{more}\n\n[[users.keys]]',
            1,
        )
    text += user("gone", "sk-gone", "*").replace("is_admin = false", "enabled = false")

    with Gateway(tmp_path, text) as gateway:

        def status(key: str, name: str = "oa/gpt-5") -> int:
            return gateway.post("/v1/chat/completions", CHAT.fields(name), key=key).status_code

        assert [status(f"sk-{label}") for label in ("disabled", "expired", "gone")] == [401, 401, 401]
        assert [status("sk-ahead"), status("sk-narrow"), status("sk-narrow", "short")] == [200, 200, 200]
        assert [status("sk-narrow", "oa/long-name"), status("sk-narrow", "oa/o3")] == [403, 403]
        assert status(KEY, "off/m") == 404
        assert status(KEY, "m") == 400


def test_a_refusal_without_a_body_leaves_the_connection_to_what_was_sent_behind_it(gateway: Gateway) -> None:
    url = httpx.URL(gateway.url)
    head = f"GET {CHAT_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    with socket.create_connection((url.host, url.port or 0), timeout=5) as sock:
        sock.sendall(head.encode() + b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        got = b""
        while data := sock.recv(65536):
            got += data
    assert got.startswith(b"HTTP/1.1 405 ")
    assert got.endswith(b"OK")
