"""One way to run a command: in this process, in a folder of its own, with nothing of the tester's environment."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from keyring.backends import fail

from gproxy.cli.main import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]

MINIMAL = """\
[[providers]]
name = "local"
channel = "custom"
settings = { base_url = "http://127.0.0.1:1" }

[[users]]
name = "alice"

[[users.keys]]
label = "laptop"  # hers
api_key = "sk-alice-1"

[[permissions]]
user_name = "alice"
model_pattern = "*"
"""


Terminal = Callable[[int], None]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """`terminal(80)`: stdout is one of so many columns from here on, without colours."""

    def become(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    return become


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """`run("keys", "list", stdin="…")` in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("GPROXY_") or name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("keyring.get_keyring", fail.Keyring)

    def call(*argv: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(argv)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small valid `gproxy.toml` in the folder that `run` runs in."""
    path = tmp_path / "gproxy.toml"
    path.write_text(MINIMAL)
    path.chmod(0o600)
    return path
