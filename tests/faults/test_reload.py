"""Edits under load, good and bad: no request fails, each is served by one version, and the last good one stays."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.edits import GOOD, damage, edit, version, watched
from tests.kit.gateway import Gateway, poll
from tests.kit.upstream import Upstream


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("edits"), version(upstream, 0)) as gateway:
        yield gateway


def test_every_way_to_edit_is_taken_up_and_every_request_has_one_version(
    running: Gateway, upstream: Upstream
) -> None:
    with watched(running) as seen:
        for number in range(1, 2 * len(GOOD) + 1):
            edit(running, upstream, number)
    assert seen.requests > 50
    assert (seen.failed, seen.mixed) == ([], 0)
    served = {row["model"] for row in running.rows()}
    assert len(served) > len(GOOD)


def workers_of(gateway: Gateway) -> list[int]:
    """By the age of the processes: the last is the youngest."""
    listed = subprocess.run(("ps", "-A", "-o", "pid=,ppid="), capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    return sorted(pid for pid, parent in pairs if parent == gateway.process.pid)


def test_workers_that_are_killed_between_edits_fail_what_they_serve_and_nothing_else(
    upstream: Upstream, tmp_path: Path
) -> None:
    """Their successors serve by the version that is there, or by the last good one."""
    kills = []
    with Gateway(tmp_path, version(upstream, 0), "--workers", "2") as gateway:
        with watched(gateway) as seen:
            for number in range(1, 5):
                edit(gateway, upstream, number)
                if number % 2:
                    damage(gateway, QUICK[number % len(QUICK)])
                first, victim = workers_of(gateway)  # the first one tells of edits
                os.kill(victim, signal.SIGKILL)
                kills.append(time.monotonic())
                poll(
                    lambda first=first, victim=victim: workers_of(gateway)[1:] not in ([], [victim]),
                    "another",
                )
            edit(gateway, upstream, 5)
        gateway.cli("usage", "verify")
    beside = [
        (what, span)
        for what, span in zip(seen.failed, seen.spans, strict=True)
        if not any(span[0] - 1 < kill < span[1] for kill in kills)
    ]
    assert (beside, seen.mixed) == ([], 0)
    assert seen.requests > 50


QUICK = ("half written", "empty", "50 MB", "a folder", "a pipe", "a link to nothing")
"""Of `BROKEN`; benchmarks/faults.py has them all."""


def test_a_broken_file_is_told_of_and_the_version_before_it_serves_on(
    running: Gateway, upstream: Upstream
) -> None:
    with watched(running) as seen:
        for number, kind in enumerate(QUICK, 100):
            edit(running, upstream, number)
            damage(running, kind)
            answer = running.post("/v1/chat/completions", {"model": "now", "messages": []})
            assert answer.status_code == 200
            assert running.rows(request_id=answer.headers["x-gproxy-request-id"])[0]["model"] == f"m-{number}"
        edit(running, upstream, 99)
    assert (seen.failed, seen.mixed) == ([], 0)
