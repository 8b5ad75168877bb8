"""What tests of the server share: snapshots from text, requests by hand, a gateway in this loop, a scripted peer.

Real throughout: the ASGI application, the SQLite store and the sockets are those of the server.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gproxy.config.schema import PROTOCOLS
from gproxy.config.snapshot import Snapshot
from gproxy.config.source import load_text
from gproxy.ledger.sqlite import connect_read_only
from gproxy.ledger.writer import Writer
from gproxy.protocols import strict
from gproxy.protocols.base import Protocol
from gproxy.protocols.openai_chat import CHAT
from gproxy.providers.catalog import CHANNELS
from gproxy.server.app import Gateway
from gproxy.server.console import LINES
from gproxy.server.request.asgi import DROP, AsgiRequest
from gproxy.server.request.callers import authenticate
from gproxy.server.request.edge import Call, Pass
from gproxy.server.request.fields import Fields
from gproxy.server.request.incoming import Incoming, Receive
from gproxy.server.tasks import Tasks
from tests.kit.fresh import begin

KEY = "sk-client"
SECRET = "sk-upstream-secret-1"
Headers = list[tuple[bytes, bytes]]

ALICE = f"""
[[users]]
name = "alice"
[[users.keys]]
label = "laptop"
api_key = "{KEY}"
[[permissions]]
user_name = "alice"
model_pattern = "*"
"""


def provider(
    url: str,
    name: str = "up",
    more: str = "",
    secrets: tuple[str, ...] = (SECRET,),
    protocols: tuple[str, ...] = PROTOCOLS,
) -> str:
    """A provider at `url` whose models have no built-in price; `more` are further settings."""
    credentials = ", ".join(f'{{ api_key = "{secret}" }}' for secret in secrets)
    spoken = json.dumps(protocols)
    return (
        f'[[providers]]\nname = "{name}"\nchannel = "custom"\n'
        f'settings = {{ base_url = "{url}", protocols = {spoken}{more and ", "}{more} }}\n'
        f"credentials = [{credentials}]\n"
    )


KEYS = (
    "[global]\nmax_body_bytes = 2000\n"
    + provider("http://up")
    + """
[[users]]
name = "alice"
[[users.keys]]
label = "laptop"
api_key = "sk-client"
[[users.keys]]
label = "old"
api_key = "sk-expired"
expires_at = 2026-01-01T00:00:00Z
[[users.keys]]
label = "off"
api_key = "sk-off"
enabled = false
[[users.keys]]
label = "odd"
api_key = "a+b/c=&d"
[[users]]
name = "gone"
enabled = false
[[users.keys]]
api_key = "sk-gone"
"""
)
"""A configuration with keys of each kind: good, expired, off, with odd letters, and of a user who is disabled."""


def table_price(nano_per_mtok: int) -> str:
    """What the program that knows prices answers of a model with that price for input and output."""
    tier = [None, nano_per_mtok, nano_per_mtok, 0, 0, 0, None]
    rates = {"tiers": [tier], "per_call": 0, "per_search": 0}
    return json.dumps({"source": "table", "rates": rates, "classes": {}, "until": None})


def snapshot(text: str) -> Snapshot:
    """The configuration that `text` is, which must hold no errors."""
    loaded = load_text(text.encode(), directory=Path(), channels=CHANNELS, environ={})
    assert loaded.snapshot is not None, loaded.errors
    return loaded.snapshot


def scope(
    path: str,
    *,
    method: str = "POST",
    query: str = "",
    headers: Headers | None = None,
    key: str | None = KEY,
    host: str = "localhost",
) -> dict[str, Any]:
    """An ASGI scope as Hypercorn makes it."""
    given = [(b"host", host.encode())] + ([(b"authorization", b"Bearer " + key.encode())] if key else [])
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": given + (headers or []),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8787),
        "state": {},
        "extensions": {},
    }


def call(
    here: Snapshot,
    body: bytes,
    protocol: Protocol = CHAT,
    *,
    model: str | None = None,
    headers: Headers | None = None,
    started: float = 0.0,
) -> Call:
    """A call by alice's key below `/up`, as `edge.read` makes it. `model`: the one in the path."""
    client = authenticate(((b"x-api-key", KEY.encode()),), "", here, 0)
    passed = Pass(
        snapshot=here,
        client=client,
        key=KEY,
        fields=Fields(tuple(headers or ())),
        protocol=protocol,
        model=model,
        scoped="up",
        query="",
        coding=None,
        page=(),
        at_once=-1,
    )
    return Call(
        request_id="req_1",
        passed=passed,
        client=client,
        protocol=protocol,
        snapshot=here,
        facts=protocol.read(strict.decode(body), model, ""),
        course=None,
        started=started,
        started_at=1_795_612_800.0625,
    )


def incoming(receive: Receive, drop: Callable[[], None] | None = None) -> Incoming:
    """What comes to the task that calls this, by ASGI."""

    async def send(_: MutableMapping[str, Any]) -> None:
        raise AssertionError("nothing is answered here")

    extensions = {} if drop is None else {DROP: drop}
    return Incoming(AsgiRequest({"headers": [], "extensions": extensions}, receive, send))


class Visit:
    """One client at an ASGI application: what it sends, what it was answered, and when it leaves."""

    def __init__(self, *pieces: bytes, then_leave: bool = False) -> None:
        self._pieces = list(pieces or [b""])
        self._more = then_leave
        self._left = asyncio.Event()
        self._news = asyncio.Event()
        self.messages: list[MutableMapping[str, Any]] = []
        if then_leave:
            self._left.set()

    def give(self, body: bytes) -> None:
        """What it sends, instead of what was said."""
        self._pieces = [body]

    async def receive(self) -> MutableMapping[str, Any]:
        if self._pieces:
            body = self._pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._pieces) or self._more}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        self._news.set()

    @property
    def unread(self) -> int:
        """Pieces of the body that nobody has asked for."""
        return len(self._pieces)

    def leave(self) -> None:
        self._left.set()

    async def until(self, seen: Callable[["Visit"], bool]) -> None:
        """Wait for messages that make `seen` true."""
        async with asyncio.timeout(10):
            while not seen(self):
                self._news.clear()
                await self._news.wait()

    @property
    def status(self) -> int:
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), 0)

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")

    @property
    def ended(self) -> bool:
        """Whether the answer came to its end, and nothing after it."""
        ends = [not m.get("more_body") for m in self.messages if m["type"] == "http.response.body"]
        return ends.count(True) == 1 and ends[-1]

    def header(self, name: str) -> str | None:
        """The one value of a header of the answer, None without one."""
        start = next(m for m in self.messages if m["type"] == "http.response.start")
        values = [v.decode() for n, v in start["headers"] if n.lower() == name.encode()]
        assert len(values) <= 1, values
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of an error, whichever dialect it is in."""
        text: str = self.json()["error"]["message"]
        return text


@dataclass
class Front:
    """A gateway in this loop, with its store."""

    gateway: Gateway
    writer: Writer
    tasks: Tasks
    path: Path

    async def ask(
        self,
        path: str,
        body: object = None,
        *,
        visit: Visit | None = None,
        **scoped: Any,
    ) -> Visit:
        """The whole answer to one request; `body` is JSON, or bytes as they are."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        visit = visit or Visit(raw)
        await self.gateway(scope(path, **scoped), visit.receive, visit.send)
        return visit

    async def chat(self, model: str, **more: Any) -> Visit:
        """A chat completion, streamed if `stream=True` is among the fields."""
        return await self.ask("/v1/chat/completions", {"model": model, "messages": [], **more})

    async def rows(self) -> list[dict[str, Any]]:
        """What the table `usage` holds once everything in flight has been written."""
        await self.tasks.drain(5)
        self.writer.close()
        return rows(self.path)


def rows(path: Path) -> list[dict[str, Any]]:
    """The table `usage` as any reader sees it now."""
    with closing(connect_read_only(path)) as connection:
        cursor = connection.execute("SELECT * FROM usage ORDER BY id")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


@asynccontextmanager
async def serving(text: str, folder: Path) -> AsyncIterator[Front]:
    """A gateway under the configuration `text`."""
    path = begin(folder / "gproxy.db")
    writer = Writer(path)
    writer.start()
    tasks = Tasks()
    gateway = Gateway(snapshot(text), writer, tasks)
    try:
        yield Front(gateway, writer, tasks, path)
    finally:
        LINES.close()  # else the line of a request might turn up in a test that comes later
        await tasks.drain(5)
        await gateway.prices.close()
        await gateway.upstream.close()
        writer.close()


@dataclass(frozen=True)
class Seen:
    """One request as the peer saw it. `connection` counts the connections it has accepted."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """An upstream on a loopback socket; what it answers is a function over a request and the raw connection.

    `left` is set when a client closes its connection while it is being answered.
    """

    script: Script
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing() and (seen := await _request(reader, number)) is not None:
                self.seen.append(seen)
                watching = asyncio.create_task(self._watch(reader))
                try:
                    await self.script(seen, writer)
                finally:
                    watching.cancel()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the other side left, or the block has ended
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        while not reader.at_eof():
            await asyncio.sleep(0.005)
        self.left.set()


async def _request(reader: asyncio.StreamReader, connection: int) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split(" ")
    return Seen(method, target, headers, body, connection)


@asynccontextmanager
async def peer(script: Script) -> AsyncIterator[Peer]:
    """A peer that follows `script`, until the end of the block."""
    it = Peer(script)
    server = await asyncio.start_server(it._serve, "127.0.0.1", 0, backlog=1000)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        running = tuple(it._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue is full, so that a connection to it is neither taken nor refused."""
    with ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        open_sockets.enter_context(filled(port))
        yield port


@contextmanager
def filled(port: int) -> Iterator[None]:
    """The queue of a listener that has room for none is full."""
    with ExitStack() as open_sockets:
        for _ in range(4):
            filler = open_sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection as a crash would: no FIN, an RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def http(
    body: bytes = b"", status: int = 200, media: str = "application/json", more: tuple[str, ...] = ()
) -> bytes:
    """One answer with its length, ready to be written."""
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", *more]
    lines += [f"content-type: {media}"] if media else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(answer: bytes) -> Script:
    """The same bytes for every request."""

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return script


def by_key(answers: dict[str, bytes]) -> Script:
    """An answer for each upstream key."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[seen.key])
        await writer.drain()

    return script


COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
GOOD = http(json.dumps(COMPLETION).encode())


def data(tree: object) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(tree).encode() + b"\n\n"


def chunk(text: str | None = None, finish: str | None = None) -> bytes:
    """One event of a chat stream by the model `m`."""
    delta = {} if text is None else {"content": text}
    return data(
        {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    )


USAGE_CHUNK = data({"id": "c1", "model": "m", "choices": [], "usage": COMPLETION["usage"]})
DONE = b"data: [DONE]\n\n"
STREAM = chunk("hel") + chunk("lo") + chunk(finish="stop") + USAGE_CHUNK + DONE


def sse(events: bytes = STREAM) -> bytes:
    return http(events, media="text/event-stream")
