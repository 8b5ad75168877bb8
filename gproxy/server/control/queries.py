"""What a query string asks of the ledger and of the logs: each name known, each value checked, or BadRequest.

What comes of it is read by `admin.py` and `account.py`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from gproxy.errors import BadRequest
from gproxy.ledger.logs import MOST_LISTED, statuses
from gproxy.ledger.logs import Filters as LogFilters
from gproxy.ledger.report import DIMENSIONS, Filters
from gproxy.ledger.when import parse_when

SINCE = "30d"
"""Usage is told from then on, unless asked otherwise."""

OWN = tuple(name for name in DIMENSIONS if name not in ("user", "key", "credential"))
"""By what a key may have its own usage grouped: who it is needs no column, and credentials are the operator's."""

_OWN_FILTERS = ("model", "provider", "alias", "dialect", "status")
_ALL_FILTERS = ("user", "key_id", *_OWN_FILTERS, "credential")
_LOG_FILTERS = ("user", "key_name", "provider", "model", "status")
_AUTHENTICATION = "key"
_YES, _NO = ("1", "true"), ("0", "false", "")
_SHOWN_LOGS = 50

Arguments = Iterable[tuple[str, str]]
"""The names and values of a query string, decoded, in their order."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A report that was asked for."""

    by: tuple[str, ...]
    filters: Filters
    latency: bool


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A part of the logs that was asked for; `attempts`: those at upstreams, not requests."""

    attempts: bool
    filters: LogFilters
    limit: int


def usage(arguments: Arguments, now: float, *, own: bool) -> UsageQuery:
    """`own`: about the calling key's rows alone. `now` is seconds since the epoch. Raises BadRequest."""
    filters = _OWN_FILTERS if own else _ALL_FILTERS
    given, by = _given(arguments, ("since", "until", "latency", *filters))
    dimensions = OWN if own else tuple(DIMENSIONS)
    for name in by:
        if name not in dimensions:
            raise BadRequest(f"`by` is one or more of {', '.join(dimensions)}.")
    equal = {name: given[name] for name in filters if name in given and name not in ("status", "key_id")}
    return UsageQuery(
        by=by or ("model",),
        filters=Filters(
            since=_when("since", given.get("since", SINCE), now),
            until=_when("until", given["until"], now) if "until" in given else None,
            status=_statuses(given["status"]) if "status" in given else None,
            key_ids=(given["key_id"],) if "key_id" in given else None,
            **equal,
        ),
        latency=_flag("latency", given),
    )


def _statuses(text: str) -> tuple[int, int]:
    try:
        return statuses(text)
    except ValueError:
        raise BadRequest("`status` is one such as 429, or 4xx for all of its kind.") from None


def logs(arguments: Arguments, now: float) -> LogQuery:
    """`now` is seconds since the epoch. Raises BadRequest."""
    given, _ = _given(
        arguments, ("since", "until", "limit", "errors", "attempts", *_LOG_FILTERS), grouped=False
    )
    attempts = _flag("attempts", given)
    if attempts and {"user", "key_name"} & given.keys():
        raise BadRequest("`user` and `key_name` are of requests: an attempt has neither.")
    return LogQuery(
        attempts=attempts,
        filters=LogFilters(
            user=given.get("user"),
            key=given.get("key_name"),
            provider=given.get("provider"),
            model=given.get("model"),
            status=given.get("status"),
            since=_when("since", given["since"], now) if "since" in given else None,
            until=_when("until", given["until"], now) if "until" in given else None,
            errors=_flag("errors", given),
        ),
        limit=_number("limit", given.get("limit", str(_SHOWN_LOGS)), 1, MOST_LISTED),
    )


def _given(
    arguments: Arguments, names: Collection[str], *, grouped: bool = True
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What was asked by name, each at most once, and all that `by` lists, in several values or between commas."""
    given: dict[str, str] = {}
    by: list[str] = []
    for name, value in arguments:
        if name == "by" and grouped:
            by += [part for part in value.split(",") if part]
        elif name == _AUTHENTICATION:
            continue  # the caller's own, which has been looked at
        elif name not in names:
            allowed = ", ".join(sorted([*names, *(["by"] if grouped else [])]))
            raise BadRequest(f"A query here may have {allowed}.")
        elif name in given:
            raise BadRequest(f"`{name}` was given more than once.")
        else:
            given[name] = value
    return given, tuple(dict.fromkeys(by))


def _when(name: str, text: str, now: float) -> datetime:
    try:
        return parse_when(text, datetime.fromtimestamp(now, UTC))
    except ValueError as error:
        raise BadRequest(f"`{name}`: {error}") from None


def _number(name: str, text: str, low: int, high: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high:
        return int(text)
    raise BadRequest(f"`{name}` is a number from {low} to {high}.")


def _flag(name: str, given: dict[str, str]) -> bool:
    text = given.get(name, "")
    if text not in _YES + _NO:
        raise BadRequest(f"`{name}` is 1 or 0.")
    return text in _YES
