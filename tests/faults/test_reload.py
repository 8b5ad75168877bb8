"""Edits under load, good and bad: no request fails, each is served by one version, and the last good one stays."""

from collections.abc import Iterator

import pytest

from tests.kit.edits import GOOD, damage, edit, version, watched
from tests.kit.gateway import Gateway
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
