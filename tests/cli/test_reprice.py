import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gproxy.cli.reprice import price_at
from gproxy.config.schema import Config, Model, PriceTier, Provider
from gproxy.ledger.bulk import Entry
from gproxy.ledger.store import open_store
from gproxy.ledger.when import stamp
from gproxy.values import Usage
from tests.cli.conftest import MINIMAL, Run
from tests.ledger.rows import record

PRICED = """
[[models]]
provider_name = "local"
model_id = "large"
price_tiers = [{ price_input_tokens = 2.0 }]
"""
HOUR_AGO = stamp(datetime.now(UTC) - timedelta(hours=1))
MILLION = Usage(input_tokens=1_000_000)


@pytest.fixture
def rows(file: Path, tmp_path: Path) -> None:
    file.write_text(MINIMAL + PRICED)
    made = [
        record("a", provider="local", usage=MILLION, cost_nano=500_000_000, started_at=HOUR_AGO),
        record(
            "b",
            provider="local",
            usage=MILLION,
            cost_nano=2_000,
            price_source="upstream",
            started_at=HOUR_AGO,
        ),
        record("c", provider="gone", usage=MILLION, started_at=HOUR_AGO),
        record("old", provider="local", usage=MILLION, started_at="2020-01-01T00:00:00.000Z"),
    ]
    store = open_store(tmp_path / "data" / "gproxy.db")
    assert store.run([Entry(row) for row in made]) == [None] * len(made)
    store.close()


def outcome(run: Run, *options: str) -> Any:
    return json.loads(run("usage", "reprice", "--since", "1d", "--json", *options).out)


@pytest.mark.usefixtures("rows")
def test_it_shows_what_would_change_and_writes_it_when_told_to(run: Run) -> None:
    changed = {
        "model": "local/large",
        "rows": 1,
        "unpriced": 0,
        "old_usd": 0.5,
        "new_usd": 2.0,
        "difference_usd": 1.5,
    }
    kept = {"unknown": 1, "reported": 1}
    for _ in range(2):
        assert outcome(run) == {"written": False, "rows": [changed], "kept": kept}
    assert outcome(run, "--yes") == {"written": True, "rows": [changed], "kept": kept}
    assert outcome(run) == {"written": False, "rows": [], "kept": kept}


@pytest.mark.usefixtures("rows")
def test_people_see_a_table_and_what_stays(run: Run) -> None:
    ran = run("usage", "reprice", "--since", "1d", "--reported")
    assert ran.code == 0, ran.err
    assert [line.split() for line in ran.out.splitlines()] == [
        ["dry", "run:", "nothing", "is", "written"],
        ["model", "rows", "old", "usd", "new", "usd", "difference", "usd"],
        ["local/large", "2", "0.500002", "4.000000", "3.499998"],
        ["total", "2", "0.500002", "4.000000", "3.499998"],
    ]
    assert "1 row keeps its cost: no price is known now." in ran.err
    assert "Nothing was written: the same with --yes writes it." in ran.err
    ran = run("usage", "reprice", "--since", "1d", "--yes")
    assert "1 row keeps the cost that the upstream reported" in ran.err
    assert "Written." in ran.err
    assert "No cost is another" in run("usage", "reprice", "--since", "1d", "--yes").err


@pytest.mark.usefixtures("rows")
def test_rows_are_chosen_by_time_provider_and_model(run: Run) -> None:
    assert outcome(run, "--until", "2h")["rows"] == []
    assert outcome(run, "--provider", "gone")["rows"] == []
    assert outcome(run, "--model", "small")["rows"] == []
    assert outcome(run, "--model", "large", "--provider", "local")["rows"][0]["rows"] == 1


@pytest.mark.usefixtures("rows")
def test_since_must_be_given_and_be_a_time(run: Run) -> None:
    assert run("usage", "reprice").code == 2
    ran = run("usage", "reprice", "--since", "yesterday")
    assert ran.code == 2
    assert "is no time" in ran.err


def test_a_price_is_that_of_the_file_also_of_a_model_switched_off_else_that_of_the_table() -> None:
    model = Model(
        provider_name="main",
        model_id="mine",
        enabled=False,
        price_tiers=(PriceTier(price_input_tokens=1.0),),
    )
    providers = (Provider(name="main", channel="openai"), Provider(name="odd", channel="kiro"))
    price = price_at(Config(providers=providers, models=(model,)))
    now = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
    configured, builtin = price("main", "mine", now) or (None, None)
    assert configured is not None
    assert builtin is None
    configured, builtin = price("main", "gpt-5", now) or (None, None)
    assert configured is None
    assert builtin is not None
    assert price("odd", "m", now) == (None, None)
    assert price("gone", "m", now) is None


def test_a_channel_that_brings_its_own_price_is_priced_by_it() -> None:
    price = price_at(Config(providers=(Provider(name="d", channel="demo"),)))
    own, builtin = price("d", "echo-1", 0.0) or (None, None)
    assert own is not None
    assert (own.source, builtin) == ("channel", None)


def test_what_had_no_price_had_no_cost(run: Run, rows: None, file: Path) -> None:
    store = open_store(file.with_name("data") / "gproxy.db")
    row = record("u", provider="local", model="large", cost_nano=None, price_source=None, usage=MILLION)
    store.run([lambda db: db.execute("DELETE FROM usage"), Entry(row)])
    store.close()
    ran = run("usage", "reprice", "--since", "2020-01-01")
    assert [line.split()[1:4] for line in ran.out.splitlines()[2:]] == [["1", "1", "-"]] * 2
    told = json.loads(run("usage", "reprice", "--since", "2020-01-01", "--json").out)["rows"]
    assert [(it["unpriced"], it["old_usd"]) for it in told] == [(1, None)]
