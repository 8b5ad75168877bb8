from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger import reprice as module
from gproxy.ledger.pricing import Price, Rates, Tier
from gproxy.ledger.reprice import Outcome, PriceAt, Selection, Sum, reprice
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store
from gproxy.ledger.when import stamp
from gproxy.values import Record, Usage
from tests.kit.reserving import Charging
from tests.ledger.rows import record

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ALL = Selection(since=NOON - timedelta(days=3650))
MILLION = Usage(input_tokens=1_000_000)


def price(nano_per_mtok: int, source: str = "config") -> Price:
    return Price(source, Rates((Tier(None, nano_per_mtok, nano_per_mtok, 0, 0, 0),)))


def always(new: Price | None) -> PriceAt:
    return lambda _provider, _model, _at: (new, None)


def charged(path: Path, *records: Record) -> None:
    """Rows whose cost was added to the spend as they were written, each as a server does it."""
    store = open_store(path)
    works = [
        Charging(
            (f"user/{row.user}", f"key/{row.key_id}"),
            datetime.fromisoformat(row.started_at).timestamp(),
            row.cost_nano,
            row,
        )
        for row in records
    ]
    assert store.run(works) == [None] * len(works)
    store.close()


def costs(path: Path) -> dict[str, tuple[float | None, str | None]]:
    with closing(connect(path)) as db:
        found = db.execute("SELECT request_id, cost_usd, price_source FROM usage").fetchall()
    return {name: (cost, source) for name, cost, source in found}


def unexplained(path: Path) -> dict[tuple[str, str], int]:
    """Spend less rows less adjustments, where that is not nothing."""
    rows = """
        SELECT coalesce(sum(CAST(round(cost_usd * 1e9) AS INTEGER)), 0) FROM usage
        WHERE ? IN ('user/' || user, 'key/' || key_id) AND (? = 'total' OR started_at LIKE ? || '%')
    """
    noted = "SELECT coalesce(sum(delta_nano), 0) FROM spend_adjustments WHERE scope = ? AND period = ?"
    left = {}
    with closing(connect(path)) as db:
        for scope, period, spent in db.execute("SELECT scope, period, spent_nano FROM spend").fetchall():
            (cost,) = db.execute(rows, (scope, period, period)).fetchone()
            (adjusted,) = db.execute(noted, (scope, period)).fetchone()
            left[scope, period] = spent - cost - adjusted
    return {key: nano for key, nano in left.items() if nano}


def spent(path: Path) -> list[Any]:
    with closing(connect(path)) as db:
        return db.execute("SELECT * FROM spend ORDER BY scope, period").fetchall()


def test_a_dry_run_says_what_would_change_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    charged(path, record("a", usage=MILLION, cost_nano=1000), record("b", usage=MILLION, cost_nano=3000))
    before = costs(path), spent(path)
    found = reprice(path, ALL, always(price(3000)), write=False, now=NOON)
    assert found == Outcome({("main", "large"): Sum(1, 0, 1000, 3000)})
    assert (costs(path), spent(path)) == before


def test_rows_change_and_spend_stays_and_the_difference_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    charged(
        path,
        record("a", usage=MILLION, cost_nano=1000),
        record("b", usage=MILLION, cost_nano=1000, user="bob", key_id="k2"),
        record("c", usage=MILLION, cost_nano=1000, started_at="2026-10-01T00:00:00.000Z"),
    )
    before = spent(path)
    found = reprice(path, ALL, always(price(2500)), write=True, now=NOON)
    assert found.sums == {("main", "large"): Sum(3, 0, 3000, 7500)}
    assert set(costs(path).values()) == {(2500 / 1e9, "config")}
    assert spent(path) == before
    assert unexplained(path) == {}
    with closing(connect(path)) as db:
        noted = db.execute(
            "SELECT scope, reason, at, delta_nano FROM spend_adjustments WHERE period = 'total'"
        )
        assert sorted(noted) == sorted(
            (scope, "reprice", stamp(NOON), delta)
            for scope, delta in (
                ("user/alice", -3000),
                ("key/k1", -3000),
                ("user/bob", -1500),
                ("key/k2", -1500),
            )
        )


def test_done_again_it_changes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    charged(path, record("a", usage=MILLION, cost_nano=1000))
    for expected in ({("main", "large"): Sum(1, 0, 1000, 7)}, {}):
        assert reprice(path, ALL, always(price(7)), write=True, now=NOON).sums == expected
    assert unexplained(path) == {}


@pytest.mark.parametrize(
    ("changes", "selection", "is_priced"),
    [
        ({}, ALL, True),
        ({}, Selection(since=NOON), True),
        ({}, Selection(since=NOON + timedelta(milliseconds=1)), False),
        ({}, replace(ALL, until=NOON), False),
        ({}, replace(ALL, until=NOON + timedelta(milliseconds=1)), True),
        ({}, replace(ALL, provider="main", model="large"), True),
        ({}, replace(ALL, model="main/large"), True),
        ({"alias": "fast"}, replace(ALL, model="fast"), True),
        ({}, replace(ALL, provider="other"), False),
        ({}, replace(ALL, model="small"), False),
        ({"price_source": "upstream"}, ALL, False),
        ({"price_source": "upstream"}, replace(ALL, reported=True), True),
        ({"cost_nano": None, "price_source": None}, ALL, True),
        ({"cost_nano": 0, "price_source": None, "status": 502}, ALL, False),
        ({"provider": None, "model": None, "cost_nano": None, "price_source": None}, ALL, False),
    ],
)
def test_rows_are_chosen_as_asked(
    tmp_path: Path, changes: dict[str, Any], selection: Selection, is_priced: bool
) -> None:
    path = tmp_path / "gproxy.db"
    charged(path, record("a", usage=MILLION, **changes))
    reprice(path, selection, always(price(77)), write=True, now=NOON)
    assert (costs(path)["a"][0] == 77 / 1e9) == is_priced
    assert unexplained(path) == {}


def test_rows_that_the_upstream_priced_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    charged(path, record("a", price_source="upstream"), record("b", price_source="upstream"), record("c"))
    assert reprice(path, ALL, always(price(1)), write=False, now=NOON).reported == 2
    assert reprice(path, replace(ALL, reported=True), always(price(1)), write=False, now=NOON).reported == 0


def test_a_row_without_a_price_now_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    charged(path, record("a", usage=MILLION, cost_nano=5), record("gone", provider="gone", cost_nano=6))
    known: PriceAt = lambda provider, _model, _at: None if provider == "gone" else (None, None)  # noqa: E731
    assert reprice(path, ALL, known, write=True, now=NOON) == Outcome(unknown=2)
    assert costs(path) == {"a": (5 / 1e9, "config"), "gone": (6 / 1e9, "config")}


def test_what_has_no_column_of_its_own_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    usage = Usage(input_tokens=1_000_000, service_tier="flex", web_searches=3)
    charged(path, record("a", usage=usage, cost_nano=1))
    ordinary = price(1000)
    new = replace(ordinary, classes={"flex": Rates(price(400).rates.tiers, per_search=10)})
    reprice(path, ALL, always(new), write=True, now=NOON)
    assert costs(path)["a"] == (430 / 1e9, "config")


def test_a_price_is_asked_for_at_the_time_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    charged(path, record("a", usage=MILLION, cost_nano=1))
    asked = []

    def price_at(*question: Any) -> tuple[Price, None]:
        asked.append(question)
        return price(1), None

    reprice(path, ALL, price_at, write=False, now=NOON)
    assert asked == [("main", "large", NOON.timestamp())]


class Killed(BaseException):
    pass


def test_a_run_that_is_killed_leaves_what_it_did_and_the_next_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP_ROWS", 4)
    path = tmp_path / "gproxy.db"
    charged(path, *(record(f"r{n}", usage=MILLION, cost_nano=1000 + n) for n in range(10)))

    def die(done: int, of: int) -> None:
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        reprice(path, ALL, always(price(2000)), write=True, now=NOON, told=die)
    assert sorted(costs(path).values()).count((2000 / 1e9, "config")) == 8
    assert unexplained(path) == {}
    found = reprice(path, ALL, always(price(2000)), write=True, now=NOON + timedelta(seconds=1))
    assert found.sums["main", "large"].rows == 2
    assert set(costs(path).values()) == {(2000 / 1e9, "config")}
    assert unexplained(path) == {}


def test_between_two_steps_others_write_and_what_they_changed_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP_ROWS", 2)
    path = tmp_path / "gproxy.db"
    charged(path, *(record(f"r{n}", usage=MILLION, cost_nano=1) for n in range(6)))
    heard = []

    def told(done: int, of: int) -> None:
        heard.append((done, of))
        with closing(connect(path)) as db:
            db.execute("PRAGMA busy_timeout = 0")
            db.execute("DELETE FROM usage WHERE request_id = 'r4'")
        charged(path, record(f"new{done}", usage=MILLION, cost_nano=1))

    found = reprice(path, ALL, always(price(9)), write=True, now=NOON, told=told)
    assert heard == [(2, 6), (4, 6), (6, 6)]
    assert found.sums["main", "large"].rows == 5
    assert costs(path)["new2"] == (1 / 1e9, "config")


def test_a_row_that_another_run_changed_meanwhile_is_not_changed_by_both(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    charged(path, record("a", usage=MILLION, cost_nano=1))

    def meanwhile(_provider: str, _model: str, _at: float) -> tuple[Price, None]:
        reprice(path, ALL, always(price(5)), write=True, now=NOON)
        return price(9), None

    assert reprice(path, ALL, meanwhile, write=True, now=NOON).sums == {}
    assert costs(path)["a"] == (5 / 1e9, "config")
    assert unexplained(path) == {}


def test_no_store_is_nothing_to_do_and_a_bad_one_is_said(tmp_path: Path) -> None:
    assert reprice(tmp_path / "none.db", ALL, always(price(1)), write=True, now=NOON) == Outcome()
    assert not (tmp_path / "none.db").exists()
    bad = tmp_path / "bad.db"
    bad.write_bytes(b"x" * 5000)
    for write in (False, True):
        with pytest.raises(StoreError):
            reprice(bad, ALL, always(price(1)), write=write, now=NOON)


records = st.builds(
    lambda number, user, day, tokens, cost: partial(
        record,
        user=user,
        key_id=f"k-{user}",
        started_at=f"2026-{10 + day % 2}-{day:02}T10:00:00.{number:03}Z",
        usage=Usage(input_tokens=tokens),
        cost_nano=cost,
        price_source=None if cost is None else "config",
    ),
    st.integers(0, 999),
    st.sampled_from(["alice", "bob"]),
    st.integers(1, 28),
    st.none() | st.integers(0, 10**7),
    st.none() | st.integers(0, 10**12),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(records, max_size=8), st.lists(st.integers(0, 10**10), min_size=1, max_size=3))
def test_after_any_prices_spend_is_rows_and_adjustments(
    tmp_path_factory: pytest.TempPathFactory, made: list[Callable[..., Record]], prices: list[int]
) -> None:
    path = tmp_path_factory.mktemp("reprice") / "gproxy.db"
    rows = [make(f"r{number}") for number, make in enumerate(made)]
    charged(path, *sorted(rows, key=lambda row: row.started_at))
    before = spent(path)
    for number, nano in enumerate(prices):
        reprice(path, ALL, always(price(nano)), write=True, now=NOON + timedelta(seconds=number))
    assert spent(path) == before
    assert unexplained(path) == {}
