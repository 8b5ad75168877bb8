from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gproxy.ledger import rollup
from gproxy.ledger.bulk import Entry
from gproxy.ledger.rows import COLUMNS, COUNTS, DETAILS, INSERT, MOST_TOKENS, NULL, details_of, line_of
from gproxy.ledger.schema import STEPS
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.store import open_store
from gproxy.values import Usage
from tests.ledger.rows import record


@settings(deadline=None)
@given(st.integers(0, 10**15))
def test_nano_dollars_come_back_from_dollars_exactly(nano: int) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for statements in dict(STEPS)["usage"]:
            db.execute(statements)
        db.execute(INSERT, line_of(record("req-1", cost_nano=nano))[0])
        ((cost_usd,),) = db.execute("SELECT cost_usd FROM usage")
    assert cost_usd == nano / 1e9
    assert round(cost_usd * 1e9) == nano


def test_a_row_has_every_column(tmp_path: Path) -> None:
    store = open_store(tmp_path / "gproxy.db")
    of_table = {name for _, name, *_ in store.ask("PRAGMA table_info(usage)", ())}
    store.close()
    assert sorted(COLUMNS) == sorted(of_table - {"id"})


def test_each_value_of_a_record_is_in_the_column_of_its_name(tmp_path: Path) -> None:
    told: dict[str, Any] = dict(zip(TEXTS, TEXTS, strict=True))
    told |= {"status": 2, "attempts": 3, "latency_ms": 4, "ttft_ms": 5, "stream": True, "maybe_billed": False}
    usage = Usage(**{it: place for place, it in enumerate(COUNTS, 10)})
    row = structs.replace(record("a"), usage=usage, cost_nano=5, extra_attempt_cost_nano=7, **told)
    store = open_store(tmp_path / "gproxy.db")
    assert store.run([Entry(row)]) == [None]
    ((*found,),) = store.ask(f"SELECT {', '.join(COLUMNS)} FROM usage", ())  # noqa: S608 - our own names
    store.close()
    counts = {it: getattr(usage, it) for it in COUNTS} | {"total_tokens": usage.total_tokens}
    costs = {"cost_usd": 5e-9, "extra_attempt_cost_usd": 7e-9}
    assert dict(zip(COLUMNS, found, strict=True)) == told | counts | costs


TEXTS = (
    *("request_id", "started_at", "user", "key_label", "key_id", "requested_model", "dialect", "route"),
    *("outcome", "usage_source", "provider", "credential", "model", "alias", "price_source", "error"),
)
edges = st.sampled_from([0, 2**38 - 1, 2**38, 2**39, MOST_TOKENS, MOST_TOKENS + 1])


@given(
    st.lists(
        st.none() | edges | st.integers(-5, 100_000) | st.integers(-(10**30), 10**30), min_size=6, max_size=6
    )
)
def test_any_count_of_an_upstream_fits_its_column_and_is_kept_where_it_does(counts: list[int | None]) -> None:
    usage = Usage(**dict(zip(COUNTS, counts, strict=True)))
    row, details = line_of(record("req-1", usage=usage))
    assert details is None
    for name in (*COUNTS, "total_tokens"):
        count = getattr(usage, name)
        fits = None if count is None else min(max(count, 0), MOST_TOKENS)
        kept = row[COLUMNS.index(name)]
        assert (None if kept == NULL else kept) == fits


@given(st.sampled_from(DETAILS), st.integers(1, 100))
def test_one_detail_is_enough_to_be_kept(name: str, count: int) -> None:
    usage = Usage(**{name: count})
    kept = details_of(usage)
    assert kept == (None, *[count if it == name else None for it in DETAILS])
    assert line_of(record("req-1", usage=usage))[1] == kept


def test_details_are_kept_where_there_is_more_than_a_count_of_nothing() -> None:
    assert details_of(Usage(input_tokens=5, input_audio_tokens=0)) is None
    _, details = line_of(record("req-1", usage=Usage(service_tier="flex", tool_tokens=5)))
    assert details == details_of(Usage(service_tier="flex")) == ("flex", *[None] * len(DETAILS))
    assert details_of(Usage(web_searches=2)) == (None, *[None] * (len(DETAILS) - 1), 2)


def test_what_is_not_known_is_null_in_the_store_and_nothing_of_it_zero_or_none(tmp_path: Path) -> None:
    store = open_store(tmp_path / "gproxy.db")
    of_nothing = record("a", usage=Usage(), cost_nano=None, extra_attempt_cost_nano=None, error=None)
    of_zero = record("b", usage=Usage(*[0] * 6), cost_nano=0, extra_attempt_cost_nano=0, error="")
    assert store.run([Entry(of_nothing), Entry(of_zero)]) == [None, None]
    names = f"{', '.join(COUNTS)}, total_tokens, cost_usd, extra_attempt_cost_usd, error"
    assert store.ask(f"SELECT {names} FROM usage ORDER BY id", ()) == [  # noqa: S608 - our own names
        (None,) * 10,
        (0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, ""),
    ]
    assert list(rollup.differences(store._connection)) == []
    store.close()
