"""The seams are where they are looked for, and a connection is closed in the end though its client takes nothing.

The rest of what is mended is shown by test_http2.py and tests/e2e/test_{disconnects,http2}.py.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest
from hypercorn.protocol import h11

from gproxy.server.engine import repair
from gproxy.server.request.asgi import DROP
from tests.server.mended import HTTP2, answer, read, served


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


@pytest.mark.parametrize("closing", [True, False], ids=["close", "keep-alive"])
async def test_a_connection_is_closed_though_its_client_never_takes_the_last_of_ananswer(
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


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    """Before any of the body is read."""
    if scope["type"] == "http":
        closing = [(b"connection", b"close"), (b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 413, "headers": closing})
        await send({"type": "http.response.body", "body": b"too large"})


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "stays"])
async def test_ananswer_reaches_a_client_that_is_still_sending_and_its_connection_ends(
    monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    monkeypatch.setattr(repair, "LINGER_SECONDS", 0.2)
    loop, piece = asyncio.get_running_loop(), b"x" * 100_000
    async with served(_refuse, monkeypatch) as client:
        await loop.sock_sendall(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(200):
            await loop.sock_sendall(client, piece)
        assert (await read(client, b"")).endswith(b"too large")
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
    async with served(answer, monkeypatch, repair.TellingH11Protocol) as client:
        await asyncio.get_running_loop().sock_sendall(client, HTTP2 if preface else upgrade)
        got = await read(client, b"")
    assert got.startswith(b"HTTP/1.1 400 " if preface else b"HTTP/1.1 200 ")
    assert got.endswith(b"}") if preface else b"an answer" in got


@pytest.mark.parametrize(
    "key", [b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""], ids=["whole", "no-key"]
)
async def test_what_asks_for_a_websocket_is_a_request_like_others(
    monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    """And the connection goes on behind it."""
    asks = b"Connection: upgrade\r\nUPGRADE: websocket\r\nSec-WebSocket-Version: 13\r\n" + key
    sent = b"".join(b"GET / HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n" for more in (asks, asks, b""))
    async with served(answer, monkeypatch, repair.TellingH11Protocol) as client:
        await asyncio.get_running_loop().sock_sendall(client, sent)
        got = await read(client, b"")
    assert got.count(b"HTTP/1.1 ") == got.count(b"HTTP/1.1 200 ") == got.count(b"an answer") == 3


async def test_a_request_that_comes_as_the_server_begins_to_end_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection was idle, and was to be closed in the same turn of the loop."""
    async with served(answer, monkeypatch, repair.TellingH11Protocol) as client:
        while not repair._open:
            await asyncio.sleep(0)
        (connection,) = repair._open
        connection.reader.feed_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.context.terminated.set()
        got = await read(client, b"")
    assert got.count(b"HTTP/1.1 200 ") == got.count(b"an answer") == 1
    assert b"\r\nconnection: close\r\n" in got
