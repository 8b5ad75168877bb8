from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gproxy.ledger.bulk import Entry
from gproxy.ledger.latency import Latencies
from gproxy.ledger.report import LATENCY, report
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.store import open_store
from tests.ledger.rows import record


def read(rows: list[tuple[str, int, int | None]]) -> Latencies:
    times = Latencies()
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (a, b, c)")
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        times.read(db, "SELECT a, b, c FROM t", {})
    return times


def test_percentiles_are_times_that_were_measured() -> None:
    times = read([("x", n, None) for n in range(1, 101)] + [("y", 7, 3)])
    assert times.of(("x",)) == (50, 95, None, None)
    assert times.of(("y",)) == (7, 7, 3, 3)
    assert times.of(("z",)) == (None, None, None, None)
    assert times.of_all() == (50, 95, 3, 3)


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_so_many_percent_took_no_longer_and_the_rest_no_less(measured: list[int]) -> None:
    p50, p95, *_ = read([("x", n, None) for n in measured]).of_all()
    for percent, value in ((50, p50), (95, p95)):
        assert value is not None
        assert sum(n <= value for n in measured) * 100 >= percent * len(measured)
        assert sum(n < value for n in measured) * 100 < percent * len(measured)


def test_a_report_has_them_by_group_and_in_all_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    store.run(
        [
            Entry(record("1", latency_ms=10, ttft_ms=4)),
            Entry(record("2", latency_ms=30, model="small")),
            Entry(record("3", latency_ms=20, user="bob", started_at="2026-11-26T01:00:00.000Z")),
        ]
    )
    store.close()
    it = report(path, by=["model", "hour"], latency=True)
    assert it.columns[-4:] == LATENCY
    assert {(row[0], row[1], *row[-4:]) for row in it.rows} == {
        ("large", "2026-11-25T12:00Z", 10, 10, 4, 4),
        ("small", "2026-11-25T12:00Z", 30, 30, None, None),
        ("large", "2026-11-26T01:00Z", 20, 20, None, None),
    }
    assert it.totals[-4:] == (20, 30, 4, 4)
