"""The event loop waits for nobody who keeps the store busy."""

from collections.abc import Iterator

import pytest

from tests.kit import kills, stalls
from tests.kit.gateway import Gateway
from tests.kit.upstream import Upstream

LIMIT_MS = 400.0
"""Of a machine that does much else; benchmarks/faults.py holds 50."""

QUICK = ("locked for 1.5 s by another program", "checkpointed from outside, in every mode", "`usage prune`")


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("stalls"), kills.configuration(upstream))
    stalls.fill(gateway.database, 5000, 0)
    with gateway:
        yield gateway


@pytest.mark.parametrize("kind", QUICK)
def test_the_server_answers_while_its_store_is_busy(running: Gateway, kind: str) -> None:
    with stalls.measured(running) as seen:
        stalls.BUSY[kind](running)
    assert len(seen.excess_ms) > 20
    assert seen.worst_ms < LIMIT_MS
    assert set(seen.statuses) == {200}
