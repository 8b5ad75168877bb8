"""Metrics as Prometheus reads them: the families there are, with names, help texts and labels, and their text.

What is counted is `metrics.py`'s. prometheus-client is imported when it is first needed, since that takes a tenth of
a second.
"""

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gproxy import __version__
from gproxy.server.control.metricfiles import Gauges, Key
from gproxy.server.control.metrics import DURATION_MS, TTFT_MS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TARGET = ("provider", "model")


@dataclass(frozen=True, slots=True)
class Family:
    """A counter. `unit`: what one of its counts is worth."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    unit: float = 1


COUNTERS = {
    "requests": Family(
        "gproxy_requests",
        "Requests that have a row in the ledger, by what the client got.",
        ("dialect", *_TARGET, "status", "outcome"),
    ),
    "refusals": Family(
        "gproxy_refusals", "Requests refused by a rule of gproxy, without a row.", ("dialect", "reason")
    ),
    "tokens": Family(
        "gproxy_tokens",
        "Tokens; cache_read and cache_write are inside input, reasoning is inside output.",
        (*_TARGET, "kind"),
    ),
    "cost": Family("gproxy_cost_usd", "Cost in USD.", _TARGET, 1e-9),
    "unpriced": Family("gproxy_unpriced_requests", "Requests whose price is not known.", _TARGET),
    "attempts": Family(
        "gproxy_attempts", "Attempts at upstreams, by how they ended.", ("provider", "result")
    ),
    "failovers": Family("gproxy_failovers", "Failed attempts that another followed.", ("provider", "cause")),
    "config_reloads": Family("gproxy_config_reloads", "Edits of the configuration file.", ("result",)),
    "rows_refused": Family(
        "gproxy_usage_rows_refused", "Requests whose row the store refused; what they cost is spent."
    ),
    "log_entries_dropped": Family(
        "gproxy_log_entries_dropped", "Entries of the request logs that were not written."
    ),
}

HISTOGRAMS = {
    "duration": (
        "gproxy_request_duration_seconds",
        "From the request to the end of its answer.",
        DURATION_MS,
    ),
    "ttft": (
        "gproxy_time_to_first_token_seconds",
        "From the request to the first byte of its answer.",
        TTFT_MS,
    ),
}

STATES = ("ready", "cooling", "disabled")


def text(
    counts: Mapping[Key, int], gauges: Sequence[Gauges], credentials: Iterable[dict[str, Any]], now: float
) -> bytes:
    """All families. `counts` are the sums of all processes, `gauges` one for each that lives, `credentials` as
    `overview.py` tells them, `now` seconds since the epoch."""
    from prometheus_client.exposition import generate_latest

    metrics = [*_counters(counts), *_histograms(counts), *_gauges(gauges), *_credentials(credentials, now)]

    class Collected:
        def collect(self) -> Iterable["Metric"]:
            return metrics

    return generate_latest(Collected())


def _counters(counts: Mapping[Key, int]) -> Iterator["Metric"]:
    from prometheus_client.metrics_core import CounterMetricFamily

    families = {
        name: CounterMetricFamily(family.name, family.help, labels=family.labels)
        for name, family in COUNTERS.items()
    }
    for name, *labels in sorted(counts):
        if name in families:
            families[name].add_metric(labels, counts[name, *labels] * COUNTERS[name].unit)
    yield from families.values()


def _histograms(counts: Mapping[Key, int]) -> Iterator["Metric"]:
    from prometheus_client.metrics_core import HistogramMetricFamily

    for name, (told, help_, ends) in HISTOGRAMS.items():
        by_target: dict[Key, list[int]] = {}
        for key, n in counts.items():
            if key[0] == f"{name}_bucket":
                by_target.setdefault(key[1:-1], [0] * (len(ends) + 1))[int(key[-1])] += n
        family = HistogramMetricFamily(told, help_, labels=_TARGET)
        for target, each in sorted(by_target.items()):
            buckets, below = [], 0
            for end, n in zip([*(str(end / 1000) for end in ends), "+Inf"], each, strict=True):
                below += n
                buckets.append((end, below))
            family.add_metric(target, buckets, counts.get((f"{name}_sum", *target), 0) / 1000)
        yield family


def _gauges(gauges: Sequence[Gauges]) -> Iterator["Metric"]:
    from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily

    yield InfoMetricFamily(
        "gproxy_build", "What runs.", {"version": __version__, "python": platform.python_version()}
    )
    told: tuple[tuple[str, str, float], ...] = (
        ("gproxy_workers", "Processes that serve.", len(gauges)),
        ("gproxy_requests_in_flight", "Requests to models under way.", sum(g.in_flight for g in gauges)),
        ("gproxy_ledger_queue", "Operations that wait to be written.", sum(g.ledger_queue for g in gauges)),
        (
            "gproxy_ledger_failing",
            "1 while the store cannot be written.",
            any(g.ledger_failing for g in gauges),
        ),
        (
            "gproxy_config_loaded_timestamp_seconds",
            "When the oldest configuration that any process serves by came into force.",
            min((g.config_since for g in gauges), default=0),
        ),
        (
            "gproxy_config_reload_failing",
            "1 while the file has errors, and the configuration before them is in force.",
            any(g.config_failing for g in gauges),
        ),
    )
    for name, help_, value in told:
        yield GaugeMetricFamily(name, help_, value=float(value))


def _credentials(trees: Iterable[dict[str, Any]], now: float) -> Iterator["Metric"]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    names = ("provider", "credential")
    state = GaugeMetricFamily(
        "gproxy_credential_state", "1 for the state that a credential is in.", labels=(*names, "state")
    )
    cooling = GaugeMetricFamily(
        "gproxy_credential_cooldown_seconds",
        "Until it is used again as before; the longest, of it and of its models.",
        labels=names,
    )
    models = GaugeMetricFamily(
        "gproxy_credential_models_cooling", "For how many models alone it cools down.", labels=names
    )
    left: dict[tuple[str, str], float] = defaultdict(float)
    held: dict[tuple[str, str], int] = defaultdict(int)
    for tree in trees:
        whose = (tree["provider"], tree["credential"])
        if tree["until"] is not None:
            left[whose] = max(left[whose], datetime.fromisoformat(tree["until"]).timestamp() - now)
        if tree["model"] is None:
            left[whose], held[whose] = left[whose], held[whose]
            for each in STATES:
                state.add_metric((*whose, each), float(tree["state"] == each))
        elif tree["state"] == "cooling":
            held[whose] += 1
    for whose, seconds in left.items():
        cooling.add_metric(whose, max(0.0, seconds))
        models.add_metric(whose, held[whose])
    yield from (state, cooling, models)
