import json
import sqlite3
import time
import tomllib
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from gproxy.config.callers import callers
from gproxy.config.load import load
from gproxy.ledger.spend import Settling
from gproxy.ledger.store import open_store
from gproxy.providers.catalog import CHANNELS
from gproxy.values import Claim
from tests.cli.conftest import MINIMAL, Run
from tests.kit.reserving import reserve


def shown(run: Run, *argv: str) -> list[tuple[object, ...]]:
    ran = run("quota", "show", *argv, "--json")
    assert ran.code == 0, ran.err
    return [tuple(row.values()) for row in json.loads(ran.out)]


def quotas(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = tomllib.loads(path.read_text()).get("quotas", [])
    return found


def spend(path: Path, *, settled: int, held: int) -> None:
    """One request of alice's first key that cost `settled` nano-dollars, and an open one that holds `held`."""
    config, _ = load(path.read_bytes(), channels=CHANNELS)
    assert config is not None
    client = callers(config)[1].client
    store = open_store(path.parent / "data" / "gproxy.db")
    for name, cost in (("done", 0), ("open", held)):
        claim = Claim(
            request_id=name,
            scopes=(client.user_scope, client.key_scope),
            bounds=(),
            budgets=client.budgets,
            tokens=0,
            cost_nano=cost,
            at=time.time(),
        )
        store.run([partial(reserve, claim=claim, worker=0, pending=b"")])
    store.run([Settling("done", 0, settled, None)])
    store.close()


def test_quotas_are_set_per_period_and_lifted(run: Run, file: Path) -> None:
    assert run("quota", "set", "alice", "20").err == "alice may spend 20 USD (total).\n"
    assert run("quota", "set", "alice", "1.5", "--period", "day").code == 0
    assert quotas(file) == [
        {"user_name": "alice", "quota": 20.0},
        {"user_name": "alice", "quota": 1.5, "period": "day"},
    ]
    assert run("quota", "set", "alice", "none").err == "alice has no quota (total).\n"
    assert run("quota", "set", "alice", "none", "--period", "day").code == 0
    assert file.read_text() == MINIMAL


def test_a_key_has_a_quota_of_its_own(run: Run, file: Path) -> None:
    assert (
        run("quota", "set", "alice", "5", "--key", "laptop").err == "alice/laptop may spend 5 USD (total).\n"
    )
    assert run("quota", "top-up", "alice", "0.1", "--key", "laptop").code == 0
    assert shown(run)[1] == ("alice", "laptop", "total", 5.1, 0.0, 0.0, 5.1)
    assert run("quota", "set", "alice", "none", "--key", "laptop").code == 0
    assert file.read_text() == MINIMAL


def test_a_top_up_raises_the_quota_in_the_file(run: Run, file: Path) -> None:
    run("quota", "set", "alice", "0.1", "--period", "month")
    ran = run("quota", "top-up", "alice", "0.2", "--period", "month")
    assert ran.err == "alice may now spend 0.3 USD (month).\n"
    assert quotas(file)[0]["quota"] == 0.3
    assert "may now spend 20.3 USD" in run("quota", "top-up", "alice", "20", "--period", "month").err


def test_show_tells_what_is_spent_held_and_left(run: Run, file: Path) -> None:
    file.write_text(MINIMAL + '[[quotas]]\nuser_name = "alice"\nquota = 3\ncost_used = 0.25\n')
    run("quota", "set", "alice", "1", "--period", "day")
    run("quota", "set", "alice", "5", "--key", "laptop")
    spend(file, settled=1_500_000_000, held=250_000_000)
    assert shown(run) == [
        ("alice", None, "total", 3.0, 1.75, 0.25, 1.0),
        ("alice", None, "day", 1.0, 1.5, 0.25, 0.0),
        ("alice", "laptop", "total", 5.0, 1.5, 0.25, 3.25),
    ]
    table = run("quota", "show", "alice").out.splitlines()
    assert table[1].split() == ["alice", "-", "total", "3.000000", "1.750000", "0.250000", "1.000000"]
    assert max(map(len, table)) <= 80


def test_a_user_without_a_quota_is_shown_with_its_spend(run: Run, file: Path) -> None:
    """An unlimited one too: 0 is no bound."""
    spend(file, settled=7, held=0)
    assert shown(run) == [("alice", None, "total", None, 7e-9, 0.0, None)]
    file.write_text(MINIMAL + '[[quotas]]\nuser_name = "alice"\nquota = 0\n')
    assert shown(run, "alice") == [("alice", None, "total", None, 7e-9, 0.0, None)]


@pytest.mark.parametrize(
    "argv",
    [
        ("set", "alice", "0"),
        ("set", "alice", "-5"),
        ("set", "alice", "nan"),
        ("set", "alice", "much"),
        ("set", "alice", "5", "--period", "week"),
        ("set", "alice", "5", "--key", "laptop", "--period", "day"),
        ("top-up", "alice", "none"),
    ],
)
def test_what_is_no_quota_is_wrong_usage(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    assert run("quota", *argv).code == 2
    assert file.read_text() == MINIMAL


@pytest.mark.parametrize("amount", ["-5", "-0.5"])
def test_an_amount_below_zero_is_no_unknown_option(run: Run, file: Path, amount: str) -> None:
    ran = run("quota", "set", "alice", amount)
    assert (ran.code, file.read_text()) == (2, MINIMAL)
    assert "an amount is not negative" in ran.err
    assert "No such option: -x" in run("quota", "set", "alice", "-x").err


@pytest.mark.parametrize(
    "argv",
    [
        ("set", "eve", "5"),
        ("set", "alice", "none"),
        ("set", "alice", "5", "--key", "phone"),
        ("top-up", "alice", "5"),
        ("top-up", "alice", "5", "--key", "laptop"),
        ("show", "eve"),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    ran = run("quota", *argv)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("gproxy: ")
    assert file.read_text() == MINIMAL


@pytest.mark.parametrize("argv", [("quota", "show"), ("explain", "local/x")])
def test_a_store_of_before_there_were_quotas_is_told_without_a_traceback(
    run: Run, file: Path, argv: tuple[str, ...]
) -> None:
    run("limits", "set", "alice", "*", "--rpm", "5")
    run("quota", "set", "alice", "5")
    folder = file.with_name("data")
    folder.mkdir()
    with closing(sqlite3.connect(folder / "gproxy.db")) as db:
        db.execute("CREATE TABLE usage (id INTEGER)")
    ran = run(*argv)
    assert (ran.code, ran.out) == (1, "")
    assert "gproxy serve" in ran.err
    assert "Traceback" not in ran.err
