"""The roll-up `usage_days`: sums of `usage` by UTC day and by everything a report groups by.

It changes in the transaction that changes a row. What is inserted is summed up here, for all rows of a commit at
once; triggers see to rows that change (a price is corrected) or go. Reading it is `report.py`'s.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gproxy.ledger.rows import COLUMNS, GROUP, NULL, OR_NULL, Row
from gproxy.ledger.sqlite import sqlite3

SUMS = (
    "requests",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_nano",
    "extra_nano",
    "unpriced",
    "estimated",
)
"""The measures of `usage_days`. `cost_nano` and `extra_nano` are nano-dollars: integers, so that sums are exact."""


def values_of(row: str) -> tuple[str, ...]:
    """What one row of `usage`, under that name in SQL, adds to each of `SUMS`."""
    return (
        "1",
        f"({row}.status >= 400 OR {row}.outcome != 'ok')",
        *(f"ifnull({row}.{name}, 0)" for name in SUMS[2:8]),
        f"ifnull(CAST(round({row}.cost_usd * 1e9) AS INTEGER), 0)",
        f"ifnull(CAST(round({row}.extra_attempt_cost_usd * 1e9) AS INTEGER), 0)",
        f"({row}.cost_usd IS NULL)",
        f"({row}.usage_source IN ('estimated', 'partial'))",
    )


def _same(row: str, group: str = "usage_groups") -> str:
    return " AND ".join(f"{group}.{name} IS {row}.{name}" for name in GROUP)


def _columns(row: str) -> str:
    return ", ".join(f"{row}.{name}" for name in GROUP)


_ADD = f"""
    INSERT INTO usage_groups ({", ".join(GROUP)}) SELECT {_columns("new")}
    WHERE NOT EXISTS (SELECT 1 FROM usage_groups WHERE {_same("new")});
    INSERT INTO usage_days SELECT substr(new.started_at, 1, 10), id, {", ".join(values_of("new"))}
    FROM usage_groups WHERE {_same("new")}
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)};
"""  # noqa: S608 - constants alone

_THIS_DAY = f"""
    day = substr(old.started_at, 1, 10)
    AND group_id = (SELECT id FROM usage_groups WHERE {_same("old")})
"""  # noqa: S608 - constants alone

_TAKE = f"""
    UPDATE usage_days SET {", ".join(f"{n} = {n} - {v}" for n, v in zip(SUMS, values_of("old"), strict=True))}
    WHERE {_THIS_DAY};
    DELETE FROM usage_days WHERE {_THIS_DAY} AND requests = 0;
"""  # noqa: S608 - constants alone

STEP = (
    """
    CREATE TABLE usage_groups (
        id INTEGER PRIMARY KEY,
        user TEXT NOT NULL,
        key_label TEXT NOT NULL,
        key_id TEXT NOT NULL,
        provider TEXT,
        credential TEXT,
        model TEXT,
        requested_model TEXT NOT NULL,
        alias TEXT,
        dialect TEXT NOT NULL,
        status INTEGER NOT NULL
    )
    """,
    f"CREATE INDEX usage_groups_columns ON usage_groups ({', '.join(GROUP)})",
    f"""
    CREATE TABLE usage_days (
        day TEXT NOT NULL,
        group_id INTEGER NOT NULL REFERENCES usage_groups (id),
        {", ".join(f"{name} INTEGER NOT NULL" for name in SUMS)},
        PRIMARY KEY (day, group_id)
    ) WITHOUT ROWID
    """,
    f"INSERT INTO usage_groups ({', '.join(GROUP)}) SELECT DISTINCT {_columns('usage')} FROM usage",  # noqa: S608 - constants alone
    f"""
    INSERT INTO usage_days
    SELECT substr(started_at, 1, 10), usage_groups.id, {", ".join(f"sum({it})" for it in values_of("usage"))}
    FROM usage JOIN usage_groups ON {_same("usage")} GROUP BY 1, 2
    """,  # noqa: S608 - constants alone
    f"CREATE TRIGGER usage_days_insert AFTER INSERT ON usage BEGIN {_ADD} END",
    f"CREATE TRIGGER usage_days_delete AFTER DELETE ON usage BEGIN {_TAKE} END",
    f"CREATE TRIGGER usage_days_update AFTER UPDATE ON usage BEGIN {_TAKE} {_ADD} END",
)
"""The migration: the tables, what the rows so far amount to, and the triggers."""

STEP_SUMMED_BY_COMMIT = ("DROP TRIGGER usage_days_insert",)
"""A later one: who inserts rows calls `write`."""

_GROUP_VALUES = [OR_NULL if name == "alias" else "?" for name in GROUP]

_DAY = f"""
    INSERT INTO usage_days SELECT ?, id{", ?" * len(SUMS)} FROM usage_groups
    WHERE {" AND ".join(f"{name} IS {value}" for name, value in zip(GROUP, _GROUP_VALUES, strict=True))}
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}
"""  # noqa: S608 - constants alone

_GROUP = f"INSERT INTO usage_groups ({', '.join(GROUP)}) VALUES ({', '.join(_GROUP_VALUES)})"  # noqa: S608 - constants alone

_GROUP_OF = slice(COLUMNS.index(GROUP[0]), COLUMNS.index(GROUP[-1]) + 1)
_MEASURED = slice(COLUMNS.index("outcome"), COLUMNS.index("total_tokens") + 1)
"""Where a row has the values of `GROUP`, and what `_summed` takes."""

_STATUS = GROUP.index("status")


def write(cursor: sqlite3.Cursor, rows: Iterable[Row]) -> None:
    """Bring rows into the roll-up, in the transaction that inserts them."""
    groups: dict[tuple[str, Sequence[Any]], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[1][:10], row[_GROUP_OF]].append(row[_MEASURED])
    for (day, group), measured in groups.items():
        values = (day, *_summed(group[_STATUS], measured), *group)
        # The group is looked for each time: another process may have dropped one that no day referred to.
        if cursor.execute(_DAY, values).rowcount != 1:
            cursor.execute(_GROUP, group)
            cursor.execute(_DAY, values)


def _summed(status: int, measured: Sequence[Row]) -> tuple[int, ...]:
    """The measures of `SUMS`, as `values_of` has them."""
    outcomes, sources, costs, extras, given, answered, read, written, _, reasoning, totals = zip(
        *measured, strict=True
    )
    return (
        len(measured),
        len(measured) - (0 if status >= 400 else outcomes.count("ok")),
        sum(filter(None, given)),
        sum(filter(None, answered)),
        sum(read) - NULL * read.count(NULL),
        sum(written) - NULL * written.count(NULL),
        sum(reasoning) - NULL * reasoning.count(NULL),
        sum(filter(None, totals)),
        sum(filter(None, costs)),
        sum([round(dollars * 1e9) for dollars in extras if dollars != NULL]),
        costs.count(None),
        sources.count("estimated") + sources.count("partial"),
    )


_DIFFERENCES = f"""
    SELECT day, group_id, {", ".join(f"sum({name} * truth), sum({name} * NOT truth)" for name in SUMS)}
    FROM (
        SELECT 1 AS truth, substr(started_at, 1, 10) AS day, usage_groups.id AS group_id,
            {", ".join(f"{value} AS {name}" for name, value in zip(SUMS, values_of("usage"), strict=True))}
        FROM usage LEFT JOIN usage_groups ON {_same("usage")}
        UNION ALL
        SELECT 0, day, group_id, {", ".join(SUMS)} FROM usage_days
    )
    GROUP BY 1, 2
    HAVING {" OR ".join(f"sum({name} * truth) != sum({name} * NOT truth)" for name in SUMS)}
"""  # noqa: S608 - constants alone


def differences(db: sqlite3.Connection) -> Iterator[tuple[str, int | None, str, int, int]]:
    """(day, group, measure, what the rows amount to, what the roll-up says) wherever they differ."""
    for day, group, *pairs in db.execute(_DIFFERENCES):
        for place, name in enumerate(SUMS):
            true, kept = pairs[2 * place], pairs[2 * place + 1]
            if true != kept:
                yield day, group, name, true, kept


def drop_unused_groups(db: sqlite3.Connection) -> None:
    """Forget the groups that no day refers to any more."""
    db.execute("DELETE FROM usage_groups WHERE id NOT IN (SELECT group_id FROM usage_days)")
