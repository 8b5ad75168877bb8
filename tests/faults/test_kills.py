"""A server that is killed under load loses no row of an answer that was given, and keeps nothing of others held."""

import random
import statistics
from pathlib import Path

import pytest

from tests.kit.gateway import Gateway
from tests.kit.kills import Tally, configuration, kill_and_restart
from tests.kit.upstream import Upstream

ROUNDS = 3


@pytest.mark.parametrize("locked", [False, True], ids=["", "locked"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_kills_under_load_lose_double_and_leak_nothing(
    upstream: Upstream, tmp_path: Path, workers: str, locked: bool
) -> None:
    tally, rng = Tally(), random.Random(5)
    with Gateway(tmp_path, configuration(upstream), "--workers", workers) as gateway:
        for _ in range(ROUNDS):
            kill_and_restart(gateway, tally, rng, locked=locked)
        gateway.cli("usage", "verify")
    assert tally.acknowledged > ROUNDS
    assert tally.open_at_kill > 0
    assert (tally.lost, tally.doubled, tally.leaked) == (0, 0, 0)
    assert statistics.median(tally.recoveries_s) < 10  # the machine may be busy; benchmarks/faults.py holds 2
