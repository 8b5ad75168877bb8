"""The promises of docs/reliability.md, many times over: `python -m benchmarks.faults [--rounds 50] [--edits 100]`.

`--only kills` (or `reload`, `stalls`) takes a part. Prints a line for each promise, with its figure; exit 1 if one is
broken. What is done to the server is in `tests/kit/`, where `tests/faults/` has it from as well.
"""

import argparse
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common import GPROXY, environment, machine, table

from tests.kit import edits, kills, stalls
from tests.kit.gateway import Gateway
from tests.kit.upstream import Upstream

RECOVERY_S = 2.0
STALL_MS = 50.0


@dataclass(frozen=True)
class Promise:
    """What was promised, the figure that was seen, and whether that keeps it."""

    text: str
    figure: str
    kept: bool


def killed(options: argparse.Namespace) -> Iterator[Promise]:
    """SIGKILL to all processes under load, with one worker and with two, every third while the store is locked."""
    for workers in (1, 2):
        tally, rng = kills.Tally(), random.Random(workers)
        with tempfile.TemporaryDirectory() as folder, Upstream() as upstream:
            text = kills.configuration(upstream)
            with Gateway(Path(folder), text, "--workers", str(workers)) as gateway:
                for number in range(options.rounds):
                    kills.kill_and_restart(gateway, tally, rng, locked=number % 3 == 2)
                command = (*GPROXY, "usage", "verify", "--config", str(gateway.path))
                verified = subprocess.run(command, env=environment(), capture_output=True, check=False)
        load = f"{tally.acknowledged} answers, {tally.open_at_kill} requests open at the kills"
        what = f"{options.rounds} kills under load, {workers} worker(s)"
        yield Promise(f"{what}: lost", f"{tally.lost} ({load})", tally.lost == 0 < tally.acknowledged)
        yield Promise(f"{what}: doubled", str(tally.doubled), tally.doubled == 0)
        yield Promise(f"{what}: leaked", str(tally.leaked), tally.leaked == 0 < tally.open_at_kill)
        yield Promise(f"{what}: usage verify", f"exit {verified.returncode}", verified.returncode == 0)
        middle, most = statistics.median(tally.recoveries_s), max(tally.recoveries_s)
        figure = f"{middle:.2f} s, at most {most:.2f} s"
        yield Promise(f"{what}: process start to ready", figure, middle < RECOVERY_S)


def reloaded(options: argparse.Namespace) -> Iterator[Promise]:
    """Good edits and bad ones under load."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Upstream() as upstream,
        Gateway(Path(folder), edits.version(upstream, 0)) as gateway,
    ):
        with edits.watched(gateway) as seen:
            for number in range(1, options.edits + 1):
                edits.edit(gateway, upstream, number)
        served = len({row["model"] for row in gateway.rows()})
        what = f"{options.edits} edits under load"
        yield Promise(f"{what}: failed requests", f"{len(seen.failed)} of {seen.requests}", not seen.failed)
        yield Promise(f"{what}: of two versions", f"{seen.mixed}, {served} versions", not seen.mixed)
        with edits.watched(gateway) as seen:
            for number, kind in enumerate(edits.BROKEN, options.edits + 1):
                edits.edit(gateway, upstream, number)
                edits.damage(gateway, kind)
            edits.edit(gateway, upstream, 0)
        what = f"{len(edits.BROKEN)} kinds of broken file under load"
        yield Promise(f"{what}: failed requests", f"{len(seen.failed)} of {seen.requests}", not seen.failed)


def stalled(options: argparse.Namespace) -> Iterator[Promise]:
    """Everything that keeps the store busy, one after the other."""
    with tempfile.TemporaryDirectory() as folder, Upstream() as upstream:
        gateway = Gateway(Path(folder), kills.configuration(upstream))
        stalls.fill(gateway.database, options.rows, options.rows // 100)
        with gateway:
            with stalls.measured(gateway) as seen:
                time.sleep(3)
            quiet = f"; {seen.worst_ms:.0f} ms while nothing else happens"
            for kind, do in stalls.BUSY.items():
                began = time.monotonic()
                with stalls.measured(gateway) as seen:
                    do(gateway)
                took = time.monotonic() - began
                failed = sum(status != 200 for status in seen.statuses)
                figure = f"{seen.worst_ms:.0f} ms at most, {seen.over(STALL_MS)} over {STALL_MS:.0f}, in {took:.1f} s"
                yield Promise(f"stalls while {kind}", figure + quiet, not seen.over(STALL_MS))
                yield Promise(
                    f"failed requests while {kind}", f"{failed} of {len(seen.statuses)}", failed == 0
                )
                quiet = ""


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Promise]]] = {
    "kills": killed,
    "reload": reloaded,
    "stalls": stalled,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="kills for each number of workers")
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the store that is kept busy")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be given again")
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # that a killed server leaves is no news
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    promises = [promise for name in options.only or PARTS for promise in PARTS[name](options)]
    rows = [(promise.text, promise.figure, "kept" if promise.kept else "BROKEN") for promise in promises]
    print(table(("promise", "figure", ""), rows))
    return int(not all(promise.kept for promise in promises))


if __name__ == "__main__":
    sys.exit(main())
