"""What the ledger adds to a request: a commit for each, the writer, and the writer's thread alone.

Each of `c` clients runs a closed loop: some CPU work that stands for a request, then its row. Prints, per way
and per `c`, rows a second, the time from handing the row over to its commit, the time of a whole turn and
the CPU time per row beyond that of the same work without a ledger. `python -m benchmarks.ledger [rows]`
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from common import machine

from gproxy.ledger.bulk import Entry
from gproxy.ledger.inline import Inline
from gproxy.ledger.store import open_store
from gproxy.ledger.writer import Writer
from gproxy.values import Record, Usage

try:
    from uvloop import run
except ImportError:
    from asyncio import run

WORK_S = 150e-6
"""CPU time of the rest of a request: what the measured relay takes."""

Commit = Callable[[Record], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Result:
    rows_per_s: float
    commit_us: list[float]
    turn_us: list[float]
    cpu_us: float


def record(number: int) -> Record:
    return Record(
        request_id=f"req-{number:012d}",
        started_at="2026-11-25T12:00:00.000Z",
        user="alice",
        key_label="laptop",
        key_id="k-0123456789ab",
        provider="main",
        credential="main#1",
        model="model-large-2026-11-01",
        requested_model="main/model-large-2026-11-01",
        dialect="openai_chat",
        route="aggregated",
        stream=True,
        status=200,
        outcome="ok",
        attempts=1,
        usage=Usage(input_tokens=1200, output_tokens=340, cache_read_tokens=1000),
        usage_source="upstream",
        cost_nano=1_234_567,
        price_source="genai-prices",
        latency_ms=2345,
        ttft_ms=321,
    )


async def load(clients: int, rows: int, commit: Commit) -> Result:
    numbers = iter(range(rows))
    commits: list[float] = []
    turns: list[float] = []

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            await asyncio.sleep(0)
            work()
            handed = time.perf_counter()
            await commit(record(number))
            done = time.perf_counter()
            commits.append((done - handed) * 1e6)
            turns.append((done - began) * 1e6)

    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    cpu_us = (time.process_time() - cpu) / rows * 1e6
    return Result(rows / (time.perf_counter() - began), commits, turns, cpu_us)


def work() -> None:
    until = time.perf_counter() + WORK_S
    while time.perf_counter() < until:
        pass


async def no_ledger(clients: int, rows: int, folder: Path) -> Result:
    async def commit(row: Record) -> None:
        pass

    return await load(clients, rows, commit)


async def each_alone(clients: int, rows: int, folder: Path) -> Result:
    store = open_store(folder / "each.db")

    async def commit(row: Record) -> None:
        store.run([Entry(row)])

    try:
        return await load(clients, rows, commit)
    finally:
        store.close()


async def by_the_writer(clients: int, rows: int, folder: Path) -> Result:
    writer = Writer(folder / "writer.db")
    writer.start()

    async def commit(row: Record) -> None:
        await writer.run(Entry(row))

    try:
        return await load(clients, rows, commit)
    finally:
        writer.close()


async def in_the_thread(clients: int, rows: int, folder: Path) -> Result:
    """As where the loop must not commit."""
    with mock.patch.object(Inline, "commit", return_value=None):
        return await by_the_writer(clients, rows, folder)


def line(name: str, clients: int, result: Result, base_cpu_us: float) -> str:
    def at(values: list[float]) -> str:
        cuts = statistics.quantiles(values, n=100)
        return f"{cuts[49]:8.0f} {cuts[98]:8.0f}"

    figures = f"{at(result.commit_us)} {at(result.turn_us)} {result.cpu_us - base_cpu_us:9.0f}"
    return f"{name:14} {clients:3} {result.rows_per_s:8.0f} {figures}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=10_000, help="of each figure (10000)")
    rows = parser.parse_args().rows
    print(machine())
    print(f"{'µs':14} {'c':>3} {'rows/s':>8} {'commit p50, p99':>17} {'turn p50, p99':>17} {'CPU/row':>9}")
    for clients in (1, 16, 64):
        base_cpu_us = 0.0
        for way in (no_ledger, each_alone, by_the_writer, in_the_thread):
            with tempfile.TemporaryDirectory() as folder:
                result = run(way(clients, rows, Path(folder)))
            print(line(way.__name__, clients, result, base_cpu_us))
            base_cpu_us = base_cpu_us or result.cpu_us


if __name__ == "__main__":
    main()
