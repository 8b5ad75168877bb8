"""The file, what goes over it, and the secrets it names, put together; nothing of it raises."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from gproxy.config import secrets, source
from gproxy.config.schema import Config, Credential, Global
from gproxy.config.source import Loaded, completed, data_dir, load_file, load_text, locate, make_data_dir
from gproxy.errors import ConfigError
from gproxy.providers import catalog

CHANNELS = {name: catalog.CHANNELS[name] for name in ("openai", "demo")}

FILE = """\
[global]
port = 1000

[[providers]]
name = "p"
channel = "openai"
credentials = [{ env = "KEY_A" }, { env = "KEY_B", label = "b" }]

[[providers]]
name = "off"
channel = "openai"
enabled = false
credentials = [{ env = "KEY_C" }]
"""


def write(folder: Path, text: str | bytes = FILE, mode: int = 0o600) -> Path:
    path = folder / "gproxy.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def read(path: Path, environ: dict[str, str] | None = None, **flags: object) -> Loaded:
    return load_file(path, channels=CHANNELS, environ=environ or {}, flags=flags)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a user's configuration folder, both empty."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_the_file_is_located_in_the_promised_order(home: Path) -> None:
    from platformdirs import user_config_path

    assert locate(None, {}) == Path("gproxy.toml")
    users = user_config_path("gproxy", appauthor=False) / "gproxy.toml"
    users.parent.mkdir(parents=True)
    users.touch()
    assert locate(None, {}) == users
    Path("gproxy.toml").touch()
    assert locate(None, {}) == Path("gproxy.toml")
    assert locate(None, {"GPROXY_CONFIG": "/etc/g.toml"}) == Path("/etc/g.toml")
    assert locate(None, {"GPROXY_CONFIG": ""}) == Path("gproxy.toml")
    assert locate(Path("x.toml"), {"GPROXY_CONFIG": "/etc/g.toml"}) == Path("x.toml")


def test_flag_goes_over_environment_over_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    ports = [
        read(path),
        read(path, {"GPROXY_PORT": "2000"}),
        read(path, {"GPROXY_PORT": "2000"}, port=3000),
        read(path, {"GPROXY_PORT": ""}),
    ]
    assert [loaded.config and loaded.config.globals.port for loaded in ports] == [1000, 2000, 3000, 1000]


def test_a_misspelt_variable_or_flag_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    for loaded, origin in (
        (read(path, {"GPROXY_PORT": "abc"}), "GPROXY_PORT"),
        (read(path, {}, max_body_bytes=1), "--max-body-bytes"),
    ):
        assert [problem.path for problem in loaded.errors] == [origin]
        assert (loaded.config, loaded.snapshot) == (None, None)


def test_variables_that_are_no_keys_are_not_looked_at(tmp_path: Path) -> None:
    loaded = read(write(tmp_path), {"GPROXY_API_KEY": "x", "GPROXY_CONFIG": "y", "GPROXY_DSN": "z"})
    assert loaded.errors == ()


def test_a_missing_secret_leaves_out_its_credential_with_a_warning(tmp_path: Path) -> None:
    """Only of providers that are enabled; the others' secrets are not even looked for."""
    loaded = read(write(tmp_path), {"KEY_B": "sk-b"})
    assert loaded.snapshot is not None
    credentials = loaded.snapshot.providers["p"].credentials
    assert [(row.name, row.secret) for row in credentials] == [("b", "sk-b")]
    assert [problem.render("gproxy.toml") for problem in loaded.warnings] == [
        'gproxy.toml:4: warning: providers[0].credentials: "p#1" is not used: '
        "the environment variable KEY_A is not set: set it and start again"
    ]
    assert loaded.snapshot.warnings == tuple(problem.render("gproxy.toml") for problem in loaded.warnings)


def test_a_ring_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten credentials each would wait as long again, and the start take a minute."""
    asked: list[str] = []

    def read_secret(credential: Credential, environ: Mapping[str, str], *, patience_s: float) -> str:
        if not credential.keyring:
            return environ[credential.env]
        asked.append(credential.keyring)
        raise secrets.KeyringSilentError("the OS keyring did not answer")

    monkeypatch.setattr(secrets, "read", read_secret)
    rows = "".join(
        f'[[providers]]\nname = "p{n}"\nchannel = "openai"\ncredentials = [{{ keyring = "k{n}" }}, '
        f'{{ env = "KEY" }}]\n'
        for n in range(3)
    )
    loaded = read(write(tmp_path, rows), {"KEY": "sk-1"})
    assert asked == ["k0"]
    assert [p.path for p in loaded.problems if "did not answer" in p.message] == [
        f"providers[{n}].credentials" for n in range(3)
    ]
    assert loaded.snapshot is not None
    assert all(len(provider.credentials) == 1 for provider in loaded.snapshot.providers.values())


def test_without_secrets_none_is_looked_for(tmp_path: Path) -> None:
    loaded = load_file(write(tmp_path), channels=CHANNELS, environ={"KEY_B": "sk-b"}, with_secrets=False)
    assert loaded.snapshot is not None
    assert loaded.snapshot.providers["p"].credentials == ()
    assert loaded.problems == ()


def test_what_was_read_without_secrets_is_completed_with_them(tmp_path: Path) -> None:
    path, environ = write(tmp_path), {"KEY_B": "sk-b"}
    bare = load_file(path, channels=CHANNELS, environ=environ, with_secrets=False)
    path.unlink()
    whole = completed(bare, path.name, environ)
    path = write(tmp_path)
    assert whole == read(path, environ)


@pytest.mark.parametrize("text", [b"\xff", b"[global", b"port = 1"])
def test_a_bad_file_is_a_problem(tmp_path: Path, text: bytes) -> None:
    loaded = read(write(tmp_path, text))
    assert len(loaded.errors) == 1
    assert (loaded.config, loaded.snapshot) == (None, None)


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    missing = read(tmp_path / "none.toml")
    assert [problem.render("none.toml") for problem in missing.errors] == [
        "none.toml: error: there is no such file; `gproxy init` makes one"
    ]
    assert len(read(tmp_path).errors) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_file_that_others_can_read_is_told_of_and_made_private_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, mode=0o644)
    environ = {"KEY_A": "a", "KEY_B": "b"}
    told = read(path, environ)
    assert [problem.render("f") for problem in told.warnings] == [
        f"f: warning: others can read it (mode 0644); `chmod go= {path}`"
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    first = load_file(path, channels=CHANNELS, environ=environ, close=True)
    second = load_file(path, channels=CHANNELS, environ=environ, close=True)
    assert [problem.message for problem in first.warnings] == [
        "others could read it (mode 0644): its mode is 0600 now"
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert second.warnings == ()


def test_text_is_read_as_a_file_is(tmp_path: Path) -> None:
    loaded = load_text(
        FILE.encode(),
        directory=tmp_path,
        channels=CHANNELS,
        environ={"KEY_A": "a", "KEY_B": "b", "GPROXY_PORT": "5"},
        flags={"data_dir": "/elsewhere"},
    )
    assert loaded.problems == ()
    assert loaded.config is not None
    assert (loaded.config.globals.port, loaded.config.globals.data_dir) == (5, "/elsewhere")


def test_tls_files_are_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    text = '[global]\ntls_certificate = "c.pem"\ntls_key = "k.pem"'
    (tmp_path / "c.pem").touch()
    loaded = read(write(tmp_path, text))
    assert [(problem.line, problem.path) for problem in loaded.errors] == [(3, "global.tls_key")]
    (tmp_path / "k.pem").touch()
    assert read(tmp_path / "gproxy.toml").errors == ()


def test_the_data_folder_is_made_private_and_relative_to_the_file(tmp_path: Path) -> None:
    config = read(write(tmp_path, "")).config
    assert config is not None
    assert data_dir(config, tmp_path) == tmp_path / "data"
    assert not (tmp_path / "data").exists()
    folder = make_data_dir(config, tmp_path)
    assert folder == tmp_path / "data"
    assert folder.is_dir()
    assert os.name == "nt" or stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert make_data_dir(config, tmp_path) == folder


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    config = read(write(tmp_path, "")).config
    assert config is not None
    with pytest.raises(ConfigError, match="data_dir"):
        make_data_dir(config, tmp_path)


@pytest.mark.parametrize("name", ["data_dir", "tls_certificate", "tls_key"])
def test_a_path_in_the_home_of_nobody_is_an_error_at_its_line(tmp_path: Path, name: str) -> None:
    paths = {"tls_certificate": "c.pem", "tls_key": "c.pem", name: "~no-such-user/x"}
    (tmp_path / "c.pem").touch()
    text = "\n".join(["[global]", *(f'{key} = "{value}"' for key, value in sorted(paths.items()))])
    errors = read(write(tmp_path, text)).errors
    assert [(problem.path, problem.message) for problem in errors] == [
        (f"global.{name}", "is in the home folder of a user that there is not")
    ]
    assert errors[0].line > 1


def test_a_data_folder_in_the_home_of_nobody_is_refused_in_one_sentence(tmp_path: Path) -> None:
    config = Config(globals=Global(data_dir="~no-such-user/x"))
    with pytest.raises(ConfigError, match="no home folder for the path ~no-such-user/x"):
        data_dir(config, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
def test_what_would_never_end_or_takes_too_long_is_not_read(tmp_path: Path) -> None:
    pipe, large, folder = tmp_path / "pipe", tmp_path / "large", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    large.touch()
    os.truncate(large, source.MOST_BYTES + 1)
    told = {path: read(path).errors[0].message for path in (pipe, large, folder)}
    assert told == {
        pipe: "is not an ordinary file",
        large: "is larger than 16 MiB",
        folder: "cannot be read: Is a directory",
    }


def test_a_secret_of_the_environment_that_stands_in_the_file_as_a_name_is_not_told(tmp_path: Path) -> None:
    secret = "fromTheEnvironment99"
    path = write(
        tmp_path, f'[global]\n"{secret}" = 1\n[[permissions]]\nuser_name = "{secret}"\nmodel_pattern = "*"\n'
    )
    for name in ("SOME_API_KEY", "GPROXY_PASSWORD"):
        told = read(path, {name: secret}).problems
        assert len(told) == 2
        assert secret not in "".join(problem.render("f") for problem in told)
    assert secret in str(read(path, {"PLACE": secret}).problems)
