"""The door: what is refused before a model is looked at, and what of a request is handed on."""

import contextlib
import gzip
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.schema import RESERVED_NAMES, Global
from gproxy.errors import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    HeadersTooLarge,
    LoopDetected,
    MisdirectedRequest,
    NotFound,
    Unauthenticated,
    UnsupportedEncoding,
)
from gproxy.protocols import registry
from gproxy.protocols.openai_chat import CHAT
from gproxy.server.request import callers, edge
from gproxy.server.request.asgi import AsgiRequest
from gproxy.server.request.edge import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, Call
from gproxy.server.request.fields import Fields
from gproxy.server.request.incoming import ClientLeft, Incoming
from tests.server.parts import KEY, KEYS, Headers, Visit, incoming, scope, snapshot

HERE = snapshot(KEYS)
NOW = 1_795_000_000.0


def guard(settings: Global | None = None, **more: Any) -> Fields:
    return edge.guard(scope("/v1/models", **more), settings or Global(), "me")


# Host.


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LocalHost:8787", "127.0.0.1", "127.0.0.1:1", "127.9.9.9:80", "[::1]", "[::1]:8787",
        "my.host", "MY.Host:80", "Proxy.Example:443", "10.0.0.7:8787",
    ],
)  # fmt: skip
def test_a_host_that_is_this_machine_or_configured_is_served(host: str) -> None:
    settings = Global(host="my.host", allowed_hosts=("proxy.example",))
    at = scope("/", host=host) | {"server": ("10.0.0.7", 8787)}
    assert edge.guard(at, settings, "me")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.8", "0.0.0.0", "[::]",
        "[::2]:80", "my.host.", "evil.example:127", "xlocalhost", "2130706433", "0x7f.1", "127.1",
        "user@localhost", "localhost/x", ":80", f"localhost:{'0' * 300}",
    ],
)  # fmt: skip
def test_any_other_host_is_421(host: str) -> None:
    at = scope("/", host=host) | {"server": ("10.0.0.7", 8787)}
    with pytest.raises(MisdirectedRequest):
        edge.guard(at, Global(host="my.host"), "me")


def test_a_host_that_is_missing_is_400_and_in_version_1_0_a_foreign_one() -> None:
    at = scope("/") | {"headers": []}
    with pytest.raises(BadRequest):
        edge.guard(at, Global(), "me")
    with pytest.raises(MisdirectedRequest):
        edge.guard(at | {"http_version": "1.0"}, Global(), "me")


def test_a_server_without_an_address_still_knows_loopback_names() -> None:
    at = scope("/") | {"server": None}
    assert edge.guard(at, Global(), "me")


def test_two_host_headers_are_400() -> None:
    with pytest.raises(BadRequest):
        guard(headers=[(b"host", b"localhost")])


def test_no_host_header_is_refused() -> None:
    at = scope("/")
    at["headers"] = [header for header in at["headers"] if header[0] != b"host"]
    with pytest.raises((MisdirectedRequest, BadRequest)):
        edge.guard(at, Global(), "me")


# Framing, size, loops.


def test_content_length_with_transfer_encoding_is_400() -> None:
    with pytest.raises(BadRequest):
        guard(headers=[(b"content-length", b"1"), (b"transfer-encoding", b"chunked")])


def test_a_target_that_is_no_path_is_400() -> None:
    for target in ("http://localhost/v1/models", "*", "localhost:443", ""):
        with pytest.raises(BadRequest):
            edge.guard(scope("/") | {"raw_path": target.encode()}, Global(), "me")


def test_so_many_headers_pass_and_one_more_does_not() -> None:
    assert len(guard(headers=[(b"x", b"y")] * (MAX_HEADERS - 2)).raw) == MAX_HEADERS
    with pytest.raises(HeadersTooLarge):
        guard(headers=[(b"x", b"y")] * (MAX_HEADERS - 1))


def test_so_many_bytes_of_headers_pass_and_one_more_does_not() -> None:
    used = sum(len(n) + len(v) for n, v in guard().raw)
    assert guard(headers=[(b"x", bytes(MAX_HEADER_BYTES - used - 1))])
    with pytest.raises(HeadersTooLarge):
        guard(headers=[(b"x", bytes(MAX_HEADER_BYTES - used))])


def test_a_path_and_query_so_long_pass_and_one_byte_more_does_not() -> None:
    long = scope("/v1/models", query="q" * (MAX_TARGET_BYTES - len("/v1/models")))
    assert edge.guard(long, Global(), "me")
    with pytest.raises(HeadersTooLarge):
        edge.guard(long | {"query_string": long["query_string"] + b"q"}, Global(), "me")
    with pytest.raises(HeadersTooLarge):
        edge.guard(long | {"raw_path": b"/" * (MAX_TARGET_BYTES + 1), "query_string": b""}, Global(), "me")


@pytest.mark.parametrize("via", [b"me", b"other, me", b"other,me , third"])
def test_a_request_that_came_through_here_before_is_508(via: bytes) -> None:
    with pytest.raises(LoopDetected):
        guard(headers=[(edge.LOOP_HEADER, via)])


@pytest.mark.parametrize("via", [b"other", b"mee, xme", b""])
def test_a_request_that_came_through_others_passes(via: bytes) -> None:
    assert guard(headers=[(edge.LOOP_HEADER, via)])


# Paths.


def test_a_path_below_a_provider_is_that_providers() -> None:
    assert edge.data_route("/up/v1/chat/completions") == (CHAT, None, "up")
    assert edge.data_route("/v1/chat/completions") == (CHAT, None, None)


@pytest.mark.parametrize("first", sorted(RESERVED_NAMES))
def test_a_first_segment_of_ours_is_no_provider(first: str) -> None:
    assert edge.data_route(f"/{first}/v1/chat/completions") is None


@pytest.mark.parametrize(
    "path", ["/", "", "//v1/messages", "/a/b/v1/messages", "/v1/messages/", "/up/v1", "/health"]
)
def test_any_other_path_asks_no_model(path: str) -> None:
    assert edge.data_route(path) is None


def test_an_error_about_a_path_is_told_in_the_shape_of_what_is_below_the_provider() -> None:
    for path, shape in (
        ("/up/v1beta/models", registry.GEMINI),
        ("/v1beta/x", registry.GEMINI),
        ("/up/v1/messages", registry.ANTHROPIC),
        ("/up/v1/chat/completions", registry.OPENAI),
        ("/nowhere", registry.OPENAI),
    ):
        assert edge.shape_of(scope(path)) is shape


# Bodies.

BODY = {"model": "up/m", "messages": []}


async def read(
    *pieces: bytes, headers: Headers | None = None, query: str = "", scoped: str | None = None, **more: Any
) -> Call:
    raw = list(pieces) or [json.dumps(BODY).encode()]
    return await read_at(
        scope("/v1/chat/completions", headers=headers, query=query, **more), Visit(*raw), scoped
    )


async def read_at(at: dict[str, Any], visit: Visit, scoped: str | None = None) -> Call:
    incoming = Incoming(AsgiRequest(at, visit.receive, visit.send))
    passed = edge.let_in(at, Fields(tuple(at["headers"])), incoming, (CHAT, None, scoped), (), HERE)
    return await edge.read(passed, incoming, "req_1", 0.0)


async def test_a_call_holds_what_came() -> None:
    call = await read(query="key=sk-client&beta=true", scoped="up")
    assert (call.request_id, call.client.user, call.protocol, call.passed.scoped) == (
        "req_1",
        "alice",
        CHAT,
        "up",
    )
    assert call.facts.model == "up/m"
    assert call.passed.query == "beta=true"
    assert call.snapshot is HERE


async def test_a_pass_is_good_until_the_key_expires() -> None:
    at, visit = scope(CHAT.paths[0]), Visit(json.dumps(BODY).encode())
    incoming = Incoming(AsgiRequest(at, visit.receive, visit.send))
    passed = edge.let_in(at, Fields(tuple(at["headers"])), incoming, (CHAT, None, None), (), HERE)
    passed.client = replace(passed.client, expires_at=time.time() - 1)
    with pytest.raises(Unauthenticated):
        await edge.read(passed, incoming, "req_1", 0.0)
    assert visit.unread == 1
    passed.client = replace(passed.client, expires_at=time.time() + 60)
    assert await edge.read(passed, incoming, "req_1", 0.0)


async def test_a_name_that_was_clear_makes_no_other_clear() -> None:
    at = scope(CHAT.paths[0])
    passed = edge.let_in(
        at, Fields(tuple(at["headers"])), incoming(Visit().receive), (CHAT, None, None), (), HERE
    )
    for name in ("up/m", "up/m", f"up/{KEY}", "up/m", f"{KEY}/up"):
        body = incoming(Visit(json.dumps({**BODY, "model": name}).encode()).receive)
        with pytest.raises(BadRequest) if KEY in name else contextlib.nullcontext():
            await edge.read(passed, body, "req_1", 0.0)


async def test_a_body_in_pieces_is_one_body() -> None:
    raw = json.dumps(BODY).encode()
    call = await read(*(raw[at : at + 3] for at in range(0, len(raw), 3)))
    assert call.facts.body.text.encode() == raw


@pytest.mark.parametrize(
    "media", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]
)
async def test_json_is_taken_by_whatever_name(media: str) -> None:
    assert await read(headers=[(b"content-type", media.encode())])


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
async def test_any_other_content_type_is_415(media: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        await read(headers=[(b"content-type", media.encode())])


async def test_the_key_is_looked_at_before_the_body() -> None:
    for headers, scoped in (
        ([(b"content-type", b"text/plain")], "nobody"),
        ([(b"content-length", b"9" * 9)], None),
    ):
        with pytest.raises(Unauthenticated):
            await read(b"junk", key=None, headers=headers, scoped=scoped)


async def test_a_provider_that_is_not_there_is_404_before_the_body_is_read() -> None:
    at = scope("/nobody/v1/chat/completions")
    visit = Visit(b"junk")
    with pytest.raises(NotFound):
        await read_at(at, visit, "nobody")
    assert (await visit.receive())["body"] == b"junk"


def sized(size: int) -> bytes:
    return json.dumps({**BODY, "user": ""}).encode().replace(b'""', b'"' + b"x" * (size - 45) + b'"')


async def test_a_body_as_large_as_allowed_passes_and_one_byte_more_is_413() -> None:
    assert len(sized(2000)) == 2000
    assert await read(sized(2000))
    with pytest.raises(BodyTooLarge):
        await read(sized(2001))
    with pytest.raises(BodyTooLarge):
        await read(*[b" " * 100] * 21)


async def test_a_length_beyond_the_cap_is_413_before_anything_is_read() -> None:
    at = scope("/v1/chat/completions", headers=[(b"content-length", b"2001")])
    visit = Visit(sized(100))
    with pytest.raises(BodyTooLarge):
        await read_at(at, visit)
    assert (await visit.receive())["body"] == sized(100)


async def test_a_compressed_body_is_read_and_its_cap_is_on_what_comes_out() -> None:
    coding = [(b"content-encoding", b"gzip")]
    assert (await read(gzip.compress(sized(2000)), headers=coding)).facts.model == "up/m"
    with pytest.raises(BodyTooLarge):
        await read(gzip.compress(sized(2001)), headers=coding)
    with pytest.raises(BadRequest):
        await read(gzip.compress(sized(2000))[:-1], headers=coding)
    with pytest.raises(UnsupportedEncoding):
        await read(b"x", headers=[(b"content-encoding", b"lzma")])


@pytest.mark.parametrize("name", [b"content-type", b"content-length", b"content-encoding"])
async def test_a_header_about_the_body_that_comes_twice_is_400(name: bytes) -> None:
    with pytest.raises(BadRequest):
        await read(headers=[(name, b"1"), (name, b"2")])


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b'{"model": 7}', b'{"model": "a", "model": "b"}'])
async def test_a_body_that_is_no_request_is_400(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        await read(raw)


async def test_a_client_that_leaves_inside_its_body_has_left() -> None:
    at = scope("/v1/chat/completions")
    with pytest.raises(ClientLeft):
        await read_at(at, Visit(b"{", then_leave=True))


@given(
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5), st.binary(max_size=30)
)
def test_nothing_in_the_headers_is_a_fault_of_ours(headers: Headers, host: bytes) -> None:
    at = scope("/v1/models", headers=[(name.lower(), value) for name, value in headers])
    at["headers"] = [(b"host", host), *at["headers"][1:]]
    with contextlib.suppress(GatewayError):
        callers.authenticate(edge.guard(at, Global(), "me").raw, host.decode("latin-1"), HERE, NOW)
