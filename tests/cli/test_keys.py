import json
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gproxy.config.keys import hash_key, key_hint, key_id, looks_made_here
from tests.cli.conftest import MINIMAL, Run, Terminal


def users(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(path.read_text())["users"]
    return found


@pytest.mark.parametrize("command", ["create", "add"])
def test_a_new_key_is_alone_on_stdout_and_only_its_hash_is_kept(run: Run, file: Path, command: str) -> None:
    ran = run("keys", command, "--label", "ci")
    key = ran.out.removesuffix("\n")
    assert ran.code == 0
    assert looks_made_here(key)
    assert "alice/ci" in ran.err
    assert key not in file.read_text()
    assert users(file)[0]["keys"][1] == {
        "label": "ci",
        "api_key_hash": hash_key(key),
        "key_hint": key_hint(key),
    }


def test_a_user_without_a_name_is_wrong_usage(run: Run, file: Path) -> None:
    ran = run("keys", "create", "--user", "")
    assert (ran.code, ran.out) == (2, "")
    assert "--user" in ran.err
    assert file.read_text() == MINIMAL


def test_json_has_the_key_as_key(run: Run, file: Path) -> None:
    ran = run("keys", "create", "--model", "local/*", "--model", "fast", "--expires", "30d", "--json")
    shown = json.loads(ran.out)
    stored = users(file)[0]["keys"][1]
    assert stored["api_key_hash"] == hash_key(shown["key"])
    assert shown["id"] == key_id(stored["api_key_hash"])
    assert (shown["user"], shown["label"]) == ("alice", "key-1")
    assert stored["models"] == shown["models"] == ["local/*", "fast"]
    assert abs(stored["expires_at"] - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    assert datetime.fromisoformat(shown["expires_at"]) == stored["expires_at"]


def test_an_expiry_may_be_a_time(run: Run, file: Path) -> None:
    assert run("keys", "create", "--expires", "2099-01-01T00:00:00+02:00").code == 0
    assert users(file)[0]["keys"][1]["expires_at"] == datetime(2098, 12, 31, 22, tzinfo=UTC)


def test_a_table_of_keys_has_their_ends_in_the_local_zone_and_json_in_utc(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("keys", "create", "--expires", "2098-12-31T22:00:00Z").code == 0
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        assert run("keys", "list").out.splitlines()[2].endswith("yes      2099-01-01 00:00")
        assert json.loads(run("keys", "list", "--json").out)[1]["expires_at"] == "2098-12-31T22:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("when", ["soon", "2001-01-01T00:00:00Z", "0s", "30"])
def test_an_expiry_that_is_none_is_wrong_usage_and_changes_nothing(run: Run, file: Path, when: str) -> None:
    ran = run("keys", "create", "--expires", when)
    assert ran.code == 2
    assert "--expires" in ran.err
    assert file.read_text() == MINIMAL


def test_a_key_has_the_policy_that_it_was_given(run: Run, file: Path, terminal: Terminal) -> None:
    given = {"rpm": 5, "rpd": 50, "tpm": 6, "tpd": 60, "max_concurrency": 2, "quota": 2.5}
    argv = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    shown = json.loads(run("keys", "create", *argv, "--json").out)
    stored = users(file)[0]["keys"][1]
    listed = json.loads(run("keys", "list", "--json").out)
    for row in (shown, stored, listed[1]):
        assert {name: row[name] for name in given} == given
    assert {listed[0][name] for name in given} == {None}
    terminal(80)
    table = run("keys", "list").out
    assert "rpm 5" in table
    assert max(map(len, table.splitlines())) <= 80
    assert run("check").code == 0


@pytest.mark.parametrize("argv", [("--rpm", "0"), ("--tpd", "x"), ("--quota", "0"), ("--quota", "nan")])
def test_a_policy_that_means_nothing_is_wrong_usage(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    assert run("keys", "create", *argv).code == 2
    assert file.read_text() == MINIMAL


def test_without_users_a_default_user_is_made_and_said(run: Run, file: Path) -> None:
    file.write_text(MINIMAL.split("[[users]]", 1)[0])
    ran = run("keys", "create")
    assert "Made the user default" in ran.err
    tree = tomllib.loads(file.read_text())
    assert [(user["name"], len(user["keys"])) for user in tree["users"]] == [("default", 1)]
    assert tree["permissions"] == [{"user_name": "default", "model_pattern": "*"}]


def test_a_key_for_an_unknown_user_is_refused(run: Run, file: Path) -> None:
    ran = run("keys", "create", "--user", "eve")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "gproxy: there is no user eve: `gproxy users list` shows them\n"
    assert file.read_text() == MINIMAL


def test_the_list_tells_keys_apart_without_giving_one_away(run: Run, file: Path) -> None:
    run("keys", "create", "--expires", "2099-01-01T00:00:00Z")
    table, shown = run("keys", "list").out, json.loads(run("keys", "list", "--json").out)
    assert "laptop" in table
    assert "sk-alice-1" not in table
    assert [row["label"] for row in shown] == ["laptop", "key-1"]
    assert shown[0]["id"] == key_id(hash_key("sk-alice-1"))
    assert shown[1]["expires_at"] == "2099-01-01T00:00:00Z"
    assert json.loads(run("keys", "list", "--user", "nobody", "--json").out) == []


def test_no_id_is_broken_where_a_key_has_much_to_show(run: Run, file: Path) -> None:
    options = ["--model", "local/a-model-with-a-long-name-of-its-own", "--rpm", "60", "--quota", "2.5"]
    run("keys", "create", "--label", "a-laptop-with-a-long-name", "--expires", "30d", *options)
    table, shown = run("keys", "list").out, json.loads(run("keys", "list", "--json").out)
    assert [row["id"] for row in shown if row["id"] not in table] == []


def test_a_key_is_disabled_enabled_and_revoked_by_any_of_its_names(run: Run, file: Path) -> None:
    assert run("keys", "disable", "laptop").err == "Disabled alice/laptop.\n"
    assert users(file)[0]["keys"][0]["enabled"] is False
    assert run("keys", "enable", key_id(hash_key("sk-alice-1"))).code == 0
    assert users(file)[0]["keys"][0]["enabled"] is True
    assert run("keys", "revoke", "alice/laptop").code == 0
    assert "keys" not in users(file)[0]
    assert run("keys", "revoke", "alice/laptop").code == 1


def test_a_rotated_key_is_printed_once_and_replaces_the_old(run: Run, file: Path) -> None:
    key = run("keys", "rotate", "laptop").out.strip()
    assert users(file)[0]["keys"][0]["api_key_hash"] == hash_key(key)
    assert "sk-alice-1" not in file.read_text()
    assert json.loads(run("keys", "rotate", "laptop", "--json").out)["label"] == "laptop"


def test_hash_keeps_the_comment_and_the_key_working(run: Run, file: Path) -> None:
    file.write_text(MINIMAL.replace('"sk-alice-1"', '"sk-alice-1"  # old'))
    first, *more = run("keys", "hash").err.splitlines()
    assert (first, more) == (
        "Hashed alice/laptop.",
        [
            "Short enough to be found from its hash: alice/laptop.",
            "`gproxy keys rotate` replaces such a key.",
        ],
    )
    assert f'api_key_hash = "{hash_key("sk-alice-1")}"  # old\n' in file.read_text()
    assert run("keys", "hash").err == "No key stands in the file itself.\n"
    assert run("check").code == 0


def test_keys_added_by_many_processes_at_once_are_all_there(file: Path) -> None:
    def create(number: int) -> str:
        argv = [sys.executable, "-m", "gproxy", "keys", "create", "--config", str(file)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(16)))
    stored = {key["api_key_hash"]: key["label"] for key in users(file)[0]["keys"][1:]}
    assert {hash_key(key) for key in made} == set(stored)
    assert sorted(stored.values()) == sorted(f"key-{n}" for n in range(1, 17))
