import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import MINIMAL, Run


def provider(path: Path, name: str) -> dict[str, Any]:
    tables = tomllib.loads(path.read_text())["providers"]
    return next(table for table in tables if table["name"] == name)


def test_a_key_from_the_environment_is_named_not_read(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    ran = run("providers", "add", "up", "--channel", "openai", "--env", "SOME_KEY")
    assert (ran.code, ran.err) == (0, "Added up. Clients call its models as up/MODEL.\n")
    assert provider(file, "up") == {"name": "up", "channel": "openai", "credentials": [{"env": "SOME_KEY"}]}
    assert file.read_text().startswith('[[providers]]\nname = "local"')
    assert file.read_text().index('"up"') < file.read_text().index("[[users]]")


def test_an_unset_variable_is_said_and_accepted(run: Run, file: Path) -> None:
    ran = run("providers", "add", "up", "--channel", "openai", "--env", "SOME_KEY")
    assert ran.code == 0
    assert "SOME_KEY is not set here" in ran.err


def test_the_usual_variable_is_taken_where_nothing_is_said(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("providers", "add", "up", "--channel", "openai").code == 2
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert run("providers", "add", "up", "--channel", "openai").code == 0
    assert provider(file, "up")["credentials"] == [{"env": "OPENAI_API_KEY"}]


def test_a_literal_key_is_piped_in(run: Run, file: Path) -> None:
    argv = ("providers", "add", "up", "--channel", "custom", "--base-url", "http://h:1", "--literal")
    ran = run(*argv, "--protocol", "openai_chat", "--protocol", "gemini", stdin="sk-piped\n")
    assert ran.code == 0
    assert "sk-piped" not in ran.out + ran.err
    assert provider(file, "up") == {
        "name": "up",
        "channel": "custom",
        "settings": {"base_url": "http://h:1", "protocols": ["openai_chat", "gemini"]},
        "credentials": [{"api_key": "sk-piped"}],
    }


def test_no_secret_on_standard_input_is_a_failure(run: Run, file: Path) -> None:
    ran = run("providers", "add", "up", "--channel", "openai", "--literal", stdin="\n")
    assert ran.code == 1
    assert "pipe it in" in ran.err
    assert file.read_text() == MINIMAL


def test_without_a_keyring_the_other_ways_are_named(run: Run, file: Path) -> None:
    ran = run("providers", "add", "up", "--channel", "openai", "--keyring", stdin="sk-piped")
    assert ran.code == 1
    assert "no OS keyring" in ran.err
    assert "--env" in ran.err
    assert file.read_text() == MINIMAL


@pytest.mark.parametrize(
    "argv",
    [
        ("--channel", "opnai"),
        ("--channel", "openai", "--env", "A", "--literal"),
        ("--channel", "openai", "--keyring", "--literal"),
        (),
    ],
)
def test_wrong_usage_changes_nothing(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    assert run("providers", "add", "up", *argv).code == 2
    assert file.read_text() == MINIMAL


@pytest.mark.parametrize("name", ["v1", "Up", "a b", "local"])
def test_a_name_that_cannot_be_is_a_failure(run: Run, file: Path, name: str) -> None:
    assert run("providers", "add", name, "--channel", "openai", "--env", "A").code == 1
    assert file.read_text() == MINIMAL


def test_the_list_tells_which_keys_can_be_read_and_none_of_them(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET_KEY", "sk-secret")
    run("providers", "add", "up", "--channel", "openai", "--env", "SET_KEY")
    run("providers", "set-key", "up", "--env", "UNSET_KEY", "--label", "spare")
    row = json.loads(run("providers", "list", "--json").out)[1]
    assert [(c["name"], bool(c["problem"])) for c in row["credentials"]] == [("up#1", False), ("spare", True)]
    assert row["base_url"] == "https://api.openai.com"
    table = run("providers", "list").out
    assert "up#1: ok" in table
    assert "sk-secret" not in table


def test_set_key_replaces_the_only_key_in_its_place(run: Run, file: Path) -> None:
    run("providers", "add", "up", "--channel", "openai", "--env", "A")
    assert run("providers", "set-key", "up", "--literal", stdin="sk-new").code == 0
    assert provider(file, "up")["credentials"] == [{"api_key": "sk-new"}]
    assert run("providers", "set-key", "up").code == 2


def test_a_provider_in_use_is_removed_only_with_what_uses_it(run: Run, file: Path) -> None:
    run("alias", "set", "fast", "local/a")
    ran = run("providers", "remove", "local")
    assert ran.code == 1
    assert "alias fast" in ran.err
    assert "--cascade" in ran.err
    assert run("providers", "remove", "local", "--cascade").err == "Removed local, alias fast.\n"
    assert set(tomllib.loads(file.read_text())) == {"users", "permissions"}
