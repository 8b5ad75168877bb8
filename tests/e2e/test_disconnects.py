"""Clients that leave in every phase, whatever else they sent; that read nothing; whose answers are read on."""

import contextlib
import json
import re
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_leaving import connect, leave_after
from tests.kit.calls import BY_ID, Call
from tests.kit.gateway import Gateway, poll
from tests.kit.settings import chatting
from tests.kit.upstream import SOON_S, Script, Upstream
from tests.server.parts import full_listener

pytestmark = pytest.mark.both_engines

CHAT, STREAM = BY_ID["chat"], BY_ID["chat-stream"]
NEXT = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
PIPELINED = {
    "a request": NEXT,
    "half a request": b"POST /v1/chat/completions HTTP/1.1\r\nHos",
    "no request": b"\x16\x03\x01 garbage\r\n\r\n",
    "many": NEXT * 3000,
    "a newline": b"\r\n",
}
BIG = b'data: {"choices":[{"delta":{"content":"' + b"x" * 50_000 + b'"}}]}\n\n'


def sockets(gateway: Gateway) -> list[str]:
    """The open sockets of the process, as links to their inodes."""
    found = []
    for fd in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        try:
            link = str(fd.readlink())
        except OSError:
            continue
        if link.startswith("socket:"):
            found.append(link)
    return found


def connections(port: int) -> list[str]:
    """The TCP connections of this machine whose other end is `port`, in any state but TIME-WAIT."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        f"{local} {state}"
        for _, local, far, state, *_ in lines
        if far.endswith(f":{port:04X}") and state != "06"
    ]


def closed(gateway: Gateway, model: str) -> None:
    row = gateway.wait_row(model=model)
    assert (row["status"], row["outcome"]) == (499, "client_closed"), row


@pytest.mark.parametrize("behind", PIPELINED)
@pytest.mark.parametrize("call", [CHAT, STREAM], ids=["plain", "stream"])
def test_leaving_is_seen_whatever_was_sent_behind_the_request(
    gateway: Gateway, upstream: Upstream, call: Call, behind: str
) -> None:
    model = upstream.model(Script(stop_after=1 if call.stream else 0, then="hang"))
    with connect(gateway, call, model) as sock:
        sock.sendall(PIPELINED[behind])
        upstream.wait_for(model)
        if call.stream:
            assert sock.recv(65536)
        # What is behind may come in several reads.
        sock.sendall(b"x")
        time.sleep(0.1)
    assert upstream.closed_within(model, time.monotonic())
    closed(gateway, model)


def test_who_leaves_with_a_part_of_a_large_plain_answer_is_not_told_to_have_got_it(
    gateway: Gateway, upstream: Upstream
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    message = {"role": "assistant", "content": "x" * 16_000_000}
    body = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message}], "usage": usage}
    model = upstream.model(Script(body=json.dumps(body).encode()))
    with connect(gateway, CHAT, model) as sock:
        assert sock.recv(1024).startswith(b"HTTP/1.1 200")
    row = gateway.wait_row(model=model)
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "upstream"), row
    assert (row["input_tokens"], row["output_tokens"]) == (9, 4)


def test_requests_behind_one_another_are_answered_in_their_order(
    gateway: Gateway, upstream: Upstream
) -> None:
    model = upstream.model(Script(stop_after=2, then="gate"))
    with connect(gateway, STREAM, model) as sock:
        upstream.wait_for(model)
        for at in range(0, len(NEXT), 7):
            sock.sendall(NEXT[at : at + 7])
            time.sleep(0.005)
        sock.sendall(NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        upstream.open_gate(model)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert got.count(b"HTTP/1.1 200") == 3
    assert got.index(b"[DONE]") < got.index(b"OK", got.index(b"[DONE]"))
    assert re.search(rb"OK.*OK", got[got.index(b"[DONE]") :], re.DOTALL)
    assert gateway.wait_row(model=model)["outcome"] == "ok"


def test_too_much_behind_a_request_ends_it(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model(Script(silent=True))
    with connect(gateway, CHAT, model) as sock:
        upstream.wait_for(model)
        with contextlib.suppress(ConnectionError):  # or the system has taken all of it over
            sock.sendall(NEXT * 100_000)
        assert upstream.closed_within(model, time.monotonic())
        closed(gateway, model)


def test_leaving_while_the_upstream_does_not_take_the_connection(tmp_path: Path) -> None:
    with full_listener() as port, Gateway(tmp_path, chatting(f"http://127.0.0.1:{port}")) as gateway:
        before = len(connections(port))
        with connect(gateway, CHAT, "m"):
            poll(lambda: len(connections(port)) > before, "it is connecting")
        left = time.monotonic()
        poll(lambda: len(connections(port)) <= before, "it no longer is", within=SOON_S)
        row = gateway.wait_row(model="m")
        assert time.monotonic() - left < 2 * SOON_S
    assert (row["status"], row["outcome"], row["maybe_billed"]) == (499, "client_closed", 0)
    assert row["usage_source"] == "none"


@pytest.mark.parametrize("call", [CHAT, BY_ID["speech"]], ids=["json", "binary"])
def test_leaving_while_a_plain_answer_comes_in(gateway: Gateway, upstream: Upstream, call: Call) -> None:
    model = upstream.model(Script(cut_every=50, stop_after=3, then="hang"))
    with connect(gateway, call, model):
        seen = upstream.wait_for(model)
        poll(lambda: len(seen.sent) >= 3, "some of the answer")
    assert upstream.closed_within(model, time.monotonic())
    closed(gateway, model)


def test_leaving_while_an_answer_waits_to_be_taken(gateway: Gateway, upstream: Upstream) -> None:
    model = upstream.model(Script(chunks=(BIG,) * 2000))
    with connect(gateway, STREAM, model):
        held(upstream, model)
    assert upstream.closed_within(model, time.monotonic())
    closed(gateway, model)


def held(upstream: Upstream, model: str) -> None:
    """Waits until the upstream cannot send on."""
    seen, before = upstream.wait_for(model), -1
    while len(seen.sent) != before or not before:
        before = len(seen.sent)
        time.sleep(0.3)


def test_a_client_that_reads_nothing_is_dropped_and_its_socket_is_gone(
    gateway: Gateway, upstream: Upstream
) -> None:
    """`quiet` allows 0.4 s of silence, to the client as well."""
    model = upstream.model(Script(chunks=(BIG,) * 2000))
    before = len(sockets(gateway))
    with connect(gateway, STREAM, model, "quiet") as sock:
        port = sock.getsockname()[1]
        row = gateway.wait_row(model=model)
        assert (row["status"], row["outcome"]) == (499, "client_closed")
        assert row["error"] == "the client took nothing for 0.4 s"
        exchange = upstream.only(model)
        assert exchange.over.wait(1)
        assert exchange.closed_at is not None
        poll(lambda: len(sockets(gateway)) <= before, "the sockets are closed", within=SOON_S)
        poll(lambda: not connections(port), "the system keeps nothing of it", within=SOON_S)
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: sock.recv(1 << 20), b""))


def test_a_slow_client_that_goes_on_reading_gets_all(gateway: Gateway, upstream: Upstream) -> None:
    """Its pauses are shorter than what is allowed, its whole time is longer."""
    model = upstream.model(Script(chunks=(BIG,) * 120))
    got = 0
    with connect(gateway, STREAM, model, "quiet") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        began = time.monotonic()
        while data := sock.recv(100_000):
            got += len(data)
            time.sleep(0.01)
            if b"error" in data:
                break
    assert got > 120 * len(BIG)
    assert time.monotonic() - began > 0.6
    exchange = upstream.only(model)
    assert exchange.closed_at is None


DRAINED = [
    (BY_ID["chat-stream"], "drain-oa"),
    (BY_ID["messages-stream"], "drain-an"),
    (BY_ID["stream-sse"], "drain-ge"),
    (BY_ID["chat"], "drain-oa"),
    (BY_ID["messages"], "drain-an"),
    (BY_ID["generate"], "drain-ge"),
]


@pytest.mark.parametrize(("call", "provider"), DRAINED, ids=lambda each: getattr(each, "id", ""))
@pytest.mark.parametrize("after", [0, 1], ids=["head", "event"])
def test_an_answer_is_read_on_for_its_usage(
    gateway: Gateway, upstream: Upstream, call: Call, provider: str, after: int
) -> None:
    model = upstream.model(Script(stop_after=after if call.stream else 0, then="gate"))
    with connect(gateway, call, model, provider) as sock:
        seen = upstream.wait_for(model)
        if after and call.stream:
            assert sock.recv(65536)
    time.sleep(0.2)
    assert seen.closed_at is None
    upstream.open_gate(model)
    row = gateway.wait_row(model=model)
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "upstream")
    assert seen.told.differs_from(row) == {}
    assert seen.closed_at is None, "read to its end"


def test_an_answer_is_read_on_though_its_client_had_stopped_reading(
    gateway: Gateway, upstream: Upstream
) -> None:
    last = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
    model = upstream.model(Script(chunks=(*(BIG,) * 400, last, b"data: [DONE]\n\n")))
    with connect(gateway, STREAM, model, "drain-oa"):
        held(upstream, model)
    row = gateway.wait_row(model=model)
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "upstream")
    assert (row["input_tokens"], row["output_tokens"]) == (3, 4)


def test_a_server_that_stops_ends_what_it_reads_on(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model(Script(stop_after=1, then="hang"))
    text = chatting(upstream.url, "drain_seconds = 1\n")
    with Gateway(tmp_path, text) as gateway:
        with connect(gateway, STREAM, model, "drain-oa") as sock:
            assert sock.recv(65536)
        time.sleep(0.1)
        gateway.stop()
        closed(gateway, model)


def test_a_client_that_reads_nothing_does_not_hold_up_the_end_of_the_server(
    upstream: Upstream, tmp_path: Path
) -> None:
    model = upstream.model(Script(chunks=(BIG,) * 2000))
    text = chatting(upstream.url, "drain_seconds = 1\n")
    with Gateway(tmp_path, text) as gateway, connect(gateway, STREAM, model):
        held(upstream, model)
        began = time.monotonic()
        gateway.stop()
        assert time.monotonic() - began < 8
        assert gateway.row(model=model)["outcome"] == "interrupted"


def test_leaving_while_the_upstream_does_not_read_the_request(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = chatting(f"http://127.0.0.1:{port}").replace("max_body_bytes = 1000000", "")
        large = replace(CHAT, body=CHAT.body | {"x": "y" * 20_000_000})
        with Gateway(tmp_path, text) as gateway:
            with connect(gateway, large, "m") as sock, listener.accept()[0]:  # and nothing is read there
                time.sleep(0.3)
                assert connections(port), "it is sending"
                sock.close()
                left = time.monotonic()
                poll(lambda: not connections(port), "it no longer is", within=SOON_S)
            row = gateway.wait_row(model="m")
            assert time.monotonic() - left < 2 * SOON_S
    assert (row["status"], row["outcome"], row["maybe_billed"]) == (499, "client_closed", 1)


def test_leaving_one_stream_ends_no_other(gateway: Gateway, upstream: Upstream) -> None:
    """On one upstream, side by side."""
    stays = upstream.model(Script(stop_after=1, then="gate"))
    leaves = upstream.model(Script(stop_after=1, then="hang"))
    with connect(gateway, STREAM, stays) as sock:
        assert sock.recv(65536)
        left = leave_after(gateway, STREAM, leaves, b"data: ")
        assert upstream.closed_within(leaves, left)
        upstream.open_gate(stays)
        got = b""
        while b"[DONE]" not in got:
            got += sock.recv(65536)
    assert json.loads(gateway.cli("usage", "--by", "status", "--json")) is not None
    assert gateway.wait_row(model=stays)["outcome"] == "ok"
