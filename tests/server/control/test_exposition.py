"""Counts as Prometheus' own parser reads them."""

from datetime import datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gproxy.server.control.exposition import COUNTERS, HISTOGRAMS, text
from gproxy.server.control.metricfiles import Gauges

NOW = 1_795_612_800.0


def samples(body: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def credential(
    name: str, state: str, *, model: str | None = None, until: str | None = None
) -> dict[str, Any]:
    return {"provider": "up", "credential": name, "state": state, "model": model, "until": until}


def test_counts_are_told_in_their_units_with_their_labels() -> None:
    counts = {
        ("requests", "openai_chat", "up", 'odd "m"\\', "2xx", "ok"): 3,
        ("cost", "up", "m"): 2_500_000_000,
        ("log_entries_dropped",): 4,
    }
    found = samples(text(counts, [], [], NOW))
    labels = {
        "dialect": "openai_chat",
        "provider": "up",
        "model": 'odd "m"\\',
        "status": "2xx",
        "outcome": "ok",
    }
    assert found["gproxy_requests_total", frozenset(labels.items())] == 3
    assert found["gproxy_cost_usd_total", frozenset({("provider", "up"), ("model", "m")})] == 2.5
    assert found["gproxy_log_entries_dropped_total", frozenset()] == 4


def test_buckets_are_told_as_what_is_below_their_ends() -> None:
    counts = {
        ("duration_bucket", "up", "m", "0"): 2,
        ("duration_bucket", "up", "m", "2"): 1,
        ("duration_bucket", "up", "m", "14"): 1,
        ("duration_sum", "up", "m"): 700_250,
    }
    found = samples(text(counts, [], [], NOW))
    target = {("provider", "up"), ("model", "m")}

    def bucket(end: str) -> float:
        return found["gproxy_request_duration_seconds_bucket", frozenset(target | {("le", end)})]

    assert [bucket(end) for end in ("0.05", "0.1", "0.25", "600.0", "+Inf")] == [2, 2, 3, 3, 4]
    assert found["gproxy_request_duration_seconds_count", frozenset(target)] == 4
    assert found["gproxy_request_duration_seconds_sum", frozenset(target)] == 700.25


def test_processes_are_told_together() -> None:
    gauges = [
        Gauges(in_flight=2, ledger_queue=1, config_since=5.0),
        Gauges(in_flight=3, config_since=4.0, config_failing=True),
    ]
    found = {
        name: value for (name, labels), value in samples(text({}, gauges, [], NOW)).items() if not labels
    }
    assert (found["gproxy_workers"], found["gproxy_requests_in_flight"]) == (2, 5)
    assert (found["gproxy_ledger_queue"], found["gproxy_ledger_failing"]) == (1, 0)
    assert found["gproxy_config_loaded_timestamp_seconds"] == 4
    assert found["gproxy_config_reload_failing"] == 1


def test_credentials_are_told_with_their_state_and_the_longest_cool_down() -> None:
    trees = [
        credential("a", "ready"),
        credential("a", "cooling", model="m", until="2026-11-25T13:20:30.000Z"),
        credential("a", "cooling", model="n", until="2026-11-25T13:20:10.000Z"),
        credential("b", "disabled"),
    ]
    now = datetime.fromisoformat("2026-11-25T13:20:00Z").timestamp()
    found = samples(text({}, [], trees, now))

    def of(name: str, whose: str, **more: str) -> float:
        return found[name, frozenset({"provider": "up", "credential": whose, **more}.items())]

    assert [of("gproxy_credential_state", "a", state=state) for state in ("ready", "cooling")] == [1, 0]
    assert of("gproxy_credential_state", "b", state="disabled") == 1
    assert (of("gproxy_credential_cooldown_seconds", "a"), of("gproxy_credential_cooldown_seconds", "b")) == (
        30,
        0,
    )
    assert of("gproxy_credential_models_cooling", "a") == 2


def test_every_family_is_there_before_anything_was_counted() -> None:
    families = {family.name for family in text_string_to_metric_families(text({}, [], [], NOW).decode())}
    assert {family.name for family in COUNTERS.values()} <= families
    assert {name for name, _, _ in HISTOGRAMS.values()} <= families
    assert "gproxy_build_info" in {name for name, _ in samples(text({}, [], [], NOW))}
