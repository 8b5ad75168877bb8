import csv
import io
import json
import os
import stat
from pathlib import Path

import pytest

from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store
from tests.cli.conftest import Run
from tests.ledger.rows import record
from tests.ledger.test_prune import charged


@pytest.fixture
def ledger(file: Path) -> Path:
    return charged(
        file.with_name("data") / "gproxy.db",
        record("a"),
        record("b", user="bob", key_id="k2", started_at="2026-11-24T01:00:00.000Z"),
    )


def test_export_streams_rows_to_stdout_or_into_a_file_of_the_owner(
    run: Run, ledger: Path, tmp_path: Path
) -> None:
    assert len(run("usage", "export", "--format", "jsonl").out.splitlines()) == 2
    target = tmp_path / "rows.csv"
    target.write_text("old")
    target.chmod(0o644)
    ran = run("usage", "export", "--format", "csv", "--user", "bob", "-o", str(target))
    assert (ran.code, ran.out) == (0, "")
    assert "1 row written" in ran.err
    assert [row["request_id"] for row in csv.DictReader(io.StringIO(target.read_text()))] == ["b"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_export_leaves_no_half_of_a_file(run: Run, file: Path, tmp_path: Path) -> None:
    store = file.with_name("data") / "gproxy.db"
    store.parent.mkdir()
    store.write_text("not a database, though long enough to look like a header of one " * 9)
    folder = tmp_path / "exports"
    folder.mkdir()
    ran = run("usage", "export", "--format", "csv", "-o", str(folder / "rows.csv"))
    assert ran.code == 1
    assert list(folder.iterdir()) == []


def test_export_says_where_it_cannot_write_and_writes_devices_as_they_are(run: Run, ledger: Path) -> None:
    ran = run("usage", "export", "--format", "csv", "-o", "/nowhere/rows.csv")
    assert ran.code == 1
    assert "/nowhere/rows.csv cannot be written" in ran.err
    assert run("usage", "export", "--format", "csv", "-o", os.devnull).code == 0
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(
    "argv",
    [
        ("export",),
        ("export", "--format", "xml"),
        ("prune",),
        ("prune", "--before", "soon"),
        ("verify", "now"),
    ],
)
def test_wrong_usage_is_exit_2(run: Run, ledger: Path, argv: tuple[str, ...]) -> None:
    assert run("usage", *argv).code == 2


def test_prune_shows_first_and_removes_with_yes(run: Run, ledger: Path) -> None:
    shown = run("usage", "prune", "--before", "2026-11-25")
    assert "bob" in shown.out
    assert shown.out.startswith("dry run: nothing is removed\n")
    assert "nothing is removed yet" in shown.err
    told = json.loads(run("usage", "prune", "--before", "2026-11-25", "--json").out)
    assert (told["removed"], told["rows"], told["by_user"][0]["user"]) == (False, 1, "bob")
    assert "1 row removed" in run("usage", "prune", "--before", "2026-11-25", "--yes").err
    assert "No row is that old." in run("usage", "prune", "--before", "2026-11-25", "--yes").err
    assert run("usage", "verify").code == 0


def test_verify_is_exit_1_on_a_difference_and_tells_it(run: Run, ledger: Path) -> None:
    ran = run("usage", "verify")
    assert (ran.code, [line.split()[-1] for line in ran.out.splitlines()]) == (0, ["ok"] * 6)
    assert json.loads(run("usage", "verify", "--json").out)["ok"] is True
    db = connect(ledger)
    db.execute("UPDATE spend SET spent_nano = 7 WHERE scope = 'user/bob' AND period = 'total'")
    db.close()
    ran = run("usage", "verify")
    assert ran.code == 1
    assert "spend: nano-dollars spent by user/bob in total: should be 1500, is 7" in ran.out
    ran = run("usage", "verify", "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert (told["ok"], [it["found"] for it in told["differences"]]) == (False, [7])


def test_many_differences_are_listed_in_part(run: Run, file: Path) -> None:
    store = open_store(file.with_name("data") / "gproxy.db")
    insert = "INSERT INTO spend VALUES (?, 'total', 1, 0)"
    store.run([lambda db: db.executemany(insert, [(f"user/{n}",) for n in range(60)])])
    store.close()
    ran = run("usage", "verify")
    assert len(ran.out.splitlines()) == 6 + 50
    assert "10 more differences" in ran.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_store_that_is_not_there_is_not_in_order(run: Run, file: Path, options: tuple[str, ...]) -> None:
    ran = run("usage", "verify", *options)
    assert (ran.code, ran.out) == (1, "")
    assert "no usage store at" in ran.err
