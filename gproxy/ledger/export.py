"""Rows of `usage` as CSV or JSON lines, one after the other in constant memory.

Which rows is `report.py`'s `Filters`.
"""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from gproxy.errors import StoreError
from gproxy.ledger.report import Filters
from gproxy.ledger.sqlite import connect_read_only, sqlite3

FORMATS = ("csv", "jsonl")

COLUMNS = (
    "id",
    "request_id",
    "started_at",
    "user",
    "key_label",
    "key_id",
    "provider",
    "credential",
    "model",
    "requested_model",
    "alias",
    "dialect",
    "route",
    "stream",
    "status",
    "outcome",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "total_tokens",
    "usage_source",
    "cost_usd",
    "extra_attempt_cost_usd",
    "maybe_billed",
    "price_source",
    "latency_ms",
    "ttft_ms",
    "error",
)
"""All of the table `usage`."""

TOLD_ROWS = 5000
"""After so many rows each `told` hears of it."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def export(
    path: Path,
    filters: Filters,
    format: str,
    out: TextIO,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """Write the rows of the store at `path` to `out`, in the order of commits, all of one moment; returns how many.

    CSV has a header; an unknown value is an empty cell, text that a spreadsheet would take for a formula has a `'`
    before it, and a carriage return is a newline. A line of JSON has every column by name, null where it is
    unknown, text as it is. `told` hears how many of how many are written. Raises `StoreError`, and OSError of `out`.
    """
    write = _csv(out) if format == "csv" else _jsonl(out)
    if not path.exists():
        return 0
    done = 0
    try:
        with closing(connect_read_only(path)) as db:
            db.execute("BEGIN")
            where, values = filters.where()
            of = db.execute(f"SELECT count(*) FROM usage WHERE {where}", values).fetchone()[0]  # noqa: S608 - constants
            for done, row in enumerate(_rows(db, where, values), 1):
                write(row)
                if done % TOLD_ROWS == 0:
                    told(done, of)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read as a usage store ({error}): see `data_dir`.") from error
    return done


def _rows(db: sqlite3.Connection, where: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    # In the order of the table itself: through an index all would have to be sorted first.
    query = f"SELECT {', '.join(COLUMNS)} FROM usage NOT INDEXED WHERE {where} ORDER BY id"  # noqa: S608 - constants
    return db.execute(query, values)


def _csv(out: TextIO) -> Callable[[tuple[Any, ...]], object]:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    return lambda row: writer.writerow([harmless(value) for value in row])


def _jsonl(out: TextIO) -> Callable[[tuple[Any, ...]], object]:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    return lambda row: out.write(encode(dict(zip(COLUMNS, row, strict=True))) + "\n")


def harmless(value: Any) -> Any:
    """A value as it stands in CSV: text that a spreadsheet would take for a formula has a `'` before it."""
    if not isinstance(value, str):
        return value
    # The writer leaves a bare carriage return unquoted, and readers take it for the end of the row.
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if value.startswith(_FORMULA) else text
