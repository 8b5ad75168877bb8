"""An ASGI application behind a real socket, served by either engine; and a client that writes bytes as they are."""

import asyncio
import contextlib
import hashlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hypercorn.asyncio import run, serve
from hypercorn.config import Config

from gproxy.server.app import Gateway
from gproxy.server.engine import handover
from gproxy.server.engine.engine import Engine
from gproxy.server.engine.exchange import Exchange

WAIT_S = 10.0

App = Callable[[Any, Any, Any], Awaitable[None]]


def asgi(app: App) -> Callable[[Exchange], Awaitable[None]]:
    """Answers as an ASGI application does."""
    return lambda it: app(it.scope(), it.receive, it.send)


@dataclass
class Served:
    """`seen` are the scopes that the application got. `engine` is None with Hypercorn's own."""

    app: App
    port: int = 0
    engine: Engine | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _wires: list["Wire"] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        self.seen.append(scope)
        return await self.app(scope, receive, send)

    async def connect(self) -> "Wire":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._wires.append(wire := Wire(reader, writer))
        return wire

    def hang_up(self) -> None:
        """Close what clients have open."""
        for wire in self._wires:
            wire.close()

    def forget(self) -> None:
        """Keep nothing of connections that are over."""
        self._wires.clear()

    def drain(self) -> None:
        self.stop.set()
        if self.engine is not None:
            self.engine.drain()


async def lifespan(receive: Any, send: Any) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def listening(app: App, engine: str = "fast", **times: float) -> AsyncIterator[Served]:
    """Serves `app` until the end of the block; `times` are the engine's."""
    served = Served(app)
    original = run.TCPServer  # type: ignore[attr-defined]  # what is replaced, to be put back
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    served.port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.include_server_header = False
    config.errorlog = logging.getLogger("gproxy.http")
    config.graceful_timeout = WAIT_S
    if engine == "fast":
        served.engine = Engine(app.answer if isinstance(app, Gateway) else asgi(served), **times)
        assert handover.obstacle() is None
        handover.install(served.engine)
    serving = asyncio.create_task(serve(served, config, shutdown_trigger=served.stop.wait))  # type: ignore[arg-type]
    try:
        yield served
    finally:
        served.hang_up()
        served.drain()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(WAIT_S):
                await serving
        run.TCPServer = original  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Wire:
    """One connection, from the client's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer, which must be well framed."""
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")[:-2]
            assert line.startswith("HTTP/1.1 "), line
            headers: dict[str, str] = {}
            for each in fields:
                name, _, value = each.partition(": ")
                name = name.lower()
                assert name not in headers, f"{name} twice"
                headers[name] = value
            status = int(line.split(" ")[1])
            if bodiless or status in (100, 204, 304):
                body = b""
            elif headers.get("transfer-encoding") == "chunked":
                body = await self._chunks()
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                assert headers["connection"] == "close"
                body = await self.reader.read()
            return Answer(status, headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def rest(self) -> bytes:
        """What still comes, to the end of the connection; a reset is an end."""
        got = b""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    got += data
        return got

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


async def body_of(receive: Any) -> bytes | None:
    """The whole body of a request, None if the client left inside it."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def reply(send: Any, body: bytes, status: int = 200, headers: Any = ()) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked."""
    body = await body_of(receive)
    if body is not None:
        found = {
            "method": scope["method"],
            "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode("latin-1"),
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
            ],
            "size": len(body),
            "digest": hashlib.sha256(body).hexdigest(),
        }
        await reply(send, json.dumps(found).encode())


def echo_after(go: asyncio.Event) -> App:
    """`echo`, which waits for `go` where `/wait` is asked for."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await go.wait()
        await echo(scope, receive, send)

    return app


def request(*headers: str, line: str = "POST /x HTTP/1.1", body: bytes = b"") -> bytes:
    """A request with its Host and, if it has a body, its length."""
    length = [f"content-length: {len(body)}"] if body else []
    return "\r\n".join([line, "host: localhost", *headers, *length, "", ""]).encode("latin-1") + body


class Paper:
    """A connection that keeps what is written on it."""

    def __init__(self, *, draining: bool = False) -> None:
        self.blocked = self.paused = False
        self.shared: dict[str, Any] = {
            "type": "http",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "scheme": "http",
            "root_path": "",
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8787),
            "state": {},
        }
        self.flow = asyncio.Event()
        self.draining = draining
        self.taken = 0
        self.text = b""
        self.dropped = False

    def write(self, data: bytes) -> None:
        self.text += data

    def body_taken(self) -> None:
        self.taken += 1

    def drop(self) -> None:
        self.dropped = True
