"""Many clients that leave, and slow ones: what they took is free again, and what waits for them is bounded.

The crowds are those of benchmarks/churn.py and benchmarks/slow.py, smaller; both fail by themselves.
"""

import asyncio
import json
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from gproxy.ledger.sqlite import connect_read_only
from tests.kit.gateway import ROOT
from tests.kit.upstream import Script, Upstream
from tests.server.parts import ALICE, Front, Visit, provider, serving

LEAVERS = 200


def run(script: str, *arguments: str) -> None:
    command = (sys.executable, f"{ROOT}/benchmarks/{script}", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hundreds_that_leave_at_random_moments_leave_nothing_behind() -> None:
    """20 of 20 succeed at once; sockets on both sides, reservations and slots are back where they were."""
    run("churn.py", "--requests", "500", "--seed", "11")


def test_slow_readers_cost_little_memory() -> None:
    run("slow.py", "--seconds", "6")


async def test_no_task_is_left_of_those_that_left(upstream: Upstream, tmp_path: Path) -> None:
    rng = random.Random(5)
    scripts = (
        Script(),
        Script(silent=True),
        Script(stop_after=0),
        Script(stop_after=1),
        Script(delay_s=0.03),
    )
    models = [upstream.model(script) for script in scripts]

    async def leave(front: Front) -> None:
        asked = {"model": f"up/{rng.choice(models)}", "messages": [], "stream": rng.random() < 0.7}
        visit = Visit(json.dumps(asked).encode())
        asyncio.get_running_loop().call_later(rng.random() * 0.5, visit.leave)
        await asyncio.wait_for(front.ask("/v1/chat/completions", visit=visit), 10)

    limited = ALICE + '\n[[rate_limits]]\nuser_name = "alice"\nmodel_pattern = "*"\nmax_concurrency = 10000\n'
    async with serving(provider(upstream.url) + limited, tmp_path) as front:
        await front.chat(f"up/{models[0]}")
        await front.tasks.drain(5)
        before = asyncio.all_tasks()
        await asyncio.gather(*(leave(front) for _ in range(LEAVERS)))
        await front.tasks.drain(5)
        await asyncio.sleep(0.05)  # tasks that were cancelled have a turn to end
        assert asyncio.all_tasks() <= before
        found = await front.rows()
        with closing(connect_read_only(front.path)) as store:
            assert store.execute("SELECT count(*) FROM reservations").fetchone()[0] == 0
            query = "SELECT total(n) FROM counters WHERE kind = 'concurrency'"
            assert store.execute(query).fetchone()[0] == 0
    assert len(found) == LEAVERS + 1
    assert {row["status"] for row in found} == {200, 499}
