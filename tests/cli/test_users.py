import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import MINIMAL, Run


def test_a_user_is_added_listed_disabled_and_removed(run: Run, file: Path) -> None:
    assert "permissions allow bob" in run("users", "add", "bob", "--admin").err
    assert json.loads(run("users", "list", "--json").out) == [
        {"name": "alice", "enabled": True, "is_admin": False, "keys": 1, "permissions": 1},
        {"name": "bob", "enabled": True, "is_admin": True, "keys": 0, "permissions": 0},
    ]
    assert run("users", "disable", "bob").code == 0
    assert json.loads(run("users", "list", "--json").out)[1]["enabled"] is False
    assert run("users", "enable", "bob").code == 0
    assert run("users", "remove", "bob").code == 0
    assert file.read_text() == MINIMAL


def test_a_user_with_permissions_is_removed_with_them(run: Run, file: Path) -> None:
    assert run("users", "remove", "alice").code == 0
    assert set(tomllib.loads(file.read_text())) == {"providers"}


@pytest.mark.parametrize("argv", [("add", "alice"), ("remove", "eve"), ("disable", "eve"), ("add", "a/b")])
def test_what_cannot_be_leaves_the_file_as_it_was(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    ran = run("users", *argv)
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("gproxy: ")
    assert file.read_text() == MINIMAL


def test_a_permission_is_allowed_once_and_removed_as_it_was_named(run: Run, file: Path) -> None:
    there = ("alice", "gpt-*", "--provider", "local")
    assert run("permissions", "allow", *there).err == "alice may use gpt-* at local.\n"
    assert run("permissions", "allow", *there).err == "alice might use gpt-* at local already.\n"
    assert json.loads(run("permissions", "list", "--user", "alice", "--json").out) == [
        {"user": "alice", "provider": None, "pattern": "*"},
        {"user": "alice", "provider": "local", "pattern": "gpt-*"},
    ]
    assert run("permissions", "remove", "alice", "gpt-*").code == 1
    removed = run("permissions", "remove", *there)
    assert (removed.code, removed.err) == (0, "Removed the permission of alice for gpt-* at local.\n")
    assert file.read_text() == MINIMAL


def test_no_permissions_says_how_to_give_one(run: Run, file: Path) -> None:
    run("permissions", "remove", "alice", "*")
    ran = run("permissions", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "gproxy permissions allow" in ran.err


def test_a_name_that_a_shell_would_take_apart_is_quoted_in_what_is_suggested(run: Run, file: Path) -> None:
    told = " ".join(run("users", "add", "a b").err.split())
    assert "`gproxy permissions allow 'a b' '*'` and `gproxy keys create --user 'a b'`" in told
