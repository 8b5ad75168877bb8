"""Whether a server that runs for long stays as it was: `python -m benchmarks.soak [--minutes 20] [--workers 1]`.

Half of what this machine can do, for so long, with faults of every kind: errors, limits, broken streams and failovers
at the upstream (as `conservation.py` has them), one that refuses connections, clients that leave in their request and
in their answer, that send no JSON, the wrong key, or a name that does not exist; and an edit of the file every ten
seconds. Memory, descriptors and open requests are looked at all the time, and must be flat: the last quarter no
higher than the second. At the end nothing may be held, and `gproxy usage verify` must hold. Exit 1 if not.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import random
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.common import GPROXY, environment, family, machine, resident_bytes, table
from benchmarks.conservation import BAD, CALLS, GOOD, LUCK, USERS, configuration, one
from tests.kit.gateway import Gateway
from tests.kit.settings import closed_port, limit, model, provider, quota
from tests.kit.upstream import Upstream

AT_ONCE = 32
CALIBRATING_S = 10.0
LOOK_S = 2.0
TELL_S = 60.0
EDIT_S = 10.0
SETTLING_S = 30.0
ROOM = 1.05
"""What the last quarter may be above the second, and still be called flat."""

ROOM_BYTES = 4_000_000
ROOM_DESCRIPTORS = 2 * AT_ONCE
PRICE = "price_tiers = [{ price_input_tokens = 2.0, price_output_tokens = 8.0 }]\n"

SOAK = {**LUCK, "refused": 1, "no JSON": 1, "no key": 1, "no model": 1, "gone": 1}
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Look:
    """What the server and its children are seen to have at one moment."""

    at: float
    memory: int
    descriptors: int
    open: int


def text(url: str) -> str:
    parts = [
        configuration(url),
        *(model(name, each, PRICE) for name in ("oa", "an", "ge") for each in (*GOOD, *BAD)),
        model("refused", "x", PRICE),
        provider("refused", "openai", f"http://127.0.0.1:{closed_port()}"),
        *(limit(name, max_concurrency=1000, rpm=10_000_000, tpm=10**12) for name in USERS),
        *(quota(name, 1_000_000) for name in USERS),
    ]
    return "".join(parts)


def held(database: Path) -> tuple[int, int]:
    """Reservations that are open, and nano-dollars and slots that are taken."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        (open_now,) = db.execute("SELECT count(*) FROM reservations").fetchone()
        (slots,) = db.execute("SELECT total(n) FROM counters WHERE kind = 'concurrency'").fetchone()
        (nano,) = db.execute("SELECT total(held_nano) FROM spend").fetchone()
        return open_now, int(slots + nano)


async def nothing_held(database: Path) -> bool:
    """Whether that is so, or soon is."""
    end = time.monotonic() + SETTLING_S
    while held(database) != (0, 0):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.1)
    return True


def descriptors(pid: int) -> int:
    count = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            count += len(list(Path(f"/proc/{each}/fd").iterdir()))
    return count


async def go(session: aiohttp.ClientSession, rng: random.Random) -> str:
    """One request; what came of it."""
    luck = rng.choices(list(SOAK), weights=list(SOAK.values()))[0]
    who = rng.choice(list(USERS))
    if luck in LUCK:
        streams = luck in ("cut", "reset", "left")
        call = rng.choice([call for call in CALLS if call.stream or not streams])
        return f"{luck}: {await one(session, call, luck, who)}"
    if luck == "gone":
        return await gone(session, rng)
    model = {"refused": "refused/x", "no model": "nobody/x"}.get(luck, "oa/whole")
    body = b"{" if luck == "no JSON" else json.dumps({"model": model, "messages": []}).encode()
    key = "sk-stranger" if luck == "no key" else USERS[who]
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    async with session.post("/v1/chat/completions", data=body, headers=headers) as answer:
        await answer.read()
        return f"{luck}: {answer.status}"


async def gone(session: aiohttp.ClientSession, rng: random.Random) -> str:
    """A client that is away before it has said all that it said it would."""
    url = session._base_url
    assert url is not None
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999\r\n"
    head += f"x-api-key: {USERS['bob']}\r\n\r\n"
    writer.write((head + "x" * 100).encode()[: rng.randrange(1, len(head) + 100)])
    await asyncio.sleep(rng.random() * 0.05)
    if rng.random() < 0.5:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
    return "gone"


async def load(url: str, seconds: float, per_second: float | None, told: Counter[str]) -> float:
    """Requests for so long, at most so many a second if given; how many a second there were."""
    rng = random.Random(11)
    loop = asyncio.get_running_loop()
    began, done = loop.time(), 0
    next_at = began
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client() -> None:
            nonlocal done, next_at
            while loop.time() - began < seconds:
                if per_second is not None:
                    next_at = max(next_at + 1 / per_second, loop.time() - 1)
                    await asyncio.sleep(next_at - loop.time())
                try:
                    told[await go(session, rng)] += 1
                except aiohttp.ClientError as error:
                    told[f"{type(error).__name__}"] += 1
                done += 1

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return done / (loop.time() - began)


async def watch(gateway: Gateway, upstream: Upstream, looks: list[Look]) -> None:
    """Look, tell and edit until it is called off."""
    began = told = edited = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_S)
        now, pid = time.monotonic(), gateway.process.pid
        look = Look(now - began, resident_bytes(pid), descriptors(pid), held(gateway.database)[0])
        looks.append(look)
        del upstream.ledger[:-1000]
        del gateway.lines[:-100]
        if now - edited >= EDIT_S:
            edited = now
            gateway.edit(lambda text: text.partition("\n#")[0] + f"\n# edited at {time.monotonic():.0f} s\n")
        if now - told >= TELL_S:
            told = now
            print(f"{look.at:5.0f} s: {look.memory / 1e6:.0f} MB, {look.descriptors} descriptors", flush=True)


def flat(values: list[int], room: float) -> tuple[float, float, bool]:
    """The medians of the second and of the last quarter, and whether the last is no more than `room` higher."""
    quarter = max(1, len(values) // 4)
    before, after = statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
    return before, after, after <= before + room


async def soak(gateway: Gateway, upstream: Upstream, seconds: float) -> bool:
    told: Counter[str] = Counter()
    most = await load(gateway.url, CALIBRATING_S, None, Counter())
    looks: list[Look] = []
    watching = asyncio.create_task(watch(gateway, upstream, looks))
    rate = await load(gateway.url, seconds, most / 2, told)
    watching.cancel()
    await asyncio.wait({watching})
    free = await nothing_held(gateway.database)
    memory = flat([look.memory for look in looks], looks[len(looks) // 4].memory * (ROOM - 1) + ROOM_BYTES)
    files = flat([look.descriptors for look in looks], ROOM_DESCRIPTORS)
    waiting = flat([look.open for look in looks], AT_ONCE)
    faults = sum(
        n for what, n in told.items() if what.endswith(": 500") or what.startswith(("Server", "Client"))
    )
    command = (*GPROXY, "usage", "verify", "--config", str(gateway.path))
    verified = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    lines = [
        ("requests", f"{told.total()} in {seconds / 60:.0f} min, {rate:.0f}/s of {most:.0f}/s that fit", "-"),
        ("answered 500, or not at all", str(faults), _verdict(not faults)),
        ("memory", f"{memory[0] / 1e6:.0f} MB, then {memory[1] / 1e6:.0f} MB", _verdict(memory[2])),
        ("descriptors", f"{files[0]:.0f}, then {files[1]:.0f}", _verdict(files[2])),
        ("open requests", f"{waiting[0]:.0f}, then {waiting[1]:.0f}", _verdict(waiting[2])),
        ("held at the end", "nothing" if free else "something", _verdict(free)),
        ("usage verify", f"exit {verified.returncode}", _verdict(not verified.returncode)),
    ]
    print(json.dumps(dict(sorted(told.items())), indent=2))
    print(machine(), table(("what", "figure", "verdict"), tuple(lines)), sep="\n\n")
    return all(verdict != "NOT SO" for _, _, verdict in lines)


def _verdict(good: bool) -> str:
    return "as it should be" if good else "NOT SO"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # that a peer is gone is part of the plan
    with tempfile.TemporaryDirectory() as folder, Upstream() as upstream:
        for name, script in {**GOOD, **BAD}.items():
            upstream.model(script, name)
        flags = ("--workers", str(options.workers))
        with Gateway(Path(folder), text(upstream.url), *flags) as gateway:
            good = asyncio.run(soak(gateway, upstream, options.minutes * 60))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
