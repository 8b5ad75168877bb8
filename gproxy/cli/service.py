"""`gproxy service`: gproxy as a service of the user's own systemd or launchd. What the file says is `units.py`'s."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from gproxy.cli import files, output, units
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config import folders
from gproxy.errors import ConfigError

MARGIN_S = 30
"""Beyond the drain, in which the server cuts off what is left and closes its books."""

YesOption = Annotated[bool, typer.Option("--yes", help="Do it, after printing what.")]


def install(
    *,
    config: ConfigOption = None,
    env_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File of NAME=VALUE lines. [gproxy.env beside the configuration]"),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Write a systemd user unit or a launchd agent, and start it.

    What it writes and runs is printed first. It holds no secret: variables that credentials name are read from the
    environment file, which is made, empty, if there is none.
    """
    unit = _unit()
    path = files.find(config).resolve()
    settings = files.read(path)
    variables = [c.env for provider in settings.providers for c in provider.credentials if c.env]
    service = units.Service(
        program=(sys.executable, "-m", "gproxy", "serve", "--config", str(path)),
        folder=path.parent,
        env_file=(env_file or path.parent / "gproxy.env").absolute(),
        stop_seconds=settings.globals.drain_seconds + MARGIN_S,
    )
    for name in (*service.program, str(service.folder), str(service.env_file)):
        if not name.isprintable():
            raise ConfigError(f"{name!r} has characters that no service file can hold: rename it")
    text = (
        units.systemd_text(service) if unit.manager == "systemd" else units.launchd_text(service, Path.home())
    )
    print(f"# {unit.path}\n{text}")
    _print_commands(unit.install)
    if not yes:
        _ask_for_yes("install it")
    if not service.env_file.exists():
        _write(service.env_file, units.env_text(list(dict.fromkeys(variables))))
        output.note(f"made {service.env_file}")
    if unit.manager == "launchd" and unit.path.exists():
        _run(unit.uninstall, may_fail=True)  # one that is loaded is not loaded anew
    _write(unit.path, text)
    _run(unit.install)
    if missing := [name for name in dict.fromkeys(variables) if not _has(service.env_file, name)]:
        output.note(f"not in {service.env_file} yet: {', '.join(missing)}; add them and install once more")
    output.note(f"installed.\n{unit.hint}")


def uninstall(*, yes: YesOption = False) -> None:
    """Stop the service and remove its file; configuration, store and environment file stay."""
    unit = _unit()
    if not unit.path.exists():
        raise ConfigError(f"there is no {unit.path}: nothing is installed")
    _print_commands((*unit.uninstall, ("rm", str(unit.path)), *unit.reload))
    if not yes:
        _ask_for_yes("remove it")
    _run(unit.uninstall, may_fail=True)
    unit.path.unlink(missing_ok=True)
    _run(unit.reload, may_fail=True)
    output.note("removed")


def status(*, as_json: JsonOption = False) -> None:
    """Say whether the service is installed and runs; exit 1 if it does not."""
    unit = _unit()
    installed = unit.path.exists()
    running = installed and _run((unit.status,), may_fail=True)
    if as_json:
        told = {"manager": unit.manager, "file": str(unit.path), "installed": installed, "running": running}
        output.show_json(told)
    else:
        state = "running" if running else "installed, not running" if installed else "not installed"
        print(f"{unit.manager}: {state} ({unit.path})")
        if installed:
            output.note(unit.hint)
    raise typer.Exit(0 if running else 1)


def _unit() -> units.Unit:
    if sys.platform == "darwin":
        return units.launchd(Path.home(), os.getuid())
    if shutil.which("systemctl"):
        return units.systemd(os.environ, Path.home())
    raise ConfigError("neither systemd nor launchd is here: have `gproxy serve` run by your own")


def _print_commands(commands: tuple[units.Command, ...]) -> None:
    for command in commands:
        print("$", " ".join(command), flush=True)


def _ask_for_yes(what: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(f"nothing was done: add --yes to {what}")
    if not typer.confirm(f"{what.capitalize()}?", err=True):
        raise typer.Exit(1)


def _run(commands: tuple[units.Command, ...], *, may_fail: bool = False) -> bool:
    """Whether all of them ended well; raises ConfigError if one did not, unless it may."""
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            failed = done.returncode != 0 and (done.stderr.strip() or f"exit code {done.returncode}")
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error)
        if failed:
            if may_fail:
                return False
            raise ConfigError(f"`{' '.join(command)}` failed: {failed}")
    return True


def _write(path: Path, text: str) -> None:
    """Whole or not at all, for its owner alone."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        folders.make(path.parent)
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _has(path: Path, name: str) -> bool:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip().removeprefix("export ").startswith(f"{name}=") for line in lines)
