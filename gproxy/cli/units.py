"""A user-level service of gproxy as systemd and launchd want it: the file's text, and the commands around it.

Writing the file and running the commands is `service.py`'s. No secret is in either: provider keys that come by
environment variables are in an environment file of their user's, which the service reads when it starts.
"""

import plistlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = "gproxy"
LABEL = "gproxy.serve"
"""launchd's name of it."""

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """What is to run: `program` serves, `folder` is where, `env_file` may be absent when it starts.

    `stop_seconds` is how long a stop may take, drain included.
    """

    program: Sequence[str]
    folder: Path
    env_file: Path
    stop_seconds: int


@dataclass(frozen=True, slots=True)
class Unit:
    """One file, and the commands that take it up, let go of it, and ask how it stands (exit code 0: it runs)."""

    manager: str
    path: Path
    install: tuple[Command, ...]
    uninstall: tuple[Command, ...]
    reload: tuple[Command, ...]
    status: Command
    hint: str


def systemd(environ: Mapping[str, str], home: Path) -> Unit:
    """Of systemd's user manager."""
    folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    control = ("systemctl", "--user")
    return Unit(
        manager="systemd",
        path=folder / "systemd" / "user" / f"{NAME}.service",
        install=((*control, "daemon-reload"), (*control, "enable", NAME), (*control, "restart", NAME)),
        uninstall=((*control, "disable", "--now", NAME),),
        reload=((*control, "daemon-reload"),),
        status=(*control, "is-active", NAME),
        hint="It ends when you log out, unless `loginctl enable-linger` was run once.\n"
        f"Its log: journalctl --user -u {NAME} -f",
    )


def launchd(home: Path, uid: int) -> Unit:
    """Of the user's launchd domain, macOS."""
    path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    target = f"gui/{uid}/{LABEL}"
    return Unit(
        manager="launchd",
        path=path,
        install=(("launchctl", "bootstrap", f"gui/{uid}", str(path)),),
        uninstall=(("launchctl", "bootout", target),),
        reload=(),
        status=("launchctl", "print", target),
        hint=f"Its log: tail -f {shlex.quote(str(_log(home)))}",
    )


def systemd_text(service: Service) -> str:
    """The unit. See systemd.service(5) and systemd.exec(5)."""
    return f"""\
[Unit]
Description=gproxy, the LLM API proxy
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=exec
ExecStart={" ".join(map(_quoted, service.program))}
WorkingDirectory={_unspecified(str(service.folder))}
EnvironmentFile=-{_unspecified(str(service.env_file))}
Restart=on-failure
RestartSec=2
# SIGTERM to the server alone, which tells its workers and lets answers finish.
KillMode=mixed
TimeoutStopSec={service.stop_seconds}
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def launchd_text(service: Service, home: Path) -> str:
    """The property list. launchd knows no environment file, so a shell reads it and is replaced by the server."""
    source = 'if [ -r "$0" ]; then set -a; . "$0"; set +a; fi; exec "$@"'
    log = str(_log(home))
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": ["/bin/sh", "-c", source, str(service.env_file), *service.program],
            "WorkingDirectory": str(service.folder),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 2,
            "ExitTimeOut": service.stop_seconds,
            "Umask": 0o077,
            "StandardOutPath": log,
            "StandardErrorPath": log,
        },
        sort_keys=False,
    ).decode()


def env_text(names: Sequence[str]) -> str:
    """A first environment file, for variables of these names."""
    lines = [f"#{name}=" for name in names] or ["#OPENAI_API_KEY="]
    return "\n".join(
        ["# Variables of the gproxy service, one NAME=VALUE a line. Read when it starts.", *lines, ""]
    )


def _log(home: Path) -> Path:
    return home / "Library" / "Logs" / f"{NAME}.log"


def _unspecified(text: str) -> str:
    """Without systemd's specifiers."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of ExecStart."""
    plain = _unspecified(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return plain if plain == word and word.isprintable() and not set(word) & set(" '\t;") else f'"{plain}"'
