"""Percentiles of how long requests took, exact: from the rows themselves, not from averages or histograms.

Which rows is `report.py`'s.
"""

from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from gproxy.ledger.sqlite import sqlite3

LATENCY = ("latency_p50_ms", "latency_p95_ms", "ttft_p50_ms", "ttft_p95_ms")
"""Of all requests, failed ones too; the first byte only of those that had one. None: of no request."""

_PERCENTS = (50, 95)


class Latencies:
    """The times of every row, by group."""

    def __init__(self) -> None:
        self._whole: dict[Any, array[int]] = defaultdict(lambda: array("q"))
        self._first: dict[Any, array[int]] = defaultdict(lambda: array("q"))

    def read(self, db: sqlite3.Connection, query: str, values: Mapping[str, Any]) -> None:
        """Take in what a query finds: columns that make a group, then `latency_ms` and `ttft_ms`."""
        whole, first = self._whole, self._first
        for *group, latency_ms, ttft_ms in db.execute(query, values):
            name = tuple(group)
            whole[name].append(latency_ms)
            if ttft_ms is not None:
                first[name].append(ttft_ms)

    def of(self, group: tuple[Any, ...]) -> tuple[int | None, ...]:
        """`LATENCY` of one group."""
        return (*_percentiles(self._whole.get(group, ())), *_percentiles(self._first.get(group, ())))

    def of_all(self) -> tuple[int | None, ...]:
        """`LATENCY` of all rows."""
        return (*_percentiles(_all(self._whole)), *_percentiles(_all(self._first)))


def _all(times: Mapping[Any, "array[int]"]) -> Sequence[int]:
    return array("q", (time for some in times.values() for time in some))


def _percentiles(times: Sequence[int]) -> list[int | None]:
    """The nearest ranks: the smallest time that so many percent of all do not exceed."""
    if not times:
        return [None] * len(_PERCENTS)
    ordered = sorted(times)
    return [ordered[(len(ordered) * percent + 99) // 100 - 1] for percent in _PERCENTS]
