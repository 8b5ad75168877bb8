import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

from gproxy.server.process.watch import look
from tests.cli.conftest import MINIMAL, Run
from tests.kit.accounts import EMAIL, key_file


class MemoryRing(KeyringBackend):
    """A keyring that works."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[f"{service}/{username}"] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError


@pytest.fixture
def ring(run: Run, monkeypatch: pytest.MonkeyPatch) -> MemoryRing:
    ring = MemoryRing()
    monkeypatch.setattr("keyring.get_keyring", lambda: ring)
    return ring


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


def test_a_key_goes_into_the_keyring_and_out_again_with_its_provider(
    run: Run, file: Path, ring: MemoryRing
) -> None:
    assert run("providers", "add", "up", "--channel", "openai", "--keyring", stdin="sk-1\n").code == 0
    assert provider(file, "up")["credentials"] == [{"keyring": "up"}]
    argv = ("providers", "set-key", "up", "--label", "spare")
    assert run(*argv, "--keyring", stdin="sk-2").code == 0
    assert run(*argv, "--keyring-entry", "other", stdin="sk-3").code == 0
    assert ring.entries == {"gproxy/up": "sk-1", "gproxy/other": "sk-3"}
    assert "sk-" not in file.read_text().replace("sk-alice-1", "")
    assert run("providers", "remove", "up").code == 0
    assert ring.entries == {}
    assert file.read_text() == MINIMAL


def test_an_entry_that_another_provider_uses_stays(run: Run, file: Path, ring: MemoryRing) -> None:
    argv = ("providers", "add", "one", "--channel", "openai", "--keyring-entry", "shared")
    assert run(*argv, stdin="sk-1").code == 0
    with file.open("a") as text:
        text.write(
            '[[providers]]\nname = "two"\nchannel = "openai"\ncredentials = [{ keyring = "shared" }]\n'
        )
    assert run("providers", "set-key", "one", "--keyring-entry", "shared", stdin="sk-2").code == 1
    run("providers", "remove", "one")
    assert ring.entries == {"gproxy/shared": "sk-1"}
    ring.entries.clear()
    ran = run("providers", "remove", "two")
    assert ran.code == 0
    assert "keyring entry shared is left" in ran.err


def test_a_refused_name_stores_nothing(run: Run, file: Path, ring: MemoryRing) -> None:
    assert run("providers", "add", "local", "--channel", "openai", "--keyring", stdin="sk-1").code == 1
    assert ring.entries == {}


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


def test_set_key_alone_keeps_the_place_where_the_key_is(run: Run, file: Path, ring: MemoryRing) -> None:
    run("providers", "add", "a", "--channel", "openai", "--literal", stdin="sk-1")
    run("providers", "add", "b", "--channel", "openai", "--keyring-entry", "entry", stdin="sk-1")
    for name in "ab":
        assert run("providers", "set-key", name, stdin="sk-2").code == 0
    assert provider(file, "a")["credentials"] == [{"api_key": "sk-2"}]
    assert provider(file, "b")["credentials"] == [{"keyring": "entry"}]
    assert ring.entries == {"gproxy/entry": "sk-2"}
    run("providers", "set-key", "a", "--literal", "--label", "spare", stdin="sk-3")
    several = run("providers", "set-key", "a", stdin="sk-4")
    assert (several.code, "name one with --label, a#1, spare" in several.err) == (1, True)
    assert run("providers", "set-key", "a", "--label", "a#1", stdin="sk-4").code == 0
    assert [each["api_key"] for each in provider(file, "a")["credentials"]] == ["sk-4", "sk-3"]


def test_set_key_alone_asks_for_none_where_it_cannot_put_it(run: Run, file: Path) -> None:
    run("providers", "add", "up", "--channel", "openai", "--env", "MY_KEY")
    before = file.read_text()
    ran = run("providers", "set-key", "up", stdin="sk-1")
    assert (ran.code, "is taken from MY_KEY: export another there" in ran.err) == (1, True)
    assert run("providers", "set-key", "local", stdin="sk-1").code == 2
    assert run("providers", "set-key", "up", "--label", "new", stdin="sk-1").code == 2
    assert run("providers", "set-key", "nobody", stdin="sk-1").code == 1
    assert file.read_text() == before


def test_a_provider_in_use_is_removed_only_with_what_uses_it(run: Run, file: Path) -> None:
    run("alias", "set", "fast", "local/a")
    ran = run("providers", "remove", "local")
    assert ran.code == 1
    assert "alias fast" in ran.err
    assert "--cascade" in ran.err
    assert run("providers", "remove", "local", "--cascade").err == "Removed local, alias fast.\n"
    assert set(tomllib.loads(file.read_text())) == {"users", "permissions"}


def test_another_key_under_the_same_entry_is_told_to_a_server_by_a_new_file(
    run: Run, file: Path, ring: MemoryRing
) -> None:
    run("providers", "add", "up", "--channel", "openai", "--keyring", stdin="sk-1")
    before, text = look(file), file.read_text()
    assert run("providers", "set-key", "up", "--keyring", stdin="sk-2").code == 0
    assert ring.entries == {"gproxy/up": "sk-2"}
    assert file.read_text() == text
    assert look(file) != before


def test_an_entry_for_a_label_is_no_other_providers(run: Run, file: Path, ring: MemoryRing) -> None:
    for name in ("openai", "openai-main"):
        run("providers", "add", name, "--channel", "openai", "--keyring", stdin=f"sk-{name}")
    assert run("providers", "set-key", "openai", "--label", "main", "--keyring", stdin="sk-label").code == 0
    assert ring.entries == {
        "gproxy/openai": "sk-openai",
        "gproxy/openai-main": "sk-openai-main",
        "gproxy/openai#main": "sk-label",
    }
    argv = ("providers", "set-key", "openai", "--label", "main", "--keyring-entry", "openai-main")
    assert run(*argv, stdin="sk-other").code == 1
    assert ring.entries["gproxy/openai-main"] == "sk-openai-main"


@pytest.mark.parametrize("name", ["Bad Name", "v1"])
def test_a_provider_that_cannot_be_stores_nothing(run: Run, file: Path, ring: MemoryRing, name: str) -> None:
    assert run("providers", "add", name, "--channel", "openai", "--keyring", stdin="sk-1").code == 1
    assert ring.entries == {}
    assert file.read_text() == MINIMAL


def test_a_file_with_errors_keeps_the_key_that_it_has(run: Run, file: Path, ring: MemoryRing) -> None:
    run("providers", "add", "up", "--channel", "openai", "--keyring", stdin="sk-1")
    file.write_text(file.read_text() + "wrong = 1\n")
    ran = run("providers", "set-key", "up", "--keyring", stdin="sk-2")
    assert ran.code == 1
    assert "wrong" in ran.err
    assert ring.entries == {"gproxy/up": "sk-1"}


@pytest.mark.parametrize("place", ["--literal", "--keyring"])
@pytest.mark.parametrize("secret", ["sk-abc def", "sk-ü", "sk-\udcff"])
def test_a_secret_that_cannot_be_used_is_refused(
    run: Run, file: Path, ring: MemoryRing, place: str, secret: str
) -> None:
    ran = run("providers", "add", "up", "--channel", "openai", place, stdin=f"{secret}\n")
    assert ran.code == 1
    assert "which no key has" in ran.err
    assert "sk-" not in ran.err
    assert file.read_text() == MINIMAL
    assert ring.entries == {}


@pytest.mark.parametrize("argv", [("--label", "", "--literal"), ("--keyring-entry", "")])
def test_an_empty_name_is_wrong_usage(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    assert run("providers", "set-key", "local", *argv, stdin="sk-1").code == 2
    assert file.read_text() == MINIMAL


def test_a_service_account_is_piped_in_whole_and_kept_in_one_line(
    run: Run, file: Path, ring: MemoryRing
) -> None:
    text = json.dumps(key_file("https://oauth2.example/token"), indent=2)
    assert run("providers", "add", "v", "--channel", "vertex", "--literal", stdin=text).code == 0
    kept = json.loads(provider(file, "v")["credentials"][0]["api_key"])
    assert (kept["client_email"], kept["token_uri"]) == (EMAIL, "https://oauth2.example/token")
    assert run("providers", "set-key", "v", "--keyring", stdin=text).code == 0
    assert json.loads(ring.entries["gproxy/v"]) == kept
    assert provider(file, "v")["credentials"] == [{"keyring": "v"}]
    listed = json.loads(run("providers", "list", "--json").out)
    assert listed[1]["credentials"] == [{"name": "v#1", "problem": None}]


def test_a_service_account_that_is_none_is_refused_before_anything_is_written(run: Run, file: Path) -> None:
    before = file.read_bytes()
    ran = run("providers", "add", "v", "--channel", "vertex", "--literal", stdin="sk-canary")
    assert ran.code == 1
    assert "neither a service account's JSON" in ran.err
    assert "canary" not in ran.err
    assert file.read_bytes() == before


def test_where_a_service_account_usually_is_is_where_googles_own_tools_look(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    assert run("providers", "add", "v", "--channel", "vertex").code == 0
    assert provider(file, "v")["credentials"] == [{"env": "GOOGLE_APPLICATION_CREDENTIALS"}]


def test_an_address_stands_in_one_line_also_where_it_is_long(run: Run, file: Path) -> None:
    url = "https://an-address-that-is-quite-long.example.com/with/a/path/that/goes/on/v1"
    file.write_text(file.read_text().replace("http://127.0.0.1:1", url))
    assert url in run("providers", "list").out
