"""Whether a server that runs for long stays as it was: `python -m benchmarks.soak [--minutes 20] [--workers 1]
[--engine fast|hypercorn]`.

Half of what this machine can do, for so long, with everything that `mischief.py` knows; an edit of the file every ten
seconds, one in five of them broken. Memory, descriptors and open requests are looked at all the time, and must be
flat: the last quarter no higher than the second (of three minutes or more). At the end nothing may be left, as
`leftovers.py` counts it: no task, no connection, no request and nothing that lives for one, each of which must have
been seen meanwhile; no socket or file, no reservation, no slot, no dollar held. There must be a row for each request
that is to have one, and `gproxy usage verify` must hold. Exit 1 if not.
"""

import argparse
import asyncio
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import aiohttp
import leftovers
import mischief
from common import GPROXY, environment, machine, resident_bytes, table

from tests.kit.gateway import Gateway
from tests.kit.upstream import Upstream

AT_ONCE = 32
CALIBRATING_S = 10.0
LOOK_S = 2.0
TELL_S = 60.0
EDIT_S = 10.0
SETTLING_S = 100.0
"""Longer than a connection is kept open without a request."""

RESTS_AFTER_S = 180.0
"""In less time not everything happens, and a server does not come to rest."""

ROOM = 1.05
"""What the last quarter may be above the second, and still be called flat."""

ROOM_BYTES = 4_000_000
ROOM_DESCRIPTORS = 2 * AT_ONCE


@dataclass(frozen=True)
class Look:
    """What the server and its children are seen to have at one moment."""

    at: float
    memory: int
    descriptors: int
    open: int


@dataclass(frozen=True)
class Server:
    """One that is served, and where its processes tell what they have in hand."""

    gateway: Gateway
    folder: Path

    def look(self, began: float) -> Look:
        pid = self.gateway.process.pid
        files = leftovers.descriptors(pid).total()
        stored = leftovers.stored(self.gateway.database)
        return Look(time.monotonic() - began, resident_bytes(pid), files, stored["reservations"])

    def in_hand(self) -> dict[str, int]:
        """Everything that is counted."""
        pid = self.gateway.process.pid
        inside = leftovers.inside(pid, self.folder)
        return {**inside, **leftovers.descriptors(pid), **leftovers.stored(self.gateway.database)}


async def load(url: str, seconds: float, per_second: float | None, told: Counter[tuple[str, str]]) -> float:
    """Requests for so long, at most so many a second if given; how many a second there were."""
    rng = Random(11)
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
                    told[await mischief.go(session, rng)] += 1
                except aiohttp.ClientError as error:
                    told["any", type(error).__name__] += 1
                done += 1

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return done / (loop.time() - began)


async def watch(server: Server, upstream: Upstream, looks: list[Look], busy: Counter[str]) -> None:
    """Look, tell and edit until it is called off. `busy` gets the most of what was ever in hand."""
    began = told = edited = time.monotonic()
    edits = 0
    while True:
        await asyncio.sleep(LOOK_S)
        look = server.look(began)
        looks.append(look)
        del upstream.ledger[:-1000]
        del server.gateway.lines[:-100]
        if time.monotonic() - edited >= EDIT_S:
            edited, edits = time.monotonic(), edits + 1
            note = "broken = " if edits % 5 == 0 else f"# edited at {edited:.0f} s"
            server.gateway.edit(lambda text, note=note: f"{text.partition(_NOTE)[0]}{_NOTE}{note}\n")  # type: ignore[misc]  # bound now
            busy |= Counter(await asyncio.to_thread(server.in_hand))
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            print(f"{look.at:5.0f} s: {look.memory / 1e6:.0f} MB, {look.descriptors} descriptors", flush=True)


_NOTE = "\n# The soak's:\n"


async def left_over(server: Server, before: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """What is left of a load in the end: name -> (before, now)."""
    end = time.monotonic() + SETTLING_S
    while (
        found := leftovers.left(before, await asyncio.to_thread(server.in_hand))
    ) and time.monotonic() < end:
        await asyncio.sleep(1)
    return found


def flat(values: list[int], room: float) -> tuple[float, float, bool]:
    """The medians of the second and of the last quarter, and whether the last is no more than `room` higher."""
    quarter = max(1, len(values) // 4)
    before, after = statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
    return before, after, after <= before + room


def flatness(looks: list[Look]) -> list[tuple[str, str, bool | None]]:
    memory = flat([look.memory for look in looks], looks[len(looks) // 4].memory * (ROOM - 1) + ROOM_BYTES)
    files = flat([look.descriptors for look in looks], ROOM_DESCRIPTORS)
    waiting = flat([look.open for look in looks], AT_ONCE)
    return [
        ("memory", f"{memory[0] / 1e6:.0f} MB, then {memory[1] / 1e6:.0f} MB", memory[2]),
        ("descriptors", f"{files[0]:.0f}, then {files[1]:.0f}", files[2]),
        ("open requests", f"{waiting[0]:.0f}, then {waiting[1]:.0f}", waiting[2]),
    ]


async def soak(server: Server, upstream: Upstream, seconds: float) -> bool:
    gateway = server.gateway
    warm: Counter[tuple[str, str]] = Counter()
    most = await load(gateway.url, min(CALIBRATING_S, seconds), None, warm)
    before = await settled(server)
    told: Counter[tuple[str, str]] = Counter()
    looks: list[Look] = []
    busy: Counter[str] = Counter()
    watching = asyncio.create_task(watch(server, upstream, looks, busy))
    rate = await load(gateway.url, seconds, most / 2, told)
    watching.cancel()
    await asyncio.wait({watching})
    found = await left_over(server, before)
    unexpected = {what: count for what, count in told.items() if not mischief.expected(*what)}
    for kind, outcome in unexpected:
        for row in gateway.rows(model=kind):
            if str(row["status"]) == outcome:
                print(f"{kind} was {outcome}: {row['error']}")
    missed = [name for name in leftovers.OF_A_REQUEST if not busy[name]]
    rested = seconds >= RESTS_AFTER_S
    least, surely = mischief.rows(warm + told)
    rows = len(gateway.rows())
    command = (*GPROXY, "usage", "verify", "--config", str(gateway.path))
    verified = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    lines: list[tuple[str, str, bool | None]] = [
        ("requests", f"{told.total()} in {seconds / 60:g} min, {rate:.0f}/s of {most:.0f}/s that fit", None),
        (
            "answered otherwise than they should be",
            f"{sum(unexpected.values())} {unexpected or ''}",
            not unexpected,
        ),
        *(flatness(looks) if rested else ()),
        ("left at the end (before, now)", str(found or "nothing"), not found),
        ("never in hand", str(missed or "nothing"), not missed if rested else None),
        ("rows", f"{rows}, to be {least} to {surely}", least <= rows <= surely),
        ("usage verify", f"exit {verified.returncode}", not verified.returncode),
    ]
    print(json.dumps({f"{kind}: {what}": n for (kind, what), n in sorted(told.items())}, indent=2))
    print("most in hand:", json.dumps(dict(sorted(busy.items())), indent=2))
    verdicts = {None: "-", True: "as it should be", False: "NOT SO"}
    print(
        machine(),
        table(("what", "figure", ""), [(*line[:2], verdicts[line[2]]) for line in lines]),
        sep="\n\n",
    )
    return all(good is not False for _, _, good in lines)


async def settled(server: Server) -> dict[str, int]:
    """What a server that was busy has in hand when it has come to rest."""
    end = time.monotonic() + SETTLING_S
    while True:
        now = await asyncio.to_thread(server.in_hand)
        if not any(now.get(name) for name in leftovers.OF_A_REQUEST) or time.monotonic() > end:
            return now
        await asyncio.sleep(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--engine", choices=("fast", "hypercorn"), default="fast")
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # that a peer is gone is part of the plan
    with tempfile.TemporaryDirectory() as folder, Upstream() as upstream:
        for name, script in mischief.SCRIPTS.items():
            upstream.model(script, name)
        inside = Path(folder, "inside")
        env = {**leftovers.hooked(inside), "GPROXY_HTTP_ENGINE": options.engine}
        flags = ("--workers", str(options.workers))
        with Gateway(Path(folder), mischief.text(upstream.url), *flags, env=env) as gateway:
            good = asyncio.run(soak(Server(gateway, inside), upstream, options.minutes * 60))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
