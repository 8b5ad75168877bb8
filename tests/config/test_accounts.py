"""A service account is read in every form that people have it in; what is refused is not repeated."""

import json
import sys
from pathlib import Path

import pytest

from gproxy.config import accounts, schema, secrets
from gproxy.config.load import load
from gproxy.config.redact import redacted
from gproxy.config.scrub import pieces
from gproxy.config.source import load_text
from gproxy.errors import ConfigError
from gproxy.providers.catalog import CHANNELS
from tests.kit.accounts import EMAIL, PROJECT, key_file, pem

URI = "https://oauth2.example/token"
KEPT = {
    "project_id": PROJECT,
    "client_email": EMAIL,
    "private_key": pem(),
    "private_key_id": "0123456789abcdef",
    "token_uri": URI,
}
FILE = '[[providers]]\nname = "v"\nchannel = "{}"\ncredentials = [{{ {} }}]\n'


def toml(fields: dict[str, str]) -> str:
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in fields.items())


def test_the_text_and_the_path_of_the_file_come_to_the_same(tmp_path: Path) -> None:
    text = json.dumps(key_file(URI), indent=2)
    path = tmp_path / "key.json"
    path.write_text(text)
    assert json.loads(accounts.read(text, "it")) == KEPT
    assert accounts.read(str(path), "it") == accounts.read(text, "it")
    assert "\n" not in accounts.read(text, "it")


def test_without_an_endpoint_it_is_googles_own() -> None:
    read = accounts.read(json.dumps(key_file(None)), "it")
    assert json.loads(read)["token_uri"] == accounts.TOKEN_URI


def test_what_was_read_is_read_again_as_it_is() -> None:
    once = accounts.read(json.dumps(key_file(URI)), "it")
    assert accounts.read(once, "it") == once


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sk-canary-1", "neither a service account's JSON nor the path"),
        ("~nobody-here/sk-canary-1", "neither a service account's JSON nor the path"),
        ("a\0sk-canary-1", "neither a service account's JSON nor the path"),
        ('{"sk-canary-1": ', "is no service account's JSON"),
        (json.dumps(key_file(URI, private_key=None, client_email=7)), "lacks client_email, private_key:"),
        (json.dumps(key_file(URI, type="authorized_user")), "of the type authorized_user"),
        (json.dumps(key_file(URI, type="sk-canary-1")), "of the type another"),
        (json.dumps(key_file(URI, private_key="sk-canary-1")), "private_key that is no PEM"),
        (json.dumps(key_file("file:///sk-canary-1")), "token_uri that is no address"),
    ],
)
def test_anything_else_is_refused_without_repeating_it(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match="the variable V ") as caught:
        accounts.read(text, "the variable V")
    assert told in caught.value.message
    assert "canary" not in caught.value.message


def test_a_folder_or_a_long_file_is_no_key_file(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"{" + b" " * 100_000)
    for path in (tmp_path, big):
        with pytest.raises(ConfigError, match="JSON"):
            accounts.read(str(path), "it")


def test_without_the_extra_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(ConfigError, match="`pip install google-auth cryptography`"):
        accounts.read(json.dumps(key_file(URI)), "it")


def test_a_credential_of_such_a_channel_is_read_from_env_text_and_table(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key_file(URI)))
    environ = {"TEXT": json.dumps(key_file(URI)), "PATH_OF_IT": str(path)}
    given = [
        'env = "TEXT"',
        'env = "PATH_OF_IT"',
        f"api_key = {json.dumps(json.dumps(key_file(URI)))}",
        toml(key_file(URI)),
    ]
    for credential in given:
        loaded = load_text(
            FILE.format("vertex", credential).encode(), directory=tmp_path, channels=CHANNELS, environ=environ
        )
        assert loaded.snapshot is not None
        assert loaded.problems == ()
        (found,) = loaded.snapshot.providers["v"].credentials
        assert (found.name, json.loads(found.secret or "")) == ("v#1", KEPT)


def test_one_that_cannot_be_used_is_a_warning_and_left_out(tmp_path: Path) -> None:
    text = FILE.format("vertex", 'env = "NOT_SET"').encode()
    loaded = load_text(text, directory=tmp_path, channels=CHANNELS, environ={"NOT_SET": "/no/such/file"})
    assert loaded.snapshot is not None
    assert loaded.snapshot.providers["v"].credentials == ()
    (problem,) = loaded.problems
    assert problem.severity == "warning"
    assert "NOT_SET is neither a service account" in problem.message


@pytest.mark.parametrize("channel", ["openai", "vertexexpress"])
def test_another_channel_has_no_use_for_the_fields_and_says_so(channel: str) -> None:
    config, problems = load(FILE.format(channel, toml(key_file(URI))).encode(), channels=CHANNELS)
    assert config is not None
    assert config.providers[0].credentials == ()
    told = "\n".join(problem.render("f") for problem in problems)
    assert "private_key" in told
    assert pem().splitlines()[1] not in told


def test_fields_beside_another_form_are_no_second_secret() -> None:
    text = FILE.format("vertex", f'env = "A", {toml(key_file(URI))}')
    config, problems = load(text.encode(), channels=CHANNELS)
    assert config is not None
    assert config.providers[0].credentials[0].env == "A"
    assert "have no effect" in problems[0].message


def test_it_is_shown_nowhere() -> None:
    config, _ = load(FILE.format("vertex", toml(key_file(URI))).encode(), channels=CHANNELS)
    assert config is not None
    (credential,) = config.providers[0].credentials
    line = pem().splitlines()[1]
    assert line in credential.api_key
    assert line not in repr(credential)
    shown = redacted(config)["providers"][0]["credentials"]
    assert shown == [{"api_key": "[redacted]", "label": "v#1"}]


def test_what_must_not_be_shown_of_it_are_the_lines_of_its_key() -> None:
    parts = set(pieces(accounts.read(json.dumps(key_file(URI)), "it")))
    assert {line for line in pem().splitlines() if "-----" not in line} <= parts
    assert not {PROJECT, EMAIL, URI} & parts


def test_a_ring_keeps_it_whole() -> None:
    import keyring

    from tests.config.test_secrets import MemoryRing

    before = keyring.get_keyring()
    try:
        keyring.set_keyring(MemoryRing())
        secrets.store("v", accounts.read(json.dumps(key_file(URI)), "it"))
        read = secrets.read(schema.Credential(keyring="v", service_account=True), {})
        assert json.loads(read) == KEPT
    finally:
        keyring.set_keyring(before)
