"""By a `systemctl` of our own that writes down what it is told; the real one would change the tester's session."""

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.kit.fulldisk import full_disk

WITH_VARIABLE = """\
[[providers]]
name = "openai-main"
channel = "openai"
credentials = [{ env = "OPENAI_API_KEY" }]
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What the service manager was told since; it fails if there is a file `fails`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "told"
    log.touch()
    for name in ("systemctl", "launchctl"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho {name} "$@" >> {log}\n'
            f'[ ! -e {tmp_path}/fails ] || {{ echo "no bus" >&2; exit 1; }}\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    return lambda: log.read_text().splitlines()


def unit(tmp_path: Path) -> Path:
    return tmp_path / "home" / "systemd" / "user" / "gproxy.service"


def test_without_yes_the_file_is_printed_and_nothing_is_done(
    run: Run, file: Path, told: Callable[[], list[str]], tmp_path: Path
) -> None:
    ran = run("service", "install")
    assert ran.code == 1
    assert f"--config {file}" in ran.out
    assert "systemctl --user enable gproxy" in ran.out
    assert "--yes" in ran.err
    assert not unit(tmp_path).exists()
    assert told() == []


def test_a_service_is_installed_shown_and_removed(
    run: Run, file: Path, told: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert run("service", "status").out.startswith("systemd: not installed")
    assert run("service", "install", "--yes").code == 0
    assert f"ExecStart={sys.executable} -m gproxy serve --config {file}" in unit(tmp_path).read_text()
    assert stat.S_IMODE(unit(tmp_path).stat().st_mode) == 0o600
    assert told() == [
        f"systemctl --user {verb}" for verb in ("daemon-reload", "enable gproxy", "restart gproxy")
    ]
    ran = run("service", "status", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["running"] is True
    assert run("service", "uninstall").code == 1
    assert unit(tmp_path).exists()
    assert run("service", "uninstall", "--yes").code == 0
    assert not unit(tmp_path).exists()
    assert told()[-2:] == ["systemctl --user disable --now gproxy", "systemctl --user daemon-reload"]
    assert run("service", "status").code == 1
    assert "nothing is installed" in run("service", "uninstall", "--yes").err


def test_variables_of_credentials_are_asked_for_in_a_private_file_and_never_in_the_unit(
    run: Run, file: Path, told: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(WITH_VARIABLE)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-4711")
    ran = run("service", "install", "--yes")
    env_file = tmp_path / "gproxy.env"
    assert "#OPENAI_API_KEY=\n" in env_file.read_text()
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert "OPENAI_API_KEY" in ran.err
    assert "sk-secret-4711" not in unit(tmp_path).read_text() + env_file.read_text() + ran.out + ran.err
    env_file.write_text("OPENAI_API_KEY=sk-mine\n")
    ran = run("service", "install", "--yes")
    assert env_file.read_text() == "OPENAI_API_KEY=sk-mine\n"
    assert "OPENAI_API_KEY" not in ran.err


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_file_that_the_disk_has_no_room_for_is_not_left_half(
    run: Run, file: Path, told: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(WITH_VARIABLE)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-4711")
    with full_disk():
        ran = run("service", "install", "--yes")
    assert (ran.code, "gproxy.env cannot be written" in ran.err) == (1, True)
    assert list(tmp_path.glob("gproxy.env*")) == []
    assert told() == []


def test_a_manager_that_refuses_is_quoted(
    run: Run, file: Path, told: Callable[[], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "fails").touch()
    ran = run("service", "install", "--yes")
    assert ran.code == 1
    assert "`systemctl --user daemon-reload` failed: no bus" in ran.err


def test_a_configuration_with_errors_is_not_installed(
    run: Run, file: Path, told: Callable[[], list[str]], tmp_path: Path
) -> None:
    file.write_text("[global]\nprot = 1\n")
    assert run("service", "install", "--yes").code == 1
    assert not unit(tmp_path).exists()


def test_macos_has_an_agent_that_is_loaded_anew(
    run: Run,
    file: Path,
    told: Callable[[], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    agent = tmp_path / "Library" / "LaunchAgents" / "gproxy.serve.plist"
    assert run("service", "install", "--yes").code == 0
    assert run("service", "install", "--yes").code == 0
    bootstrap = f"launchctl bootstrap gui/{os.getuid()} {agent}"
    assert told() == [bootstrap, f"launchctl bootout gui/{os.getuid()}/gproxy.serve", bootstrap]
    assert run("service", "uninstall", "--yes").code == 0
    assert not agent.exists()


def test_without_a_manager_it_says_so(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run("service", "install", "--yes")
    assert ran.code == 1
    assert "neither systemd nor launchd" in ran.err
