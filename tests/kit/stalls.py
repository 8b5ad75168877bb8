"""Measures for how long a server answers nobody while its store is busy, beside a process that does nothing else; and
for how long a thread keeps others from going on.

What a machine with other work holds up, it holds up in both: only what the server takes longer is told.
"""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from msgspec import structs

from gproxy.ledger.bulk import Entry
from gproxy.ledger.logs import Body, Content, insert
from gproxy.ledger.store import open_store
from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, Gateway
from tests.ledger.entries import request
from tests.ledger.rows import record

CLIENTS = 4
TICK_S = 0.005

_IDLE = """
import asyncio
async def main():
    async def talk(reader, writer):
        while line := await reader.readline():
            writer.write(line)
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass
class Stalls:
    """Milliseconds that `/health` took longer than the idle process took at the same moment, each 5 ms or so; and
    statuses of requests to a model that came meanwhile."""

    excess_ms: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    @property
    def worst_ms(self) -> float:
        return max(self.excess_ms)

    def over(self, limit_ms: float) -> int:
        return sum(excess > limit_ms for excess in self.excess_ms)


def fill(path: Path, rows: int, entries: int) -> None:
    """A store with so many rows of a month ago, and so many entries of 64 KB in the request logs."""
    store = open_store(path)
    old = record("", started_at="2026-10-01T00:00:00.000Z", provider="oa", model="good")
    for at in range(0, rows, 500):
        store.run(
            [Entry(structs.replace(old, request_id=f"old-{n}")) for n in range(at, min(at + 500, rows))]
        )
    body = Body("x" * 65_536, 65_536, "0" * 64)
    for number in range(entries):
        entry = request(f"old-{number}", content=Content([], [], body, None))
        store.run([lambda db, entry=entry: insert(db, entry)])  # type: ignore[misc]  # bound now
    store.close()


def _lock(gateway: Gateway) -> None:
    with closing(sqlite3.connect(gateway.database, isolation_level=None, timeout=20)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(1.5)
        db.execute("ROLLBACK")


def _checkpoint(gateway: Gateway) -> None:
    with closing(sqlite3.connect(gateway.database, isolation_level=None, timeout=20)) as db:
        for mode in ("PASSIVE", "FULL", "RESTART", "TRUNCATE") * 5:
            db.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            time.sleep(0.05)


def _vacuum(gateway: Gateway) -> None:
    with closing(sqlite3.connect(gateway.database, isolation_level=None, timeout=20)) as db:
        db.execute("VACUUM")


def _cli(*arguments: str) -> Callable[[Gateway], None]:
    return lambda gateway: _run(gateway, arguments)


BUSY: dict[str, Callable[[Gateway], None]] = {
    "locked for 1.5 s by another program": _lock,
    "checkpointed from outside, in every mode": _checkpoint,
    "`usage export`": _cli("usage", "export", "--format", "csv", "-o", "rows.csv"),
    "`usage verify`": _cli("usage", "verify"),
    "`usage reprice`": _cli("usage", "reprice", "--since", "2026-01-01T00:00:00Z", "--yes"),
    "`usage prune`": _cli("usage", "prune", "--before", "2026-11-01T00:00:00Z", "--yes"),
    "`logs clear`": _cli("logs", "clear", "--yes"),
    "vacuumed from outside": _vacuum,
}
"""What keeps the store busy, in an order that leaves something to do for each."""


def _run(gateway: Gateway, arguments: tuple[str, ...]) -> None:
    gateway.cli(*arguments, code=None)  # `verify` finds rows that were never charged


def longest_hold(work: Callable[[], object]) -> float:
    """For how long a thread that does `work` kept this one from going on, at most, in seconds of CPU: what other
    processes take from both is no doing of its."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    thread = threading.Thread(target=work)
    worst, last = 0.0, time.process_time()
    thread.start()
    while thread.is_alive():
        time.sleep(0.0005)
        now = time.process_time()
        worst, last = max(worst, now - last), now
    sys.setswitchinterval(before)
    return worst


def holds_up_for_less(seconds: float, work: Callable[[], object]) -> bool:
    """Whether `work` does, in one of three tries: a machine that is busy makes it longer, and nothing shorter."""
    return any(longest_hold(work) < seconds for _ in range(3))


@contextmanager
def measured(gateway: Gateway) -> Iterator[Stalls]:
    """Look from entry to exit."""
    stalls, over = Stalls(), threading.Event()
    idle = subprocess.Popen((sys.executable, "-c", _IDLE), stdout=subprocess.PIPE)
    assert idle.stdout is not None
    port = int(idle.stdout.readline())
    thread = threading.Thread(target=lambda: asyncio.run(_look(gateway, port, stalls, over)))
    thread.start()
    try:
        yield stalls
    finally:
        over.set()
        thread.join()
        idle.kill()
        idle.wait()
        idle.stdout.close()


async def _look(gateway: Gateway, idle_port: int, stalls: Stalls, over: threading.Event) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    question = f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    served = await asyncio.open_connection(host, int(port))
    idle = await asyncio.open_connection("127.0.0.1", idle_port)
    await _took(served, question, b"OK")  # the first makes what answers it
    async with asyncio.TaskGroup() as group:
        group.create_task(_ask(gateway, stalls, over))
        while not over.is_set():
            took = await asyncio.gather(_took(served, question, b"OK"), _took(idle, b"?\n", b"\n"))
            stalls.excess_ms.append(max(0.0, took[0] - took[1]))
            await asyncio.sleep(TICK_S)
    for _, writer in (served, idle):
        writer.close()


async def _took(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], question: bytes, end: bytes
) -> float:
    """Milliseconds to the end of an answer."""
    reader, writer = connection
    began = time.monotonic()
    writer.write(question)
    await reader.readuntil(end)
    return (time.monotonic() - began) * 1000


async def _ask(gateway: Gateway, stalls: Stalls, over: threading.Event) -> None:
    """Requests that are counted and settled, a few at once, with little pauses."""
    call = BY_ID["chat"]
    headers = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(gateway.url, headers=headers) as session:

        async def client() -> None:
            while not over.is_set():
                async with session.post("/oa/v1/chat/completions", json=call.fields("good")) as answer:
                    await answer.read()
                stalls.statuses.append(answer.status)
                await asyncio.sleep(0.02)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
