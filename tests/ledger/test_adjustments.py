from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gproxy.ledger.adjustments import PRUNED, REPRICED, RowChange, adjust, adjust_rows, forget
from gproxy.ledger.sqlite import connect, sqlite3
from gproxy.ledger.store import open_store

AT = "2026-11-25T12:00:00.000Z"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    open_store(tmp_path / "gproxy.db").close()
    with closing(connect(tmp_path / "gproxy.db")) as it:
        yield it


def noted(db: sqlite3.Connection) -> dict[tuple[str, str], int]:
    query = "SELECT scope, period, sum(delta_nano) FROM spend_adjustments GROUP BY 1, 2"
    return {(scope, period): delta for scope, period, delta in db.execute(query)}


def test_deltas_of_one_reason_and_time_are_added_up_and_others_kept_apart(db: sqlite3.Connection) -> None:
    adjust(db, "user/a", "total", PRUNED, 5, AT)
    adjust(db, "user/a", "total", PRUNED, 7, AT)
    adjust(db, "user/a", "total", REPRICED, -2, AT)
    adjust(db, "user/a", "total", REPRICED, 0, "2026-11-26T12:00:00.000Z")
    rows = db.execute("SELECT reason, at, delta_nano FROM spend_adjustments").fetchall()
    assert rows == [(PRUNED, AT, 12), (REPRICED, AT, -2)]


def test_changed_rows_are_noted_for_user_and_key_in_total_and_in_days_and_months_that_have_not_ended(
    db: sqlite3.Connection,
) -> None:
    db.execute(
        "INSERT INTO spend VALUES ('user/a', '2026-11', 9, 0), ('user/a', 'total', 9, 0), "
        "('user/a', '2026-11-26', 9, 0), ('key/k', '2026-12', 9, 0), ('key/l', '2026-10-25', 9, 0)"
    )
    changes = [
        RowChange("a", "k", AT, 4),
        RowChange("a", "k", "2026-11-25T23:59:59.999Z", 1),
        RowChange("a", "l", "2026-10-25T12:00:00.000Z", -2),
    ]
    adjust_rows(db, changes, PRUNED, AT)
    assert noted(db) == {
        ("user/a", "total"): 3,
        ("user/a", "2026-11"): 5,
        ("key/k", "total"): 5,
        ("key/k", "2026-11-25"): 5,
        ("key/l", "total"): -2,
        ("key/l", "2026-10"): -2,
        ("key/l", "2026-10-25"): -2,
    }


def test_changes_that_cancel_out_leave_nothing(db: sqlite3.Connection) -> None:
    adjust_rows(db, [RowChange("a", "k", AT, 4), RowChange("a", "k", AT, -4)], REPRICED, AT)
    assert noted(db) == {}


def test_days_go_with_days_and_months_with_months(db: sqlite3.Connection) -> None:
    for period in ("total", "2026-10", "2026-11", "2026-11-24", "2026-11-25"):
        adjust(db, "user/a", period, PRUNED, 1, AT)
    adjust(db, "user/b", "2026-11-24", PRUNED, 1, AT)
    forget(db, "user/a", "2026-11-25")
    assert ("user/a", "2026-11-24") not in noted(db)
    forget(db, "user/a", "2026-11")
    assert set(noted(db)) == {
        ("user/a", "total"),
        ("user/a", "2026-11"),
        ("user/a", "2026-11-25"),
        ("user/b", "2026-11-24"),
    }
