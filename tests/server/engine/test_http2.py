"""Frames as they are, on HTTP/2 without TLS, which Hypercorn's own HTTP/1.1 lets a client begin.

The same over TLS, by a client of the package h2, is in tests/e2e/test_http2.py.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from hypercorn import protocol
from hypercorn.protocol import h2

from gproxy.protocols.registry import OPENAI
from gproxy.server.engine import http2, repair
from gproxy.server.request.asgi import AsgiRequest
from gproxy.server.request.incoming import Incoming
from gproxy.server.request.reply import Reply
from tests.server.mended import HTTP2, answer, read, served


@pytest.fixture(autouse=True)
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "H2Protocol", http2.ResettingH2Protocol)


ENHANCE_YOUR_CALM = b"\0\0\0\x0b"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113, 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, UNKNOWN = 0, 1, 2, 3, 4, 6, 8, 0x77
PREFACE = HTTP2 + frame(SETTINGS, 0, 0)
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


@pytest.mark.parametrize("name", FRAMES)
async def test_frames_that_nobody_should_send_end_the_connection_and_are_no_fault(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    async with served(answer, monkeypatch) as client:
        with suppress(ConnectionError):  # what it no longer reads
            await asyncio.get_running_loop().sock_sendall(client, PREFACE + b"".join(FRAMES[name]))
            await read(client, b"")
    assert faults == []


async def test_the_rest_of_a_body_that_wasanswered_before_ends_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other answers are under way on it."""
    faults: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    async with served(answer, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE + frame(HEADERS, 4, 1, POST))
        assert b"an answer" in await read(client, b"an answer")
        await loop.sock_sendall(client, frame(DATA, 0, 1, b"too late") + frame(PING, 0, 0, b"12345678"))
        assert b"12345678" in await read(client, b"12345678")
    assert faults == []


async def test_a_body_that_nobody_takes_holds_up_no_other_request_of_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(h2, "HTTPStream", repair.EndingHTTPStream)
    may_end = asyncio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await may_end.wait()
        await answer(scope, receive, send)

    loop = asyncio.get_running_loop()
    async with served(late, monkeypatch) as client:
        pieces = frame(DATA, 0, 1, b"x") * 50
        await loop.sock_sendall(client, PREFACE + frame(HEADERS, 4, 1, POST) + pieces)
        loop.call_later(0.2, may_end.set)  # there is more by then than waits for it
        assert b"an answer" in await read(client, b"an answer")
        await loop.sock_sendall(client, frame(PING, 0, 0, b"12345678"))
        assert b"12345678" in await read(client, b"12345678")


@pytest.mark.parametrize("how", ["resets it", "leaves"])
async def test_nothing_waits_for_a_client_to_take_ananswer_that_it_has_given_up(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It has allowed for none of the answer. What waits there would keep a request, and a server, from its end."""
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(scope, receive, send)
        if scope["type"] == "http":
            ended.set()

    loop = asyncio.get_running_loop()
    no_window = frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0")
    async with served(app, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE + no_window + frame(HEADERS, 5, 1, GET))
        await read(client, b"\x01\x04\0\0\0\x01")  # its head
        assert not ended.is_set()
        if how == "leaves":
            client.close()
        else:
            await loop.sock_sendall(client, frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_wholeanswer_that_is_never_taken_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a client that stays: it alone knows that it will take nothing."""
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        incoming = Incoming(AsgiRequest(scope, receive, send))
        reply = Reply("req_1", OPENAI.error_body, incoming, send=send)
        reply.write_timeout_s = 0.2
        try:
            await reply.whole(200, b"", b"an answer")
        finally:
            ended.set()

    no_window = frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0")
    async with served(app, monkeypatch) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, PREFACE + no_window + frame(HEADERS, 5, 1, GET))
        async with asyncio.timeout(5):
            await ended.wait()
            await read(client, b"")  # nothing is open on it: it is closed as any that is idle


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
    loop = asyncio.get_running_loop()

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "http" and (await receive())["type"] == "http.request":
            pass

    one = VAIN.get(name, frame(DATA, 0, 1))
    async with served(reading, monkeypatch) as client:
        some = frame(HEADERS, 4, 1, POST) + one * (http2.MOST_VAIN - 10)
        await loop.sock_sendall(client, PREFACE + some + frame(PING, 0, 0, b"the last"))
        assert b"the last" in await read(client, b"the last")
        with suppress(ConnectionError):
            await loop.sock_sendall(client, one * http2.MOST_VAIN)
            assert ENHANCE_YOUR_CALM in await read(client, b"")


async def test_streams_that_are_opened_and_reset_are_soon_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += scope["type"] == "http"
        await answer(scope, receive, send)

    async with served(app, monkeypatch) as client:
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(
                client, PREFACE + b"".join(FRAMES["opened and reset"])
            )
            assert ENHANCE_YOUR_CALM in await read(client, b"")
    assert 0 < asked < 2 * http2.MOST_VAIN


MOST = 100
"""Streams at once: what clients are told, and what they take for granted before they are."""


def gets(first: int, number: int, priority: bytes = b"") -> bytes:
    streams = range(2 * first + 1, 2 * (first + number), 2)
    return b"".join(frame(HEADERS, 0x25 if priority else 5, stream, priority + GET) for stream in streams)


def refused(at: int) -> bytes:
    return frame(RST_STREAM, 0, 2 * at + 1, b"\0\0\0\7")


async def test_a_request_too_many_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await may_end.wait()
            await answer(scope, receive, send)

    loop = asyncio.get_running_loop()
    async with served(app, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE + gets(0, MOST + 3))
        got = await read(client, refused(MOST + 2))
        assert got.count(b"\0\0\0\7") == 3
        may_end.set()
        for _ in range(MOST):
            if got.count(b"an answer") == MOST:
                break
            got += await read(client, b"an answer")
        assert got.count(b"an answer") == MOST
        await loop.sock_sendall(client, gets(MOST + 3, 1))
        assert b"an answer" in await read(client, b"an answer")


async def test_requests_that_are_refused_end_the_connection_if_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "http" and (await receive())["type"] != "http.disconnect":
            pass

    async with served(app, monkeypatch) as client:
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(
                client, PREFACE + gets(0, MOST + 2 * http2.MOST_VAIN)
            )
            got = await read(client, b"")
            assert ENHANCE_YOUR_CALM in got
            assert got.count(b"\0\0\0\7") <= http2.MOST_VAIN + 10


async def test_what_is_refused_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree of priorities has room for 1000."""
    monkeypatch.setattr(http2, "MOST_VAIN", 10_000)
    monkeypatch.setattr(http2.ResettingH2Protocol, "_room", 10_000.0)
    started = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal started
        started += scope["type"] == "http"
        while scope["type"] == "http" and (await receive())["type"] != "http.disconnect":
            pass

    loop = asyncio.get_running_loop()
    async with served(app, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE + gets(0, MOST) + gets(MOST, 1200, b"\0\0\0\0\x10"))
        got = await read(client, refused(MOST + 1199))
    assert refused(MOST + 1199) in got
    assert ENHANCE_YOUR_CALM not in got
    assert started == MOST


async def test_requests_may_each_have_a_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clients give them one, however many they are."""
    loop = asyncio.get_running_loop()
    async with served(answer, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE)
        for stream in range(1, 4 * http2.MOST_VAIN, 2):
            await loop.sock_sendall(client, frame(HEADERS, 0x25, stream, b"\0\0\0\0\x10" + GET))
            assert b"an answer" in await read(client, b"an answer")


async def test_others_have_their_turn_between_the_frames_of_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the time of this thread alone, which other processes do not lengthen."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    loop = asyncio.get_running_loop()
    async with served(answer, monkeypatch) as client:
        await loop.sock_sendall(client, PREFACE)
        await read(client, frame(SETTINGS, 1, 0))
        watching = loop.create_task(watch())
        with suppress(ConnectionError):
            await loop.sock_sendall(client, VAIN["priorities"] * 4500)
            await read(client, b"")
        watching.cancel()
    assert longest < 0.012
