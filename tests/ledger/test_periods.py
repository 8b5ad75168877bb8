"""Days and months: their names, and which are kept beside one."""

import pytest

from gproxy.ledger.periods import DAY_S, kept_from, period_key

NOON = 1_795_608_000.0
"""2026-11-25T12:00:00Z."""


@pytest.mark.parametrize(("period", "key"), [("total", "total"), ("day", "2026-11-25"), ("month", "2026-11")])
def test_a_period_is_named_by_the_utc_calendar(period: str, key: str) -> None:
    assert period_key(period, NOON) == key
    midnight = NOON // DAY_S * DAY_S
    assert period_key(period, midnight) == key
    assert period_key(period, midnight + DAY_S - 1e-3) == key


@pytest.mark.parametrize(
    ("key", "oldest"),
    [
        ("2026-11-25", "2026-11-23"),
        ("2026-03-01", "2026-02-27"),
        ("2026-01-01", "2025-12-30"),
        ("2026-11", "2026-10"),
        ("2026-01", "2025-12"),
        ("total", "total"),
    ],
)
def test_two_days_and_a_month_before_are_kept(key: str, oldest: str) -> None:
    assert kept_from(key) == oldest
