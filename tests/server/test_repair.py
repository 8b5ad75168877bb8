"""The seams are where they are looked for, and a connection is closed in the end though its client takes nothing.

The rest of what is mended is shown by tests/e2e/test_{disconnects,http2}.py.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
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
