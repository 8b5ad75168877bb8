"""Sums over the table `usage`, grouped and filtered; reads the store, never writes it.

How a report is shown is `cli/`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect_read_only, sqlite3
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
    "day": "substr(started_at, 1, 10)",
    "hour": "substr(started_at, 1, 13) || ':00Z'",
}
"""What a report can be grouped by, and how. A key is `user/label`, or `user/id` without a label."""

MEASURES = {
    "requests": "count(*)",
    "errors": "count(*) FILTER (WHERE status >= 400 OR outcome != 'ok')",
    "input_tokens": "coalesce(sum(input_tokens), 0)",
    "output_tokens": "coalesce(sum(output_tokens), 0)",
    "cache_read_tokens": "coalesce(sum(cache_read_tokens), 0)",
    "cache_write_tokens": "coalesce(sum(cache_write_tokens), 0)",
    "reasoning_tokens": "coalesce(sum(reasoning_tokens), 0)",
    "total_tokens": "coalesce(sum(total_tokens), 0)",
    # The column is nano-dollars / 1e9; as integers again they sum without an error.
    "cost_usd": "sum(CAST(round(cost_usd * 1e9) AS INTEGER))",
    "unpriced": "count(*) - count(cost_usd)",
    "estimated": "count(*) FILTER (WHERE usage_source IN ('estimated', 'partial'))",
}
"""The columns after the groups, in order. `cost_usd` is None where no row has a price; `unpriced` counts the
rows without one, `estimated` those whose tokens are not wholly the upstream's figures."""

_COST = list(MEASURES).index("cost_usd")


@dataclass(frozen=True, slots=True)
class Report:
    """`columns` names the groups asked for, then the measures; each row has a value for each (None: unknown).

    `totals` has the measures alone, over all rows. Tokens are counts, `cost_usd` is USD to the nano-dollar.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    totals: tuple[Any, ...]


def report(
    path: Path,
    *,
    by: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    user: str | None = None,
    model: str | None = None,
    key_id: str | None = None,
) -> Report:
    """Sum the rows of the store at `path` that started in [since, until), grouped by any of `DIMENSIONS`.

    `user` and `key_id` are exact; `model` is the upstream's id, the name the client sent, or the alias. In order of
    time where `by` has one, else the dearest first. A store that does not exist is an empty report. Raises
    ValueError for an unknown dimension, `StoreError` for a store that cannot be read.
    """
    groups = tuple(dict.fromkeys(by))
    if unknown := [name for name in groups if name not in DIMENSIONS]:
        raise ValueError(f"{unknown[0]!r} is nothing to group by: choose from {', '.join(DIMENSIONS)}.")
    where, values = _where(since, until, {"user": user, "model": model, "key_id": key_id})
    columns = (*groups, *MEASURES)
    if not path.exists():
        return Report(columns, (), (0,) * len(MEASURES))
    connection = connect_read_only(path)
    try:
        # One transaction, so that the totals are of the same rows.
        connection.execute("BEGIN")
        rows = connection.execute(_select(groups, where), values).fetchall() if groups else []
        totals = connection.execute(_select((), where), values).fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read as a usage store ({error}): see `data_dir`.") from error
    finally:
        connection.close()
    return Report(columns, tuple(_in_dollars(row, len(groups)) for row in rows), _in_dollars(totals, 0))


_FILTERS = {
    "since": "started_at >= :since",
    "until": "started_at < :until",
    "user": "user = :user",
    "model": ":model IN (model, requested_model, alias)",
    "key_id": "key_id = :key_id",
}


def _where(
    since: datetime | None, until: datetime | None, equal: dict[str, str | None]
) -> tuple[str, dict[str, str]]:
    """The WHERE clause, or nothing, and its values."""
    values = {"since": stamp(since) if since else None, "until": stamp(until) if until else None, **equal}
    given = {name: value for name, value in values.items() if value is not None}
    where = " AND ".join(_FILTERS[name] for name in given)
    return (f" WHERE {where}" if where else ""), given


def _select(groups: tuple[str, ...], where: str) -> str:
    """The query; without groups that of the totals. The names end in `_` so that none is a column's own."""
    columns = [f"{DIMENSIONS[name]} AS {name}_" for name in groups]
    columns += [f"{sql} AS {name}_" for name, sql in MEASURES.items()]
    query = f"SELECT {', '.join(columns)} FROM usage{where}"  # noqa: S608 - constants of this module alone
    if not groups:
        return query
    names = ", ".join(f"{name}_" for name in groups)
    dearest = "" if {"day", "hour"} & set(groups) else "cost_usd_ DESC NULLS LAST, total_tokens_ DESC, "
    return f"{query} GROUP BY {names} ORDER BY {dearest}{names}"


def _in_dollars(row: Sequence[Any], before: int) -> tuple[Any, ...]:
    cost = row[before + _COST]
    return (*row[: before + _COST], None if cost is None else cost / 1e9, *row[before + _COST + 1 :])
