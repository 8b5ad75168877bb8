"""`gproxy credentials list` and `reset`: what they show, and what they change in the store."""

import json
import time
from functools import partial
from pathlib import Path

import pytest

from gproxy.ledger import credential_state
from gproxy.ledger.store import open_store
from gproxy.values import READY, Health
from tests.cli.conftest import MINIMAL, Run, Terminal

MORE = """
[[providers]]
name = "claude"
channel = "anthropic"
credentials = [{ api_key = "sk-secret-upstream", label = "team" }, { env = "NOT_SET" }]
"""
SECOND = """
[[providers]]
name = "second"
channel = "openai"
credentials = [{ keyring = "second", label = "ring" }]
"""


def out() -> Health:
    """Of one that is out for ten minutes from now."""
    now = time.time()
    return Health(state="cooling", held="out", until=now + 600, failures=2, error="status 429", at=now)


DEAD = Health(state="disabled", failures=1, error="status 401, its key was refused", at=time.time())


@pytest.fixture
def store(file: Path) -> Path:
    """A store in which the provider `claude` has no good news."""
    file.write_text(MINIMAL + MORE)
    path = file.parent / "data" / "gproxy.db"
    opened = open_store(path)
    for key, health in ((("claude", "team", "m"), out()), (("claude", "claude#2", ""), DEAD)):
        opened.run([partial(credential_state.change, key=key, identity="x", step=lambda _, h=health: h)])
    opened.close()
    return path


def states(path: Path) -> dict[str, str]:
    return {row.key[1]: row.health.state for row in credential_state.read(path)}


def test_every_credential_is_listed_with_what_is_known_of_it(
    run: Run, store: Path, terminal: Terminal
) -> None:
    terminal(80)
    shown = run("credentials", "list").out
    assert "team" in shown
    assert "cooling, out" in shown
    assert "disabled" in shown
    assert "429" in shown
    assert "no key" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "sk-secret" not in shown


def test_json_has_times_in_utc_and_models_below(run: Run, store: Path) -> None:
    rows = json.loads(run("credentials", "list", "--json").out)
    assert [(row["credential"], row["model"], row["state"]) for row in rows] == [
        ("no key", None, "ready"),
        ("team", None, "ready"),
        ("team", "m", "cooling"),
        ("claude#2", None, "disabled"),
    ]
    assert rows[2]["until"].endswith("Z")


def test_without_a_store_all_are_ready_and_none_is_made(run: Run, file: Path) -> None:
    assert [row["state"] for row in json.loads(run("credentials", "list", "--json").out)] == ["ready"]
    reset = run("credentials", "reset")
    assert (reset.code, reset.out) == (0, "")
    assert not (file.parent / "data").exists()


@pytest.mark.parametrize(
    ("names", "ready"),
    [
        ((), {"team", "claude#2"}),
        (("claude",), {"team", "claude#2"}),
        (("claude", "team"), {"team"}),
        (("local",), set()),
    ],
)
def test_a_reset_is_of_those_named(run: Run, store: Path, names: tuple[str, ...], ready: set[str]) -> None:
    done = run("credentials", "reset", *names)
    assert (done.code, done.out) == (0, "")
    assert str(len(ready)) in done.err
    assert {name for name, state in states(store).items() if state == "ready"} == ready
    again = {row.health for row in credential_state.read(store) if row.key[1] in ready}
    assert again <= {READY}


@pytest.mark.parametrize("names", [("nobody",), ("claude", "nobody"), ("local", "team")])
def test_an_unknown_name_changes_nothing(run: Run, store: Path, names: tuple[str, ...]) -> None:
    before = states(store)
    failed = run("credentials", "reset", *names)
    assert failed.code == 1
    assert "show" in failed.err
    assert states(store) == before


def lines(run: Run) -> list[str]:
    return run("credentials", "list").out.splitlines()


def test_a_variable_that_is_not_set_in_this_terminal_is_told(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(MINIMAL + MORE + SECOND)
    (line,) = [line for line in lines(run) if "claude#2" in line]
    assert "not readable here" in line
    assert "NOT_SET" in run("credentials", "list").out
    assert "ready" not in line.replace("not readable", "")
    known = {
        r["credential"]: r["readable_here"] for r in json.loads(run("credentials", "list", "--json").out)
    }
    assert known == {"no key": None, "team": True, "claude#2": False, "ring": None}
    monkeypatch.setenv("NOT_SET", "sk-now-it-is")
    (line,) = [line for line in lines(run) if "claude#2" in line]
    assert "ready" in line
    assert "sk-now" not in line


def test_a_credential_whose_only_model_is_out_is_not_called_ready_alone(run: Run, store: Path) -> None:
    (line, _) = [line for line in lines(run) if "team" in line]
    assert "ready, 1" in line
    assert "model" in run("credentials", "list").out.split("ready, 1")[1]


def test_names_are_never_broken(run: Run, file: Path) -> None:
    provider, label = "a-provider-with-a-long-name", "team-that-pays-for-it-all"
    file.write_text(
        MINIMAL + f'[[providers]]\nname = "{provider}"\nchannel = "anthropic"\n'
        f'credentials = [{{ api_key = "sk-secret-upstream", label = "{label}" }}]\n'
    )
    opened = open_store(file.parent / "data" / "gproxy.db")
    key = (provider, label, "claude-sonnet-with-a-date-20250929")
    opened.run([partial(credential_state.change, key=key, identity="x", step=lambda _: out())])
    opened.close()
    shown = run("credentials", "list").out
    words = shown.split()
    for word in (*key, "cooling,", "out", "cooling", "last", "429"):
        assert word in words
