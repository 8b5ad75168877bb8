"""Kills a server under load and starts it again, and compares what clients were told with what the store then says.

How often, and what is held against the figures, is its callers' to say.
"""

import asyncio
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import aiohttp

from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, Gateway
from tests.kit.settings import limit, model, provider, quota, user
from tests.kit.upstream import Script, Upstream

CLIENTS = 16
SCRIPTS = {
    "good": Script(),
    "slow": Script(delay_s=0.05),
    "refused": Script(status=404, body=b'{"error": {"message": "no such model"}}'),
    "stuck": Script(stop_after=1, then="gate"),
}
_LUCK = ("good", "good", "good", "slow", "refused", "stuck")
_STUCK_S = 0.5
"""After so long a client leaves an answer that does not end."""


def configuration(upstream: Upstream) -> str:
    """Alice's requests are counted, held for and settled: every kind of thing that a kill may leave behind."""
    for name, script in SCRIPTS.items():
        upstream.model(script, name)
    return (
        provider("oa", "openai", upstream.url)
        + "".join(model("oa", name, "price_each_call = 0.1\n") for name in SCRIPTS)
        + user("alice", KEY, "*")
        + quota("alice", 1e6)
        + limit("alice", rpm=10**9, rpd=10**9, tpd=10**15, max_concurrency=1000)
    )


@dataclass
class Tally:
    """What so many kills came to. `lost`: answered in full, and without the row that says so, or rows that the limit
    of the day does not count. `doubled`: rows too many, or nano-dollars spent beside what the rows cost. `leaked`:
    what is still held or counted as open, of any kind, once the server is back. `recoveries_s`: from the start of
    its process until it listens."""

    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    leaked: int = 0
    open_at_kill: int = 0
    recoveries_s: list[float] = field(default_factory=list)


def kill_and_restart(gateway: Gateway, tally: Tally, rng: random.Random, *, locked: bool = False) -> None:
    """One round: some load, SIGKILL to every process of the server in the midst of it, and a start. `locked`: another
    program has the store's lock again and again meanwhile."""
    with _locking(gateway, rng) if locked else nullcontext():
        answered = asyncio.run(_load(gateway, rng))
    left_open = _number(gateway, "SELECT count(*) FROM reservations")
    gateway.lines.clear()
    began = time.monotonic()
    gateway.start()
    tally.recoveries_s.append(time.monotonic() - began)
    tally.acknowledged += len(answered)
    tally.open_at_kill += left_open
    rows = {row["request_id"]: row["status"] for row in gateway.rows()}
    tally.lost += sum(rows.get(id) != status for id, status in answered.items())
    tally.lost += max(0, len(rows) - _number(gateway, _COUNTED))
    tally.doubled += len(gateway.rows()) - len(rows)
    tally.doubled += abs(_number(gateway, _SPENT) - _number(gateway, _COST))
    tally.leaked += sum(_number(gateway, query) for query in _HELD)


_SPENT = "SELECT spent_nano FROM spend WHERE scope = 'user/alice' AND period = 'total'"
_COUNTED = "SELECT sum(n) FROM counters WHERE kind = 'rpd'"
_COST = "SELECT sum(CAST(round(cost_usd * 1e9) AS INTEGER)) FROM usage"
_HELD = (
    "SELECT sum(held_nano) FROM spend",
    "SELECT sum(n) FROM counters WHERE kind = 'concurrency'",
    "SELECT count(*) FROM reservations",
)


@contextmanager
def _locking(gateway: Gateway, rng: random.Random) -> Iterator[None]:
    """Waits at the end until it has let go."""
    over = threading.Event()
    random_s = random.Random(rng.random()).uniform

    def lock() -> None:
        with closing(sqlite3.connect(gateway.database, isolation_level=None)) as db:
            while not over.wait(random_s(0, 0.1)):
                with suppress(sqlite3.OperationalError):  # the server was faster for 5 s
                    db.execute("BEGIN IMMEDIATE")
                    over.wait(random_s(0.02, 0.1))
                    db.execute("ROLLBACK")

    thread = threading.Thread(target=lock)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _number(gateway: Gateway, query: str) -> int:
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as db:
        return int((db.execute(query).fetchone() or (0,))[0] or 0)


async def _load(gateway: Gateway, rng: random.Random) -> dict[str, int]:
    """The status of each request that was answered in full before the kill, by its id."""
    answered: dict[str, int] = {}
    headers = {"authorization": f"Bearer {KEY}"}
    plain, streamed = BY_ID["chat"], BY_ID["chat-stream"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(gateway.url, connector=connector, headers=headers) as session:

        async def one(luck: str) -> None:
            call = streamed if luck in ("slow", "stuck") or rng.random() < 0.5 else plain
            async with (
                asyncio.timeout(_STUCK_S if luck == "stuck" else None),
                session.post("/oa/v1/chat/completions", json=call.fields(luck)) as answer,
            ):
                body = await answer.read()
            if answer.status != 200 or call is plain or body.endswith(b"data: [DONE]\n\n"):
                answered[answer.headers["x-gproxy-request-id"]] = answer.status

        async def client() -> None:
            while True:
                try:
                    await one(rng.choice(_LUCK))
                except aiohttp.ClientError:
                    return
                except TimeoutError:
                    continue

        clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
        await asyncio.sleep(rng.uniform(0.3, 1.0))
        os.killpg(gateway.process.pid, signal.SIGKILL)
        await asyncio.gather(*clients)
    gateway.process.wait()
    return answered
