"""How many paced streams go through one worker side by side: `python benchmarks/paced.py [--streams N]`.

Each stream has 64 events, one every 20 ms, as a model at work sends them, and each client asks for the next one when
it has all of it. A stream stalls where two events are more than twice the pace apart; usage is asked for, since an
event that is kept from the client would make such a gap by itself. Every event carries the id of the request that it
answers. Load generator and upstream are processes of their own on one CPU where there are two, and the gateway has
the other; the same streams without it tell how much of a delay is theirs. Governed: a rate limit and a quota apply to
each request.
"""

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from common import cpu_seconds, machine, resident_bytes, serving, table
from policy import _RULES, _SERVED
from relay import CHUNKS, ID_LENGTH, KEY, machinery, pin, request_of, stream_of

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]  # the same for what is used here

PACE = 0.02
EVENTS = 64
COUNTS = (64, 100, 128, 256, 384, 512, 768)

_END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Result:
    """One run: whole streams, milliseconds to their first events, the widest gap, and how many were stalls.

    The gateway's CPU microseconds for each event, and its megabytes of memory; None for the bare upstream.
    """

    streams: int
    answers: int
    first_p50_ms: float
    first_p99_ms: float
    widest_gap_ms: float
    stalls: int
    cpu_us: float | None
    megabytes: float | None


def pieces_of(id: bytes) -> list[bytes]:
    """What the upstream writes, one piece to each beat of the pace: chunks of `relay.py`'s stream."""
    whole = stream_of(id)
    head, _, rest = whole.partition(b"\r\n\r\n")
    chunks = [chunk + b"\n\n\r\n" for chunk in rest.split(b"\n\n\r\n")[:-1]]
    text, last = chunks[:CHUNKS], chunks[CHUNKS:]
    text += text[1:2] * (EVENTS - len(text) - len(last))
    return [head + b"\r\n\r\n" + text[0], *text[1:], *last[:-1], last[-1] + _END]


class PacedUpstream(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r", 1)[0]):
            return
        self._buffer = b""
        self._pieces = iter(pieces_of(body.partition(b'"#')[2][:ID_LENGTH]))
        self._at = self._loop.time()
        self._beat()

    def _beat(self) -> None:
        piece = next(self._pieces, None)
        if piece is None or self._transport.is_closing():
            return
        self._transport.write(piece)
        self._at += PACE
        self._loop.call_at(self._at, self._beat)


def upstream_process(told: Connection, cpu: int | None) -> None:
    """Serves until it is ended; tells its port."""
    pin(cpu)
    gc.disable()  # a full collection takes 20 ms, in which it would keep all streams waiting

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(PacedUpstream, "127.0.0.1", 0, backlog=2048)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    run(serve())


class PacedClient(asyncio.Protocol):
    """One connection that asks for stream after stream. `firsts` and `gaps` are seconds."""

    def __init__(self, number: int, model: str, until: float) -> None:
        self.firsts: list[float] = []
        self.widest = 0.0
        self.stalls = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number = number
        self._model = model
        self._until = until
        self._asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._id = b"%06d-%09d" % (self._number, self._asked)
        self._asked += 1
        self._got: list[bytes] = []
        self._last = 0.0
        self._began = time.perf_counter()
        self._transport.write(request_of(self._model, True, self._id, usage=True))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._got.append(data)
        if self._last:
            gap = now - self._last
            self.widest = max(self.widest, gap)
            self.stalls += gap > 2 * PACE
        else:
            self.firsts.append(now - self._began)
        self._last = now
        if data.endswith(_END):
            self._ended(now)

    def _ended(self, now: float) -> None:
        answer = b"".join(self._got)
        # `[DONE]` has no id.
        if not answer.startswith(b"HTTP/1.1 200") or answer.count(b"chatcmpl-" + self._id) != EVENTS - 1:
            self.over.set_exception(RuntimeError(f"a wrong answer to {self._id!r}: {answer[:2000]!r}"))
            self._transport.close()
        elif now < self._until:
            self._ask()
        else:
            self.over.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError(f"the connection was lost: {error}"))


async def load(port: int, model: str, streams: int, seconds: float) -> tuple[int, list[float], float, int]:
    """(answers, times to the first event, widest gap, stalls). The clients begin one by one, within half a second."""
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    began = loop.time()
    clients: list[PacedClient] = []
    for number in range(streams):
        await asyncio.sleep(began + 0.5 * number / streams - loop.time())
        make = partial(PacedClient, number, model, until)
        clients.append((await loop.create_connection(make, "127.0.0.1", port))[1])
    await asyncio.gather(*(client.over for client in clients))
    firsts = [first for client in clients for first in client.firsts]
    return (
        len(firsts),
        firsts,
        max(client.widest for client in clients),
        sum(client.stalls for client in clients),
    )


def load_process(orders: Connection, cpu: int | None) -> None:
    """Runs `load` for each order that comes in and sends back what it found, or the error."""
    pin(cpu)
    gc.disable()  # as the upstream's
    while (order := orders.recv()) is not None:
        try:
            orders.send(run(load(*order)))
        except RuntimeError as error:
            orders.send(error)


def measured(
    orders: Connection, port: int, model: str, streams: int, seconds: float, pid: int | None
) -> Result:
    """One run against what listens at `port`, whose process is `pid`. RuntimeError on a wrong answer."""
    before = cpu_seconds(pid) if pid else 0.0
    orders.send((port, model, streams, seconds))
    megabytes = 0.0
    while not orders.poll(0.2):
        megabytes = max(megabytes, resident_bytes(pid) / 1e6 if pid else 0.0)
    found = orders.recv()
    if isinstance(found, Exception):
        raise found
    answers, firsts, widest, stalls = found
    return Result(
        streams,
        answers,
        statistics.median(firsts) * 1000,
        sorted(firsts)[int(len(firsts) * 0.99)] * 1000,
        widest * 1000,
        stalls,
        (cpu_seconds(pid) - before) / (answers * EVENTS) * 1e6 if pid else None,
        megabytes if pid else None,
    )


def measure(counts: Sequence[int], seconds: float) -> list[tuple[Result, Result]]:
    """(bare upstream, through the gateway) for each number of streams at once. RuntimeError on a wrong answer."""
    pinned = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1
    results: list[tuple[Result, Result]] = []
    sides = machinery(1 if pinned else None, upstream_process, load_process)
    with sides as (upstream_port, orders), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gproxy.toml")
        path.touch(0o600)
        path.write_text(_SERVED.format(port=upstream_port, key=KEY) + _RULES)
        with serving("--config", str(path), cpu=0 if pinned else None) as (port, pid):
            measured(orders, port, "up/bench", min(counts), 0.5, pid)
            for streams in counts:
                bare = measured(orders, upstream_port, "bench", streams, seconds, None)
                through = measured(orders, port, "up/bench", streams, seconds, pid)
                results.append((bare, through))
    return results


def most_without_stall(results: list[tuple[Result, Result]]) -> int:
    """The largest number of streams up to which none stalled; 0 if the fewest did."""
    most = 0
    for _, through in results:
        if through.stalls:
            break
        most = through.streams
    return most


def as_table(results: list[tuple[Result, Result]]) -> str:
    """Markdown: a row for each number of streams."""
    rows = [
        (
            str(through.streams),
            str(through.answers),
            f"{bare.first_p50_ms:.2f}",
            f"{through.first_p50_ms:.2f}",
            f"{through.first_p99_ms:.2f}",
            f"{bare.widest_gap_ms:.1f}",
            f"{through.widest_gap_ms:.1f}",
            str(through.stalls),
            f"{through.cpu_us:.0f}",
            f"{through.megabytes:.0f}",
        )
        for bare, through in results
    ]
    headings = (
        "streams",
        "answers",
        "bare first p50 ms",
        "first p50 ms",
        "p99 ms",
        "bare widest gap ms",
        "widest gap ms",
        "stalls",
        "CPU µs an event",
        "MB",
    )
    return table(headings, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measured run")
    parser.add_argument("--streams", type=int, metavar="N", help="only so many at once")
    given = parser.parse_args()
    counts = (given.streams,) if given.streams else COUNTS
    results = measure(counts, given.seconds)
    print(machine())
    print(as_table(results))
    print(f"streams at once without a stall: {most_without_stall(results)}")


if __name__ == "__main__":
    main()
