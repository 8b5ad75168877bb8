"""Times as users write them and as the ledger stores them. Knows no clock."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_MILLISECONDS = tuple(f".{ms:03d}Z" for ms in range(1000))
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_when(text: str, now: datetime, *, ahead: bool = False) -> datetime:
    """`90s`, `15m`, `12h`, `30d`, `4w` before `now` (after it with `ahead`), or an RFC 3339 time; in UTC.

    A time without an offset is UTC, a date its midnight. Raises ValueError with a sentence for the user.
    """
    text = text.strip()
    try:
        if match := _DURATION.fullmatch(text):
            span = timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
            return (now + span if ahead else now - span).astimezone(UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: write a duration such as 90s, 15m, 12h, 30d or 4w, "
            "or an RFC 3339 time such as 2026-11-01T00:00:00Z."
        ) from None


def stamp(moment: datetime) -> str:
    """UTC, ISO 8601 with milliseconds: `2026-11-25T13:04:29.123Z`."""
    return f"{moment.astimezone(UTC).isoformat(timespec='milliseconds')[:23]}Z"


def stamp_at(seconds: float) -> str:
    """The same of a time in seconds since the epoch."""
    second = int(seconds)
    return _second(second) + _MILLISECONDS[int((seconds - second) * 1000)]


@lru_cache(maxsize=64)
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).isoformat()[:19]
