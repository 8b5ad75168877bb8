"""The seams are where they are looked for, and a connection is closed in the end though its client takes nothing.

The rest of what is mended is shown by tests/e2e/test_{disconnects,http2}.py.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypercorn import protocol
from hypercorn.asyncio import run, serve
from hypercorn.config import Config
from hypercorn.protocol import h2, h11
from hypercorn.protocol.h11 import H11Protocol

from gproxy.protocols.registry import OPENAI
from gproxy.server import repair
from gproxy.server.asgi import DROP, AsgiRequest
from gproxy.server.incoming import Incoming
from gproxy.server.reply import Reply


def test_the_seams_are_there_in_the_version_in_use() -> None:
    before = [getattr(place, name) for place, name, _, _ in repair._SEAMS]
    try:
        for place, name, own, _ in repair._SEAMS:
            setattr(place, name, own)
        repair.install()
        for place, name, _, mended in repair._SEAMS:
            assert getattr(place, name) is mended
    finally:
        for (place, name, _, _), found in zip(repair._SEAMS, before, strict=True):
            setattr(place, name, found)


def test_what_is_not_where_it_was_is_left_alone() -> None:
    place, name, _, _ = repair._SEAMS[0]
    before = getattr(place, name)
    try:
        setattr(place, name, other := object())
        repair.install()
        assert getattr(place, name) is other
    finally:
        setattr(place, name, before)


ENHANCE_YOUR_CALM = b"\0\0\0\x0b"


@asynccontextmanager
async def served(
    app: Any, monkeypatch: pytest.MonkeyPatch, http1: type[H11Protocol] = H11Protocol
) -> AsyncIterator[socket.socket]:
    """A client's connection to `app`; by Hypercorn's own HTTP/1.1 it may begin HTTP/2, without TLS."""
    monkeypatch.setattr(protocol, "H11Protocol", http1)
    monkeypatch.setattr(run, "TCPServer", repair.ClosingTCPServer)
    monkeypatch.setattr(repair, "WRITE_TIMEOUT", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_timeout = 0.1
    config.errorlog = None
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    client = socket.socket()
    try:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, address)
        yield client
    finally:
        client.close()
        stop.set()
        await serving


@pytest.mark.parametrize("closing", [True, False], ids=["close", "keep-alive"])
async def test_a_connection_is_closed_though_its_client_never_takes_the_last_of_an_answer(
    monkeypatch: pytest.MonkeyPatch, closing: bool
) -> None:
    """All has been handed over: nobody waits for the client but the connection itself."""
    handed_over = asyncio.Event()
    transports: list[asyncio.Transport] = []
    left_over: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        transports.append(scope["extensions"][DROP].__self__.writer.transport)
        headers = [(b"connection", b"close")] if closing else []
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not transports[0].get_write_buffer_size():
            await send({"type": "http.response.body", "body": bytes(16384), "more_body": True})
        left_over.append(transports[0].get_write_buffer_size())
        handed_over.set()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with served(app, monkeypatch) as client:
        await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await asyncio.wait_for(handed_over.wait(), 5)
        assert left_over[0]
        async with asyncio.timeout(3):
            while transports[0].get_extra_info("socket").fileno() != -1:
                await asyncio.sleep(0.02)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113, 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, UNKNOWN = 0, 1, 2, 3, 4, 6, 8, 0x77
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
GET = b"\x82\x86\x84\x41\x01x"
POST = b"\x83\x86\x84\x41\x01x"
ODD = range(1, 2401, 2)
FRAMES = {
    "opened and reset": [
        frame(HEADERS, 5, stream, GET) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in ODD
    ],
    "priorities": [frame(PRIORITY, 0, stream, b"\0\0\0\0\x10") for stream in ODD],
    "method": [frame(HEADERS, 5, 1, b"\x02\x03G\xc3\xa9\x86\x84\x41\x01x")],
    "path": [frame(HEADERS, 5, 1, b"\x82\x86\x04\x03/\xc3\xa9\x41\x01x")],
    "a tunnel": [frame(HEADERS, 4, 1, b"\x02\x07CONNECT\x84\x86\x41\x01x")],
    "a WebSocket": [frame(HEADERS, 4, 1, b"\x02\x07CONNECT\x84\x86\x41\x01x\x00\x09:protocol\x09websocket")],
    "connect": [frame(HEADERS, 5, 1, b"\x02\x07CONNECT\x41\x01x")],
}


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"an answer"})


async def _read(client: socket.socket, until: bytes) -> bytes:
    got = b""
    async with asyncio.timeout(10):
        while until not in got or not until:
            data = await asyncio.get_running_loop().sock_recv(client, 65536)
            if not data:
                return got
            got += data
    return got


@pytest.mark.parametrize("name", FRAMES)
async def test_frames_that_nobody_should_send_end_the_connection_and_are_no_fault(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    async with served(_answer, monkeypatch) as client:
        with suppress(ConnectionError):  # what it no longer reads
            await asyncio.get_running_loop().sock_sendall(client, PREFACE + b"".join(FRAMES[name]))
            await _read(client, b"")
    assert faults == []


async def test_the_rest_of_a_body_that_was_answered_before_ends_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other answers are under way on it."""
    faults: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    async with served(_answer, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE + frame(HEADERS, 4, 1, POST))
        assert b"an answer" in await _read(client, b"an answer")
        await loop.sock_sendall(client, frame(DATA, 0, 1, b"too late") + frame(PING, 0, 0, b"12345678"))
        assert b"12345678" in await _read(client, b"12345678")
    assert faults == []


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    """Before any of the body is read."""
    if scope["type"] == "http":
        closing = [(b"connection", b"close"), (b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 413, "headers": closing})
        await send({"type": "http.response.body", "body": b"too large"})


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "stays"])
async def test_an_answer_reaches_a_client_that_is_still_sending_and_its_connection_ends(
    monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    monkeypatch.setattr(repair, "LINGER_SECONDS", 0.2)
    loop, piece = asyncio.get_running_loop(), b"x" * 100_000
    async with served(_refuse, monkeypatch) as client:
        await loop.sock_sendall(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(200):
            await loop.sock_sendall(client, piece)
        assert (await _read(client, b"")).endswith(b"too large")
        if leaves:
            client.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(5):
            while repair._open:
                await asyncio.sleep(0.01)


async def test_a_client_that_never_stops_sending_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many small pieces more wait for the application than there is room for, and it has ended."""
    monkeypatch.setattr(repair, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(h11, "HTTPStream", repair.EndingHTTPStream)
    loop = asyncio.get_running_loop()
    async with served(_refuse, monkeypatch) as client:
        await loop.sock_sendall(client, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                while True:
                    await loop.sock_sendall(client, b"1\r\nx\r\n" * 100)
                    await asyncio.sleep(0.001)
            while repair._open:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("preface", [True, False], ids=["preface", "upgrade"])
async def test_http2_is_not_begun_without_tls(monkeypatch: pytest.MonkeyPatch, preface: bool) -> None:
    """Hypercorn would keep it open for ever, with nothing asked."""
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, http2-settings\r\n"
    upgrade += b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    async with served(_answer, monkeypatch, repair.TellingH11Protocol) as client:
        await asyncio.get_running_loop().sock_sendall(client, PREFACE if preface else upgrade)
        got = await _read(client, b"")
    assert got.startswith(b"HTTP/1.1 400 " if preface else b"HTTP/1.1 200 ")
    assert got.endswith(b"}") if preface else b"an answer" in got


async def test_a_body_that_nobody_takes_holds_up_no_other_request_of_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    monkeypatch.setattr(h2, "HTTPStream", repair.EndingHTTPStream)
    may_end = asyncio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await may_end.wait()
        await _answer(scope, receive, send)

    loop = asyncio.get_running_loop()
    async with served(late, monkeypatch) as client:
        pieces = frame(DATA, 0, 1, b"x") * 50
        await loop.sock_sendall(client, PREFACE + frame(HEADERS, 4, 1, POST) + pieces)
        loop.call_later(0.2, may_end.set)  # there is more by then than waits for it
        assert b"an answer" in await _read(client, b"an answer")
        await loop.sock_sendall(client, frame(PING, 0, 0, b"12345678"))
        assert b"12345678" in await _read(client, b"12345678")


@pytest.mark.parametrize("how", ["resets it", "leaves"])
async def test_nothing_waits_for_a_client_to_take_an_answer_that_it_has_given_up(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It has allowed for none of the answer. What waits there would keep a request, and a server, from its end."""
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _answer(scope, receive, send)
        if scope["type"] == "http":
            ended.set()

    loop = asyncio.get_running_loop()
    no_window = frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0")
    async with served(app, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE + no_window + frame(HEADERS, 5, 1, GET))
        await _read(client, b"\x01\x04\0\0\0\x01")  # its head
        assert not ended.is_set()
        if how == "leaves":
            client.close()
        else:
            await loop.sock_sendall(client, frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_whole_answer_that_is_never_taken_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a client that stays: it alone knows that it will take nothing."""
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        incoming = Incoming(AsgiRequest(scope, receive, send))
        reply = Reply(send, "req_1", OPENAI.error_body, incoming.cut)
        reply.write_timeout_s = 0.2
        try:
            await reply.whole(200, [], b"an answer")
        finally:
            ended.set()

    no_window = frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0")
    async with served(app, monkeypatch) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, PREFACE + no_window + frame(HEADERS, 5, 1, GET))
        async with asyncio.timeout(5):
            await ended.wait()
            await _read(client, b"")  # nothing is open on it: it is closed as any that is idle


VAIN = {
    "pings": frame(PING, 0, 0, b"12345678"),
    "settings": frame(SETTINGS, 0, 0),
    "priorities": frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"),
    "of no kind": frame(UNKNOWN, 0, 0, b"x"),
}


@pytest.mark.parametrize("name", [*VAIN, "empty pieces"])
async def test_frames_that_ask_for_work_alone_are_not_taken_without_end(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    loop = asyncio.get_running_loop()

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "http" and (await receive())["type"] == "http.request":
            pass

    one = VAIN.get(name, frame(DATA, 0, 1))
    async with served(reading, monkeypatch) as client:
        some = frame(HEADERS, 4, 1, POST) + one * (repair.MOST_VAIN - 10)
        await loop.sock_sendall(client, PREFACE + some + frame(PING, 0, 0, b"the last"))
        assert b"the last" in await _read(client, b"the last")
        with suppress(ConnectionError):
            await loop.sock_sendall(client, one * repair.MOST_VAIN)
            assert ENHANCE_YOUR_CALM in await _read(client, b"")


async def test_streams_that_are_opened_and_reset_are_soon_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    asked = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += scope["type"] == "http"
        await _answer(scope, receive, send)

    async with served(app, monkeypatch) as client:
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(
                client, PREFACE + b"".join(FRAMES["opened and reset"])
            )
            assert ENHANCE_YOUR_CALM in await _read(client, b"")
    assert 0 < asked < 2 * repair.MOST_VAIN


async def test_requests_may_each_have_a_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clients give them one, however many they are."""
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    loop = asyncio.get_running_loop()
    async with served(_answer, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE)
        for stream in range(1, 4 * repair.MOST_VAIN, 2):
            await loop.sock_sendall(client, frame(HEADERS, 0x25, stream, b"\0\0\0\0\x10" + GET))
            assert b"an answer" in await _read(client, b"an answer")


async def test_others_have_their_turn_between_the_frames_of_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the time of this thread alone, which other processes do not lengthen."""
    monkeypatch.setattr(protocol, "H2Protocol", repair.ResettingH2Protocol)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    loop = asyncio.get_running_loop()
    async with served(_answer, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE)
        await _read(client, frame(SETTINGS, 1, 0))
        watching = loop.create_task(watch())
        with suppress(ConnectionError):
            await loop.sock_sendall(client, VAIN["priorities"] * 4500)
            await _read(client, b"")
        watching.cancel()
    assert longest < 0.012
