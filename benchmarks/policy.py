"""What limits and quotas cost a request, and whether they hold: `python benchmarks/policy.py [--seconds 5]`.

The same chat request as in `relay.py`, with its load and its upstream, under configurations that differ in policy
alone: no rule at all; a rule with every bound and a quota, so that each request is counted, held for and settled;
and both in a file with 10 000 keys and 1000 rules. Each with one worker and with two.

`--faults N` instead sends N requests of mixed luck (good, refused, broken, left, and the server killed on the way)
against a quota, and tells whether the books are right at the end.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web
from common import GPROXY, cpu_seconds, environment, machine, serving, table
from relay import KEY, Bench, machinery

CONNECTIONS = (1, 16, 64)

_SERVED = """
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

_RULES = """
[[rate_limits]]
user_name = "bench"
model_pattern = "*"
rpm = 1000000000
rpd = 1000000000
tpm = 1000000000000
tpd = 1000000000000
max_concurrency = 1000

[[quotas]]
user_name = "bench"
quota = 1000000000.0
"""


def governed(upstream: int, *, rules: bool = True) -> str:
    """The configuration for an upstream at that port: a key, a permission, a price, and every limit and a quota."""
    return _SERVED.format(port=upstream, key=KEY) + (_RULES if rules else "")


def crowd(keys: int, rules: int) -> str:
    """So many more keys, ten to a user, and so many more rules: a tenth of them the served user's own."""
    parts = []
    for number in range(keys // 10):
        parts.append(f'\n[[users]]\nname = "user-{number}"\n')
        for label in range(10):
            hashed = hashlib.sha256(f"{number}-{label}".encode()).hexdigest()
            parts.append(f'[[users.keys]]\nlabel = "k{label}"\napi_key_hash = "sha256:{hashed}"\n')
    for number in range(rules):
        whose = "bench" if number % 10 == 0 else f"user-{number}"
        parts.append(
            f'\n[[rate_limits]]\nuser_name = "{whose}"\nmodel_pattern = "model-{number}-*"\nrpm = 60\n'
        )
    return "".join(parts)


@dataclass(frozen=True)
class Result:
    """One run: requests a second, CPU microseconds and milliseconds of the median and slowest hundredth."""

    policy: str
    workers: int
    connections: int
    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


def measure(seconds: float) -> list[Result]:
    """Every policy with one worker and with two. RuntimeError on a wrong answer, or if something stays held."""
    pinned = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1
    many = crowd(10_000, 1000)
    policies = {
        "no rules": "",
        "rules and quota": _RULES,
        "no rules, 10 000 keys": many,
        "rules and quota, 10 000 keys": _RULES + many,
    }
    results = []
    with machinery(1 if pinned else None) as (upstream_port, orders):
        for workers in (1, 2):
            for name, text in policies.items():
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, "gproxy.toml")
                    path.touch(0o600)
                    path.write_text(_SERVED.format(port=upstream_port, key=KEY) + text)
                    bench = Bench(orders, seconds)
                    flags = ("--config", str(path), "--workers", str(workers))
                    # One worker has a CPU of its own; two share both with the load.
                    with serving(*flags, cpu=0 if pinned and workers == 1 else None) as (port, pid):
                        for connections in CONNECTIONS:
                            run = bench.run(port, "up/bench", False, connections, partial(cpu_seconds, pid))
                            assert run.cpu_us is not None
                            figures = (run.per_second, run.cpu_us, run.p50_ms, run.p99_ms)
                            results.append(Result(name, workers, connections, *figures))
                    check(Path(folder, "data", "gproxy.db"), bench.answers)
    return results


def check(database: Path, answers: int) -> None:
    """Raises RuntimeError unless there is a row for each answer, the spend is theirs, and nothing is held."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    rows, cost = connection.execute(
        "SELECT count(*), sum(CAST(round(cost_usd * 1e9) AS INTEGER)) FROM usage WHERE status = 200"
    ).fetchone()
    query = "SELECT spent_nano, held_nano FROM spend WHERE scope = 'user/bench' AND period = 'total'"
    spent, held = connection.execute(query).fetchone()
    (left_open,) = connection.execute("SELECT count(*) FROM reservations").fetchone()
    connection.close()
    if (rows, spent, held, left_open) != (answers, cost, 0, 0):
        raise RuntimeError(
            f"{answers} answers, {rows} rows of {cost}: {spent} spent, {held} held, {left_open} open"
        )


# Faults.

_PRICED = """
[[models]]
provider_name = "up"
model_id = "{model}"
price_each_call = 0.1
"""
_LUCK = ("good", "good-stream", "refused", "fault", "broken-stream", "slow", "slow-stream")
_CALL_NANO = 100_000_000


async def _unlucky(request: web.BaseRequest) -> web.StreamResponse:
    """An upstream whose models are named for what they do."""
    asked = json.loads(await request.read())
    luck = asked["model"]
    if luck == "refused":
        return web.json_response({"error": {"message": "no"}}, status=400)
    if luck == "fault":
        return web.json_response({"error": {"message": "no"}}, status=500)
    if luck == "slow":
        await asyncio.sleep(0.5)
    if not luck.endswith("stream"):
        usage = {"prompt_tokens": 9, "completion_tokens": 9}
        return web.json_response({"model": luck, "choices": [], "usage": usage})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(5):
        await response.write(
            b'data: {"model": "x", "choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
        )
        if luck == "slow-stream":
            await asyncio.sleep(0.1)
    if luck == "broken-stream":
        assert request.transport is not None
        request.transport.abort()
        return response
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def faults(count: int, workers: int) -> Counter[int]:
    """Sends the requests, with five kills on the way; the statuses. RuntimeError if the books are wrong."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # that a killed server leaves is no news
    runner = web.ServerRunner(web.Server(_unlucky, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rng = random.Random(3)
    quota = count * 0.1 / 4
    found: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path, database = Path(folder, "gproxy.toml"), Path(folder, "data", "gproxy.db")
        text = _SERVED.format(port=runner.addresses[0][1], key=KEY)
        text += "".join(_PRICED.format(model=luck) for luck in _LUCK)
        text += f'\n[[quotas]]\nuser_name = "bench"\nquota = {quota}\n'
        path.touch(0o600)
        path.write_text(text)
        passed = 0
        for part in range(6):
            port, process = await asyncio.to_thread(_start, path, workers)
            try:
                asking = asyncio.ensure_future(_send(port, count // 6, rng))
                if part < 5:
                    await asyncio.sleep(rng.uniform(0.3, 2.0))
                    os.killpg(process.pid, signal.SIGKILL)
                statuses = await asking
                found += statuses
                passed += statuses[200]
            finally:
                if process.poll() is None:
                    process.terminate()
                await asyncio.to_thread(process.wait)
        # What the last kill but none left open is settled when a server starts and ends once more.
        port, process = await asyncio.to_thread(_start, path, workers)
        process.terminate()
        await asyncio.to_thread(process.wait)
        _check_books(database, quota)
    await runner.cleanup()
    return found


def _start(path: Path, workers: int) -> tuple[int, "subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        (*GPROXY, "serve", "--port", "0", "--config", str(path), "--workers", str(workers)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        process_group=0,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"listening on http://127.0.0.1:" in line:
            return int(line.rpartition(b":")[2]), process
    raise RuntimeError("gproxy did not come up")


async def _send(port: int, count: int, rng: random.Random) -> Counter[int]:
    """The statuses of so many requests, 64 at once; 0 for what got no answer."""
    room = asyncio.Semaphore(64)
    statuses: Counter[int] = Counter()
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0)
    ) as session:

        async def one(luck: str, leave: float | None) -> None:
            body = {"model": f"up/{luck}", "messages": [], "stream": luck.endswith("stream")}
            headers = {"authorization": f"Bearer {KEY}"}
            status = 0
            async with room:
                try:
                    async with (
                        asyncio.timeout(leave),
                        session.post("/v1/chat/completions", json=body, headers=headers) as answer,
                    ):
                        await answer.read()
                        status = answer.status
                except (aiohttp.ClientError, TimeoutError):
                    pass
            statuses[status] += 1

        await asyncio.gather(
            *(one(rng.choice(_LUCK), rng.choice((None, None, 0.05, 0.3))) for _ in range(count))
        )
    return statuses


def _check_books(database: Path, quota: float) -> None:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    query = "SELECT coalesce(sum(held_nano), 0) FROM spend"
    (held,) = connection.execute(query).fetchone()
    (left_open,) = connection.execute("SELECT count(*) FROM reservations").fetchone()
    (spent,) = connection.execute(
        "SELECT spent_nano FROM spend WHERE scope = 'user/bench' AND period = 'total'"
    ).fetchone()
    rows = connection.execute(
        "SELECT sum(CAST(round(cost_usd * 1e9) AS INTEGER)), count(*) FROM usage"
    ).fetchone()
    ends = dict(connection.execute("SELECT outcome, count(*) FROM usage GROUP BY outcome").fetchall())
    connection.close()
    print(
        f"  quota ${quota:.2f}, spent ${spent / 1e9:.2f}, held {held}, open {left_open}, {rows[1]} rows {ends}"
    )
    if held or left_open or spent != rows[0] or spent > round(quota * 1e9):
        raise RuntimeError("the books are wrong")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measured run")
    parser.add_argument("--faults", type=int, metavar="N", help="send N requests of mixed luck instead")
    given = parser.parse_args()
    print(machine())
    if given.faults:
        for workers in (1, 2, 4):
            began = time.monotonic()
            found = asyncio.run(faults(given.faults, workers))
            print(f"workers {workers}: {dict(found)} in {time.monotonic() - began:.0f} s")
        return
    rows = [
        (
            result.policy,
            str(result.workers),
            str(result.connections),
            f"{result.per_second:.0f}",
            f"{result.cpu_us:.0f}",
            f"{result.p50_ms:.2f}",
            f"{result.p99_ms:.2f}",
        )
        for result in measure(given.seconds)
    ]
    headings = ("policy", "workers", "connections", "requests/s", "CPU µs each", "p50 ms", "p99 ms")
    print(table(headings, rows))


if __name__ == "__main__":
    main()
