"""Days and months as the ledger counts in them, in UTC, and how long the counts of one are kept. Pure.

What is counted is `spend.py`'s.

A clock may be wrong by hours and be set right: what it has counted in another day still stands when that day is back,
so a period is forgotten only when it is well past.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

DAY_S = 86_400

KEPT_DAYS = 2
"""Counts of days so far off, either way, are kept; spend of days so far back, and of months that ended since."""


def period_key(period: str, now: float) -> str:
    """`total`, the UTC day `2026-11-25`, or the UTC month `2026-11`."""
    return periods(int(now) // DAY_S)[period]


@lru_cache(maxsize=8)
def periods(day: int) -> Mapping[str, str]:
    """The keys of the periods that a UTC day is in, which is so many after 1970-01-01."""
    key = datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()
    return {"total": "total", "day": key, "month": key[:7]}


@lru_cache(maxsize=8)
def kept_from(key: str) -> str:
    """The earliest day that is kept beside a day, or month beside a month; `total` for itself."""
    if key == "total":
        return key
    first = date.fromisoformat(key if len(key) == len("2026-11-25") else f"{key}-01")
    return (first - timedelta(days=KEPT_DAYS)).isoformat()[: len(key)]
