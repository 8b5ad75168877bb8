"""Percentiles of how long requests took, exact: from the rows themselves, not from averages or histograms.

Which rows is `report.py`'s.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from gproxy.ledger.sqlite import sqlite3

LATENCY = ("latency_p50_ms", "latency_p95_ms", "ttft_p50_ms", "ttft_p95_ms")
"""Of all requests, failed ones too; the first byte only of those that had one. None: of no request."""

_PERCENTS = (50, 95)

Counts = dict[int, int]
"""How often each time was measured."""


class Latencies:
    """How often each time was measured, by group: a list of all would be sorted in one go, and hold up a server's
    event loop for as long, though its report is made in another thread."""

    def __init__(self) -> None:
        self._groups: dict[Any, tuple[Counts, Counts]] = defaultdict(_none)

    def read(self, db: sqlite3.Connection, query: str, values: Mapping[str, Any]) -> None:
        """Take in what a query finds: columns that make a group, then `latency_ms` and `ttft_ms`."""
        groups = self._groups
        for *group, latency_ms, ttft_ms in db.execute(query, values):
            whole, first = groups[tuple(group)]
            whole[latency_ms] = whole.get(latency_ms, 0) + 1
            if ttft_ms is not None:
                first[ttft_ms] = first.get(ttft_ms, 0) + 1

    def of(self, group: tuple[Any, ...]) -> tuple[int | None, ...]:
        """`LATENCY` of one group."""
        whole, first = self._groups.get(group) or _none()
        return (*_percentiles(whole), *_percentiles(first))

    def of_all(self) -> tuple[int | None, ...]:
        """`LATENCY` of all rows."""
        sums = _none()
        for group in self._groups.values():
            for whole, some in zip(sums, group, strict=True):
                for time, count in some.items():
                    whole[time] = whole.get(time, 0) + count
        return (*_percentiles(sums[0]), *_percentiles(sums[1]))


def _none() -> tuple[Counts, Counts]:
    return {}, {}


def _percentiles(times: Mapping[int, int]) -> list[int | None]:
    """The nearest ranks: the smallest time that so many percent of all do not exceed."""
    if not times:
        return [None] * len(_PERCENTS)
    ordered = sorted(times)
    upto = list(accumulate(times[time] for time in ordered))
    return [ordered[bisect_left(upto, (upto[-1] * percent + 99) // 100)] for percent in _PERCENTS]
