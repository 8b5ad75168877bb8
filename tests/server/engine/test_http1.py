"""Connections over real sockets: framing, order, flow, time, clients that leave; and Hypercorn where both agree."""

import asyncio
import contextlib
import gc
import hashlib
import itertools
import logging
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import BadRequest
from gproxy.server.engine import http1
from gproxy.server.engine.framing import MAX_HEAD_BYTES
from tests.server.listening import WAIT_S, body_of, echo, echo_after, listening, reply, request

BOTH = pytest.mark.parametrize("engine", ["fast", "hypercorn"])


@pytest.fixture(autouse=True)
def _no_fault(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client does is a fault of the server's."""
    gc.freeze()  # what came before this test is not looked at after it
    yield
    gc.collect()  # a fault that nobody looked at is told now
    records = caplog.get_records("call")
    assert [r.getMessage() for r in records if r.levelno >= logging.WARNING] == []


async def until(look: Any, within: float = WAIT_S) -> None:
    async with asyncio.timeout(within):
        while not look():
            await asyncio.sleep(0.005)


# What is asked and what is answered.


@BOTH
async def test_a_request_comes_to_the_application_as_asgi_has_it(engine: str) -> None:
    async with listening(echo, engine) as served:
        wire = await served.connect()
        wire.write(request("X-One:  a ", "x-one: b", line="POST /a%2Fb%20c?q=%20 HTTP/1.1", body=b"abc"))
        answer = await wire.answer()
        client = wire.writer.get_extra_info("sockname")
        wire.close()
    (scope,) = served.seen
    assert (scope["method"], scope["scheme"], scope["http_version"]) == ("POST", "http", "1.1")
    assert (scope["raw_path"], scope["path"]) == (b"/a%2Fb%20c", "/a/b c")
    assert (scope["query_string"], scope["root_path"]) == (b"q=%20", "")
    assert scope["asgi"]["version"] == "3.0"
    assert scope["client"] == client
    assert scope["server"] == ("127.0.0.1", served.port)
    assert scope["headers"] == [
        (b"host", b"localhost"),
        (b"x-one", b"a"),
        (b"x-one", b"b"),
        (b"content-length", b"3"),
    ]
    assert answer.json()["digest"] == hashlib.sha256(b"abc").hexdigest()
    assert answer.headers["date"].endswith(" GMT")


async def pieces(scope: Any, receive: Any, send: Any) -> None:
    """Answers in three pieces, without a length."""
    await body_of(receive)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]})
    for piece in (b"one", b"", b"two"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"three"})


@BOTH
async def test_an_answer_without_a_length_goes_out_in_chunks_and_the_connection_stays(engine: str) -> None:
    async with listening(pieces, engine) as served:
        wire = await served.connect()
        for _ in range(3):
            wire.write(request(body=b"x"))
            answer = await wire.answer()
            assert answer.body == b"onetwothree"
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.headers["x-a"] == "b"
        wire.close()


@BOTH
async def test_a_client_of_version_1_0_gets_the_body_and_the_end(engine: str) -> None:
    async with listening(pieces, engine) as served:
        wire = await served.connect()
        wire.write(request(line="GET /x HTTP/1.0"))
        answer = await wire.answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.body == b"onetwothree"
        assert await wire.rest() == b""


@BOTH
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_that_has_no_body_sends_none(engine: str, method: str, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = [(b"content-length", b"5")] if status == 200 else []
        await send({"type": "http.response.start", "status": status, "headers": length})
        await send({"type": "http.response.body", "body": b"hello"})

    async with listening(app, engine) as served:
        wire = await served.connect()
        for _ in range(2):
            wire.write(request(line=f"{method} /x HTTP/1.1"))
            assert (await wire.answer(bodiless=True)).status == status
        wire.close()


@BOTH
@pytest.mark.parametrize("by", ["client", "application"])
async def test_either_side_may_say_that_this_was_the_last(engine: str, by: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        await reply(send, b"x", headers=[(b"Connection", b"close")] if by == "application" else [])

    async with listening(app, engine) as served:
        wire = await served.connect()
        wire.write(request(*["connection: close"] if by == "client" else [], body=b"x"))
        answer = await wire.answer()
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_the_head_and_the_first_of_the_body_go_out_in_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[bytes] = []
    write = http1.Connection.write
    monkeypatch.setattr(
        http1.Connection, "write", lambda self, data: (written.append(data), write(self, data))
    )
    async with listening(pieces) as served:
        wire = await served.connect()
        wire.write(request())
        assert (await wire.answer()).body == b"onetwothree"
        wire.close()
    assert len(written) == 3, written
    assert written[0].endswith(b"\r\n\r\n3\r\none\r\n")
    assert written[2] == b"5\r\nthree\r\n0\r\n\r\n"


@pytest.mark.parametrize("headers", [[], ["connection: close"]], ids=["kept", "closed"])
@pytest.mark.parametrize("body", [b"abc", None], ids=["whole", "early"])
async def test_an_answer_made_while_others_are_gathered_goes_out_with_them(
    headers: list[str], body: bytes | None
) -> None:
    """Whatever becomes of the connection behind it."""
    wire, seen = None, list[bool]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert served.engine is not None
        outbox = served.engine.terms.outbox
        outbox.gather()
        await reply(send, b"one", headers=[(b"x-a", b"b")])
        seen.append(outbox.gathering)

    async with listening(app, linger=0.2, look=0.05) as served:
        wire = await served.connect()
        length = ["content-length: 3"] if body is None else []
        wire.write(request(*headers, *length, body=body or b""))
        answer = await wire.answer()
        assert (answer.body, answer.headers["x-a"]) == (b"one", "b")
        if headers or body is None:
            assert await wire.rest() == b""
        else:
            wire.write(request())
            assert (await wire.answer()).body == b"one"
        assert seen == [True] * len(seen)
        wire.close()


async def test_what_is_gathered_for_a_client_that_sends_its_end_reaches_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert served.engine is not None
        (connection,) = served.engine.connections
        # As the loop does it, in front of what sends.
        connection.loop.call_soon(lambda: connection.eof_received() or connection._transport.close())
        served.engine.terms.outbox.gather()
        await reply(send, b"one")

    async with listening(app) as served:
        wire = await served.connect()
        wire.write(request())
        assert (await wire.answer()).body == b"one"
        wire.close()


@BOTH
async def test_a_client_that_waits_for_100_gets_it_when_its_body_is_wanted(engine: str) -> None:
    async with listening(echo, engine) as served:
        wire = await served.connect()
        wire.write(request("expect: 100-continue", "content-length: 3"))
        assert (await wire.answer()).status == 100
        wire.write(b"abc")
        assert (await wire.answer()).json()["size"] == 3
        wire.close()


async def test_a_client_that_waits_for_100_is_not_asked_for_a_body_that_nobody_reads() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, b"no", 401)

    async with listening(app, linger=0.2, look=0.05) as served:
        wire = await served.connect()
        wire.write(request("expect: 100-continue", "content-length: 3"))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await wire.rest() == b""


async def test_who_sends_the_body_at_once_is_not_told_to_go_on() -> None:
    async with listening(echo) as served:
        wire = await served.connect()
        wire.write(request("expect: 100-continue", body=b"abc"))
        assert (await wire.answer()).status == 200
        wire.close()


# Framing.

MALFORMED = {
    "no-version": b"GET /\r\n\r\n",
    "two-spaces": b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
    "bad-method": b"G(T / HTTP/1.1\r\nhost: a\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
    "space-before-colon": b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
    "no-colon": b"GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n",
    "bare-cr": b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
    "lengths-differ": request("content-length: 1", "content-length: 2") + b"ab",
    "length-signed": request("content-length: +1") + b"a",
    "length-words": request("content-length: one") + b"a",
    "gzip": request("transfer-encoding: gzip") + b"a",
    "chunked-twice": request("transfer-encoding: chunked", "transfer-encoding: chunked") + b"0\r\n\r\n",
    "chunk-size": request("transfer-encoding: chunked") + b"x\r\na\r\n0\r\n\r\n",
    "chunk-sign": request("transfer-encoding: chunked") + b"-1\r\na\r\n0\r\n\r\n",
    "chunk-too-long": request("transfer-encoding: chunked") + b"1\r\nab\r\n0\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
STRICTER = {
    "version-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version-0.9": b"GET / HTTP/0.9\r\nhost: a\r\n\r\n",
    "bare-lf": b"GET / HTTP/1.1\nhost: a\n\n",
    "bare-lf-unfinished": b"GET / HTTP/1.1\nhost: a\n",
    "fold": b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
    "length-and-chunks": request("content-length: 3", "transfer-encoding: chunked") + b"0\r\n\r\n",
    "chunks-and-length": request("transfer-encoding: chunked", "content-length: 3") + b"0\r\n\r\n",
    "length-repeated": request("content-length: 1", "content-length: 1") + b"a",
    "length-listed": request("content-length: 1, 1") + b"a",
    "chunked-in-1.0": request("transfer-encoding: chunked", line="POST / HTTP/1.0") + b"0\r\n\r\n",
    "chunk-bare-lf": request("transfer-encoding: chunked") + b"1\na\r\n0\r\n\r\n",
    "chunk-space": request("transfer-encoding: chunked") + b"1 \r\na\r\n0\r\n\r\n",
    "chunk-extension": request("transfer-encoding: chunked") + b"1;" + b"x" * 2000 + b"\r\na\r\n0\r\n\r\n",
}


@pytest.mark.parametrize(
    ("engine", "raw"),
    [pytest.param(e, raw, id=f"{e}-{id}") for e in ("fast", "hypercorn") for id, raw in MALFORMED.items()]
    + [pytest.param("fast", raw, id=f"fast-{id}") for id, raw in STRICTER.items()],
)
async def test_what_is_malformed_gets_one_refusal_and_the_end(engine: str, raw: bytes) -> None:
    """And what follows it is not taken for a request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await echo(scope, receive, send)
        except BadRequest as error:
            await reply(send, error.message.encode(), 400)

    async with listening(app, engine, linger=0.2, look=0.05) as served:
        wire = await served.connect()
        wire.write(raw + request(line="GET /smuggled HTTP/1.1"))
        answer = await wire.answer()
        assert answer.status in ((400,) if engine == "fast" else (400, 501))
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""
    assert [scope["raw_path"] for scope in served.seen if scope["raw_path"] != b"/x"] == []


@pytest.mark.parametrize("method", ["NOSUCH", "PURGE", "post", "M-SEARCH", "A"])
async def test_a_method_that_nobody_knows_is_for_the_application_to_refuse(method: str) -> None:
    async with listening(echo) as served:
        wire = await served.connect()
        wire.write(request("content-length: 3", line=f"{method} /x HTTP/1.1") + b"abc")
        wire.write(request(line="GET /y HTTP/1.1"))
        assert (await wire.answer()).json()["size"] == 3
        assert (await wire.answer()).status == 200
        wire.close()
    assert [scope["method"] for scope in served.seen] == [method, "GET"]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 150 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, 431),
        (b"X" * (MAX_HEAD_BYTES + 1), 431),
    ],
    ids=["many", "long", "line", "noise"],
)
async def test_a_head_beyond_measure_is_refused_in_json_with_an_id(
    raw: bytes, status: int, split: bool
) -> None:
    async with listening(echo, linger=0.2, look=0.05) as served:
        wire = await served.connect()
        for piece in [raw[at : at + 5000] for at in range(0, len(raw), 5000)] if split else [raw]:
            wire.write(piece)
            await asyncio.sleep(0)
        answer = await wire.answer()
        assert await wire.rest() == b""
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-gproxy-request-id"].startswith("req_")
    assert answer.headers["content-type"] == "application/json"
    assert served.seen == []


async def test_lines_that_belong_to_nothing_may_stand_before_a_request() -> None:
    async with listening(echo) as served:
        wire = await served.connect()
        for before in (b"\r\n", b"\r\n\r\n", b"\r"):
            wire.write(before)
            await asyncio.sleep(0.02)
            wire.write((b"\n" if before == b"\r" else b"") + request(line="GET /x HTTP/1.1"))
            assert (await wire.answer()).status == 200
        wire.close()


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_no_other_protocol_is_changed_to(upgrade: str) -> None:
    async with listening(echo) as served:
        wire = await served.connect()
        headers = [f"upgrade: {upgrade}", "connection: Upgrade, HTTP2-Settings", "http2-settings: AAMAAABk"]
        wire.write(request(*headers, line="GET /x HTTP/1.1") + request(line="GET /y HTTP/1.1"))
        assert [(await wire.answer()).status for _ in range(2)] == [200, 200]
        wire.close()


# Order.


def numbered(number: int, body: bytes, chunked: bool) -> bytes:
    line = f"POST /{number} HTTP/1.1"
    if not chunked:
        return request(f"x-id: {number}", line=line, body=body)
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7)
    )
    return request(f"x-id: {number}", "transfer-encoding: chunked", line=line) + chunks + b"0\r\n\r\n"


@BOTH
@settings(max_examples=25, deadline=None)
@given(
    bodies=st.lists(st.tuples(st.binary(max_size=40), st.booleans()), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
)
def test_requests_are_the_same_however_their_bytes_come(
    engine: str, bodies: list[tuple[bytes, bool]], cuts: list[int]
) -> None:
    wire_bytes = b"".join(numbered(at, body, chunked) for at, (body, chunked) in enumerate(bodies))
    places = [0, *sorted(cut % (len(wire_bytes) + 1) for cut in cuts), len(wire_bytes)]

    async def play() -> None:
        async with listening(echo, engine) as served:
            wire = await served.connect()
            for start, end in itertools.pairwise(places):
                wire.write(wire_bytes[start:end])
                await asyncio.sleep(0.001)
            for at, (body, _) in enumerate(bodies):
                answer = (await wire.answer()).json()
                assert answer["target"] == f"/{at}?"
                assert ["x-id", str(at)] in answer["headers"]
                assert answer["digest"] == hashlib.sha256(body).hexdigest()
            wire.close()
            assert await wire.rest() == b""

    asyncio.run(play())


async def test_a_request_is_begun_when_the_answer_before_it_has_ended() -> None:
    running: list[int] = []
    most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        await reply(send, scope["raw_path"])
        running.pop()

    async with listening(app) as served:
        wire = await served.connect()
        wire.write(b"".join(request(line=f"GET /{at} HTTP/1.1") for at in range(10)))
        assert [(await wire.answer()).body for _ in range(10)] == [b"/%d" % at for at in range(10)]
        wire.close()
    assert most == 1


async def test_a_client_that_sends_too_much_behind_a_request_is_dropped() -> None:
    told = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with listening(app) as served:
        wire = await served.connect()
        wire.write(request())
        for _ in range(20):
            wire.write(numbered(1, b"x" * (http1.MAX_PIPELINED // 10), chunked=False))
        async with asyncio.timeout(1):
            await told.wait()
        assert await wire.rest() == b""
    assert len(served.seen) == 1


async def test_a_large_request_may_wait_behind_another() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async with listening(app) as served:
        wire = await served.connect()
        for at in range(3):
            wire.write(numbered(at, b"x" * 300_000, chunked=bool(at % 2)))
        await until(lambda: served.seen)
        go.set()
        for at in range(3):
            answer = (await wire.answer()).json()
            assert (answer["target"], answer["size"]) == (f"/{at}?", 300_000)


async def test_a_request_costs_no_more_if_much_waits_behind_it() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await go.wait()
        await reply(send, scope["raw_path"])

    async def cost(behind: int) -> float:
        """CPU seconds of 300 small requests with so many bytes behind them."""
        go.clear()
        async with listening(app) as served:
            wire = await served.connect()
            wire.write(request(line="GET /wait HTTP/1.1") + request(line="GET /x HTTP/1.1") * 300)
            wire.write(request(line="GET /wait HTTP/1.1") + b"\r\n" * (behind // 2))
            waits = 300 * len(request(line="GET /x HTTP/1.1")) + behind
            await until(
                lambda: served.engine and any(len(c._kept) >= waits for c in served.engine.connections)
            )
            began = time.process_time()
            go.set()
            assert [(await wire.answer()).body for _ in range(301)][1:] == [b"/x"] * 300
            return time.process_time() - began

    assert min([await cost(990_000) for _ in range(3)]) < 2 * max([await cost(0) for _ in range(3)])


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "insert", "double"]), st.integers(0, 10_000), st.binary(max_size=4)
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(mutations=MUTATIONS, cut=st.integers(0, 2000))
def test_whatever_is_done_to_the_bytes_no_request_gets_two_answers_and_nothing_hangs(
    mutations: list[tuple[str, int, bytes]], cut: int
) -> None:
    data = numbered(0, b"hello", False) + numbered(1, b"hello, world", True) + numbered(2, b"", False)
    for kind, place, new in mutations:
        at = place % len(data)
        data = {
            "flip": data[:at] + bytes([data[at] ^ (1 << place % 8)]) + data[at + 1 :],
            "drop": data[:at] + data[at + 1 + place % 5 :],
            "insert": data[:at] + new + data[at:],
            "double": data[:at] + data[at : at + 30] + data[at:],
        }[kind] or b"x"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(BadRequest):
            return await echo(scope, receive, send)
        await reply(send, b"{}", 400)

    async def play() -> None:
        async with listening(app, head=0.2, linger=0.1, look=0.05) as served:
            wire = await served.connect()
            wire.write(data[: cut % len(data)])
            await asyncio.sleep(0)
            wire.write(data[cut % len(data) :])
            wire.writer.write_eof()
            got = await wire.rest()
            refused = got.count(b"x-gproxy-request-id")
            assert refused <= 1
            assert got.count(b"HTTP/1.1 ") <= len(served.seen) + refused
            assert served.engine is not None
            await until(lambda: not served.engine.connections)

    uvloop.run(play())


# Flow.


async def test_a_body_that_is_not_taken_holds_the_client_back() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async with listening(app) as served:
        wire = await served.connect()
        body = bytes(range(256)) * 40_000
        wire.write(request(body=body))
        await until(lambda: served.engine and any(c.paused for c in served.engine.connections))
        assert served.engine is not None
        (connection,) = served.engine.connections
        assert connection._exchange is not None
        assert connection._exchange.unread < http1.MAX_UNREAD_BYTES + 2 * 256 * 1024
        go.set()
        assert (await wire.answer()).json()["digest"] == hashlib.sha256(body).hexdigest()
        wire.close()


async def test_a_body_in_tiny_chunks_lets_others_have_their_turn_and_is_read_whole() -> None:
    body = b"x" * 400_000
    wire_bytes = b"1\r\nx\r\n" * len(body) + b"0\r\n\r\n"
    async with listening(echo) as served:
        sender, other = await served.connect(), await served.connect()
        other.write(request())
        await other.answer()
        sender.write(request("transfer-encoding: chunked", line="POST / HTTP/1.1") + wire_bytes)
        sender.write(request())  # stands behind it
        turns = 0
        answer = asyncio.create_task(sender.answer())
        while not answer.done():
            other.write(request())
            await other.answer()
            turns += 1
        assert answer.result().json()["digest"] == hashlib.sha256(body).hexdigest()
        assert (await sender.answer()).status == 200
        assert turns > 20  # each is answered between two steps of many


def slow_client(port: int) -> socket.socket:
    """One whose kernel takes little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


PIECE = b"y" * 65536


async def test_an_application_waits_for_a_slow_reader_which_gets_everything() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b""})

    async with listening(app) as served:
        sock = slow_client(served.port)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, request("connection: close"))
        await until(lambda: sent > 0)
        await asyncio.sleep(0.3)
        held = sent
        assert held < 150, "the application is held back"
        got = 0
        while data := await loop.sock_recv(sock, 1 << 20):
            got += len(data)
        sock.close()
    assert sent == 200
    assert got > 200 * len(PIECE)


async def test_a_reader_that_stops_is_cut_off_and_a_slow_one_is_not() -> None:
    left: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)

        async def flood() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        assert (await receive())["type"] == "http.disconnect"
        flooding.cancel()
        left.append(scope["path"])

    async with listening(app, write=0.6, look=0.05) as served:
        loop = asyncio.get_running_loop()
        stopped, slow = slow_client(served.port), slow_client(served.port)
        await loop.sock_sendall(stopped, request(line="GET /stopped HTTP/1.1"))
        await loop.sock_sendall(slow, request(line="GET /slow HTTP/1.1"))
        for _ in range(20):
            await asyncio.sleep(0.1)
            await loop.sock_recv(slow, 65536)
        assert left == ["/stopped"]
        assert served.engine is not None
        assert len(served.engine.connections) == 1
        slow.close()
        stopped.close()
        await until(lambda: left == ["/stopped", "/slow"])


# Time.


@pytest.mark.parametrize("before", [b"", request(line="GET /x HTTP/1.1")])
async def test_a_connection_that_is_idle_is_closed_without_a_word(before: bytes) -> None:
    async with listening(echo, idle=0.2, look=0.05) as served:
        wire = await served.connect()
        if before:
            wire.write(before)
            assert (await wire.answer()).status == 200
        assert await wire.rest() == b""


async def test_a_head_that_does_not_come_to_its_end_is_408_however_busy_its_client_is() -> None:
    async with listening(echo, idle=5, head=0.3, linger=0.1, look=0.05) as served:
        wire = await served.connect()

        async def drip() -> None:
            for byte in request() * 20:
                wire.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        answer = await wire.answer()
        dripping.cancel()
        assert (answer.status, answer.json()["error"]["code"]) == (408, 408)
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""
    assert served.seen == []


async def test_an_answer_may_take_longer_than_any_of_that() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)
        await reply(send, b"late")

    async with listening(app, idle=0.1, head=0.1, look=0.02) as served:
        wire = await served.connect()
        wire.write(request())
        assert (await wire.answer()).body == b"late"
        wire.close()


# Leaving.


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    ("engine", "behind"),
    [
        ("hypercorn", b""),
        ("fast", b""),
        ("fast", b"GET /next HTTP/1.1\r\nhost: a\r\n"),
        ("fast", request(body=b"z" * 900_000)),
    ],
    ids=["hypercorn", "nothing", "a part", "much"],
)
async def test_a_client_that_leaves_while_it_waits_is_noticed_whatever_it_sent_behind(
    engine: str, how: str, behind: bytes
) -> None:
    told = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        assert (await receive())["type"] == "http.disconnect"
        told.set()
        await reply(send, b"nobody hears this")

    async with listening(app, engine, look=0.2) as served:
        sock = socket.create_connection(("127.0.0.1", served.port))
        sock.sendall(request(line="GET /x HTTP/1.1"))
        await until(lambda: served.seen)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.send(behind)
        await asyncio.sleep(0.1)
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        async with asyncio.timeout(1):
            await told.wait()
        if served.engine is not None:
            await until(lambda: not served.engine.connections)
    assert len(served.seen) == 1, "nothing of what it sent behind is begun"


@BOTH
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /x HT",
        request("content-length: 10"),
        request("content-length: 10") + b"abc",
        request("transfer-encoding: chunked") + b"3\r\nab",
    ],
)
async def test_a_client_that_leaves_inside_its_request_leaves_nothing_behind(
    engine: str, sent: bytes
) -> None:
    bodies: list[bytes | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(await body_of(receive))

    async with listening(app, engine) as served:
        wire = await served.connect()
        wire.write(sent)
        await until(lambda: served.seen or b"host" not in sent)
        wire.close()
        await until(lambda: len(bodies) == len(served.seen))
        if served.engine is not None:
            await until(lambda: not served.engine.connections)
    assert bodies == [None] * len(served.seen)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_inside_its_answer_is_noticed(how: str) -> None:
    told = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        told.set()
        for _ in range(20):  # sending to nobody is no fault
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0.005)

    async with listening(app) as served:
        wire = await served.connect()
        wire.write(request())
        await wire.reader.readuntil(b"begun")
        wire.close() if how == "close" else wire.reset()
        async with asyncio.timeout(1):
            await told.wait()
        assert served.engine is not None
        await until(lambda: not served.engine.connections)


async def test_a_client_that_closes_its_side_alone_gets_the_answer_that_is_made_all_the_same() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        assert (await receive())["type"] == "http.disconnect"
        await reply(send, b"here")

    async with listening(app) as served:
        wire = await served.connect()
        wire.write(request(body=b"x") + request(line="GET /never HTTP/1.1"))
        wire.writer.write_eof()
        assert (await wire.answer()).body == b"here"
        assert await wire.rest() == b""
    assert len(served.seen) == 1


async def test_an_answer_before_the_end_of_the_request_reaches_its_client() -> None:
    """The connection is not reset over bytes that nobody has read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, b"too much", 413)

    async with listening(app, linger=0.5, look=0.05) as served:
        wire = await served.connect()
        wire.write(request("content-length: 9000000") + b"x" * 4_000_000)
        await asyncio.sleep(0.2)
        answer = await wire.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (413, b"too much", "close")
        assert await wire.rest() == b""
        assert served.engine is not None
        await until(lambda: not served.engine.connections)


@pytest.mark.parametrize(("most", "whole"), [(30.0, True), (0.5, False)])
async def test_who_goes_on_sending_is_read_on_for_a_while(most: float, whole: bool) -> None:
    """A client that sends all before it looks sees its answer, if it is done in time."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, b"too much", 413)

    async with listening(app, linger=2.0, linger_most=most, look=0.05) as served:
        wire = await served.connect()
        wire.write(request("content-length: 9000000"))
        with contextlib.nullcontext() if whole else pytest.raises(ConnectionError):
            for _ in range(15):
                wire.write(b"x" * 1000)
                await wire.writer.drain()
                await asyncio.sleep(0.1)
            assert (await wire.answer()).body == b"too much"
        assert served.engine is not None
        await until(lambda: not served.engine.connections)


async def test_any_number_of_lines_that_belong_to_nothing_holds_nobody_up() -> None:
    go = asyncio.Event()
    async with listening(echo_after(go)) as served:
        wire = await served.connect()
        wire.write(request(line="GET /wait HTTP/1.1") + b"\r\n" * 500_000)
        await until(
            lambda: served.engine and any(len(c._kept) == 1_000_000 for c in served.engine.connections)
        )
        began = time.process_time()
        go.set()
        assert (await wire.answer()).status == 200
        wire.write(request(line="GET /x HTTP/1.1"))
        assert (await wire.answer()).status == 200
        assert time.process_time() - began < 0.5
        wire.close()


async def test_a_reset_that_comes_with_the_end_of_an_early_answer_is_no_fault() -> None:
    client = socket.socket()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, b"no", 401)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    async with listening(app) as served:
        client.connect(("127.0.0.1", served.port))
        client.sendall(request("content-length: 3"))
        engine = served.engine
        assert engine is not None
        await until(lambda: served.seen and not engine.connections)


# An application at fault.


@pytest.mark.parametrize("how", ["raises", "is silent"])
async def test_an_application_without_an_answer_is_a_500_in_json(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if how == "raises":
            raise ValueError("broken")

    async with listening(app, linger=0.1, look=0.05) as served:
        wire = await served.connect()
        wire.write(request())
        answer = await wire.answer()
        assert (answer.status, answer.json()["error"]["type"]) == (500, "api_error")
        assert await wire.rest() == b""
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == (
        ["a fault while a request was being answered"] if how == "raises" else []
    )
    caplog.clear()


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"100")]])
async def test_an_answer_that_breaks_off_is_seen_to_be_cut_short(headers: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"beg", "more_body": True})

    async with listening(app) as served:
        wire = await served.connect()
        wire.write(request())
        got = await wire.rest()
    assert b"beg" in got
    assert not got.endswith(b"0\r\n\r\n")
