from contextlib import closing
from pathlib import Path

from gproxy.ledger.bulk import Entry
from gproxy.ledger.schema import STEPS
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store
from tests.ledger.rows import record


def test_no_step_has_the_name_of_another() -> None:
    assert len({name for name, _ in STEPS}) == len(STEPS)


def test_spend_that_older_rows_do_not_explain_is_noted_when_adjustments_begin(tmp_path: Path) -> None:
    """So that a store which was kept for long before there were adjustments adds up."""
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    store.run([Entry(record("a", user="a", key_id="k", cost_nano=70))])
    store.close()
    with closing(connect(path)) as db:
        db.execute("DROP TABLE spend_adjustments")
        db.execute(
            "INSERT INTO spend VALUES ('user/a', 'total', 100, 0), ('user/a', '2026-11-25', 50, 0), "
            "('user/a', '2026-11', 70, 0), ('key/k', 'total', 70, 0), ('key/gone', 'total', 3, 0)"
        )
        for statement in dict(STEPS)["adjustments"]:
            db.execute(statement)
        found = db.execute("SELECT scope, period, reason, delta_nano FROM spend_adjustments").fetchall()
    assert set(found) == {
        ("user/a", "total", "earlier", 30),
        ("user/a", "2026-11-25", "earlier", -20),
        ("key/gone", "total", "earlier", 3),
    }


def test_a_row_has_an_index_by_its_request_and_one_by_its_time(tmp_path: Path) -> None:
    open_store(tmp_path / "gproxy.db").close()
    with closing(connect(tmp_path / "gproxy.db")) as db:
        indexed = [
            [column for _, _, column in db.execute(f"PRAGMA index_info({name})")]
            for _, name, *_ in db.execute("PRAGMA index_list(usage)")
        ]
    assert sorted(indexed) == [["request_id"], ["started_at"]]
