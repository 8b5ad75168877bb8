"""What comes from an upstream and is no answer: before the first byte an error of ours, after it a clean break."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.calls import BY_ID
from tests.kit.gateway import Gateway
from tests.kit.upstream import Script as ScriptOfKit
from tests.kit.upstream import Upstream
from tests.server.dialects import EACH, Dialect, ends_in_an_error
from tests.server.parts import (
    ALICE,
    SECRET,
    Peer,
    Script,
    Seen,
    Visit,
    always,
    http,
    peer,
    provider,
    rows,
    serving,
)

CANARY = "UPSTREAM-TEXT"


_SSE = "text/event-stream"
_JSON_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_SSE_HEAD = f"HTTP/1.1 200 OK\r\ncontent-type: {_SSE}\r\n"
_HALF = b'{"id": "' + CANARY.encode()


def _raw(head: str, body: bytes = b"") -> bytes:
    return head.encode() + b"\r\n" + body


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


NO_ANSWER = {
    "no http": f"SSH-2.0-{CANARY}\r\n\r\n".encode(),
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "a bad status": f"HTTP/1.1 2x0 {CANARY}\r\n\r\n".encode(),
    "a bad length": _raw(_JSON_HEAD + "content-length: 5x\r\n", _HALF),
    "two lengths": _raw(_JSON_HEAD + "content-length: 5\r\ncontent-length: 6\r\n", b"{    }"),
    "a bad header": _raw(_JSON_HEAD + "no colon here\r\n", b"{}"),
    "a huge header": _raw(_JSON_HEAD + f"x-a: {'y' * 300_000}\r\ncontent-length: 2\r\n", b"{}"),
    "many headers": _raw(_JSON_HEAD + "x-a: b\r\n" * 20_000 + "content-length: 2\r\n", b"{}"),
    "a short body": _raw(_JSON_HEAD + "content-length: 500\r\n", _HALF),
    "a short body that looks whole": _raw(_JSON_HEAD + "content-length: 500\r\n", b'{"id": "x"}'),
    "cut in a chunk": _raw(_JSON_HEAD + "transfer-encoding: chunked\r\n", b"50\r\n" + _HALF),
    "cut between chunks": _raw(_JSON_HEAD + "transfer-encoding: chunked\r\n", _chunk(b"{}")),
    "a bad chunk": _raw(_JSON_HEAD + "transfer-encoding: chunked\r\n", _chunk(b"{}") + b"zz\r\n"),
    "half a json": http(_HALF),
    "an empty body": http(b""),
    "no content": http(b"", 204, ""),
    "spaces": http(b"  \n\n  "),
    "a page": http(f"<html>{CANARY}</html>".encode(), media="text/html"),
    "text": http(CANARY.encode(), media="text/plain"),
    "no type": http(b"{}", media=""),
    "a redirect": http(b"", 302, "text/html", ("location: /elsewhere",)),
    "a permanent redirect": http(b"", 308, "text/html", ("location: /elsewhere",)),
    "another protocol": _raw("HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n", b"{}" * 9),
    "broken gzip": http(b"\x1f\x8b\x08 no gzip", more=("content-encoding: gzip",)),
    "half a gzip": http(gzip.compress(_HALF * 99, mtime=0)[:-9], more=("content-encoding: gzip",)),
    "an unknown coding": http(b"{}", more=("content-encoding: rot13",)),
    "an empty stream": http(b"", media=_SSE),
    "a stream of comments": http(b": ping\n\n" * 9, media=_SSE),
    "a stream cut before its first event": _raw(_SSE_HEAD + "content-length: 99\r\n", b"data: {"),
    "a stream in broken gzip": http(b"\x1f\x8b\x08 no", media=_SSE, more=("content-encoding: gzip",)),
}


def then_close(answer: bytes) -> Script:
    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    return script


async def answered(
    dialect: Dialect,
    script: Script,
    folder: Path,
    visit: Visit,
    *,
    stream: bool,
    secrets: tuple[str, ...] = (SECRET,),
) -> tuple[Any, Peer]:
    """The row of what `visit` was answered, and who was asked; nothing that the upstream said has gone out."""
    async with peer(script) as up, serving(provider(up.url, secrets=secrets) + ALICE, folder) as front:
        await asyncio.wait_for(dialect.ask(front, stream=stream, visit=visit), 10)
        (row,) = rows(front.path)
    assert CANARY.encode() not in visit.body
    assert not any(secret.encode() in visit.body for secret in secrets)
    return row, up


@EACH
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("id", NO_ANSWER)
async def test_what_is_no_answer_is_502_in_the_dialect(
    tmp_path: Path, dialect: Dialect, stream: bool, id: str
) -> None:
    visit = Visit()
    row, up = await answered(dialect, then_close(NO_ANSWER[id]), tmp_path, visit, stream=stream)
    assert visit.status == 502, visit.body
    assert visit.header("content-type") == "application/json"
    assert dialect.kind(visit.json()) == dialect.upstream_failed
    assert "up (up#1): " in visit.message
    assert (row["status"], row["outcome"], row["attempts"]) == (502, "upstream_error", 1)
    assert len(up.seen) == 1


@EACH
@pytest.mark.parametrize("code", [100, 102, 103])
async def test_what_comes_before_an_answer_is_passed_over(
    tmp_path: Path, dialect: Dialect, code: int
) -> None:
    before = f"HTTP/1.1 {code} Wait\r\nlink: x\r\n\r\n".encode()
    whole = http(json.dumps(dialect.whole).encode())
    visit = Visit()
    row, _ = await answered(dialect, always(before * 3 + whole), tmp_path, visit, stream=False)
    assert (visit.status, row["outcome"]) == (200, "ok")


_CHUNKED = _SSE_HEAD + "transfer-encoding: chunked\r\n"
_GZIPPED = _SSE_HEAD + "transfer-encoding: chunked\r\ncontent-encoding: gzip\r\n"

# What comes first, and what comes when the client has seen the event that is in it.
_BROKEN: dict[str, Callable[[bytes], tuple[bytes, bytes]]] = {
    "a short body": lambda one: (_raw(_SSE_HEAD + "content-length: 9999\r\n", one), b""),
    "cut between chunks": lambda one: (_raw(_CHUNKED, _chunk(one)), b""),
    "cut in a chunk": lambda one: (_raw(_CHUNKED, _chunk(one)), b"fff\r\ndata: {"),
    "a bad chunk": lambda one: (_raw(_CHUNKED, _chunk(one)), b"zz\r\n"),
    "no length, no end": lambda one: (_raw(_SSE_HEAD, one), b""),
    "cut in an event": lambda one: (_raw(_SSE_HEAD, one), one[:20]),
    "ended in an event": lambda one: (_raw(_CHUNKED, _chunk(one)), _chunk(one[:20]) + b"0\r\n\r\n"),
    "half a gzip": lambda one: (_raw(_GZIPPED, _chunk(_flushed(one))), b"0\r\n\r\n"),
    "gzip, then none": lambda one: (_raw(_GZIPPED, _chunk(_flushed(one))), _chunk(b"no gzip at all")),
}


def _flushed(data: bytes) -> bytes:
    """All of `data` in gzip, and not the end of it."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


@EACH
@pytest.mark.parametrize("id", _BROKEN)
async def test_a_stream_that_breaks_ends_in_the_dialects_error(
    tmp_path: Path, dialect: Dialect, id: str
) -> None:
    before, after = _BROKEN[id](dialect.event)
    visit = Visit()

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await visit.until(lambda v: bool(v.body))
        writer.write(after)
        await writer.drain()
        writer.close()

    row, up = await answered(dialect, script, tmp_path, visit, stream=True, secrets=("sk-a", "sk-b"))
    ends_in_an_error(visit, dialect, dialect.upstream_failed)
    assert (row["status"], row["outcome"], row["attempts"]) == (200, "upstream_error", 1)
    assert row["usage_source"] in ("partial", "estimated")
    assert len(up.seen) == 1, "no attempt after the first byte"


@pytest.mark.parametrize("then", ["cut", "reset"])
def test_bytes_that_break_off_visibly_end_early(gateway: Gateway, upstream: Upstream, then: Any) -> None:
    model = upstream.model(ScriptOfKit(cut_every=100, stop_after=3, then=then))
    call = BY_ID["speech"]
    with pytest.raises(httpx.RemoteProtocolError):
        gateway.post(call.url(model, call.provider), call.fields(model))
    row = gateway.wait_row(model=model)
    assert (row["status"], row["outcome"]) == (200, "upstream_error")
    assert len(upstream.exchanges(model)) == 1


@EACH
async def test_what_an_upstream_says_unasked_is_nobodys_answer(tmp_path: Path, dialect: Dialect) -> None:
    """On a connection that is kept: else the next request, perhaps somebody else's, would be answered with it."""
    whole = json.dumps(dialect.whole).encode()

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(http(whole))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(http(whole[:-1] + b', "stale": true}'))
        await writer.drain()

    async with peer(script) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        for _ in range(3):
            visit = await dialect.ask(front, stream=False)
            assert (visit.status, b"stale" in visit.body) == (200, False)
            await asyncio.sleep(0.1)
