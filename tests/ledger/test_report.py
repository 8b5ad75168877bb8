from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger.bulk import Entry
from gproxy.ledger.report import DIMENSIONS, MEASURES, Filters, Report, report
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.when import stamp
from gproxy.values import Record, Usage
from tests.ledger.rows import record

START = datetime(2026, 11, 25, 22, 30, tzinfo=UTC)


def written(path: Path, *records: Record) -> Path:
    store = open_store(path)
    assert not any(store.run([Entry(row) for row in records]))
    store.close()
    return path


def as_dicts(it: Report) -> list[dict[str, Any]]:
    return [dict(zip(it.columns, row, strict=True)) for row in it.rows]


def totals(it: Report) -> dict[str, Any]:
    return dict(zip(MEASURES, it.totals, strict=True))


def nano(dollars: float | None) -> int:
    return round((dollars or 0) * 1e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(
        tmp_path / "gproxy.db",
        record(
            "1",
            started_at=stamp(START),
            usage=Usage(100, 50, 30, 20, 5, 40),
            cost_nano=2_000_000_000,
            alias="fast",
            requested_model="fast",
        ),
        record("2", started_at=stamp(START + timedelta(hours=1)), user="bob", cost_nano=100, key_label=""),
        record("3", started_at=stamp(START + timedelta(hours=2)), model="small", cost_nano=3_000_000_000),
        record("4", started_at=stamp(START + timedelta(hours=2)), model="local", cost_nano=None),
        record(
            "5",
            started_at=stamp(START + timedelta(hours=3)),
            status=502,
            model=None,
            provider=None,
            usage=Usage(),
            cost_nano=None,
            usage_source="none",
        ),
        record(
            "6",
            started_at=stamp(START + timedelta(hours=3)),
            status=499,
            usage_source="estimated",
            cost_nano=1,
        ),
    )


def test_the_measures_sum_up_what_happened(path: Path) -> None:
    assert totals(report(path, by=())) == {
        "requests": 6,
        "errors": 2,
        "input_tokens": 148,
        "output_tokens": 62,
        "cache_read_tokens": 30,
        "cache_write_tokens": 20,
        "reasoning_tokens": 40,
        "total_tokens": 210,
        "cost_usd": 5.000000101,
        "extra_cost_usd": 0.0,
        "unpriced": 2,
        "estimated": 1,
        "cache_hit_share": 0.2027,
        "estimated_share": 0.1667,
    }


def test_groups_come_dearest_first_and_unpriced_last(path: Path) -> None:
    found = [(row["model"], row["cost_usd"]) for row in as_dicts(report(path, by=["model"]))]
    assert found == [("small", 3.0), ("large", 2.000000101), ("local", None), (None, None)]


def test_days_and_hours_come_in_their_order(path: Path) -> None:
    days = [(row["day"], row["requests"]) for row in as_dicts(report(path, by=["day"]))]
    assert days == [("2026-11-25", 2), ("2026-11-26", 4)]
    hours = [(row["hour"], row["user"]) for row in as_dicts(report(path, by=["hour", "user"]))]
    assert hours == [
        ("2026-11-25T22:00Z", "alice"),
        ("2026-11-25T23:00Z", "bob"),
        ("2026-11-26T00:00Z", "alice"),
        ("2026-11-26T01:00Z", "alice"),
    ]


def test_a_key_is_named_by_its_user_and_label_or_else_id(path: Path) -> None:
    assert {row["key"] for row in as_dicts(report(path, by=["key"]))} == {"alice/laptop", "bob/k1"}


def test_any_groups_can_be_combined_and_their_sums_are_the_totals(path: Path) -> None:
    it = report(path, by=list(DIMENSIONS))
    assert it.columns == (*DIMENSIONS, *MEASURES)
    assert sum(row["requests"] for row in as_dicts(it)) == totals(it)["requests"] == 6


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        ({"since": START + timedelta(hours=2)}, 4),
        ({"until": START + timedelta(hours=2)}, 2),
        ({"since": START + timedelta(hours=1), "until": START + timedelta(hours=3)}, 3),
        ({"user": "bob"}, 1),
        ({"user": "b%"}, 0),
        ({"user": "' OR 1=1 --"}, 0),
        ({"model": "small"}, 1),
        ({"model": "fast"}, 1),
        ({"model": "main/large"}, 5),
        ({"model": "large", "user": "alice"}, 2),
    ],
)
def test_filters_are_exact_and_since_is_in_while_until_is_out(
    path: Path, filters: dict[str, Any], requests: int
) -> None:
    assert totals(report(path, by=["user"], filters=Filters(**filters)))["requests"] == requests


def test_what_cannot_be_grouped_by_is_refused(path: Path) -> None:
    with pytest.raises(
        ValueError, match="'request_id; DROP TABLE usage' is nothing to group by: choose from model"
    ):
        report(path, by=["model", "request_id; DROP TABLE usage"])


def test_a_store_that_does_not_exist_is_an_empty_report_and_is_not_made(tmp_path: Path) -> None:
    it = report(tmp_path / "gproxy.db", by=["model"])
    assert it.columns == ("model", *MEASURES)
    assert (it.rows, set(it.totals)) == ((), {0, None})
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_rows_has_nothing_to_sum(tmp_path: Path) -> None:
    it = report(written(tmp_path / "gproxy.db"), by=["model"])
    assert (it.rows, totals(it)["requests"], totals(it)["cost_usd"]) == ((), 0, None)


def test_a_database_that_is_no_usage_store_is_said_to_be_none(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "gproxy.db")) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreError, match="cannot be read as a usage store"):
        report(tmp_path / "gproxy.db", by=["model"])


def test_a_report_reads_beside_a_writer_and_waits_for_no_lock(path: Path) -> None:
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert totals(report(path, by=()))["requests"] == 6
        other.execute("ROLLBACK")


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Store]]:
    path = tmp_path_factory.mktemp("ledger") / "gproxy.db"
    store = open_store(path)
    yield path, store
    store.close()


@settings(deadline=None)  # an example is a transaction on a disk
@given(
    data=st.lists(
        st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 10**15), st.integers(0, 10**12)),
        max_size=30,
    )
)
def test_sums_are_exact_to_the_nano_dollar_and_rows_sum_to_the_totals(
    shared_store: tuple[Path, Store], data: list[tuple[str, int | None, int]]
) -> None:
    path, store = shared_store
    store._connection.execute("DELETE FROM usage")
    store.run(
        [
            Entry(record(str(number), model=model, cost_nano=cost, usage=Usage(input_tokens=tokens)))
            for number, (model, cost, tokens) in enumerate(data)
        ]
    )
    it = report(path, by=["model"])
    rows = as_dicts(it)
    for name in MEASURES:
        if name == "cost_usd" or name.endswith("share"):
            continue
        assert sum(row[name] for row in rows) == totals(it)[name]
    for row in rows:
        # A float of this size holds the sum to within its own last place, which is below a nano-dollar's half.
        exact = sum(cost or 0 for model, cost, _ in data if model == row["model"])
        assert row["cost_usd"] == exact / 1e9 or (row["cost_usd"] is None and exact == 0)
    exact = sum(cost or 0 for _, cost, _ in data)
    assert (totals(it)["cost_usd"] or 0) == exact / 1e9
    assert totals(it)["input_tokens"] == sum(tokens for _, _, tokens in data)


@settings(deadline=None, max_examples=150)
@given(
    begun=st.lists(st.integers(0, 4 * 86_400_000), max_size=20),
    span=st.tuples(st.none() | st.integers(0, 96), st.none() | st.integers(0, 96)),
    by=st.sampled_from([(), ("day",), ("user",), ("hour",), ("day", "model")]),
)
def test_a_span_holds_the_same_rows_whether_days_are_whole_or_not(
    shared_store: tuple[Path, Store],
    begun: list[int],
    span: tuple[int | None, int | None],
    by: tuple[str, ...],
) -> None:
    path, store = shared_store
    store._connection.execute("DELETE FROM usage")
    moments = [START + timedelta(milliseconds=ms // 1_800_000 * 1_800_000) for ms in begun]
    store.run(
        [Entry(record(str(n), started_at=stamp(moment), cost_nano=1)) for n, moment in enumerate(moments)]
    )
    since, until = (None if hours is None else START + timedelta(hours=hours) for hours in span)
    within = [m for m in moments if (since is None or m >= since) and (until is None or m < until)]
    it = report(path, by=by, filters=Filters(since=since, until=until))
    assert totals(it)["requests"] == len(within)
    if by == ("day",):
        assert {row[0]: row[1] for row in it.rows} == Counter(stamp(moment)[:10] for moment in within)


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00", "0001-01-01T12:00:00", "9999-12-31T12:00:00"])
def test_a_span_may_begin_or_end_at_the_edges_of_time(path: Path, edge: str) -> None:
    moment = datetime.fromisoformat(edge).replace(tzinfo=UTC)
    everything = totals(report(path, by=["model"]))["requests"]
    early = moment < START
    since = report(path, by=["model"], filters=Filters(since=moment))
    until = report(path, by=["model"], filters=Filters(until=moment))
    assert totals(since)["requests"] == (everything if early else 0)
    assert totals(until)["requests"] == (0 if early else everything)
