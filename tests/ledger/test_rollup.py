from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger import rollup
from gproxy.ledger.bulk import Entry
from gproxy.ledger.schema import STEPS
from gproxy.ledger.sqlite import connect, sqlite3
from gproxy.ledger.store import Store, open_store
from gproxy.values import Usage
from tests.ledger.rows import record

ROWS = [
    record("a", cost_nano=5, usage=Usage(10, 2, 3)),
    record("b", cost_nano=7, alias="fast", extra_attempt_cost_nano=2),
    record("c", cost_nano=None, provider=None, model=None, status=502, outcome="upstream_error"),
    record("d", cost_nano=1, started_at="2026-11-26T00:00:00.000Z", usage_source="estimated"),
    record("e", cost_nano=2, usage=Usage()),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "gproxy.db")
    assert not any(store.run([Entry(row) for row in ROWS]))
    return store


def differences(store: Store) -> list[tuple[str, int | None, str, int, int]]:
    return list(rollup.differences(store._connection))


def days(store: Store) -> list[tuple[int, ...]]:
    query = (
        "SELECT sum(requests), sum(errors), sum(cost_nano), sum(extra_nano), sum(unpriced), sum(estimated)"
    )
    return store._connection.execute(f"{query} FROM usage_days GROUP BY day ORDER BY day").fetchall()


def test_rows_are_summed_up_by_day_and_group_as_they_are_written(store: Store) -> None:
    assert days(store) == [(4, 1, 14, 2, 1, 0), (1, 0, 1, 0, 0, 1)]
    assert store._connection.execute("SELECT count(*) FROM usage_groups").fetchone() == (3,)
    assert differences(store) == []


def test_a_row_that_changes_or_goes_takes_its_part_along(store: Store) -> None:
    db = store._connection
    db.execute("UPDATE usage SET cost_usd = 1e-9 WHERE request_id = 'c'")
    db.execute(
        "UPDATE usage SET started_at = '2026-11-27T00:00:00.000Z', user = 'bob' WHERE request_id = 'a'"
    )
    assert days(store) == [(3, 1, 10, 2, 0, 0), (1, 0, 1, 0, 0, 1), (1, 0, 5, 0, 0, 0)]
    db.execute("DELETE FROM usage WHERE request_id IN ('a', 'd')")
    assert days(store) == [(3, 1, 10, 2, 0, 0)]
    assert differences(store) == []


def test_a_row_that_is_refused_leaves_nothing_in_the_roll_up(store: Store) -> None:
    store.run([Entry(record("a", cost_nano=99))])
    assert differences(store) == []


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE usage_days SET cost_nano = cost_nano + 1",
        "DELETE FROM usage_days WHERE day = '2026-11-26'",
        "INSERT INTO usage_days SELECT '2026-11-30', group_id, 1,1,1,1,1,1,1,1,1,1,1,1 FROM usage_days LIMIT 1",
        "UPDATE usage_groups SET user = 'mallory' WHERE id = 1",
        "INSERT INTO usage_groups SELECT 9, user, key_label, key_id, provider, credential, model, requested_model, "
        "alias, dialect, status FROM usage_groups WHERE id = 1",
    ],
)
def test_what_does_not_agree_is_found(store: Store, tampering: str) -> None:
    store._connection.execute(tampering)
    assert differences(store)


def test_the_migration_sums_up_the_rows_there_are_as_they_would_have_been(
    tmp_path: Path, store: Store
) -> None:
    whole = days(store)
    db = store._connection
    db.executescript(
        "DROP VIEW daily_cost; DROP VIEW monthly_cost;"
        "DROP TRIGGER usage_days_update;"
        "DROP TRIGGER usage_days_delete; DROP TABLE usage_days; DROP TABLE usage_groups"
    )
    for statement in dict(STEPS)["rollup"]:
        db.execute(statement)
    assert days(store) == whole
    assert differences(store) == []


def test_groups_that_no_day_refers_to_are_dropped(store: Store) -> None:
    db = store._connection
    db.execute("DELETE FROM usage WHERE request_id = 'b'")
    rollup.drop_unused_groups(db)
    assert db.execute("SELECT count(*) FROM usage_groups").fetchone() == (2,)
    assert differences(store) == []


def fail(db: sqlite3.Connection) -> None:
    raise sqlite3.OperationalError("disk I/O error")


@settings(deadline=None, max_examples=40)  # an example is a store on a disk
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(["insert", "insert", "insert", "delete", "reprice", "drop", "undo"]),
            st.integers(0, 1),
            st.integers(0, 1),
            st.sampled_from(["a", "b", "c"]),
            st.none() | st.integers(0, 10**15),
        ),
        max_size=25,
    )
)
def test_the_roll_up_is_what_the_rows_amount_to_whatever_happens_and_whoever_does_it(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int, str, int | None]]
) -> None:
    path = tmp_path_factory.mktemp("rollup") / "gproxy.db"
    stores = open_store(path), open_store(path)
    for number, (what, who, day, user, cost) in enumerate(changes):
        store, started_at = stores[who], f"2026-11-0{day + 1}T00:00:00.000Z"
        row = record(str(number), user=user, started_at=started_at, cost_nano=cost)
        if what == "insert":
            assert store.run([Entry(row)]) == [None]
        elif what == "undo":
            with pytest.raises(StoreError):
                store.run([Entry(row), fail])
        elif what == "delete":
            store.run([lambda db, at=started_at: db.execute("DELETE FROM usage WHERE started_at = ?", (at,))])
        elif what == "drop":
            store.run([rollup.drop_unused_groups])
        else:
            dollars = None if cost is None else cost / 1e9
            store.run(
                [lambda db, to=dollars: db.execute("UPDATE usage SET cost_usd = ? WHERE id % 2", (to,))]
            )
    with closing(connect(path)) as db:
        assert list(rollup.differences(db)) == []
    for store in stores:
        store.close()
