"""What one process counts for Prometheus: whole numbers by name and labels, every set of labels bounded.

Where the counts of all processes meet is `metricfiles.py`'s, how they are told `exposition.py`'s. A request is added
to those that are like it as it is settled, and these are counted a moment later, beside the requests.
"""

import asyncio
import logging
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from gproxy.config.snapshot import Snapshot
from gproxy.errors import GatewayError
from gproxy.ledger.writer import Writer
from gproxy.routing.failover import Tried
from gproxy.server.control import metricfiles
from gproxy.server.control.metricfiles import Gauges, Key
from gproxy.server.request.journal import CLIENT_CLOSED, Journal
from gproxy.values import Target, Usage

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 0.25
"""How much later than a request its counts may be in the file, and what a killed process may take with it."""

MOST_PAIRS = 200
"""So many pairs of provider and model are told apart; what comes beyond them is `other`."""

OTHER = "other"
NONE = "none"

_AT_ONCE = 50
"""So many kinds are counted at once: some 5 µs each, for which requests wait."""

_MOST_OF_A_KIND = 500
"""So many requests of one kind are added up at once."""

DURATION_MS = (50, 100, 250, 500, 1000, 2500, 5000, 10_000, 20_000, 40_000, 60_000, 120_000, 300_000, 600_000)
TTFT_MS = (25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 20_000, 40_000, 60_000, 120_000)
"""Upper ends of the buckets; one more takes what is above."""

REASONS = {
    "RateLimited": "limit",
    "QuotaExceeded": "quota",
    "Unauthenticated": "key",
    "Forbidden": "permission",
    "NotFound": "not_found",
    "BadRequest": "invalid",
    "BodyTooLarge": "size",
    "HeadersTooLarge": "size",
    "MisdirectedRequest": "host",
    "LoopDetected": "loop",
    "Unavailable": "unavailable",
}
"""The word for a refusal of ours, by the name of the error; any other is `other`."""

_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")


class _Kind(NamedTuple):
    """What requests have in common that are added up."""

    dialect: str
    target: Target | None
    status: int
    outcome: str
    attempts: int
    tried: tuple[Tried, ...]
    begun: bool  # it has a time to its first byte


@dataclass(slots=True)
class _Alike:
    """What so many requests of a kind come to: their tokens, what they cost as far as that is known, and how many
    milliseconds each took, and took to its first byte."""

    requests: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    unpriced: int = 0
    cost_nano: int = 0
    durations: list[int] = field(default_factory=list)
    ttfts: list[int] = field(default_factory=list)

    def add(self, usage: Usage, cost_nano: int | None, duration: int, ttft: int | None) -> None:
        """One more."""
        self.requests += 1
        if counted := usage.input_tokens:
            self.input += counted
        if counted := usage.output_tokens:
            self.output += counted
        if counted := usage.cache_read_tokens:
            self.cache_read += counted
        if counted := usage.cache_write_tokens:
            self.cache_write += counted
        if counted := usage.reasoning_tokens:
            self.reasoning += counted
        if cost_nano is None:
            self.unpriced += 1
        else:
            self.cost_nano += cost_nano
        self.durations.append(duration)
        if ttft is not None:
            self.ttfts.append(ttft)


def buckets(ends: Sequence[int], times: list[int]) -> Iterator[tuple[int, int]]:
    """Which buckets the times fall in, and how many in each. `ends` are the upper ones; one bucket more takes what is
    above. There must be times; they are sorted by this."""
    times.sort()
    begin = 0
    for bucket, end in enumerate((*ends, times[-1])):
        if n := bisect_right(times, end, begin) - begin:
            yield bucket, n
            begin += n


class Metrics:
    """Of one process, to be used inside its loop. Goes on with what the last process in its slot has counted.

    `reload_failed`: the configuration in force is not the file's.
    """

    def __init__(self, writer: Writer) -> None:
        self.folder = metricfiles.folder_of(writer.path)
        self.slot = writer.worker
        self.reload_failed = False
        self._writer = writer
        self._counts: Counter[Key] = Counter(metricfiles.counts_of(self.folder, self.slot))
        self._ended: dict[tuple[Any, ...], _Alike] = {}  # by the values of a `_Kind`
        self._in_flight = 0
        self._dropped = 0
        self._refused = 0
        self._configured: frozenset[tuple[str, str]] = frozenset()
        self._providers: frozenset[str] = frozenset()
        self._pairs: set[tuple[str, str]] = set()
        self._since = time.time()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._complained = False
        self._closed = False

    def adopt(self, snapshot: Snapshot) -> None:
        """A configuration is put in force: its providers and models are told apart."""
        listed = {(p.name, model) for p in snapshot.providers.values() for model in p.models or ()}
        aimed = {(t.provider, t.model) for alias in snapshot.aliases.values() for t in alias.targets}
        self._configured = frozenset(listed | aimed)
        self._providers = frozenset(snapshot.providers)
        self._since = time.time()

    def reloaded(self, *, ok: bool) -> None:
        """An edit of the file was put in force, or was not. The first worker alone counts it, for all."""
        self.reload_failed = not ok
        if self.slot == 0:
            self._counts["config_reloads", "ok" if ok else "failed"] += 1
        self._arm()

    def begun(self) -> None:
        """A request to a model has come."""
        self._in_flight += 1
        if self._timer is None:
            self._arm()

    def over(self) -> None:
        """It is over, whatever became of it."""
        self._in_flight -= 1
        if self._timer is None:
            self._arm()

    def refused(self, dialect: str, error: GatewayError) -> None:
        """It was refused by a rule of ours, and leaves no row."""
        self._counts["refusals", dialect, REASONS.get(type(error).__name__, OTHER)] += 1

    def settled(self, journal: Journal, cost_nano: int | None) -> None:
        """Its accounts are closed: what its row says is counted, a moment later."""
        tried = journal.tried
        kind = (
            journal.call.protocol.name,
            journal.target,
            journal.status,
            journal.outcome,
            journal.attempts,
            tuple(tried) if tried else (),
            journal.ttft_ms is not None,
        )
        alike = self._ended.get(kind)
        if alike is None:
            alike = self._ended[kind] = _Alike()
            if len(self._ended) == _AT_ONCE:
                asyncio.get_running_loop().call_soon(self._add_up)
        alike.add(journal.usage, cost_nano, journal.latency_ms, journal.ttft_ms)
        if alike.requests == _MOST_OF_A_KIND:
            self._add(_Kind(*kind), self._ended.pop(kind))
        if self._timer is None:
            self._arm()

    async def published(self) -> tuple[dict[Key, int], Gauges]:
        """What was counted until now, when the file has it too: what was once told is not forgotten by a death."""
        state = self._state()
        await asyncio.get_running_loop().run_in_executor(self._thread, partial(self._write, *state))
        return state

    def close(self) -> None:
        """Publish no more; to be called once."""
        self._closed = True
        self._thread.shutdown(wait=False)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUBLISH_SECONDS, self._publish)

    def _publish(self) -> None:
        self._timer = None
        if not self._closed:
            self._thread.submit(self._write, *self._state())

    def _add_up(self) -> None:
        ended, self._ended = self._ended, {}
        for kind, alike in ended.items():
            self._add(_Kind(*kind), alike)

    def _state(self) -> tuple[dict[Key, int], Gauges]:
        self._add_up()
        dropped = self._writer.dropped
        self._counts["log_entries_dropped",] += dropped - self._dropped
        self._dropped = dropped
        refused = self._writer.rows_refused
        self._counts["rows_refused",] += refused - self._refused
        self._refused = refused
        gauges = Gauges(
            in_flight=self._in_flight,
            ledger_queue=self._writer.waiting,
            ledger_failing=self._writer.failure is not None,
            config_since=self._since,
            config_failing=self.reload_failed,
        )
        return dict(self._counts), gauges

    def _write(self, counts: dict[Key, int], gauges: Gauges) -> None:
        try:
            metricfiles.write(self.folder, self.slot, counts, gauges)
        except OSError as error:
            if not self._complained:
                logger.warning("The metrics of this process cannot be written (%s).", error.strerror)
            self._complained = True

    def _add(self, kind: _Kind, alike: _Alike) -> None:
        counts, n = self._counts, alike.requests
        provider, model = pair = self._pair(kind.target)
        counts["requests", kind.dialect, provider, model, f"{kind.status // 100}xx", kind.outcome] += n
        self._add_attempts(kind, n, provider)
        for word in _TOKENS:
            if tokens := getattr(alike, word):
                counts["tokens", *pair, word] += tokens
        if alike.unpriced:
            counts["unpriced", *pair] += alike.unpriced
        if alike.unpriced < n:
            counts["cost", *pair] += alike.cost_nano
        self._time("duration", pair, DURATION_MS, alike.durations)
        if kind.begun:
            self._time("ttft", pair, TTFT_MS, alike.ttfts)

    def _add_attempts(self, kind: _Kind, n: int, provider: str) -> None:
        """Each attempt by how it ended; a failover is one that failed and had another after it."""
        counts = self._counts
        # What an upstream answers itself and is passed on is 400, 404, 413 or 422.
        all_failed = kind.outcome == "upstream_error" and kind.status >= 429
        last = len(kind.tried) - 1
        for place, tried in enumerate(kind.tried):
            at = tried.provider if tried.provider in self._providers else OTHER
            cause = "timeout" if tried.timed_out else tried.cause.name.lower()
            counts["attempts", at, cause] += n
            if place < last or not all_failed:
                counts["failovers", at, cause] += n
        left = kind.attempts - len(kind.tried)
        if left > 0 and not all_failed:
            cut_off = not kind.begun and (kind.status == CLIENT_CLOSED or kind.outcome == "interrupted")
            counts["attempts", provider, "cut_off" if cut_off else "answered"] += n
            left -= 1
        if (
            left > 0
        ):  # asked again by the same key: with a new token, or without a field that it does not know
            counts["attempts", provider, "repeated"] += left * n

    def _time(self, name: str, pair: tuple[str, str], ends: Sequence[int], times: list[int]) -> None:
        for bucket, n in buckets(ends, times):
            self._counts[f"{name}_bucket", *pair, str(bucket)] += n
        self._counts[f"{name}_sum", *pair] += sum(times)

    def _pair(self, target: Target | None) -> tuple[str, str]:
        """The labels of a target: names come from clients, so only those of the configuration are told."""
        if target is None:
            return NONE, NONE
        provider, model = target.provider, target.model
        if provider not in self._providers:
            return OTHER, OTHER
        pair = (provider, model if (provider, model) in self._configured else OTHER)
        if pair not in self._pairs:
            if len(self._pairs) >= MOST_PAIRS:
                return OTHER, OTHER
            self._pairs.add(pair)
        return pair
