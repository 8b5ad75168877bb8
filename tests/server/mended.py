"""An ASGI application behind Hypercorn, mended, on a real socket; and a client's connection to it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypercorn import protocol
from hypercorn.asyncio import run, serve
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol

from gproxy.server.engine import repair

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a connection of HTTP/2 begins with: RFC 9113, 3.4."""


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


async def answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"an answer"})


async def read(client: socket.socket, until: bytes) -> bytes:
    got = b""
    async with asyncio.timeout(10):
        while until not in got or not until:
            data = await asyncio.get_running_loop().sock_recv(client, 65536)
            if not data:
                return got
            got += data
    return got
