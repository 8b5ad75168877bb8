"""Metrics of a served gateway: each worker tells what all have counted, over the death of one and an edit."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_workers import Streams, two, workers
from tests.kit.calls import BY_ID
from tests.kit.gateway import Gateway, poll
from tests.kit.upstream import Script, Upstream

ADMIN = '\n[[users]]\nname = "root"\nis_admin = true\n[[users.keys]]\napi_key = "sk-admin"\n'
CHAT = BY_ID["chat"]
REQUESTS = 20


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as it:
        yield it


def served(folder: Path, upstream: Upstream) -> Gateway:
    gateway = two(folder, upstream)
    gateway.path.write_text(gateway.path.read_text() + ADMIN)
    return gateway


def scraped(gateway: Gateway) -> dict[str, float]:
    """The sum over all labels, by name. Each scrape has a connection, and so a worker, of its own."""
    answer = gateway.get("/metrics", key="sk-admin")
    assert answer.status_code == 200, answer.text
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_each_worker_tells_of_all_and_no_count_goes_down_when_one_dies(
    tmp_path: Path, upstream: Upstream
) -> None:
    model = upstream.model(Script())
    with served(tmp_path, upstream) as gateway:
        for _ in range(REQUESTS):
            assert gateway.post(CHAT.url(model, "oa"), CHAT.fields(model)).status_code == 200
        poll(lambda: scraped(gateway).get("gproxy_requests_total") == REQUESTS, "all is counted")
        told = [scraped(gateway) for _ in range(10)]
        assert {each["gproxy_requests_total"] for each in told} == {REQUESTS}
        assert {each["gproxy_workers"] for each in told} == {2}
        os.kill(workers(gateway)[0], signal.SIGKILL)
        for _ in range(10):
            after = poll(lambda: _answered(gateway), "somebody answers")
            assert after["gproxy_requests_total"] >= REQUESTS
            assert after["gproxy_workers"] <= 2
        poll(lambda: scraped(gateway)["gproxy_workers"] == 2, "another has taken its place")
        gateway.post(CHAT.url(model, "oa"), CHAT.fields(model))
        poll(lambda: scraped(gateway)["gproxy_requests_total"] == REQUESTS + 1, "it is counted too")


def _answered(gateway: Gateway) -> dict[str, float] | None:
    try:
        return scraped(gateway)
    except httpx.TransportError:  # the connection was the dead worker's
        return None


def test_what_is_in_flight_in_all_workers_is_told(tmp_path: Path, upstream: Upstream) -> None:
    with served(tmp_path, upstream) as gateway:
        streams = Streams(gateway, upstream)
        poll(lambda: scraped(gateway)["gproxy_requests_in_flight"] == len(streams.models), "all are told")
        streams.finish()
        poll(lambda: scraped(gateway)["gproxy_requests_in_flight"] == 0, "none is left")


def test_edits_are_counted_once_for_all_workers(tmp_path: Path, upstream: Upstream) -> None:
    with served(tmp_path, upstream) as gateway:
        gateway.edit(lambda text: text + "\n[broken\n")
        poll(lambda: scraped(gateway)["gproxy_config_reload_failing"] == 1, "it is told", within=5)
        gateway.edit(lambda text: text.replace("\n[broken\n", ""))
        poll(lambda: scraped(gateway)["gproxy_config_reload_failing"] == 0, "it is mended", within=5)
        poll(lambda: scraped(gateway).get("gproxy_config_reloads_total") == 2, "both are counted", within=5)
    with served(tmp_path, upstream) as anew:
        assert "gproxy_config_reloads_total" not in scraped(anew)
