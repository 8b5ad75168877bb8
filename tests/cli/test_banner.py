import io
from pathlib import Path

import pytest

from gproxy.cli import banner
from gproxy.config.schema import Config, Global, Provider, User, UserKey

URL = "http://127.0.0.1:8787"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def config(**settings: object) -> Config:
    return Config(
        globals=Global(**settings),  # type: ignore[arg-type]  # each test gives keys of [global]
        providers=(
            Provider(name="main", channel="openai"),
            Provider(name="spare", channel="anthropic"),
            Provider(name="old", channel="gemini", enabled=False),
        ),
        users=(
            User(name="alice", keys=(UserKey(label="a"), UserKey(label="b", enabled=False))),
            User(name="bob", enabled=False, keys=(UserKey(label="c"),)),
        ),
    )


def shown(found: Config, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    banner.show(found, Path("gproxy.toml"), Path("data/gproxy.db"), URL)
    return stream.getvalue()


def test_it_tells_address_files_providers_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(config(workers=2), monkeypatch).splitlines()
    assert lines[0].endswith(f" at {URL}")
    assert lines[1:] == [
        "  configuration gproxy.toml",
        "  store         data/gproxy.db",
        "  providers     main (openai), spare (anthropic); 1 disabled",
        "  keys          1",
        "  workers       2",
    ]


def test_many_providers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    many = Config(providers=tuple(Provider(name=f"p{n}", channel="demo") for n in range(9)))
    assert "p5 (demo), 3 more\n" in shown(many, monkeypatch)


def test_what_is_missing_is_said_with_what_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = shown(Config(), monkeypatch)
    assert "gproxy providers add" in told
    assert "gproxy keys create" in told


def test_a_terminal_gets_colours_unless_none_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1m" in shown(config(), monkeypatch, Terminal())
    assert "\x1b" not in shown(config(), monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(config(), monkeypatch, Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(config(), monkeypatch, Terminal())


def test_what_is_to_be_json_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(config(log_format="json"), monkeypatch) == ""
