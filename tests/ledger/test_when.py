from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.ledger.when import parse_when, stamp, stamp_at

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("12h", NOW - timedelta(hours=12)),
        (" 30d ", NOW - timedelta(days=30)),
        ("4w", NOW - timedelta(weeks=4)),
        ("2026-11-01T00:00:00Z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T02:00:00+02:00", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01 00:00:00.250Z", datetime(2026, 11, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_a_duration_counts_back_and_a_time_is_itself(text: str, expected: datetime) -> None:
    assert parse_when(text, NOW) == expected


def test_a_duration_ahead_counts_forward() -> None:
    assert parse_when("30d", NOW, ahead=True) == NOW + timedelta(days=30)


@pytest.mark.parametrize(
    "text",
    ["", "5", "d", "-5d", "1.5h", "5 d", "5D", "tomorrow", "999999999w", "٣d", "0001-01-01T00:00:00+23:00"],
)
def test_what_is_no_time_is_refused_with_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="30d or 4w, or an RFC 3339 time"):
        parse_when(text, NOW)


@given(st.text(max_size=20))
def test_any_text_is_a_time_in_utc_or_a_value_error(text: str) -> None:
    try:
        moment = parse_when(text, NOW)
    except ValueError:
        return
    assert moment.tzinfo is UTC


def test_a_stamp_is_utc_with_milliseconds() -> None:
    east = timezone(timedelta(hours=2))
    assert stamp(datetime(2026, 11, 25, 1, 2, 3, 4999, tzinfo=east)) == "2026-11-24T23:02:03.004Z"


@given(st.integers(0, 4_000_000_000), st.integers(0, 999))
def test_a_stamp_of_seconds_is_that_of_their_moment(second: int, millisecond: int) -> None:
    moment = datetime.fromtimestamp(second, UTC) + timedelta(milliseconds=millisecond)
    for _ in range(2):  # the second time its second is that of the last stamp
        assert stamp_at(second + (millisecond + 0.5) / 1000) == stamp(moment)
    later = stamp_at(second + 0.9995), stamp_at(second + 1)
    assert later == (stamp(moment.replace(microsecond=999_000)), stamp_at(second + 1.0001))


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2))
def test_stamps_sort_as_their_moments(moments: list[datetime]) -> None:
    moments = [moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in moments]
    assert sorted(moments) == sorted(moments, key=stamp)
