"""Removes old rows of `usage`, step by step, and notes what spend they stood for. Spend stays as it was.

Request logs have a retention of their own, `retention.py`.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from gproxy.errors import StoreError
from gproxy.ledger.adjustments import PRUNED, RowChange, adjust_rows
from gproxy.ledger.retention import shrink
from gproxy.ledger.rollup import drop_unused_groups
from gproxy.ledger.rows import NANO
from gproxy.ledger.sqlite import connect_read_only, sqlite3
from gproxy.ledger.store import Store, Work, open_store
from gproxy.ledger.when import stamp

STEP_ROWS = 100
PAUSE_S = 0.01
"""After each step, for the server whose rows wait meanwhile."""

_DELETE = """
    DELETE FROM usage
    WHERE id IN (SELECT id FROM usage WHERE started_at < ? ORDER BY started_at LIMIT ?)
    RETURNING user, key_id, started_at, cost_usd
"""


@dataclass(frozen=True, slots=True)
class Old:
    """The rows of one user that started before a time: how many, their cost as far as it is known (None: not
    at all), and when the first and last began."""

    user: str
    rows: int
    cost_nano: int | None
    first: str
    last: str


def old_rows(path: Path, before: datetime) -> list[Old]:
    """What `prune` would remove, by user. Raises `StoreError`."""
    if not path.exists():
        return []
    query = """
        SELECT user, count(*), sum(CAST(round(cost_usd * 1e9) AS INTEGER)),
            min(started_at), max(started_at)
        FROM usage WHERE started_at < ? GROUP BY user ORDER BY user
    """
    try:
        with closing(connect_read_only(path)) as db:
            return [Old(*row) for row in db.execute(query, (stamp(before),))]
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read as a usage store ({error}): see `data_dir`.") from error


def prune(
    path: Path, before: datetime, now: datetime, told: Callable[[int], None] = lambda removed: None
) -> int:
    """Remove the rows that started before a time; returns how many. `told` hears how many are gone by then.

    Each step is a transaction of its own, with what it notes in `spend_adjustments`: what is broken off has done
    what it has done, and can be run again. Raises `StoreError`.
    """
    if not path.exists():
        return 0
    removed = 0
    with closing(open_store(path)) as store:
        while count := _do(store, partial(_step, before=stamp(before), at=stamp(now))):
            removed += count
            told(removed)
            time.sleep(PAUSE_S)
        _do(store, drop_unused_groups)
        while _do(store, shrink):
            time.sleep(PAUSE_S)
    return removed


def _step(db: sqlite3.Connection, before: str, at: str) -> int:
    rows = db.execute(_DELETE, (before, STEP_ROWS)).fetchall()
    changes = [
        RowChange(user, key_id, began, round((dollars or 0) * NANO)) for user, key_id, began, dollars in rows
    ]
    adjust_rows(db, changes, PRUNED, at)
    return len(rows)


def _do(store: Store, work: Work) -> int:
    (outcome,) = store.run([work])
    if isinstance(outcome, StoreError):
        raise outcome
    return int(outcome or 0)
