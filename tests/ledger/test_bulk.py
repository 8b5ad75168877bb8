"""What several operations add is what each would have added by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger import rollup
from gproxy.ledger.bulk import MOST_SPENT_NANO, Bulk, Entry, Posting
from gproxy.ledger.rows import line_of
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.store import Store, open_store
from gproxy.values import Usage
from tests.ledger.rows import record

TABLES = ("usage", "usage_details", "usage_days", "usage_groups", "spend", "counters", "spend_adjustments")


class Adding(Posting):
    """One that calls `what` of a bulk, and counts how often it was written for good."""

    def __init__(self, what: str, *values: Any) -> None:
        self.what, self.values, self.times = what, values, 0

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        getattr(bulk, self.what)(*self.values)

    def committed(self) -> None:
        self.times += 1


def tables(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    order = "ORDER BY 1, 2"
    return {name: store._connection.execute(f"SELECT * FROM {name} {order}").fetchall() for name in TABLES}  # noqa: S608 - our own names


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    pair = open_store(tmp_path / "a.db"), open_store(tmp_path / "b.db")
    yield pair
    for store in pair:
        store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """For the property test, which clears them before each example."""
    folder = tmp_path_factory.mktemp("bulk")
    pair = open_store(folder / "a.db"), open_store(folder / "b.db")
    for store in pair:
        store._connection.execute("PRAGMA synchronous = OFF")
    yield pair
    for store in pair:
        store.close()


SCOPES, PERIODS = st.sampled_from(["user/a", "key/b"]), st.sampled_from(["total", "2026-11-24", "2026-11-25"])
NANO = st.integers(0, 10**15)
DAY = 20_782  # 2026-11-25
SLOTS = tuple(("user/a/*", "tpm", slot) for slot in range(3))
ADDED = st.one_of(
    st.tuples(
        st.just("add_row"),
        st.sampled_from([Usage(7, 2), Usage(3, service_tier="flex", web_searches=1), Usage()]),
        st.sampled_from([200, 429, 502]),
        st.none() | NANO,
        st.sampled_from(["2026-11-24T23:59:59.999Z", "2026-11-25T00:00:00.000Z"]),
        st.sampled_from(["upstream", "partial"]),
    ),
    st.tuples(
        st.just("correct"),
        st.sampled_from([(), SLOTS, SLOTS[:1], SLOTS[1:]]),
        st.integers(-70, 9),
    ),
    st.tuples(st.just("add_spend"), SCOPES, PERIODS, NANO, st.integers(-8, 10)),
    st.tuples(
        st.just("charge"),
        st.sampled_from([("user/a", "key/b"), ("key/b",)]),
        st.sampled_from([DAY - 1, DAY]),
        NANO,
    ),
    st.tuples(st.just("adjust"), SCOPES, PERIODS, st.just("midnight"), st.integers(1, 9), st.just("then")),
)


@settings(deadline=None, max_examples=60)  # an example writes two stores
@given(st.lists(ADDED, max_size=12), st.integers(0, 12))
@example([("correct", SLOTS, -1), ("charge", ("key/b",), DAY, 5)], 2)
def test_a_row_of_sums_is_what_each_by_itself_would_have_left(
    shared: tuple[Store, Store], added: list[tuple[Any, ...]], looked_at: int
) -> None:
    """Also where an operation in the midst looks at the store, so that what came before it is written first."""
    one, other = shared
    for store in shared:
        store._connection.executescript(
            "DELETE FROM usage; DELETE FROM usage_groups; DELETE FROM spend; DELETE FROM counters;"
            "DELETE FROM spend_adjustments"
        )
        store._connection.execute("INSERT INTO counters VALUES ('user/a/*', 'tpm', 1, 100)")
        for scope in ("user/a", "key/b"):  # a day that begins ends others, whichever comes first
            query = "INSERT INTO spend VALUES (?, ?, 100, 100)"
            store._connection.executemany(
                query, [(scope, at) for at in ("total", "2026-11-24", "2026-11-25")]
            )
    works = []
    for number, (what, *values) in enumerate(added):
        if what == "add_row":
            usage, status, cost, began, source = values
            row = record(
                str(number),
                usage=usage,
                status=status,
                cost_nano=cost,
                started_at=began,
                usage_source=source,
            )
            values = [line_of(row)]
        works.append(Adding(what, *values))
    outcomes = one.run([*works[:looked_at], count_rows, *works[looked_at:]])
    assert outcomes.count(None) == len(works)
    for work in works:
        assert other.run([work]) == [None]
    assert tables(one) == tables(other)
    assert list(rollup.differences(one._connection)) == []
    assert all(work.times == 2 for work in works)


@settings(deadline=None, max_examples=40)
@given(
    had=st.none() | st.integers(0, 9),
    counted=st.none() | st.integers(0, 9),
    corrected=st.lists(st.tuples(st.integers(0, 2), st.integers(-20, 9)), max_size=6),
)
@example(had=2, counted=None, corrected=[(0, -20), (0, 5), (1, 3)])
@example(had=2, counted=None, corrected=[(0, -20), (1, 5)])
def test_what_is_counted_and_corrected_in_one_commit_is_as_in_several(
    shared: tuple[Store, Store], had: int | None, counted: int | None, corrected: list[tuple[int, int]]
) -> None:
    one, other = shared
    for store in shared:
        store._connection.execute("DELETE FROM counters")
        if had is not None:
            store._connection.execute("INSERT INTO counters VALUES ('user/a/*', 'tpm', 1, ?)", (had,))
    works = [] if counted is None else [Adding("count", "user/a/*", "tpm", 1, counted)]
    slot, other_slot = ("user/a/*", "tpm", 1), ("user/a/*", "tpd", 1)
    plans = [(slot,), (other_slot, slot), (other_slot,)]
    works += [Adding("correct", plans[which], by) for which, by in corrected]
    assert one.run(works) == [None] * len(works)
    left = None if had is counted is None else (had or 0) + (counted or 0)
    for work in works:
        assert other.run([work]) == [None]
    for which, by in corrected:
        left = left if left is None or slot not in plans[which] else max(0, left + by)
    expected = [] if left is None else [("user/a/*", "tpm", 1, left)]
    assert tables(one)["counters"] == tables(other)["counters"] == expected


def test_what_is_counted_where_all_was_forgotten_is_not_corrected_by_what_was_before(
    stores: tuple[Store, Store],
) -> None:
    one, other = stores
    slots = [("user/a/*", "tpm", 1), ("user/a/*", "tpm", 99)]
    works = [
        *(Adding("count", *slot, 20) for slot in slots),
        Adding("correct", slots, -5),
        Adding("forget_beside", "user/a/*", "tpm", 90, 110),
        Adding("count", *slots[0], 7),
        Adding("correct", slots, -1),
    ]
    assert one.run(works) == [None] * len(works)
    for work in works:
        assert other.run([work]) == [None]
    expected = [(*slots[0], 6), (*slots[1], 14)]
    assert tables(one)["counters"] == tables(other)["counters"] == expected


def test_the_first_spend_of_a_day_ends_those_well_before_it_and_what_it_explains(
    stores: tuple[Store, Store],
) -> None:
    store, _ = stores
    store.run(
        [Adding("add_spend", "user/a", "2026-11-22", 5, 0), Adding("add_spend", "user/a", "2026-11", 5, 0)]
    )
    store.run([Adding("adjust", "user/a", "2026-11-22", "prune", 5, "then")])
    store.run([Adding("add_spend", "user/a", "2026-11-25", 7, 0)])
    assert tables(store)["spend"] == [("user/a", "2026-11", 5, 0), ("user/a", "2026-11-25", 7, 0)]
    assert tables(store)["spend_adjustments"] == []


def test_nothing_begins_by_giving_something_back(stores: tuple[Store, Store]) -> None:
    store, _ = stores
    store.run([Adding("add_spend", "user/a", "total", 0, -5), Adding("correct", [("user/a/*", "tpm", 0, 5)])])
    assert tables(store)["spend"] == tables(store)["counters"] == []


def test_spend_stays_within_an_integer_of_sqlite(stores: tuple[Store, Store]) -> None:
    store, _ = stores
    huge = [Adding("add_spend", "user/a", "total", MOST_SPENT_NANO, 0) for _ in range(3)]
    assert store.run(huge) == [None] * 3
    assert store.run(huge) == [None] * 3
    assert tables(store)["spend"] == [("user/a", "total", MOST_SPENT_NANO, 0)]


def test_what_is_refused_takes_nothing_with_it_and_is_not_told_that_it_was_written(
    stores: tuple[Store, Store],
) -> None:
    store, _ = stores
    twice = [Adding("add_row", line_of(record(name))) for name in "aab"]
    outcomes = store.run(twice)
    assert [isinstance(outcome, StoreError) for outcome in outcomes] == [False, True, False]
    assert [work.times for work in twice] == [1, 0, 1]
    assert [row[1] for row in tables(store)["usage"]] == ["a", "b"]
    assert list(rollup.differences(store._connection)) == []


def count_rows(db: sqlite3.Connection) -> Any:
    return db.execute("SELECT count(*) FROM usage").fetchone()


def test_what_looks_at_the_store_sees_what_came_before_it(stores: tuple[Store, Store]) -> None:
    store, _ = stores
    outcomes = store.run([Entry(record("a")), count_rows, Entry(record("b"))])
    assert outcomes == [None, (1,), None]


def test_a_group_that_another_process_has_dropped_is_made_again(stores: tuple[Store, Store]) -> None:
    store, _ = stores
    store.run([Entry(record("a"))])
    store.run([lambda db: db.execute("DELETE FROM usage"), rollup.drop_unused_groups])
    store.run([Entry(record("b"))])
    assert list(rollup.differences(store._connection)) == []
