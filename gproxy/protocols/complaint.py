"""What an upstream's error says: its codes, its text, and when it wants to be asked again.

What follows from it is `routing/verdicts.py`'s. How errors of ours look is `envelopes.py`'s.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from gproxy.protocols.answers import json_of, mapping, objects
from gproxy.values import Complaint

_CODES = ("code", "type", "status", "reason", "error_code")
# Of any length that some server may write, and no longer than is quick to read: what it means is clamped.
_SECONDS = re.compile(r"[0-9]{1,30}(?:\.[0-9]{0,30})?")
_SPAN = re.compile(
    r"(?:([0-9]{1,30})h)?(?:([0-9]{1,30})m(?!s))?(?:([0-9]{1,30}(?:\.[0-9]{0,30})?)s)?(?:([0-9]{1,30})ms)?"
)
_UNITS = (3600.0, 60.0, 1.0, 0.001)


def complaint_of(header: Callable[[bytes], str], body: bytes, now: float) -> Complaint:
    """What an error answer says. `header` gives a header's value, "" without one; `now` is seconds since the epoch.

    The body is the error of any dialect: `{"error": {…}}`, Gemini's with `details`, one alone in an array (Gemini's
    streams), in the `response` of an event (OpenAI's `response.failed`), or with a text under `error` (xAI).
    """
    tree = json_of(body)
    outer = mapping(tree[0] if isinstance(tree, list) and tree else tree)
    inner = outer.get("error") or mapping(outer.get("response")).get("error")
    error = mapping(inner) or outer
    message = inner if isinstance(inner, str) else error.get("message")
    details = [*objects(error.get("details")), mapping(error.get("details"))]
    parts = (outer, error, *details)
    codes = {part[name] for part in parts for name in _CODES if isinstance(part.get(name), str)}
    return Complaint(
        frozenset(codes), message if isinstance(message, str) else "", _retry_s(header, details, now)
    )


def _retry_s(header: Callable[[bytes], str], details: list[Mapping[str, Any]], now: float) -> float | None:
    """The first of: `retry-after-ms`, `retry-after` (seconds or a date), Gemini's RetryInfo, OpenAI's resets."""
    if _SECONDS.fullmatch(millis := header(b"retry-after-ms")):
        return float(millis) / 1000
    if after := header(b"retry-after"):
        if _SECONDS.fullmatch(after):
            return float(after)
        if (seconds := _until(after, now)) is not None:
            return seconds
    for part in details:
        delay = part.get("retryDelay")
        if isinstance(delay, str) and (seconds := _span(delay)) is not None:
            return seconds
    # Of OpenAI's buckets the one that is empty; its reset is when it is full again, which is late enough.
    resets = (
        _span(header(f"x-ratelimit-reset-{kind}".encode()))
        for kind in ("requests", "tokens")
        if header(f"x-ratelimit-remaining-{kind}".encode()) == "0"
    )
    return max((seconds for seconds in resets if seconds is not None), default=None)


def _until(date: str, now: float) -> float | None:
    try:
        then = parsedate_to_datetime(date)
        return max(0.0, (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _span(text: str) -> float | None:
    """Seconds of a duration as Go and protobuf write it: `13s`, `1m30.5s`, `250ms`."""
    found = _SPAN.fullmatch(text) if text else None
    if found is None:
        return None
    return sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part)
