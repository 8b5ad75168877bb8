"""The seams are where they are looked for, and a connection is closed in the end though its client takes nothing.

The rest of what is mended is shown by tests/e2e/test_{disconnects,http2}.py.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypercorn import protocol
from hypercorn.asyncio import run, serve
from hypercorn.config import Config

from gproxy.server import repair
from gproxy.server.incoming import DROP


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


@asynccontextmanager
async def served(app: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[socket.socket]:
    """A client's connection to `app`."""
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


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING = 0, 1, 2, 3, 4, 6
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
