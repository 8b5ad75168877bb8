import csv
import io
import json
import stat
import time
from pathlib import Path

import pytest

from gproxy.ledger.bulk import Entry
from gproxy.ledger.store import open_store
from gproxy.ledger.writer import Writer
from gproxy.values import Usage
from tests.cli.conftest import Run, Terminal
from tests.ledger.rows import record


@pytest.fixture
def ledger(file: Path) -> Path:
    """Three requests of two users, the last without a price."""
    folder = file.with_name("data")
    folder.mkdir()
    writer = Writer(folder / "gproxy.db")
    writer.start()
    writer.put(Entry(record("a")))
    writer.put(
        Entry(record("b", user="bob", started_at="2026-11-24T01:00:00.000Z", status=502, model="small"))
    )
    writer.put(Entry(record("c", cost_nano=None, price_source=None, alias="fast")))
    writer.close()
    return folder


def rows(run: Run, *argv: str) -> list[dict[str, object]]:
    ran = run("usage", *argv, "--json")
    assert ran.code == 0, ran.err
    found: list[dict[str, object]] = json.loads(ran.out)["rows"]
    return found


@pytest.mark.parametrize("command", [(), ("report",)])
def test_usage_is_grouped_by_several_columns(run: Run, ledger: Path, command: tuple[str, ...]) -> None:
    found = rows(run, *command, "--by", "user", "--by", "day")
    assert [(r["user"], r["day"], r["requests"], r["errors"], r["input_tokens"]) for r in found] == [
        ("alice", "2026-11-25", 2, 0, 24),
        ("bob", "2026-11-24", 1, 1, 12),
    ]


def test_totals_are_exact_and_what_has_no_price_is_said(run: Run, ledger: Path) -> None:
    assert json.loads(run("usage", "--json").out)["totals"]["cost_usd"] == 0.000003
    ran = run("usage")
    assert ran.out.splitlines()[-1].split() == ["total", "3", "1", "36", "9", "0%", "1", "0.000003"]
    assert "The price of 1 request is not known: the cost is without it." in ran.err
    assert max(map(len, ran.out.splitlines())) <= 80


def test_without_by_it_is_by_model(run: Run, ledger: Path) -> None:
    assert [row["model"] for row in rows(run)] == ["large", "small"]


@pytest.mark.parametrize(
    ("argv", "count"),
    [
        (("--user", "bob"), 1),
        (("--model", "fast"), 1),
        (("--model", "large"), 2),
        (("--since", "2026-11-25T00:00:00Z"), 2),
        (("--until", "2026-11-25"), 1),
        (("--since", "2099-01-01"), 0),
    ],
)
def test_usage_is_filtered(run: Run, ledger: Path, argv: tuple[str, ...], count: int) -> None:
    assert sum(int(str(row["requests"])) for row in rows(run, *argv)) == count


def test_csv_has_every_measure(run: Run, ledger: Path) -> None:
    table = list(csv.DictReader(io.StringIO(run("usage", "--by", "alias", "--csv").out)))
    assert [(row["alias"], row["requests"], row["cost_usd"]) for row in table] == [
        ("", "2", "3e-06"),
        ("fast", "1", ""),
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ("--by", "nope"),
        ("--since", "soon"),
        ("--until", "7x"),
        ("--json", "--csv"),
        ("--csv", "--chart"),
        ("--live",),
    ],
)
def test_wrong_usage_is_exit_2(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    assert run("usage", *argv).code == 2


def test_before_the_first_request_the_report_is_empty(run: Run, file: Path) -> None:
    assert rows(run) == []
    assert run("usage").code == 0


def test_a_store_that_is_none_is_told_without_a_traceback(run: Run, file: Path) -> None:
    folder = file.with_name("data")
    folder.mkdir()
    (folder / "gproxy.db").write_text("not a database, though long enough to look like a header of one " * 9)
    ran = run("usage")
    assert ran.code == 1
    assert ran.err.startswith("gproxy: ")
    assert "Traceback" not in ran.err


def test_the_data_folder_follows_the_environment(
    run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = ledger.rename(ledger.with_name("elsewhere"))
    monkeypatch.setenv("GPROXY_DATA_DIR", str(moved))
    assert len(rows(run, "--by", "user")) == 2
    assert not stat.S_IMODE(moved.stat().st_mode) & 0o002


def test_the_help_has_the_options_of_the_report_and_the_commands(run: Run) -> None:
    text = run("usage", "--help").out
    assert "--by COLUMN" in text
    assert "--chart" in text
    assert "reprice" in text


@pytest.mark.parametrize(
    "argv",
    [
        ("--by", "user", "--by", "model", "--by", "day", "--by", "status", "--by", "credential"),
        ("--by", "hour", "--latency"),
        ("--by", "key", "--by", "provider"),
    ],
)
def test_a_wide_table_gives_up_measures_and_keeps_the_cost(
    run: Run, file: Path, terminal: Terminal, argv: tuple[str, ...]
) -> None:
    store = open_store(file.with_name("data") / "gproxy.db")
    usage = Usage(10**9, 10**9, 10**9)
    store.run(
        [Entry(record(str(n), usage=usage, cost_nano=10**15, usage_source="partial")) for n in range(3)]
    )
    store.close()
    piped = run("usage", *argv)
    assert "first p95" in piped.out or "cached" in piped.out
    assert "want of width" not in piped.err
    terminal(80)
    lines = run("usage", *argv).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "cost USD" in lines[0]
    assert "3000000.000000" in lines[-1]


def test_latency_is_told_where_it_is_asked_for(run: Run, ledger: Path) -> None:
    (row, _) = rows(run, "--latency")
    assert (row["latency_p50_ms"], row["latency_p95_ms"], row["ttft_p50_ms"]) == (20, 20, None)
    assert "p95 ms" in run("usage", "--latency").out


def test_hours_are_shown_in_the_zone_of_this_machine_and_written_in_utc(
    run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert "2026-11-25 17:30+05:30" in run("usage", "--by", "hour").out
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert rows(run, "--by", "hour")[-1]["hour"] == "2026-11-25T12:00Z"


def test_the_chart_draws_the_cost_or_where_none_is_known_the_requests(run: Run, ledger: Path) -> None:
    (line, _) = run("usage", "--chart").out.splitlines()
    assert line.startswith("large")
    assert line.endswith("0.000002+ USD")
    assert run("usage", "--chart", "--alias", "fast").out.rstrip().endswith("1 requests")


def test_a_group_whose_only_known_costs_are_zero_has_none(run: Run, ledger: Path) -> None:
    store = open_store(ledger / "gproxy.db")
    made = [
        record("u", model="odd", cost_nano=None, price_source=None),
        record("f", model="odd", status=502, cost_nano=0, price_source=None),
    ]
    assert store.run([Entry(row) for row in made]) == [None, None]
    views = "SELECT cost_usd, unpriced FROM {} WHERE model = ?"
    for name in ("daily_cost", "monthly_cost"):
        found = store.run([lambda db, name=name: db.execute(views.format(name), ("odd",)).fetchall()])
        assert found == [[(None, 1)]]
    store.close()
    (odd,) = rows(run, "--model", "odd")
    assert (odd["cost_usd"], odd["unpriced"], odd["errors"]) == (None, 1, 1)
    drawn = run("usage", "--chart")
    assert [line.split()[-2:] for line in drawn.out.splitlines() if line.startswith("odd")] == [["-", "USD"]]
    assert "The price of 2 requests is not known: the cost is without them." in drawn.err


@pytest.mark.parametrize(("status", "count"), [("502", 1), ("5xx", 1), ("2XX", 2), ("404", 0)])
def test_a_status_may_be_all_of_its_kind(run: Run, ledger: Path, status: str, count: int) -> None:
    assert sum(int(str(row["requests"])) for row in rows(run, "--status", status)) == count
    found = run("usage", "export", "--format", "jsonl", "--status", status)
    assert len(found.out.splitlines()) == count


@pytest.mark.parametrize("status", ["4x", "x", "40", "4000"])
def test_what_is_no_status_is_wrong_usage(run: Run, ledger: Path, status: str) -> None:
    assert run("usage", "--status", status).code == 2


@pytest.mark.parametrize("command", [(), ("--json",), ("--chart",), ("export", "--format", "csv")])
def test_that_nothing_fits_is_said(run: Run, ledger: Path, command: tuple[str, ...]) -> None:
    ran = run("usage", *command, "--user", "nobody", "--status", "4xx")
    assert ran.code == 0
    assert "Nothing in the ledger fits what --user, --status asks for." in ran.err
    assert "fits" not in run("usage", *command).err


def test_what_a_narrow_table_leaves_out_is_said(run: Run, ledger: Path, terminal: Terminal) -> None:
    every = [f"--by={name}" for name in ("user", "key", "provider", "credential", "dialect", "status", "day")]
    every += ["--by=model", "--by=hour", "--by=alias"]
    assert "…" not in run("usage", *every).out
    terminal(80)
    ran = run("usage", *every)
    assert len(ran.out.splitlines()) == 1 + 3 + 1
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "…" in ran.out
    (said,) = [line for line in ran.err.splitlines() if "want of width" in line]
    assert "left out cached, output" in said
    assert "cut names" in said
    assert "want of width" not in run("usage", "--by", "model").err


def test_a_note_ends_with_one_full_stop_though_a_column_has_one(
    run: Run, ledger: Path, terminal: Terminal
) -> None:
    writer = Writer(ledger / "gproxy.db")
    writer.start()
    writer.put(Entry(record("d", usage_source="estimated")))
    writer.close()
    whole = max(map(len, run("usage").out.splitlines()))
    terminal(whole - 1)
    assert "has left out est.\n" in run("usage").err


def test_a_wide_terminal_gets_a_wide_table(run: Run, ledger: Path, terminal: Terminal) -> None:
    by = ("--by", "user", "--by", "key", "--by", "credential", "--by", "dialect")
    terminal(80)
    assert "cached" not in run("usage", *by).out
    terminal(160)
    ran = run("usage", *by)
    assert "cached" in ran.out
    assert "want of width" not in ran.err
