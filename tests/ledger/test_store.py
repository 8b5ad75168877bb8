import multiprocessing
import re
import sqlite3 as stdlib_sqlite
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from gproxy.errors import RowRefused, StoreError
from gproxy.ledger.adjustments import adjust
from gproxy.ledger.bulk import Entry
from gproxy.ledger.rows import DETAILS
from gproxy.ledger.sqlite import connect, sqlite3
from gproxy.ledger.store import open_store
from gproxy.ledger.verify import verify
from gproxy.values import Usage
from tests.kit.reserving import Charging
from tests.ledger.rows import record

COLUMNS = re.split(
    r",\s+",
    """id, request_id, started_at, user, key_label, key_id, provider, credential, model, requested_model,
    alias, dialect, route, stream, status, outcome, attempts, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, cache_write_1h_tokens, reasoning_tokens, total_tokens, usage_source, cost_usd,
    extra_attempt_cost_usd, maybe_billed, price_source, latency_ms, ttft_ms, error""",
)
"""The contract: the columns of the table `usage`, in order."""


def rows_of(path: Path) -> list[dict[str, object]]:
    """As a user reads them, with the sqlite3 of the standard library."""
    with closing(stdlib_sqlite.connect(path)) as connection:
        cursor = connection.execute("SELECT * FROM usage ORDER BY id")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def test_the_columns_are_the_contracts_in_its_order(tmp_path: Path) -> None:
    open_store(tmp_path / "gproxy.db").close()
    with closing(connect(tmp_path / "gproxy.db")) as connection:
        assert [row[1] for row in connection.execute("PRAGMA table_info(usage)")] == COLUMNS


def test_every_field_of_a_record_stands_in_its_column(tmp_path: Path) -> None:
    usage = Usage(
        input_tokens=100,
        output_tokens=50,
        cache_read_tokens=30,
        cache_write_tokens=20,
        cache_write_1h_tokens=5,
        reasoning_tokens=40,
    )
    full = structs.replace(
        record("req-7", usage=usage, stream=True, status=502, outcome="upstream_error", alias="fast"),
        usage_source="partial",
        cost_nano=1_000_000_001,
        extra_attempt_cost_nano=7,
        maybe_billed=True,
        ttft_ms=11,
        error="two attempts failed",
        attempts=2,
    )
    store = open_store(tmp_path / "gproxy.db")
    assert store.run([Entry(full)]) == [None]
    store.close()
    assert rows_of(tmp_path / "gproxy.db") == [
        {
            "id": 1,
            "request_id": "req-7",
            "started_at": "2026-11-25T12:00:00.000Z",
            "user": "alice",
            "key_label": "laptop",
            "key_id": "k1",
            "provider": "main",
            "credential": "main#1",
            "model": "large",
            "requested_model": "main/large",
            "alias": "fast",
            "dialect": "openai_chat",
            "route": "aggregated",
            "stream": 1,
            "status": 502,
            "outcome": "upstream_error",
            "attempts": 2,
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_tokens": 30,
            "cache_write_tokens": 20,
            "cache_write_1h_tokens": 5,
            "reasoning_tokens": 40,
            "total_tokens": 150,
            "usage_source": "partial",
            "cost_usd": 1.000000001,
            "extra_attempt_cost_usd": 7e-9,
            "maybe_billed": 1,
            "price_source": "config",
            "latency_ms": 20,
            "ttft_ms": 11,
            "error": "two attempts failed",
        }
    ]


def test_what_has_no_column_of_the_contract_is_kept_beside_the_row_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    counts = {name: number for number, name in enumerate(DETAILS, 1)}
    store = open_store(path)
    works = [
        Entry(record("plain", usage=Usage(input_tokens=1, input_audio_tokens=0))),
        Entry(record("rich", usage=Usage(input_tokens=9, service_tier="flex", **counts))),
        Entry(record("tier", usage=Usage(service_tier="priority"))),
    ]
    assert store.run(works) == [None] * 3
    with closing(connect(path)) as db:
        kept = "SELECT d.* FROM usage_details d JOIN usage ON id = usage_id ORDER BY id"
        assert [row[1:] for row in db.execute(kept)] == [
            ("flex", *counts.values()),
            ("priority", *[None] * len(counts)),
        ]
        names = [row[1] for row in db.execute("PRAGMA table_info(usage_details)")]
        assert names == ["usage_id", "service_tier", *DETAILS]
        db.execute("DELETE FROM usage WHERE request_id = 'rich'")
        assert db.execute("SELECT count(*) FROM usage_details").fetchone() == (1,)
    store.close()


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    store = open_store(tmp_path / "gproxy.db")
    store.run([Entry(record("req-1", usage=Usage(), usage_source="none", cost_nano=None, price_source=None))])
    store.close()
    (row,) = rows_of(tmp_path / "gproxy.db")
    unknown = [name for name in COLUMNS if row[name] is None]
    assert {"input_tokens", "output_tokens", "total_tokens", "cost_usd", "ttft_ms", "error"} <= set(unknown)


def test_a_row_that_is_refused_takes_no_other_with_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "gproxy.db")
    records = [
        *(record(name) for name in ("a", "b", "a")),
        record("bad", model="\ud800"),
        record("c", latency_ms=2**70),
        record("d"),
    ]
    outcomes = store.run([Entry(row) for row in records])
    store.close()
    assert [outcome is None for outcome in outcomes] == [True, True, False, False, False, True]
    assert "UNIQUE" in str(outcomes[2])
    assert [row["request_id"] for row in rows_of(tmp_path / "gproxy.db")] == ["a", "b", "d"]


def test_what_ends_a_request_is_written_without_a_row_that_is_refused_and_once(tmp_path: Path) -> None:
    def charging(name: str, model: str = "m") -> Charging:
        row = record(name, model=model, cost_nano=5, started_at="1970-01-01T00:00:00.000Z")
        return Charging((f"user/{row.user}", f"key/{row.key_id}"), 0.0, 5, row)

    store = open_store(tmp_path / "gproxy.db")
    bad, good = charging("bad", "\ud800"), charging("good")
    outcomes = store.run([bad, good])
    assert [type(outcome) for outcome in outcomes] == [RowRefused, type(None)]
    assert store.run([bad, good]) == [None, None], "handed over again they are written already"
    again = store.run([charging("good"), charging("other")])
    assert [type(outcome) for outcome in again] == [StoreError, type(None)], "that is there, with its cost"
    spent = store.ask("SELECT spent_nano FROM spend WHERE period = 'total'", ())
    store.close()
    assert spent == [(15,), (15,)]
    assert store.rows_refused == 1
    assert verify(tmp_path / "gproxy.db") == []


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    for number in range(3):
        store = open_store(tmp_path / "gproxy.db")
        assert store.run([Entry(record(f"req-{number}"))]) == [None]
        store.close()
    assert len(rows_of(tmp_path / "gproxy.db")) == 3


def test_a_store_of_a_newer_gproxy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    open_store(path).close()
    with closing(connect(path)) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('gproxy', 'later', '')"
        )
    with pytest.raises(StoreError, match=r"newer gproxy.*'later'.*update gproxy"):
        open_store(path)


def test_a_database_with_another_table_usage_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE usage (mine)")
    with pytest.raises(StoreError, match=r"is no usage store of gproxy's: move it away"):
        open_store(path)
    with closing(connect(path)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
    assert tables == ["usage"]


def _open_and_insert(path: Path, number: int) -> None:
    store = open_store(path)
    assert store.run([Entry(record(f"req-{number}"))]) == [None]
    store.close()


def test_processes_that_start_together_share_one_migration(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        pool.starmap(_open_and_insert, [(tmp_path / "gproxy.db", number) for number in range(8)])
    assert len(rows_of(tmp_path / "gproxy.db")) == 8


def test_a_store_that_cannot_be_written_says_so_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    store._connection.execute("PRAGMA busy_timeout = 20")
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"cannot be written.*locked"):
            store.run([Entry(record("a"))])
        other.execute("ROLLBACK")
    assert store.run([Entry(record("a"))]) == [None]
    store.close()


DOCUMENT = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
USAGE_TABLE = DOCUMENT.partition("## Other tables")[0]


def test_the_documented_queries_run_and_find_the_row(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    store.run([Entry(record("a", started_at="2999-01-01T00:00:00.000Z", status=502))])
    store.run([lambda db: adjust(db, "user/alice", "total", "prune", 7, "2999-01-01T00:00:00.000Z")])
    store.close()
    queries = re.findall(r'data/gproxy\.db "\n(.*?)"\n```', DOCUMENT, re.DOTALL)
    with closing(stdlib_sqlite.connect(path)) as connection:
        assert [len(connection.execute(query).fetchall()) for query in queries] == [1] * 6


def test_every_column_is_documented_in_order() -> None:
    first_cells = [line.split("|")[1] for line in USAGE_TABLE.splitlines() if line.startswith("| `")]
    assert [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)] == COLUMNS


def test_the_other_tables_are_documented_column_by_column(tmp_path: Path) -> None:
    open_store(tmp_path / "gproxy.db").close()
    with closing(connect(tmp_path / "gproxy.db")) as db:
        for table in (
            "usage_details",
            "spend",
            "spend_adjustments",
            "usage_days",
            "usage_groups",
            "daily_cost",
            "monthly_cost",
            "counters",
            "reservations",
            "model_lists",
        ):
            assert f"| `{table}` |" in DOCUMENT
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            assert columns
            assert [name for name in columns if f"`{name}`" not in DOCUMENT] == []


def test_a_store_that_was_just_made_prepares_its_statements_once(tmp_path: Path) -> None:
    """The steps that made it must not have filled the connection's cache."""
    statements = [f"SELECT {name} FROM usage" for name in COLUMNS]  # noqa: S608 - names of columns
    store = open_store(tmp_path / "gproxy.db")
    prepared: list[int] = []

    def prepares(action: int, *_: object) -> int:
        prepared.append(action)
        return sqlite3.SQLITE_OK

    def ask(db: sqlite3.Connection) -> None:
        for statement in statements:
            db.execute(statement).fetchall()

    store._connection.set_authorizer(prepares)
    store.run([ask])
    prepared.clear()
    store.run([ask])
    assert not prepared
    store.run([lambda db: db.execute("SELECT 1 FROM usage")])
    assert prepared
    store.close()
