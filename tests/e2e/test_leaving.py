"""Clients that leave: the upstream is let go within a second, and one row says what happened."""

import json
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.kit.calls import BY_ID, Call
from tests.kit.gateway import KEY, Gateway, poll
from tests.kit.upstream import SOON_S, Script, Upstream

pytestmark = pytest.mark.both_engines

CALLS = [BY_ID[id] for id in ("chat", "chat-stream", "messages-stream", "stream-sse", "generate", "speech")]


def connect(gateway: Gateway, call: Call, model: str, provider: str = "") -> socket.socket:
    """A connection on which the call has been sent whole, to the provider that speaks its dialect or another."""
    url = httpx.URL(gateway.url)
    body = json.dumps(call.fields(model)).encode()
    head = (
        f"POST {call.url(model, provider or call.provider)} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    sock = socket.create_connection((url.host, url.port or 0), timeout=5)
    sock.sendall(head.encode() + body)
    return sock


def leave_after(gateway: Gateway, call: Call, model: str, received: bytes) -> float:
    """Asks, reads until `received` has come in, and closes; when that was."""
    with connect(gateway, call, model) as sock:
        got = b""
        while received not in got:
            data = sock.recv(65536)
            assert data, got
            got += data
    return time.monotonic()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_leaving_while_waiting_lets_the_upstream_go(gateway: Gateway, upstream: Upstream, call: Call) -> None:
    model = upstream.model(Script(silent=True))
    with connect(gateway, call, model):
        upstream.wait_for(model)
    assert upstream.closed_within(model, time.monotonic())
    row = gateway.wait_row(model=model)
    assert (row["status"], row["outcome"]) == (499, "client_closed")


@pytest.mark.parametrize("call", CALLS[1:4], ids=lambda call: call.id)
def test_leaving_mid_stream_lets_the_upstream_go(gateway: Gateway, upstream: Upstream, call: Call) -> None:
    model = upstream.model(Script(stop_after=1, then="hang"))
    left = leave_after(gateway, call, model, b"data: ")
    assert upstream.closed_within(model, left)
    row = gateway.wait_row(model=model)
    assert (row["status"], row["outcome"]) == (499, "client_closed")
    if call.family == "anthropic":
        # Its input is told in the first event already.
        assert row["input_tokens"] == upstream.only(model).told.input_tokens
        assert row["usage_source"] in ("partial", "estimated")


def test_leaving_a_stream_that_is_still_flowing_lets_the_upstream_go(
    gateway: Gateway, upstream: Upstream
) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"' + b"x" * 2000 + b'"}}]}\n\n'
    model = upstream.model(Script(chunks=(chunk,) * 5000, delay_s=0.005))
    left = leave_after(gateway, BY_ID["chat-stream"], model, b"data: ")
    assert upstream.closed_within(model, left)
    assert gateway.wait_row(model=model)["status"] == 499


def test_a_slow_reader_holds_the_upstream_back(gateway: Gateway, upstream: Upstream) -> None:
    """Back-pressure: what the client does not take must pile up in neither process."""
    chunk = b'data: {"choices":[{"delta":{"content":"' + b"x" * 100_000 + b'"}}]}\n\n'
    model = upstream.model(Script(chunks=(chunk,) * 1000))
    with connect(gateway, BY_ID["chat-stream"], model) as sock:
        assert sock.recv(100)
        seen, before = upstream.wait_for(model), -1
        while len(seen.sent) != before:
            before = len(seen.sent)
            time.sleep(0.5)
        assert before < 300


def test_many_leavers_leave_no_connection_behind(gateway: Gateway, upstream: Upstream) -> None:
    """After a hundred clients that left, a request still finds a free way up."""
    call = BY_ID["chat-stream"]
    models = [upstream.model(Script(stop_after=1, then="hang")) for _ in range(100)]
    threads = [
        threading.Thread(target=leave_after, args=(gateway, call, model, b"data: ")) for model in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        assert gateway.wait_row(model=model)["status"] == 499
    assert gateway.post("/oa/v1/chat/completions", BY_ID["chat"].fields(upstream.model())).status_code == 200


def test_clients_that_come_and_go_leave_no_socket_open(gateway: Gateway) -> None:
    """Else a few requests a second from short-lived clients use up the process's file descriptors."""

    def sockets() -> int:
        return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))

    gateway.get("/health", key=None)
    before = sockets()
    for _ in range(40):
        gateway.get("/health", key=None)
    poll(lambda: sockets() < before + 10, "the sockets are closed", within=SOON_S)
