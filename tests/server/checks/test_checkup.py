import socket
from pathlib import Path

import pytest

from gproxy.config import schema, secrets
from gproxy.config.load import load
from gproxy.config.problems import Problem
from gproxy.errors import ConfigError
from gproxy.ledger.store import open_store
from gproxy.providers.catalog import CHANNELS
from gproxy.server.checks import checkup
from gproxy.server.checks.checkup import Finding, machine, of_problems, serving
from tests.kit.gateway import Gateway
from tests.server.checks.test_local import CONFIG
from tests.server.transport.test_dialing import answering


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "gproxy.toml").write_text(CONFIG)
    tmp_path.chmod(0o700)
    return tmp_path / "gproxy.toml"


def config(text: str = CONFIG, *, port: int = 0) -> schema.Config:
    found, _ = load(f"[global]\nport = {port}\n{text}".encode(), channels=CHANNELS)
    assert found is not None
    return found


def about(subject: str, path: Path, found: schema.Config) -> list[Finding]:
    return [each for each in machine(found, path) if each.about == subject]


def test_a_good_machine_has_nothing_wrong(path: Path) -> None:
    found = list(machine(config(), path))
    assert {each.about for each in found} == {"permissions", "keyring", "SQLite", "store", "port"}
    assert not [each for each in found if each.state == "wrong"]
    assert not serving(config(), path.parent)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (CONFIG.replace('name = "demo"', 'name = "demo"\nenabled = false'), "providers"),
        (CONFIG.replace('label = "a"', "enabled = false"), "keys"),
        (CONFIG.partition("[[permissions]]")[0], "permissions"),
    ],
)
def test_a_file_that_serves_nobody_is_told_with_what_to_do(path: Path, text: str, subject: str) -> None:
    wrong = [each for each in machine(config(text), path) if each.state == "wrong"]
    assert [each.about for each in wrong] == [subject]
    assert wrong[0].fix.startswith("`gproxy ")


def test_a_tls_key_that_others_can_read_is_told_with_what_to_do(path: Path) -> None:
    (path.parent / "key.pem").touch(0o644)
    tls = config('tls_certificate = "cert.pem"\ntls_key = "key.pem"\n' + CONFIG)
    assert Finding(
        "permissions", "warning", "others can read tls_key", f"`chmod go= {path.parent / 'key.pem'}`"
    ) in about("permissions", path, tls)


def test_what_others_can_read_or_replace_is_told(path: Path) -> None:
    open_store(path.parent / "data" / "gproxy.db").close()
    (path.parent / "data" / "gproxy.db").chmod(0o644)
    path.parent.chmod(0o777)
    try:
        found = about("permissions", path, config())
    finally:
        path.parent.chmod(0o700)
    assert [(each.state, each.fix.split()[0]) for each in found] == [
        ("wrong", "`chmod"),
        ("warning", "`chmod"),
    ]
    assert "gproxy.db" in found[1].told


def test_a_keyring_is_wrong_only_where_it_is_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> str:
        raise ConfigError("there is no OS keyring here (fail.Keyring)")

    monkeypatch.setattr(secrets, "backend", none)
    assert about("keyring", path, config())[0].state == "ok"
    needs = config(
        CONFIG.replace('channel = "demo"', 'channel = "openai"\ncredentials = [{ keyring = "x" }]')
    )
    (found,) = about("keyring", path, needs)
    assert (found.state, "fail.Keyring" in found.told) == ("wrong", True)


def test_an_sqlite_with_a_fault_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "SQLite 3.40.1 can lose rows; install pysqlite3."
    monkeypatch.setattr("gproxy.ledger.sqlite.known_fault", lambda: fault)
    (found,) = about("SQLite", path, config())
    assert found == Finding("SQLite", "warning", "SQLite 3.40.1 can lose rows", "install pysqlite3")


def test_a_store_that_is_none_is_wrong_and_little_room_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "comes with the first" in about("store", path, config())[0].told
    (path.parent / "data").mkdir(mode=0o700)
    store = path.parent / "data" / "gproxy.db"
    store.write_bytes(b"no database at all" * 100)
    assert [each.state for each in about("store", path, config())] == ["wrong"]
    store.unlink()
    monkeypatch.setattr(checkup, "_LITTLE_BYTES", 1 << 60)
    assert [each.state for each in about("store", path, config())] == ["warning", "ok"]


def test_a_port_that_another_program_has_is_wrong(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(answering(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n").rpartition(":")[2])
    (found,) = about("port", path, config(port=port))
    assert (found.state, "does not answer as gproxy" in found.told) == ("wrong", True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(checkup, "_HEALTH_S", 0.2)
        assert about("port", path, config(port=silent.getsockname()[1]))[0].state == "wrong"


def test_a_server_of_ours_is_told_from_one_of_another_store(path: Path) -> None:
    with Gateway(path.parent, CONFIG) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        (ours,) = about("port", path, config(port=port))
        assert (ours.state, ours.told) == ("ok", f"a server runs at {gateway.url}")
        assert serving(config(), path.parent)
        (path.parent / "sub").mkdir()
        (other,) = about("port", path.parent / "sub" / "gproxy.toml", config(port=port))
        assert (other.state, "another configuration" in other.told) == ("wrong", True)
        (elsewhere,) = about("port", path, config())
        assert "at another address" in elsewhere.told


def test_problems_of_the_file_have_their_place_and_variables_are_named() -> None:
    problems = (Problem("error", 3, "users[0].nam", "unknown key", 'did you mean "name"?'),)
    wrong, note = of_problems(problems, "g.toml", {"GPROXY_PORT": "9"})
    assert wrong == Finding(
        "configuration", "wrong", "g.toml:3: users[0].nam: unknown key", 'did you mean "name"?'
    )
    assert (note.state, "GPROXY_PORT of this terminal" in note.told) == ("ok", True)
