import json
from pathlib import Path

import pytest

from tests.cli.conftest import MINIMAL, Run


def listed(run: Run, *argv: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(run("limits", "list", *argv, "--json").out)
    return rows


def test_a_limit_is_set_changed_and_removed(run: Run, file: Path) -> None:
    ran = run("limits", "set", "alice", "*", "--rpm", "60", "--tpd", "1000")
    assert (ran.code, ran.err) == (0, "alice has for *: rpm 60, tpd 1000.\n")
    ran = run("limits", "set", "alice", "*", "--tpd", "none", "--max-concurrency", "3")
    assert ran.err == "alice now has for *: tpd none, max_concurrency 3.\n"
    bounds = {"rpm": 60, "rpd": None, "tpm": None, "tpd": None, "max_concurrency": 3}
    assert listed(run) == [{"user": "alice", "key": None, "pattern": "*"} | bounds]
    assert run("check").code == 0
    assert run("limits", "remove", "alice", "*").code == 0
    assert file.read_text() == MINIMAL


def test_the_list_has_the_bounds_of_keys_too_and_the_smaller_of_two_that_are_one(
    run: Run, file: Path
) -> None:
    rule = '[[rate_limits]]\nuser_name = "alice"\nmodel_pattern = "a*"\ntpd = 9\ntotal_tokens = 5\n'
    file.write_text(MINIMAL + rule)
    run("keys", "create", "--rpm", "5")
    found = listed(run, "--user", "alice")
    assert [(row["key"], row["pattern"], row["rpm"], row["tpd"]) for row in found] == [
        (None, "a*", None, 5),
        ("key-1", None, 5, None),
    ]
    assert listed(run, "--user", "nobody") == []
    assert max(map(len, run("limits", "list").out.splitlines())) <= 80


@pytest.mark.parametrize(
    "argv", [(), ("--rpm", "0"), ("--rpm", "-1"), ("--tpd", "1.5"), ("--rpm", "many"), ("--rpm",)]
)
def test_a_bound_that_is_none_is_wrong_usage(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    ran = run("limits", "set", "alice", "*", *argv)
    assert ran.code == 2
    assert file.read_text() == MINIMAL


@pytest.mark.parametrize(
    "argv",
    [
        ("set", "eve", "*", "--rpm", "1"),
        ("set", "alice", "*", "--rpm", "none"),
        ("remove", "alice", "*"),
    ],
)
def test_what_cannot_be_leaves_the_file_as_it_was(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    ran = run("limits", *argv)
    assert ran.code == 1
    assert ran.err.startswith("gproxy: ")
    assert file.read_text() == MINIMAL


def test_no_limits_says_how_to_set_one(run: Run, file: Path) -> None:
    assert "gproxy limits set" in run("limits", "list").err
