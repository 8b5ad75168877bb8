"""What a relayed request costs: `python benchmarks/relay.py [--seconds 5]`.

Load generator and upstream are processes of their own, on one CPU where there are two, and the gateway has the
other. Each request carries an id of its own that must come back in its answer (and in every event of a stream),
so a mix-up of answers fails the run. The gateway does all it does in earnest: key, permission, the model's name
changed in both directions, a row in the ledger; at the end there must be a row for each answer.
"""

import argparse
import asyncio
import multiprocessing
import os
import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from common import cpu_seconds, machine, serving, table

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]  # the same for what is used here

Side = Callable[[Connection, int | None], None]
"""The main function of a process: where it talks to its parent, and the CPU it has."""

KEY = "sk-benchmark"
CHUNKS = 60
"""Events of a stream that carry text; the upstream sends them in one go, which is the most a relay can get."""
ID_LENGTH = 16
CONNECTIONS = (1, 16, 64)

_CONFIG = """
[[providers]]
name = "up"
channel = "openai"
settings = {{ base_url = "http://127.0.0.1:{port}" }}
credentials = [{{ api_key = "sk-upstream" }}]

[[models]]
provider_name = "up"
model_id = "bench"
price_tiers = [{{ price_input_tokens = 1.0, price_output_tokens = 2.0 }}]

[[users]]
name = "bench"
[[users.keys]]
label = "bench"
api_key = "{key}"

[[permissions]]
user_name = "bench"
model_pattern = "up/*"
"""

_PROMPT = "What is the capital of Norway, and how many people live there? " * 6


@dataclass(frozen=True)
class Asking:
    """Whom to ask, and how: `headers` are more lines of the head, `size` is the body's least, in bytes.

    An `exact` gateway has the id of the answer in each of its events; of others one is enough.
    """

    port: int
    model: str
    headers: str = ""
    size: int = 0
    exact: bool = True


def request_of(
    model: str, stream: bool, id: bytes, *, headers: str = "", size: int = 0, usage: bool = False
) -> bytes:
    """One chat request, of some 540 bytes if no `size` is given, ready for the wire.

    `usage`: the event that tells it is asked for, which else is kept from the client.
    """
    body = b'{"model":"%s","messages":[{"role":"user","content":"#%s# %s"}],"stream":%s%s}' % (
        model.encode(),
        id,
        _PROMPT.encode() + b"x" * (size - len(_PROMPT) - len(id) - len(model) - 68),
        b"true" if stream else b"false",
        b',"stream_options":{"include_usage":true}' if usage else b"",
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
        f"{headers}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# The upstream: just enough HTTP for the two requests that it gets.

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"
_USAGE = b'"usage":{"prompt_tokens":90,"completion_tokens":60,"total_tokens":150}'
_SPARE = b'"system_fingerprint":"fp_0123456789","service_tier":"default","obfuscation":"' + b"x" * 40 + b'"'


def answer_of(id: bytes) -> bytes:
    body = (
        b'{"id":"chatcmpl-%s","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"#%s# %s"},"finish_reason":"stop"}],%s,%s}'
        % (id, id, b"Oslo has some 700 000 people. " * 9, _SPARE, _USAGE)
    )
    return _HEAD % (b"application/json", b"content-length: %d" % len(body)) + body


def stream_of(id: bytes) -> bytes:
    start = (
        b'data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
        % id
    )
    text = b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],%s}\n\n' % _SPARE
    last = b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    usage = b'"choices":[],%s}\n\n' % _USAGE
    # In a text too, for gateways that make ids of their own.
    first = start + text.replace(b" word", b"#%s#" % id)
    events = [first, *[start + text] * (CHUNKS - 1), start + last, start + usage, b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    return _HEAD % (b"text/event-stream", b"transfer-encoding: chunked") + b"".join(chunks) + b"0\r\n\r\n"


# Gateways that write the body anew put blanks where they like.
_SENT_ID = re.compile(rb'"#([0-9-]{16})#')
_STREAM = re.compile(rb'"stream": ?true')


class UpstreamSide(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._whole = 0  # bytes of the request that is coming, known with its head
        self._chunked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._whole:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            self._chunked = b"transfer-encoding: chunked" in head
            self._whole = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r", 1)[0] or 0)
        if len(self._buffer) < self._whole or (self._chunked and not self._buffer.endswith(b"\r\n0\r\n\r\n")):
            return
        request = bytes(self._buffer)
        self._buffer.clear()
        self._whole = 0
        id = _SENT_ID.search(request)
        if id is None:  # some ask what an upstream is before they use it
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        stream = _STREAM.search(request) is not None
        self._transport.write((stream_of if stream else answer_of)(id.group(1)))


def upstream_process(told: Connection, cpu: int | None) -> None:
    """Serves until it is ended; tells its port."""
    pin(cpu)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(UpstreamSide, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    run(serve())


# The load: every connection asks, checks the answer and asks again.


class LoadSide(asyncio.Protocol):
    """One connection. `times` are the seconds of its answers."""

    def __init__(self, number: int, asking: Asking, stream: bool, until: float) -> None:
        self.times: list[float] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number = number
        blank = b"?" * ID_LENGTH
        request = request_of(asking.model, stream, blank, headers=asking.headers, size=asking.size)
        self._before, self._after = request.split(blank)
        self._exact = asking.exact
        self._stream = stream
        self._until = until

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._id = b"%06d-%09d" % (self._number, len(self.times))
        self._buffer: list[bytes] = []
        self._size = 0
        self._whole = 0
        self._began = time.perf_counter()
        self._transport.write(b"".join((self._before, self._id, self._after)))

    def data_received(self, data: bytes) -> None:
        self._buffer.append(data)
        self._size += len(data)
        if not self._complete(data):
            return
        self.times.append(time.perf_counter() - self._began)
        if (wrong := self._wrong()) is not None:
            self.over.set_exception(RuntimeError(wrong))
            self._transport.close()
        elif time.perf_counter() < self._until:
            self._ask()
        else:
            self.over.set_result(None)
            self._transport.close()

    def _complete(self, data: bytes) -> bool:
        if self._stream:
            if len(self._buffer) == 1 and not data.startswith(b"HTTP/1.1 200"):
                return True  # an error, which ends in its own way: `_wrong` tells it
            tail = data if len(data) >= 5 else b"".join(self._buffer[-5:])
            return tail.endswith(b"0\r\n\r\n")
        if not self._whole:
            got = b"".join(self._buffer)
            end = got.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = got[:end].lower().partition(b"content-length:")[2].split(b"\r", 1)[0]
            if not length:
                return got.endswith(b"0\r\n\r\n")
            self._whole = end + 4 + int(length)
        return self._size >= self._whole

    def _wrong(self) -> str | None:
        answer = b"".join(self._buffer)
        wanted = CHUNKS + 2 if self._stream else 2
        found = answer.count(self._id)
        if answer.startswith(b"HTTP/1.1 200") and (
            wanted <= found <= wanted + 1 or (found and not self._exact)
        ):
            return None
        return f"a wrong answer to {self._id!r}: {answer[:2000]!r}"

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError(f"the connection was lost: {error}"))


async def load(asking: Asking, stream: bool, connections: int, seconds: float) -> list[float]:
    """The seconds of every answer that `connections` clients got within `seconds`."""
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    sides = [
        (
            await loop.create_connection(
                lambda number=number: LoadSide(number, asking, stream, until),  # type: ignore[misc]  # bound now
                "127.0.0.1",
                asking.port,
            )
        )[1]
        for number in range(connections)
    ]
    await asyncio.gather(*(side.over for side in sides))
    return [seconds for side in sides for seconds in side.times]


def load_process(orders: Connection, cpu: int | None) -> None:
    """Runs `load` for each order that comes in and sends back its answer times, or the error."""
    pin(cpu)
    while (order := orders.recv()) is not None:
        try:
            orders.send(run(load(*order)))
        except RuntimeError as error:
            orders.send(error)


def pin(cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


@contextmanager
def machinery(
    cpu: int | None, upstream: Side = upstream_process, load: Side = load_process
) -> Iterator[tuple[int, Connection]]:
    """An upstream's port, and where to send orders for load: both are processes of their own, on `cpu`."""
    spawn = multiprocessing.get_context("spawn")
    port_in, port_out = spawn.Pipe(duplex=False)
    orders, orders_there = spawn.Pipe()
    processes = [
        spawn.Process(target=upstream, args=(port_out, cpu), daemon=True),
        spawn.Process(target=load, args=(orders_there, cpu), daemon=True),
    ]
    for process in processes:
        process.start()
    try:
        yield port_in.recv(), orders
    finally:
        for process in processes:
            process.terminate()


@dataclass(frozen=True)
class Result:
    """One measured run: `cpu_us` is the gateway's CPU time per answer, None for the bare upstream."""

    connections: int
    stream: bool
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None


class Bench:
    def __init__(self, orders: Connection, seconds: float) -> None:
        self.answers = 0
        self._orders = orders
        self._seconds = seconds

    def _send(self, asking: Asking, stream: bool, connections: int, seconds: float) -> list[float]:
        self._orders.send((asking, stream, connections, seconds))
        times = self._orders.recv()
        if isinstance(times, Exception):
            raise times
        found: list[float] = times
        self.answers += len(found)
        return found

    def run(
        self, port: int, model: str, stream: bool, connections: int, cpu: Callable[[], float] | None
    ) -> Result:
        """Warms up for a fifth of the time, then measures."""
        return self.ask(Asking(port, model), stream, connections, cpu)

    def ask(self, asking: Asking, stream: bool, connections: int, cpu: Callable[[], float] | None) -> Result:
        """The same for gateways that are asked in another way."""
        self._send(asking, stream, connections, self._seconds / 5)
        before, began = cpu() if cpu else 0.0, time.perf_counter()
        times = self._send(asking, stream, connections, self._seconds)
        elapsed = time.perf_counter() - began
        return Result(
            connections,
            stream,
            len(times) / elapsed,
            statistics.median(times) * 1000,
            sorted(times)[int(len(times) * 0.99)] * 1000,
            (cpu() - before) / len(times) * 1e6 if cpu else None,
        )


def measure(seconds: float) -> list[tuple[Result, Result]]:
    """(bare upstream, through the gateway) for each way of asking. RuntimeError on a wrong answer or row count."""
    gateway_cpu, other_cpu = (
        (0, 1) if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1 else (None, None)
    )
    results: list[tuple[Result, Result]] = []
    with machinery(other_cpu) as (upstream_port, orders), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gproxy.toml")
        path.touch(0o600)
        path.write_text(_CONFIG.format(port=upstream_port, key=KEY))
        bare, proxied = Bench(orders, seconds), Bench(orders, seconds)
        with serving("--config", str(path), cpu=gateway_cpu) as (port, pid):
            for stream in (False, True):
                for connections in CONNECTIONS:
                    plain = bare.run(upstream_port, "bench", stream, connections, None)
                    through = proxied.run(port, "up/bench", stream, connections, lambda: cpu_seconds(pid))
                    results.append((plain, through))
        check_rows(Path(folder, "data", "gproxy.db"), proxied.answers)
    return results


def check_rows(database: Path, answers: int) -> None:
    """Raises RuntimeError unless the ledger has one good row for each answer."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    (rows,) = connection.execute(
        "SELECT count(*) FROM usage WHERE status = 200 AND outcome = 'ok' AND input_tokens = 90"
        " AND output_tokens = 60 AND cost_usd > 0"
    ).fetchone()
    connection.close()
    if rows != answers:
        raise RuntimeError(f"{answers} answers, but {rows} rows in the ledger")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measured run")
    results = measure(parser.parse_args().seconds)
    rows = [
        (
            f"stream of {CHUNKS}" if through.stream else "chat",
            str(through.connections),
            f"{bare.per_second:.0f}",
            f"{through.per_second:.0f}",
            f"{through.cpu_us:.0f}",
            f"{bare.p50_ms:.2f}",
            f"{through.p50_ms:.2f}",
            f"{through.p99_ms:.2f}",
        )
        for bare, through in results
    ]
    headings = (
        "what",
        "connections",
        "bare/s",
        "gproxy/s",
        "CPU µs each",
        "bare p50 ms",
        "gproxy p50 ms",
        "gproxy p99 ms",
    )
    print(machine())
    print(table(headings, rows))


if __name__ == "__main__":
    main()
