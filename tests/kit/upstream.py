"""A provider on a real loopback socket that follows a script and keeps a ledger of all it saw.

It runs in a thread with an event loop of its own, so that a busy test never slows it. What a good answer
looks like is `answers.py`'s.
"""

import asyncio
import gzip
import itertools
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import unquote

from aiohttp import web

from tests.kit import answers
from tests.kit.answers import Answer, Ask, Told

DEADLINE_S = 10.0
"""How long any wait of the kit lasts before the test fails."""

SOON_S = 5.0
"""What happens at once has happened by then, on a machine that is busy with other things. Else it happens much later,
when some limit ends it, or never."""

UNTOLD = Told()

Stop = Literal["hang", "reset", "cut", "end", "gate"]


@dataclass(frozen=True, kw_only=True)
class Script:
    """How one model answers. Left alone, it answers well.

    status, headers, content_type, body   replace those of the good answer
    chunks      replace the chunks of a stream
    cut_every   the whole answer goes out in writes of so many bytes
    delay_s     pause before every chunk but the first
    silent      never answer at all
    compress    gzip the answer, whatever was asked
    stop_after  chunks to send (0: the head alone) before `then`
    then        "hang" for ever; "reset" the connection; "cut" it without the end of the message; "end" the
                message early but well; "gate": go on when the test calls `open_gate`
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    body: bytes | None = None
    chunks: tuple[bytes, ...] | None = None
    cut_every: int = 0
    delay_s: float = 0.0
    silent: bool = False
    compress: bool = False
    stop_after: int | None = None
    then: Stop = "hang"


@dataclass
class Exchange:
    """One request and what became of it. `raw_path` is the path as it came, the query without `?`.

    `arrived_at` is when it was there whole, `closed_at` when the peer was seen to leave before the answer was
    whole, else None (both by `time.monotonic`).
    """

    uid: str
    method: str
    raw_path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    model: str
    told: Told = UNTOLD
    status: int | None = None
    sent: list[bytes] = field(default_factory=list)
    arrived_at: float = field(default_factory=time.monotonic)
    closed_at: float | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def json(self) -> Any:
        return json.loads(self.body)


class Upstream:
    """Use as a context manager; `url` is its root, without `/v1`."""

    def __init__(self, seed: int = 7) -> None:
        self.ledger: list[Exchange] = []
        self._scripts: dict[str, Script] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._rng = random.Random(seed)
        self._numbers = itertools.count(1)
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(DEADLINE_S)
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    async def _start(self) -> int:
        server = web.Server(self._handle, access_log=None, handler_cancellation=True, auto_decompress=False)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    # What tests call.

    def model(self, script: Script | None = None, name: str = "") -> str:
        """A model that nobody else uses, and that follows `script`."""
        name = name or f"model-{next(self._numbers)}"
        self._scripts[name] = script or Script()
        return name

    def lists(self, script: Script) -> None:
        """How every list of models is answered from now on."""
        self._scripts[""] = script

    def open_gate(self, model: str) -> None:
        self._loop.call_soon_threadsafe(lambda: self._gate(model).set())

    def exchanges(self, model: str) -> list[Exchange]:
        return [exchange for exchange in list(self.ledger) if exchange.model == model]

    def only(self, model: str) -> Exchange:
        """The one request that named `model`; fails if there were more or none."""
        (exchange,) = self.exchanges(model)
        return exchange

    def wait_for(self, model: str, count: int = 1) -> Exchange:
        """Blocks until `count` requests for `model` have arrived whole; the last of them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.exchanges(model)) >= count, DEADLINE_S)
        return self.exchanges(model)[count - 1]

    def closed_within(self, model: str, since: float, seconds: float = SOON_S) -> bool:
        """Whether the peer left the one exchange of `model` within `seconds` of `since` (monotonic)."""
        exchange = self.only(model)
        exchange.over.wait(max(0.0, since + seconds + 0.2 - time.monotonic()))
        return exchange.closed_at is not None and exchange.closed_at - since <= seconds

    # What the socket sees.

    def _gate(self, model: str) -> asyncio.Event:
        return self._gates.setdefault(model, asyncio.Event())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        # A proxy is asked with the whole URL; this one answers for everybody.
        raw_path, _, query = re.sub(r"^http://[^/]+", "", request.raw_path).partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        fields, model = _read(raw_path, body)
        exchange = Exchange(
            f"u{len(self.ledger):05d}x", request.method, raw_path, query, headers, body, model
        )
        with self._arrived:
            self.ledger.append(exchange)
            self._arrived.notify_all()
        try:
            return await self._answer(request, exchange, fields)
        except (asyncio.CancelledError, ConnectionError):
            exchange.closed_at = time.monotonic()
            raise
        finally:
            exchange.over.set()

    async def _answer(
        self, request: web.BaseRequest, exchange: Exchange, fields: Mapping[str, Any]
    ) -> web.StreamResponse:
        script = self._scripts.get(exchange.model, Script())
        if script.silent:
            await asyncio.Event().wait()
        answer = self._good(exchange, fields)
        exchange.told = answer.told if script.status == 200 and script.body is None else UNTOLD
        chunks = script.chunks or answer.chunks
        if script.body is not None:
            chunks = (script.body,)
        whole = len(chunks) == 1 and script.stop_after is None
        headers = {"content-type": script.content_type or answer.content_type} | dict(script.headers)
        if script.compress:
            chunks, whole = (gzip.compress(b"".join(chunks)),), True
            headers["content-encoding"] = "gzip"
        if script.cut_every:
            joined = b"".join(chunks)
            step = script.cut_every
            chunks = tuple(joined[at : at + step] for at in range(0, len(joined), step))
        exchange.status = script.status
        response = web.StreamResponse(status=script.status, headers=headers)
        if whole:
            response.content_length = sum(map(len, chunks))
        await response.prepare(request)
        for number, chunk in enumerate(chunks):
            if number == script.stop_after and not await self._stop(request, exchange, script):
                return response
            if number and script.delay_s:
                await asyncio.sleep(script.delay_s)
            exchange.sent.append(chunk)
            await response.write(chunk)
            if script.cut_every:
                # Each piece is its own read at the other end, or close to it.
                await asyncio.sleep(0)
        if script.stop_after is not None and script.stop_after >= len(chunks):
            await self._stop(request, exchange, script)
        await response.write_eof()
        return response

    async def _stop(self, request: web.BaseRequest, exchange: Exchange, script: Script) -> bool:
        """Does what the script says; True: the answer goes on."""
        if script.then == "hang":
            await asyncio.Event().wait()
        if script.then == "gate":
            await self._gate(exchange.model).wait()
            return True
        if script.then in ("reset", "cut"):
            transport = request.transport
            assert transport is not None
            # What was written must leave before the fault does.
            await asyncio.sleep(0.05)
            if script.then == "reset":
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            else:
                transport.close()
        return False

    def _good(self, exchange: Exchange, fields: Mapping[str, Any]) -> Answer:
        path = exchange.raw_path
        if exchange.method == "GET":
            return Answer((answers.model_list(path, exchange.headers),))
        # Some providers have their paths below a folder of their own, and some no version in them.
        known = [end for end in answers.BY_PATH if path.endswith(end.removeprefix("/v1"))]
        longest = max(known, key=len, default="")
        say = answers.BY_PATH.get(longest) or answers.BY_ACTION.get(path.rpartition(":")[2])
        assert say is not None, f"no provider has the path {path}"
        return say(Ask(exchange.uid, exchange.model, fields, exchange.query, self._rng))


def _read(raw_path: str, body: bytes) -> tuple[Mapping[str, Any], str]:
    """The JSON fields of a request and the model that it names, in its body or its path."""
    try:
        fields = json.loads(body) if body else {}
    except ValueError:
        fields = {}
    head, found, action = unquote(raw_path).rpartition(":")
    if found and action in answers.BY_ACTION:
        return fields, head.partition("/models/")[2]
    return fields, str(fields.get("model", "")) if isinstance(fields, dict) else ""
