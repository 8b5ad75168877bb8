import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gproxy.config.keys import hash_key
from gproxy.server.process.lock import held
from tests.cli.conftest import Run


@pytest.fixture
def key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment, which `run` has emptied."""
    monkeypatch.setenv("GPROXY_API_KEY", "op_mine")


@pytest.mark.usefixtures("file", "key")
def test_lines_name_the_key_and_do_not_hold_it(run: Run) -> None:
    ran = run("env", "anthropic", "--shell", "posix")
    assert ran.out.splitlines() == [
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:8787",
        'export ANTHROPIC_API_KEY="$GPROXY_API_KEY"',
        "export GPROXY_URL=http://127.0.0.1:8787",
        "unset ANTHROPIC_AUTH_TOKEN",
    ]
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.usefixtures("file", "key")
def test_a_shell_takes_the_lines(run: Run) -> None:
    lines = run("env", "claude-code", "--shell", "posix").out
    script = f'{lines}\necho "$ANTHROPIC_AUTH_TOKEN,$ANTHROPIC_BASE_URL,$ANTHROPIC_API_KEY"'
    env = {"GPROXY_API_KEY": "op_'x y", "ANTHROPIC_API_KEY": "other"}
    shell = shutil.which("sh") or "/bin/sh"
    done = subprocess.run(
        (shell, "-euc", script.replace('$ANTHROPIC_API_KEY"', '${ANTHROPIC_API_KEY-none}"')),
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "op_'x y,http://127.0.0.1:8787,none\n"


@pytest.mark.usefixtures("file", "key")
@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("fish", "set -gx OPENAI_BASE_URL http://127.0.0.1:8787/v1"),
        ("fish", 'set -gx OPENAI_API_KEY "$GPROXY_API_KEY"'),
        ("powershell", "$env:OPENAI_BASE_URL = 'http://127.0.0.1:8787/v1'"),
        ("powershell", "$env:OPENAI_API_KEY = $env:GPROXY_API_KEY"),
    ],
)
def test_each_shell_has_its_own_way(run: Run, shell: str, line: str) -> None:
    assert line in run("env", "openai", "--shell", shell).out.splitlines()


@pytest.mark.usefixtures("file", "key")
def test_the_shell_is_that_of_the_user(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert run("env", "openai").out.startswith("set -gx ")
    monkeypatch.setenv("SHELL", "/bin/zsh")
    assert run("env", "openai").out.startswith("export ")


def test_a_key_is_made_if_asked_and_stands_in_the_lines(run: Run, file: Path) -> None:
    ran = run("env", "gemini", "--make-key", "--json")
    key = json.loads(ran.out)["set"]["GEMINI_API_KEY"]
    assert hash_key(key) in file.read_text()
    assert "Made the key alice/key-1" in ran.err


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_without_a_key_no_line_empties_the_clients_own(run: Run, options: tuple[str, ...]) -> None:
    ran = run("env", "openai", *options)
    assert (ran.code, ran.out) == (1, "")
    assert "GPROXY_API_KEY is not set here: export it" in ran.err
    assert "--make-key" in ran.err


@pytest.mark.usefixtures("file")
def test_scripts_that_are_no_client_of_the_table_get_address_and_key_too(run: Run) -> None:
    found = json.loads(run("env", "openai", "--make-key", "--url", "http://127.0.0.1:9/", "--json").out)[
        "set"
    ]
    assert found["GPROXY_URL"] == "http://127.0.0.1:9"
    assert found["GPROXY_API_KEY"] == found["OPENAI_API_KEY"]


@pytest.mark.usefixtures("file", "key")
def test_codex_is_told_of_its_file(run: Run) -> None:
    ran = run("env", "codex", "--url", "http://127.0.0.1:9/")
    assert 'base_url = "http://127.0.0.1:9/v1"' in ran.err


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("argv", [("nobody",), ("openai", "--shell", "tcsh"), ("openai", "--user", "alice")])
def test_what_is_not_known_is_wrong_usage(run: Run, argv: tuple[str, ...]) -> None:
    assert run("env", *argv).code == 2


def test_a_server_at_another_address_is_told_of(run: Run, file: Path) -> None:
    file.write_text(f"[global]\nport = 9\n\n{file.read_text()}")
    folder = file.with_name("data")
    folder.mkdir()
    with held(folder):
        ran = run("env", "openai", "--make-key")
    assert ran.code == 0
    assert "127.0.0.1:9" in ran.out
    assert "at another address: give that with --url" in ran.err
    assert "another address" not in run("env", "openai", "--make-key").err
