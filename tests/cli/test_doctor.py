import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Terminal
from tests.cli.test_probe import SECRET, provider, write
from tests.kit.settings import closed_port, free_port
from tests.kit.upstream import Upstream

USERS = """\
[[users]]
name = "alice"
[[users.keys]]
api_key = "sk-alice-long-enough"
[[permissions]]
user_name = "alice"
model_pattern = "*"
"""


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPROXY_PORT", str(free_port()))
    tmp_path.chmod(0o700)
    return tmp_path / "gproxy.toml"


def test_a_good_set_up_is_exit_0(run: Run, private: Path, up: Upstream) -> None:
    write(private, provider("up", up.url), USERS)
    ran = run("doctor")
    assert ran.code == 0, ran.out
    assert ran.out.splitlines()[0] == "ok     configuration: gproxy.toml can be served"
    assert ran.out.splitlines()[-1].startswith("0 wrong, ")
    assert SECRET not in ran.out + ran.err


def test_what_is_wrong_is_exit_1_each_with_its_fix(run: Run, private: Path, terminal: Terminal) -> None:
    write(private, provider("gone", f"http://127.0.0.1:{closed_port()}"))
    piped = run("doctor").out.splitlines()
    assert all(line[:6].strip() or line.startswith("       fix: ") for line in piped[:-2])  # each on one line
    terminal(80)
    ran = run("doctor")
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert max(len(line) for line in lines if str(private.parent) not in line) <= 80
    wrong = [n for n, line in enumerate(lines) if line.startswith("WRONG  ")]
    assert [lines[n].split()[1] for n in wrong] == ["keys:", "gone:"]
    assert all(lines[n + 1].startswith("       fix: ") for n in wrong)
    found = json.loads(run("doctor", "--json").out)
    assert {tuple(row) for row in found} == {("about", "state", "told", "fix")}
    assert [row["about"] for row in found if row["state"] == "wrong"] == ["keys", "gone"]


def test_a_file_that_is_empty_is_to_be_looked_at(run: Run, private: Path) -> None:
    write(private, "")
    found = json.loads(run("doctor", "--json").out)
    told = [row["told"] for row in found if row["state"] == "warning" and row["about"] == "configuration"]
    assert told == ["gproxy.toml: is empty"]


def test_a_misspelt_variable_is_to_be_looked_at(
    run: Run, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(private, "# nothing yet")
    monkeypatch.setenv("GPROXY_PROT", "canary")
    ran = run("doctor", "--json")
    found = [row for row in json.loads(ran.out) if row["about"] == "configuration" and row["state"] != "ok"]
    assert [(row["state"], row["told"].partition(": ")[0], row["fix"]) for row in found] == [
        ("warning", "GPROXY_PROT", 'did you mean "GPROXY_PORT"?')
    ]
    assert "canary" not in ran.out


def test_a_broken_file_is_all_that_is_told(run: Run, private: Path) -> None:
    write(private, "nonsense = [")
    ran = run("doctor")
    assert ran.code == 1
    assert "gproxy.toml:1: is not TOML" in ran.out
    assert "can be served" not in ran.out
