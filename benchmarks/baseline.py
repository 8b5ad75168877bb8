"""The contrast to be better than: a gateway's bare job on uvicorn and aiohttp, with nothing around it.

`python benchmarks/baseline.py PORT UPSTREAM_PORT FOLDER` serves chat at /v1/chat/completions: the key is found by its
SHA-256, the body parsed, the model's name changed in both directions, the upstream asked by a pooled client, the
usage read, and rows written to SQLite in batches. No limits, no quotas, no failover, no checks of what comes.
`compare.py` runs it, by an interpreter that has uvicorn (with httptools and uvloop) and aiohttp.
"""

import asyncio
import hashlib
import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

KEYS = {hashlib.sha256(b"sk-benchmark").hexdigest(): "bench"}
PREFIX = "up/"
FLUSH_S = 0.05
_INSERT = "INSERT INTO usage (started, user, model, stream, input, output) VALUES (?, ?, ?, ?, ?, ?)"


class App:
    """Raw ASGI, as uvicorn calls it."""

    def __init__(self, upstream: str, folder: Path) -> None:
        self._url = f"{upstream}/v1/chat/completions"
        self._store = sqlite3.connect(folder / "baseline.db")
        self._store.execute("PRAGMA journal_mode = WAL")
        self._store.execute("PRAGMA synchronous = NORMAL")
        columns = "id INTEGER PRIMARY KEY, started REAL, user, model, stream, input INTEGER, output INTEGER"
        self._store.execute(f"CREATE TABLE IF NOT EXISTS usage ({columns})")
        self._rows: list[tuple[object, ...]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        user = KEYS.get(hashlib.sha256(authorization.removeprefix(b"Bearer ")).hexdigest())
        if user is None:
            await self._answer(send, 401, b'{"error":{"message":"no such key"}}')
            return
        asked = json.loads(await _body(receive))
        name = asked["model"]
        asked["model"] = name.removeprefix(PREFIX)
        headers = {"authorization": "Bearer sk-upstream", "content-type": "application/json"}
        body = json.dumps(asked).encode()
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            if asked.get("stream"):
                usage = await self._stream(answer, send, asked["model"], name)
            else:
                told = json.loads(await answer.read())
                told["model"], usage = name, told["usage"]
                await self._answer(send, answer.status, json.dumps(told).encode())
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        self._rows.append((time.time(), user, name, bool(asked.get("stream")), *tokens))

    async def _stream(self, answer: aiohttp.ClientResponse, send: Any, model: str, name: str) -> Any:
        """Relays each event with the client's name of the model; the usage."""
        await send({"type": "http.response.start", "status": answer.status, "headers": [_EVENTS]})
        theirs, ours = (f'"model":"{each}"'.encode() for each in (model, name))
        usage: Any = {}
        rest = b""
        async for piece in answer.content.iter_any():
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                event = event.replace(theirs, ours, 1)
                if b'"usage":{' in event:
                    usage = json.loads(event.removeprefix(b"data: "))["usage"]
                await send({"type": "http.response.body", "body": event + b"\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": rest})
        return usage

    async def _answer(self, send: Any, status: int, body: bytes) -> None:
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as self._session:
            flushing = asyncio.ensure_future(self._flush_on())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            flushing.cancel()
        self._flush()
        await send({"type": "lifespan.shutdown.complete"})

    async def _flush_on(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        with self._store:
            self._store.executemany(_INSERT, rows)


_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream")


async def _body(receive: Any) -> bytes:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def main() -> None:
    port, upstream_port, folder = sys.argv[1:]
    app = App(f"http://127.0.0.1:{upstream_port}", Path(folder))
    settings: Any = {"http": "httptools", "loop": "uvloop", "log_level": "warning", "access_log": False}
    uvicorn.run(app, host="127.0.0.1", port=int(port), **settings)


if __name__ == "__main__":
    main()
