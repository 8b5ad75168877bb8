import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gproxy.cli import units

HOME = Path("/home/alice")
SERVICE = units.Service(
    program=("/opt/gproxy/bin/python", "-m", "gproxy", "serve", "--config", "/home/alice/gproxy.toml"),
    folder=HOME,
    env_file=HOME / "gproxy.env",
    stop_seconds=60,
)


def odd(name: str) -> units.Service:
    folder = Path("/home") / name
    return units.Service(
        program=(sys.executable, "-m", "gproxy", "serve", "--config", str(folder / "gproxy.toml")),
        folder=folder,
        env_file=folder / "gproxy.env",
        stop_seconds=60,
    )


def test_the_unit_is_below_the_users_configuration_folder() -> None:
    assert units.systemd({}, HOME).path == HOME / ".config/systemd/user/gproxy.service"
    assert units.systemd({"XDG_CONFIG_HOME": "/c"}, HOME).path == Path("/c/systemd/user/gproxy.service")


def test_the_unit_names_program_folder_and_environment_file() -> None:
    lines = units.systemd_text(SERVICE).splitlines()
    assert "ExecStart=/opt/gproxy/bin/python -m gproxy serve --config /home/alice/gproxy.toml" in lines
    assert "WorkingDirectory=/home/alice" in lines
    assert "EnvironmentFile=-/home/alice/gproxy.env" in lines
    assert "TimeoutStopSec=60" in lines


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("my files", '"/home/my files/gproxy.toml"'),
        ("50%", '"/home/50%%/gproxy.toml"'),
        ("a$HOME", '"/home/a$$HOME/gproxy.toml"'),
        ('a"b', '"/home/a\\"b/gproxy.toml"'),
    ],
)
def test_a_word_that_systemd_would_read_otherwise_is_quoted(name: str, written: str) -> None:
    assert f" --config {written}\n" in units.systemd_text(odd(name))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@pytest.mark.parametrize("name", ["plain", "my files", "50%"])
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = tmp_path / "gproxy.service"
    service = units.Service(
        program=(sys.executable, "-m", "gproxy", "serve", "--config", str(folder / "gproxy.toml")),
        folder=folder,
        env_file=folder / "gproxy.env",
        stop_seconds=60,
    )
    path.write_text(units.systemd_text(service))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(path)], capture_output=True, text=True, timeout=60
    )
    assert "gproxy.service" not in done.stderr, done.stderr


def test_the_agent_runs_the_program_with_the_environment_files_variables(tmp_path: Path) -> None:
    env_file = tmp_path / "my $1.env"
    env_file.write_text("WORD='two words'\n")
    service = units.Service(
        program=("/bin/sh", "-c", 'printf %s "$WORD $0"', "an argument"),
        folder=tmp_path,
        env_file=env_file,
        stop_seconds=60,
    )
    told = plistlib.loads(units.launchd_text(service, tmp_path).encode())
    assert told["Label"] == units.LABEL
    assert told["ExitTimeOut"] == 60
    done = subprocess.run(told["ProgramArguments"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "two words an argument"
    env_file.unlink()
    done = subprocess.run(told["ProgramArguments"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == " an argument"


def test_the_agent_is_loaded_into_its_users_domain() -> None:
    unit = units.launchd(HOME, 501)
    assert unit.path == HOME / "Library/LaunchAgents/gproxy.serve.plist"
    assert unit.install == (("launchctl", "bootstrap", "gui/501", str(unit.path)),)
    assert unit.uninstall == (("launchctl", "bootout", "gui/501/gproxy.serve"),)


def test_a_first_environment_file_sets_nothing() -> None:
    assert "#OPENAI_API_KEY=\n" in units.env_text(["OPENAI_API_KEY"])
    assert all(line.startswith("#") for line in units.env_text([]).splitlines())
