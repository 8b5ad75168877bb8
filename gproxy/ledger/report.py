"""Sums over the usage store, grouped and filtered; reads it, never writes it.

How a report is shown is `cli/`'s. Whole days come from the roll-up, what is left of a span and hours from the rows.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.latency import LATENCY, Latencies
from gproxy.ledger.rollup import SUMS, values_of
from gproxy.ledger.rows import GROUP
from gproxy.ledger.sqlite import connect_read_only, remedy, sqlite3
from gproxy.ledger.when import stamp

DIMENSIONS = {
    "model": "model",
    "user": "user",
    "key": "user || '/' || coalesce(nullif(key_label, ''), key_id)",
    "provider": "provider",
    "credential": "credential",
    "alias": "alias",
    "dialect": "dialect",
    "status": "status",
    "day": "day",
    "hour": "hour",
}
"""What a report can be grouped by, and how. A key is `user/label`, or `user/id` without a label. Days and hours
are those of UTC: `2026-11-25`, `2026-11-25T22:00Z`."""

MEASURES = (
    "requests",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_usd",
    "extra_cost_usd",
    "unpriced",
    "estimated",
    "cache_hit_share",
    "estimated_share",
)
"""The columns after the groups, in order. `cost_usd` is what is known of the cost, None where nothing is but that
some rows have no price; `unpriced` counts those. `extra_cost_usd` is what failed attempts are feared to have cost
beside it. `estimated` counts the rows whose tokens are not wholly the upstream's figures, `estimated_share` is their
part of the requests, and
`cache_hit_share` the part of the input that was read from a cache, from 0 to 1 (None: there was none)."""

_HOUR = "substr(started_at, 1, 13) || ':00Z'"
_DAY = timedelta(days=1)
_Span = tuple[datetime | None, datetime | None]

_FILTERS = {
    "user": "user = :user",
    "model": ":model IN (model, requested_model, alias)",
    "key_ids": "key_id IN (SELECT value FROM json_each(:key_ids))",
    "provider": "provider = :provider",
    "credential": "credential = :credential",
    "alias": "alias = :alias",
    "dialect": "dialect = :dialect",
    "status": "status BETWEEN json_extract(:status, '$[0]') AND json_extract(:status, '$[1]')",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which rows: those that started in [since, until) and match each that is given, exactly.

    `model` is the upstream's id, the name the client sent, or the alias; `key_ids` are those of a key that was
    rotated. `status` is the first and the last that there may be.
    """

    since: datetime | None = None
    until: datetime | None = None
    user: str | None = None
    model: str | None = None
    key_ids: tuple[str, ...] | None = None
    provider: str | None = None
    credential: str | None = None
    alias: str | None = None
    dialect: str | None = None
    status: tuple[int, int] | None = None

    def values(self) -> dict[str, Any]:
        """What is given, by name, without the times."""
        given = {name: value for name in _FILTERS if (value := getattr(self, name)) is not None}
        return {name: json.dumps(it) if isinstance(it, tuple) else it for name, it in given.items()}

    def where(self) -> tuple[str, dict[str, Any]]:
        """The condition on rows of `usage`, `1` for none, and its values."""
        conditions = [_FILTERS[name] for name in self.values()]
        values = self.values()
        if self.since:
            conditions.append("started_at >= :since")
            values["since"] = stamp(self.since)
        if self.until:
            conditions.append("started_at < :until")
            values["until"] = stamp(self.until)
        return " AND ".join(conditions) or "1", values


@dataclass(frozen=True, slots=True)
class Report:
    """`columns` names the groups asked for, then the measures; each row has a value for each (None: unknown).

    `totals` has the measures alone, over all rows. Tokens are counts, money USD to the nano-dollar. With latency
    the last four columns are milliseconds, see `latency.py`.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    totals: tuple[Any, ...]


def report(
    path: Path,
    *,
    by: Sequence[str],
    filters: Filters | None = None,
    latency: bool = False,
) -> Report:
    """Sum up the store at `path`, grouped by any of `DIMENSIONS`.

    In order of time where `by` has one, else the dearest first. A store that does not exist is an empty report.
    `latency` reads every row, which takes longer than the sums do. Raises ValueError for an unknown dimension,
    `StoreError` for a store that cannot be read.
    """
    groups = tuple(dict.fromkeys(by))
    if unknown := [name for name in groups if name not in DIMENSIONS]:
        raise ValueError(f"{unknown[0]!r} is nothing to group by: choose from {', '.join(DIMENSIONS)}.")
    filters = filters or Filters()
    columns = (*groups, *MEASURES, *(LATENCY if latency else ()))
    sums: list[tuple[Any, ...]] = []
    times = Latencies()
    if path.exists():
        try:
            with closing(connect_read_only(path)) as db:
                db.execute("BEGIN")  # all of it of the same rows
                sums = _sums(db, groups, filters)
                if latency:
                    times.read(db, _select_times(groups, filters), filters.where()[1])
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be read as a usage store ({error}): {remedy(error)}.") from error
    width = len(groups)
    rows = [
        (*row[:width], *_measures(row[width:]), *(times.of(row[:width]) if latency else ())) for row in sums
    ]
    total = [sum(column) for column in zip(*(row[width:] for row in sums), strict=True)] or [0] * len(SUMS)
    totals = (*_measures(total), *(times.of_all() if latency else ()))
    return Report(columns, tuple(rows), totals)


def keys(path: Path, name: str) -> dict[str, str]:
    """The keys in the store that a label, `user/label` or id names: `user/label` by id. Raises `StoreError`."""
    if not path.exists():
        return {}
    query = f"""
        SELECT DISTINCT key_id, {DIMENSIONS["key"]} FROM usage_groups
        WHERE ? IN (key_id, key_label, user || '/' || key_label, user || '/' || key_id) AND ? != ''
    """  # noqa: S608 - constants of this module alone
    try:
        with closing(connect_read_only(path)) as db:
            return dict(db.execute(query, (name, name)).fetchall())
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read as a usage store ({error}): see `data_dir`.") from error


def _sums(db: sqlite3.Connection, groups: tuple[str, ...], filters: Filters) -> list[tuple[Any, ...]]:
    """The groups and `SUMS` of each, in order. None of it if no row matches."""
    values = filters.values()
    parts = [_from_rows(span, filters, values) for span in _row_spans(groups, filters)]
    if (days := _whole_days(groups, filters)) is not None:
        parts.append(_from_days(days, filters, values, "day" in groups))
    if not parts:
        return []
    names = [f"{name}_" for name in groups]  # `_` so that none is a column's own
    columns = [f"{DIMENSIONS[name]} AS {name}_" for name in groups]
    columns += [f"sum({name}) AS {name}_" for name in SUMS]
    query = f"SELECT {', '.join(columns)} FROM ({' UNION ALL '.join(parts)})"  # noqa: S608 - constants alone
    if not names:
        return db.execute(f"{query} HAVING count(*) > 0", values).fetchall()
    dearest = (
        ""
        if {"day", "hour"} & set(groups)
        else "cost_nano_ = 0 AND unpriced_ > 0, cost_nano_ DESC, total_tokens_ DESC, "
    )
    listed = ", ".join(names)
    return db.execute(f"{query} GROUP BY {listed} ORDER BY {dearest}{listed}", values).fetchall()


def _whole_days(groups: tuple[str, ...], filters: Filters) -> _Span | None:
    """The days that lie within the span as a whole, as midnights; None if there is none, or hours are asked for."""
    if "hour" in groups:
        return None
    first, end = filters.since, filters.until and _midnight(filters.until)
    if first and stamp(first) != stamp(_midnight(first)):
        try:
            first = _midnight(first) + _DAY
        except OverflowError:  # the last day there is
            return None
    return None if first and end and first >= end else (first, end)


def _row_spans(groups: tuple[str, ...], filters: Filters) -> list[_Span]:
    """What is left of the span beside whole days."""
    days = _whole_days(groups, filters)
    if days is None:
        return [(filters.since, filters.until)]
    before = (filters.since, days[0])
    behind = (days[1], filters.until)
    return [(begin, end) for begin, end in (before, behind) if begin and end and begin < end]


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _from_rows(span: _Span, filters: Filters, values: dict[str, Any]) -> str:
    """The query for the rows of a span; adds its values."""
    conditions = [_FILTERS[name] for name in filters.values()]
    for moment, comparison in zip(span, (">=", "<"), strict=True):
        if moment:
            name = f"t{len(values)}"
            conditions.append(f"started_at {comparison} :{name}")
            values[name] = stamp(moment)
    measures = [f"{value} AS {name}" for name, value in zip(SUMS, values_of("usage"), strict=True)]
    columns = ["substr(started_at, 1, 10) AS day", f"{_HOUR} AS hour", *GROUP, *measures]
    return f"SELECT {', '.join(columns)} FROM usage WHERE {' AND '.join(conditions) or '1'}"  # noqa: S608 - constants alone


def _from_days(span: _Span, filters: Filters, values: dict[str, Any], by_day: bool) -> str:
    """The query for whole days, first summed by group alone, which is a number; adds its values."""
    conditions = ["1"]
    for moment, comparison in zip(span, (">=", "<"), strict=True):
        if moment:
            name = f"t{len(values)}"
            conditions.append(f"day {comparison} :{name}")
            values[name] = stamp(moment)[:10]
    wanted = " AND ".join(_FILTERS[name] for name in filters.values())
    if wanted:
        conditions.append(f"group_id IN (SELECT id FROM usage_groups WHERE {wanted})")  # noqa: S608 - constants alone
    day = "day" if by_day else "'' AS day"
    cells = f"""
        SELECT {day}, group_id, {", ".join(f"sum({name}) AS {name}" for name in SUMS)}
        FROM usage_days WHERE {" AND ".join(conditions)} GROUP BY {"day, " if by_day else ""}group_id
    """  # noqa: S608 - constants of this module alone
    return f"""
        SELECT day, NULL AS hour, {", ".join(GROUP)}, {", ".join(SUMS)}
        FROM ({cells}) JOIN usage_groups ON id = group_id
    """  # noqa: S608 - constants of this module alone


def _select_times(groups: Iterable[str], filters: Filters) -> str:
    at = {"day": "substr(started_at, 1, 10)", "hour": _HOUR}
    columns = [at.get(name, DIMENSIONS[name]) for name in groups]
    return f"SELECT {', '.join([*columns, 'latency_ms', 'ttft_ms'])} FROM usage WHERE {filters.where()[0]}"  # noqa: S608 - constants alone


def _measures(sums: Sequence[int]) -> tuple[Any, ...]:
    """`MEASURES` out of `SUMS`."""
    of = defaultdict(int, zip(SUMS, sums, strict=True))
    unknown = not of["requests"] or (of["unpriced"] and not of["cost_nano"])
    return (
        *sums[:8],
        None if unknown else of["cost_nano"] / 1e9,
        of["extra_nano"] / 1e9,
        of["unpriced"],
        of["estimated"],
        _share(of["cache_read_tokens"], of["input_tokens"]),
        _share(of["estimated"], of["requests"]),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
