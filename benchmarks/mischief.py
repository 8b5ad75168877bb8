"""Everything that clients and upstreams do to a server, one request at a time, and what should come of each.

At the upstream: good answers whole and in pieces, errors (404, 429, 500, 529), failovers, streams that break, stall
or never begin, one that refuses connections. Clients: those that leave inside their request, while they wait, in a
stream and in a plain answer, to be forgotten or drained; slow readers; no JSON, the wrong key, unknown names,
ambiguous framing, bodies that are too large or never come; users beyond a limit or a quota.

How long, how many at once, and what must be left at the end is `soak.py`'s.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable

import aiohttp
from conservation import BAD, CALLS, GOOD, LUCK, USERS, configuration, one

from tests.kit.calls import BY_ID
from tests.kit.settings import closed_port, limit, model, provider, quota, user
from tests.kit.upstream import Script

PRICE = "price_tiers = [{ price_input_tokens = 2.0, price_output_tokens = 8.0 }]\n"
MOST_BODY = 1_000_000
_EVENT = b'data: {"id":"c","model":"long","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (
    b"x" * 4000
)

SCRIPTS = {
    **GOOD,
    **BAD,
    "overloaded": Script(status=529),
    "silent": Script(silent=True),
    "stalled": Script(stop_after=1, then="hang"),
    "half": Script(cut_every=20, stop_after=2, then="hang"),
    "paced": Script(delay_s=0.2),
    "long": Script(chunks=(*(_EVENT,) * 200, b"data: [DONE]\n\n"), content_type="text/event-stream"),
}
"""What the models of the upstream do, by their names."""

_KEYS = {**USERS, "limited": "sk-soak-limited", "spent": "sk-soak-spent", "nobody": "sk-soak-nobody"}
_CHAT = "/v1/chat/completions"
_RESET = struct.pack("ii", 1, 0)
_LEFT = "left"
_COOLING = "429"
"""Also where nothing is wrong: an upstream's own 429 takes its credentials out for a second."""


def text(url: str) -> str:
    """The configuration, for an upstream whose root is `url`."""
    quick = {"first_byte_timeout_s": 0.5, "idle_timeout_s": 0.5, "max_attempts": 1}
    parts = [
        f"[global]\nmax_body_bytes = {MOST_BODY}\n",
        configuration(url),
        provider("quick", "openai", url, **quick),
        provider("drained", "openai", url, on_disconnect="drain"),
        provider("refused", "openai", f"http://127.0.0.1:{closed_port()}"),
        *(model(name, each, PRICE) for name in ("oa", "an", "ge") for each in (*GOOD, *BAD, "overloaded")),
        *(model("quick", each, PRICE) for each in ("silent", "stalled", "half", "long")),
        model("drained", "paced", PRICE),
        model("refused", "x", PRICE),
        user("limited", _KEYS["limited"], "*"),
        user("spent", _KEYS["spent"], "*"),
        limit("limited", rpm=30),
        quota("spent", 0.00001),
        *(limit(name, max_concurrency=1000, rpm=10_000_000, tpm=10**12) for name in USERS),
        *(quota(name, 1_000_000) for name in USERS),
    ]
    return "".join(parts)


async def go(session: aiohttp.ClientSession, rng: random.Random) -> tuple[str, str]:
    """One request: of what kind it was, and what came of it."""
    kind = rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
    if kind in LUCK:
        streams = kind in ("cut", "reset", "left")
        call = rng.choice([call for call in CALLS if call.stream or not streams])
        return kind, await one(session, call, kind, rng.choice(list(USERS)))
    if kind in _ASKED:
        name, who, stream = _ASKED[kind]
        return kind, await _ask(session, name, who, stream=stream)
    return kind, await _OTHERS[kind](session, rng)


async def _ask(session: aiohttp.ClientSession, name: str, who: str, *, stream: bool) -> str:
    body = BY_ID["chat"].fields(name) | {"stream": stream}
    headers = {"authorization": f"Bearer {_KEYS[who]}"}
    async with session.post(_CHAT, json=body, headers=headers) as answer:
        said = await answer.read()
        return (
            f"{answer.status} with an error"
            if b'"error"' in said and answer.status == 200
            else str(answer.status)
        )


def _request(name: str, *, stream: bool) -> bytes:
    body = json.dumps(BY_ID["chat"].fields(name) | {"stream": stream}).encode()
    return _head(f"content-length: {len(body)}") + body


def _head(*lines: str) -> bytes:
    fixed = (f"POST {_CHAT} HTTP/1.1", "host: localhost", "content-type: application/json")
    return "\r\n".join((*fixed, f"authorization: Bearer {_KEYS['bob']}", *lines, "", "")).encode()


async def _connected(session: aiohttp.ClientSession) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with little room for what is not read."""
    url = session._base_url
    assert url is not None
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (url.host, url.port))
    return await asyncio.open_connection(sock=sock, limit=4096)


def _part(writer: asyncio.StreamWriter, rng: random.Random) -> None:
    """Leave, in order or not."""
    if rng.random() < 0.5 and not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _in_its_request(session: aiohttp.ClientSession, rng: random.Random) -> str:
    """Away before it has said all that it said it would."""
    _, writer = await _connected(session)
    said = _head("content-length: 999") + b"x" * 100
    writer.write(said[: rng.randrange(1, len(said))])
    await asyncio.sleep(rng.random() * 0.05)
    _part(writer, rng)
    return _LEFT


def _leaving(*names: str, stream: bool) -> Callable[[aiohttp.ClientSession, random.Random], Awaitable[str]]:
    """Away after its request, at once or a moment later, maybe with a part of the next one said."""

    async def leave(session: aiohttp.ClientSession, rng: random.Random) -> str:
        reader, writer = await _connected(session)
        following = _request("oa/whole", stream=False)
        part = following[: rng.randrange(1, len(following))] if rng.random() < 0.3 else b""
        writer.write(_request(rng.choice(names), stream=stream) + part)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(rng.random() * 0.3):
                while await reader.read(4096):
                    pass
        _part(writer, rng)
        return _LEFT

    return leave


async def _slow_reader(session: aiohttp.ClientSession, rng: random.Random) -> str:
    """Takes a long stream in small bites, and leaves when it has had enough."""
    reader, writer = await _connected(session)
    writer.write(_request("quick/long", stream=True))
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(rng.random() * 3):
            while await reader.read(4096):
                await asyncio.sleep(0.05)
    _part(writer, rng)
    return _LEFT


async def _bad_input(session: aiohttp.ClientSession, rng: random.Random) -> str:
    """What is refused from its head or body alone; the first digit of the answer's status."""
    reader, writer = await _connected(session)
    writer.write(rng.choice(_BAD_INPUT))
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(10):
            line = await reader.readline()
        writer.transport.abort()
        return f"{line[9:10].decode()}xx"
    writer.transport.abort()
    return "no answer"


def _whole(body: bytes) -> bytes:
    return _head(f"content-length: {len(body)}") + body


_BAD_INPUT = (
    _head("content-length: 5", "transfer-encoding: chunked") + b"0\r\n\r\n",
    _head("content-length: 5", "content-length: 6") + b"hello!",
    _head(f"content-length: {MOST_BODY + 1}"),
    _head("transfer-encoding: chunked") + b"zz\r\n",
    _head("content-length: 2", "content-encoding: gzip") + b"{}",
    _head("x: " + "y" * 100_000),
    b"GET http://elsewhere/v1/models HTTP/1.1\r\nhost: elsewhere\r\n\r\n",
    b"GET /%2e%2e/admin HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    _whole(b"{"),
    _whole(b"[" * 100_000),
    _whole(b'{"model":"oa/whole","model":"oa/whole"}'),
    _whole(b'{"model":"\xff"}'),
)

_ASKED = {
    "overloaded": ("oa/overloaded", "bob", False),
    "silent": ("quick/silent", "alice", False),
    "stalled": ("quick/stalled", "alice", True),
    "refused": ("refused/x", "bob", False),
    "no key": ("oa/whole", "nobody", False),
    "no model": ("nobody/x", "bob", False),
    "over its limit": ("oa/whole", "limited", False),
    "over its quota": ("oa/whole", "spent", False),
}
_OTHERS = {
    "left in its request": _in_its_request,
    "left waiting": _leaving("quick/silent", stream=False),
    "left in a stream": _leaving("quick/long", "quick/stalled", stream=True),
    "left in an answer": _leaving("quick/half", stream=False),
    "left, drained": _leaving("drained/paced", stream=True),
    "slow reader": _slow_reader,
    "bad input": _bad_input,
}
KINDS = {**LUCK, **dict.fromkeys((*_ASKED, *_OTHERS), 1.0), "bad input": 2, "slow reader": 0.5}
"""How often each kind comes, of their sum."""

_EXPECTED = {
    **{name: {"200", _COOLING} for name in (*GOOD, "over")},
    "missing": {"404", _COOLING},
    "failing": {"502", _COOLING},
    "limited": {_COOLING},
    **{name: {"200", "cut short", _COOLING} for name in ("cut", "reset")},
    "overloaded": {"529", _COOLING},
    "silent": {"504"},
    "stalled": {"200 with an error"},
    "refused": {"502"},
    "no key": {"401"},
    "no model": {"400"},
    "over its limit": {"200", "429"},
    "over its quota": {"200", "402", _COOLING},
    "bad input": {"4xx"},
}


def expected(kind: str, outcome: str) -> bool:
    """Whether that may come of a request of that kind."""
    return outcome in _EXPECTED.get(kind, {_LEFT})


_WITHOUT_ROW = ("no key", "no model", "bad input", "left in its request")
_MAYBE_WITHOUT = tuple(name for name in _OTHERS if name not in _WITHOUT_ROW)
"""A client that resets its connection at once may take its request back before anybody has read it."""


def rows(told: Counter[tuple[str, str]]) -> tuple[int, int]:
    """How many rows there must be of what was told, at least and at most."""
    sure = maybe = 0
    for (kind, outcome), count in told.items():
        if kind in _MAYBE_WITHOUT:
            maybe += count
        elif kind in ("over its limit", "over its quota"):
            sure += count if outcome == "200" else 0
        elif kind not in _WITHOUT_ROW:
            sure += count
    return sure, sure + maybe
