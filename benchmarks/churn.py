"""Clients that come and go: `python benchmarks/churn.py [--requests 2000]`; exit 1 if anything is left over.

Each client leaves at a random moment: inside its own request, while the upstream does not take the connection or
takes it late, before the head, before the first event, inside a stream or a plain answer; in order or by a reset,
with bytes of a next request behind the first or not. Then 20 requests at once must be answered, and all that the
clients took must be free again: sockets on both sides, reservations, slots.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import sqlite3
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

from common import machine, resident_bytes, serving, table

KEY = "sk-churn"
AT_ONCE = 64
SETTLING_SECONDS = 5.0
PARTING_SECONDS = 1.0

_CONFIG = """
[[users]]
name = "churn"
[[users.keys]]
label = "churn"
api_key = "{key}"
[[permissions]]
user_name = "churn"
model_pattern = "*"
[[rate_limits]]
user_name = "churn"
model_pattern = "*"
max_concurrency = 1000
"""
_PROVIDER = """
[[providers]]
name = "{name}"
channel = "openai"
settings = {{ base_url = "http://127.0.0.1:{port}" }}
credentials = [{{ api_key = "sk-upstream" }}]
"""
_EVENT = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
_BODY = (
    b'{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
)
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY)
_SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)

# provider/model: what it does; all but the first are for clients that leave.
MODELS = ("up/good", "up/silent", "up/head", "up/stream", "up/half", "deaf/m", "late/good")


class Upstream:
    """Answers by the model's name, and counts the connections that are open to it."""

    def __init__(self) -> None:
        self.open = 0

    def connection(self) -> asyncio.Protocol:
        return _Connection(self)


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.open += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream.open -= 1

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, whole, body = self._got.partition(b"\r\n\r\n")
        if not whole or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        self._got = b""
        self._answer(json.loads(body)["model"])

    def _answer(self, model: str) -> None:
        if model == "good":
            self._transport.write(_JSON + _BODY)
        elif model == "half":
            self._transport.write(_JSON + _BODY[:20])
        elif model in ("head", "stream"):
            self._transport.write(_SSE)
            if model == "stream":
                self._say_on()

    def _say_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT))
            asyncio.get_running_loop().call_later(0.002, self._say_on)


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port where connections are neither taken nor refused."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.asynccontextmanager
async def late(upstream: Upstream) -> AsyncIterator[int]:
    """A port where a connection is taken every 20 ms."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()

        async def take() -> None:
            while True:
                taken, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(upstream.connection, taken)
                await asyncio.sleep(0.02)

        taking = asyncio.create_task(take())
        try:
            yield listener.getsockname()[1]
        finally:
            taking.cancel()


def configuration(folder: Path, ports: Mapping[str, int]) -> str:
    """The path of a configuration with a provider at each port, by name."""
    path = folder / "gproxy.toml"
    text = "".join(_PROVIDER.format(name=name, port=port) for name, port in ports.items())
    path.write_text(text + _CONFIG.format(key=KEY))
    path.chmod(0o600)
    return str(path)


def request(model: str, stream: bool) -> bytes:
    content = [{"role": "user", "content": "x" * 400}]
    body = json.dumps({"model": model, "messages": content, "stream": stream}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
    )


async def leave(port: int, rng: random.Random) -> str:
    """One client that goes away; when it did so."""
    model = rng.choice(MODELS)
    data = request(model, stream=rng.random() < 0.5 or model in ("up/stream", "up/head"))
    phase = model
    if rng.random() < 0.15:
        data, phase = data[: rng.randrange(1, len(data))], "in its request"
    elif rng.random() < 0.3:
        data += request("up/good", stream=False)[: rng.randrange(1, 300)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.random() ** 2 * 0.2):
                while await reader.read(65536):
                    pass
    except ConnectionError:
        pass
    finally:
        if rng.random() < 0.5:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
    return phase


async def good(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            request("up/good", stream=False).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        )
        async with asyncio.timeout(5):
            answer = await reader.read(-1)
        return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"}")
    finally:
        writer.transport.abort()


async def twenty(port: int) -> tuple[int, float]:
    """How many of 20 requests at once are answered, and the seconds that they took."""
    began = time.monotonic()
    answered = sum(await asyncio.gather(*(good(port) for _ in range(20))))
    return answered, time.monotonic() - began


def open_sockets(pid: int) -> int:
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(fd).startswith("socket:")
    return count


def held(database: Path) -> tuple[int, int]:
    """Reservations that are open, and slots that are taken."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        (open_now,) = db.execute("SELECT count(*) FROM reservations").fetchone()
        (slots,) = db.execute("SELECT total(n) FROM counters WHERE kind = 'concurrency'").fetchone()
        return open_now, int(slots)


def statuses(database: Path) -> Counter[int]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return Counter(dict(db.execute("SELECT status, count(*) FROM usage GROUP BY status")))


async def until(fine: Callable[[], bool], seconds: float) -> float | None:
    """The seconds until it was fine, None if it never was."""
    began = time.monotonic()
    while not fine():
        if time.monotonic() - began > seconds:
            return None
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def churn(requests: int, seed: int) -> bool:
    upstream = Upstream()
    rng = random.Random(seed)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loop = asyncio.get_running_loop()
        server = await loop.create_server(upstream.connection, "127.0.0.1", 0, backlog=1000)
        ports = {
            "up": server.sockets[0].getsockname()[1],
            "deaf": stack.enter_context(deaf()),
            "late": await stack.enter_async_context(late(upstream)),
        }
        port, pid = stack.enter_context(serving("--config", configuration(folder, ports)))
        database = folder / "data" / "gproxy.db"

        await twenty(port)
        await until(lambda: held(database) == (0, 0), 5)
        memory, kept = resident_bytes(pid), upstream.open
        before = open_sockets(pid) - kept
        phases: Counter[str] = Counter()
        left = requests

        async def client() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                phases[await leave(port, rng)] += 1

        began = time.monotonic()
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        took = time.monotonic() - began
        answered, answer_took = await twenty(port)
        parted = await until(lambda: upstream.open <= kept + 20, PARTING_SECONDS)
        free = await until(lambda: held(database) == (0, 0), SETTLING_SECONDS)
        back = await until(lambda: open_sockets(pid) - upstream.open <= before, SETTLING_SECONDS)
        after = open_sockets(pid) - upstream.open
        rows = [
            ("clients that left", f"{requests} in {took:.1f} s, {AT_ONCE} at once, seed {seed}"),
            ("  of them", ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))),
            ("answered then", f"{answered} of 20, in {answer_took * 1000:.0f} ms"),
            (
                "rows by status",
                ", ".join(f"{n} x {status}" for status, n in sorted(statuses(database).items())),
            ),
            ("upstream connections", f"{kept} before, {upstream.open} after; back in {_seconds(parted)}"),
            ("all other sockets", f"{before} before, {after} after; back in {_seconds(back)}"),
            ("reservations, slots", f"{held(database)} after; free in {_seconds(free)}"),
            ("memory", f"{memory / 1e6:.0f} MB before, {resident_bytes(pid) / 1e6:.0f} MB after"),
        ]
        print(machine(), table(("what", "figure"), rows), sep="\n\n")
        server.close()
        return answered == 20 and None not in (parted, free, back) and statuses(database)[500] == 0


def _seconds(seconds: float | None) -> str:
    return "NEVER" if seconds is None else f"{seconds:.1f} s"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(churn(given.requests, given.seed)) else 1)
