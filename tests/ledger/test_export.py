import csv
import io
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger.bulk import Entry
from gproxy.ledger.export import COLUMNS, TOLD_ROWS, export
from gproxy.ledger.report import Filters
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store
from gproxy.values import Record
from tests.ledger.rows import record


def written(path: Path, *records: Record) -> Path:
    store = open_store(path)
    assert not any(store.run([Entry(row) for row in records]))
    store.close()
    return path


def exported(path: Path, format: str, filters: Filters | None = None) -> str:
    out = io.StringIO()
    export(path, filters or Filters(), format, out)
    return out.getvalue()


def test_the_columns_are_those_of_the_table(tmp_path: Path) -> None:
    with closing(connect(written(tmp_path / "gproxy.db"))) as db:
        assert tuple(row[1] for row in db.execute("PRAGMA table_info(usage)")) == COLUMNS


def test_each_row_comes_out_as_it_is_in_the_order_of_commits(tmp_path: Path) -> None:
    path = written(
        tmp_path / "gproxy.db",
        record("b", cost_nano=1, error='a "b",\nc'),
        record("a", cost_nano=None, started_at="2026-11-24T00:00:00.000Z", user="Åsa"),
    )
    lines = [json.loads(line) for line in exported(path, "jsonl").splitlines()]
    assert [(line["request_id"], line["cost_usd"], line["error"], line["user"]) for line in lines] == [
        ("b", 1e-9, 'a "b",\nc', "alice"),
        ("a", None, None, "Åsa"),
    ]
    assert all(tuple(line) == COLUMNS for line in lines)
    table = list(csv.DictReader(io.StringIO(exported(path, "csv"), newline="")))
    assert [(row["request_id"], row["cost_usd"], row["error"], row["user"]) for row in table] == [
        ("b", "1e-09", 'a "b",\nc', "alice"),
        ("a", "", "", "Åsa"),
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_begins_a_formula_and_json_has_the_text_as_it_is(tmp_path: Path, begin: str) -> None:
    name = f"{begin}cmd|'/c calc'!A1"
    path = written(tmp_path / "gproxy.db", record("a", requested_model=name))
    (row,) = csv.DictReader(io.StringIO(exported(path, "csv"), newline=""))
    assert row["requested_model"] == f"'{name}".replace("\r", "\n")
    assert json.loads(exported(path, "jsonl"))["requested_model"] == name


def test_filters_choose_the_rows(tmp_path: Path) -> None:
    path = written(
        tmp_path / "gproxy.db",
        record("a"),
        record("b", user="bob"),
        record("c", user="bob", status=502),
    )
    since = datetime(2026, 11, 25, tzinfo=UTC)
    text = exported(path, "jsonl", Filters(user="bob", status=(502, 502), since=since))
    assert [json.loads(line)["request_id"] for line in text.splitlines()] == ["c"]
    assert exported(path, "jsonl", Filters(until=since)) == ""


def test_all_rows_are_of_one_moment_though_others_are_written_meanwhile(tmp_path: Path) -> None:
    path = written(tmp_path / "gproxy.db", *(record(str(n)) for n in range(TOLD_ROWS + 5)))
    told: list[tuple[int, int]] = []

    def more(done: int, of: int) -> None:
        told.append((done, of))
        written(path, record("afterwards"))

    out = io.StringIO()
    assert export(path, Filters(), "jsonl", out, more) == TOLD_ROWS + 5
    assert told == [(TOLD_ROWS, TOLD_ROWS + 5)]
    assert "afterwards" not in out.getvalue()


def test_without_a_store_there_is_a_header_alone(tmp_path: Path) -> None:
    assert exported(tmp_path / "gproxy.db", "csv") == ",".join(COLUMNS) + "\n"
    assert exported(tmp_path / "gproxy.db", "jsonl") == ""


def test_a_store_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "gproxy.db")) as db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreError, match="cannot be read"):
        exported(tmp_path / "gproxy.db", "csv")
