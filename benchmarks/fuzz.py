"""Tries what holds whatever is sent, for as long as you like: `python -m benchmarks.fuzz [--seconds 600] [TARGET …]`.

The targets are those of `tests/fuzz/targets.py`, a share of the time each, every round with other numbers. Prints how
many examples each has passed; what fails is shown as small as hypothesis finds it, and the exit code is 1. The access
log goes to stderr: `2>/dev/null`.
"""

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from common import machine
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.house import House
from tests.fuzz.targets import TARGETS

ROUND = 200
"""Examples of one round; the time is looked at between two."""


def one_round(house: House, name: str, number: int) -> int:
    """Try one target; how many examples were tried. Raises what the target does."""
    tried = 0

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        nonlocal tried
        tried += 1
        TARGETS[name](house, data.draw)

    check()
    return tried


def one_target(name: str, seconds: float, number: int) -> bool:
    """Try one target for so long, and print what came of it. `number` is the first seed."""
    tried, began, said = 0, time.monotonic(), "ok"
    with tempfile.TemporaryDirectory() as folder, House(Path(folder)) as house:
        while said == "ok" and time.monotonic() - began < seconds:
            try:
                tried += one_round(house, name, number)
            except Exception:  # whatever it found is told, and the other targets are tried all the same
                traceback.print_exc(file=sys.stdout)
                said = f"failed with seed {number}"
            number += 1
    print(f"{name:20} {tried:8} examples {time.monotonic() - began:7.1f} s  {said}", flush=True)
    return said == "ok"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    print(machine())
    first = int(time.time())
    said = [one_target(name, given.seconds / len(given.targets), first) for name in given.targets]
    return 0 if all(said) else 1


if __name__ == "__main__":
    sys.exit(main())
