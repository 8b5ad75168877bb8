"""What keeps spend and rows comparable: each change of one without the other is noted in `spend_adjustments`.

For every scope, spend = the cost of its rows + its adjustments. Spend itself is never changed here: what was
enforced stays enforced. Who changes rows calls this inside the same transaction.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from gproxy.ledger.sqlite import sqlite3

PRUNED = "prune"
"""Rows were removed; their cost stays spent."""
REPRICED = "reprice"
"""Rows have another cost now than was charged."""
UNRECORDED = "unrecorded"
"""Charged while `enable_usage` was false, or the store refused the row: there is none. `at` is the midnight that
began the day."""
MIDNIGHT = "midnight"
"""The request came before midnight and was let through, and charged, after it."""

_ADJUST = """
    INSERT INTO spend_adjustments (scope, period, reason, at, delta_nano) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET delta_nano = delta_nano + excluded.delta_nano
"""
# Of days and months only the latest of a scope can still be compared. One that has no spend yet may get it.
_ENDED = """
    SELECT 1 FROM spend WHERE scope = ?1 AND period > ?2 AND length(period) = length(?2)
    AND NOT EXISTS (SELECT 1 FROM spend WHERE scope = ?1 AND period = ?2)
"""
_FORGET = """
    DELETE FROM spend_adjustments
    WHERE scope = :scope AND period < :period AND length(period) = length(:period)
"""


@dataclass(frozen=True, slots=True)
class RowChange:
    """What one row stood for is `delta_nano` less than before: what was removed, or old cost minus new cost."""

    user: str
    key_id: str
    started_at: str
    delta_nano: int


def adjust(db: sqlite3.Connection, scope: str, period: str, reason: str, delta_nano: int, at: str) -> None:
    """Note that the spend of a scope (`user/NAME`, `key/ID`) in a period (`total`, `2026-11-25`, `2026-11`) is
    `delta_nano` more than its rows tell. `at` is RFC 3339; of one reason and `at` the deltas are added up.
    """
    if delta_nano:
        db.execute(_ADJUST, (scope, period, reason, at, delta_nano))


def adjust_rows(db: sqlite3.Connection, changes: Iterable[RowChange], reason: str, at: str) -> None:
    """Note what changed rows stand for less, for their users and keys: in total, and in the days and months that
    have not ended for them."""
    deltas: dict[tuple[str, str], int] = defaultdict(int)
    for change in changes:
        for scope in (f"user/{change.user}", f"key/{change.key_id}"):
            for period in ("total", change.started_at[:10], change.started_at[:7]):
                deltas[scope, period] += change.delta_nano
    for (scope, period), delta in deltas.items():
        if delta and not db.execute(_ENDED, (scope, period)).fetchone():
            adjust(db, scope, period, reason, delta, at)


def forget(db: sqlite3.Connection, scope: str, before: str) -> None:
    """Drop the adjustments of a scope's days before the day `before`, or of its months before that month."""
    db.execute(_FORGET, {"scope": scope, "period": before})
