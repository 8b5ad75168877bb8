"""Requests that can be read in two ways, at the served gateway: one refusal, the end, and nothing goes upstream."""

import contextlib
import json
import os
import re
import socket
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, Gateway
from tests.kit.settings import chatting
from tests.kit.upstream import Upstream

pytestmark = pytest.mark.skipif(
    os.environ.get("GPROXY_HTTP_ENGINE") == "hypercorn",
    reason="Hypercorn's own engine reads more than one way",
)

CHAT = BY_ID["chat"]
PATH = "/oa/v1/chat/completions"


def exchange(gateway: Gateway, sent: bytes) -> bytes:
    """All that is answered to `sent`, to the end of the connection."""
    url = httpx.URL(gateway.url)
    got = b""
    with socket.create_connection((url.host, url.port or 0), timeout=10) as sock:
        sock.sendall(sent)
        while data := sock.recv(65536):
            got += data
    return got


def post(*headers: str, body: bytes, line: str = f"POST {PATH} HTTP/1.1") -> bytes:
    fixed = ["Host: 127.0.0.1", f"Authorization: Bearer {KEY}", "Content-Type: application/json"]
    return "\r\n".join([line, *fixed, *headers, "", ""]).encode("latin-1") + body


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def odd(body: bytes) -> dict[str, bytes]:
    """A good call, each spoilt in one place; what a laxer reader would serve is behind each."""
    length = f"Content-Length: {len(body)}"
    te = "Transfer-Encoding: chunked"
    return {
        "length-and-chunks": post(length, te, body=chunked(body)),
        "chunks-and-length": post(te, "Content-Length: 0", body=chunked(body)),
        "length-twice": post(length, length, body=body),
        "length-listed": post(f"{length}, {len(body)}", body=body),
        "length-signed": post(f"Content-Length: +{len(body)}", body=body),
        "lengths-differ": post("Content-Length: 0", length, body=body),
        "chunked-twice": post(te, te, body=chunked(body)),
        "coded": post("Transfer-Encoding: gzip, chunked", body=chunked(body)),
        "coded-unknown": post("Transfer-Encoding: xchunked", body=chunked(body)),
        "chunks-in-1.0": post(te, body=chunked(body), line=f"POST {PATH} HTTP/1.0"),
        "chunk-size": post(te, body=b"0x" + chunked(body)),
        "chunk-lf": post(te, body=chunked(body).replace(b"\r\n", b"\n")),
        "chunk-short": post(te, body=b"5\r\n" + body + b"\r\n0\r\n\r\n"),
        "folded": post(length, "X-A: b\r\n c", body=body),
        "space": post("Content-Length : 0", length, body=body),
        "bare-cr": post(f"X-A: b\r{length}", length, body=body),
        "bare-lf": post(f"X-A: b\n{length}", length, body=body),
        "nul": post("X-A: \0", length, body=body),
        "no-colon": post("nonsense", length, body=body),
        "no-name": post(": x", length, body=body),
        "version-2": post(length, body=body, line=f"POST {PATH} HTTP/2.0"),
        "version-1.2": post(length, body=body, line=f"POST {PATH} HTTP/1.2"),
        "no-version": post(length, body=body, line=f"POST {PATH}"),
        "tab": post(length, body=body, line=f"POST\t{PATH} HTTP/1.1"),
        "spaces": post(length, body=body, line=f"POST  {PATH} HTTP/1.1"),
        "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }


NEXT = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("id", odd(b"x"))
def test_what_can_be_read_in_two_ways_is_refused_in_json_and_ends_the_connection(
    gateway: Gateway, upstream: Upstream, id: str
) -> None:
    name = upstream.model()
    got = exchange(gateway, odd(json.dumps(CHAT.fields(name)).encode())[id] + NEXT)
    head, _, body = got.partition(b"\r\n\r\n")
    assert got.count(b"HTTP/1.1 ") == 1, got
    assert head.startswith(b"HTTP/1.1 400 "), got
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-gproxy-request-id: req_" in head
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert upstream.exchanges(name) == []
    assert gateway.rows(model=name) == []


PLACES = st.tuples(st.integers(0, 5000), st.binary(max_size=3), st.integers(0, 3))
"""How far from the end, what is put there, and how much of what was there it replaces."""


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(PLACES, min_size=1, max_size=3),
    in_chunks=st.booleans(),
)
@example(places=[(0, b"\n", 0)], in_chunks=False)
def test_whatever_is_done_to_the_bytes_of_calls_each_gets_one_answer_at_most(
    gateway: Gateway, upstream: Upstream, places: list[tuple[int, bytes, int]], in_chunks: bool
) -> None:
    """Some bytes of two calls, one behind the other, are replaced by others or left out. What is left behind both is
    no call, and refused."""
    body = json.dumps(CHAT.fields(upstream.model())).encode()
    head, framed = (
        ("Transfer-Encoding: chunked", chunked(body)) if in_chunks else (f"Content-Length: {len(body)}", body)
    )
    sent = post(head, body=framed) + NEXT
    for place, new, gone in places:
        at = len(sent) - place % len(sent)
        sent = sent[:at] + new + sent[at + gone :]
    url = httpx.URL(gateway.url)
    got = b""
    with socket.create_connection((url.host, url.port or 0), timeout=10) as sock:
        sock.sendall(sent)
        sock.settimeout(0.02)
        with contextlib.suppress(TimeoutError):
            while data := sock.recv(65536):
                got += data
        sock.settimeout(10)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                got += data
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", got)
    assert statuses[2:] in ([], [b"400"])
    assert b"500" not in statuses
    assert b"502" not in statuses


@pytest.mark.parametrize("headers", [["X-A: b"] * 150, ["X-A: " + "b" * 90_000]], ids=["many", "long"])
def test_a_head_beyond_measure_is_431_in_json(gateway: Gateway, headers: list[str]) -> None:
    got = exchange(gateway, post(*headers, body=b""))
    assert got.startswith(b"HTTP/1.1 431 ")
    assert b"\r\nx-gproxy-request-id: req_" in got
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == 431


@pytest.mark.both_engines
@pytest.mark.parametrize(
    "asks",
    [["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"], []],
    ids=["whole", "bare"],
)
@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/realtime", b"404"), ("/v1/chat/completions", b"405"), ("/health", b"200"), ("/v1/models", b"401")],
)
def test_a_websocket_is_answered_as_the_path_is(
    gateway: Gateway, path: str, status: bytes, asks: list[str]
) -> None:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: Upgrade, close",
        "Upgrade: websocket",
        *asks,
    ]
    got = exchange(gateway, "\r\n".join([*lines, "", ""]).encode())
    assert got.count(b"HTTP/1.1 ") == 1
    assert got.split(b" ")[1] == status
    assert b"\r\nx-gproxy-request-id: req_" in got
    assert got.endswith(b"\r\n\r\nOK") if status == b"200" else json.loads(got.partition(b"\r\n\r\n")[2])


def test_a_health_check_that_closes_its_side_is_answered(gateway: Gateway) -> None:
    url = httpx.URL(gateway.url)
    with socket.create_connection((url.host, url.port or 0), timeout=5) as sock:
        sock.sendall(NEXT)
        sock.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert got.startswith(b"HTTP/1.1 200 ")


def test_what_the_other_engine_cannot_read_is_told_in_json_as_well(
    upstream: Upstream, tmp_path: Path
) -> None:
    """It reads some of these otherwise, but none is an empty answer or a 5xx."""
    body = json.dumps(CHAT.fields("m")).encode()
    with Gateway(tmp_path, chatting(upstream.url), "--http-engine", "hypercorn") as served:
        for id in (
            "coded",
            "coded-unknown",
            "chunked-twice",
            "length-signed",
            "lengths-differ",
            "no-colon",
            "nul",
        ):
            head, _, told = exchange(served, odd(body)[id]).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 "), (id, head)
            assert b"\r\nx-gproxy-request-id: req_" in head
            assert json.loads(told)["error"]["type"] == "invalid_request_error"
        head, _, told = exchange(
            served, post(*[f"X-{n}: {'b' * 9000}" for n in range(20)], body=b"")
        ).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431 "), head
        assert json.loads(told)["error"]["type"] == "invalid_request_error"
