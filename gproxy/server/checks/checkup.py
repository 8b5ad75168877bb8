"""What `gproxy doctor` finds on this machine: file, folder, keyring, SQLite, store and port.

What it finds of the upstreams is `upstreamcheck.py`'s, how it is shown `cli/doctor.py`'s.
"""

import errno
import os
import shlex
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gproxy.config import schema, secrets
from gproxy.config.problems import Problem
from gproxy.config.source import data_dir, overrides
from gproxy.errors import ConfigError, StoreError
from gproxy.ledger import sqlite
from gproxy.server.checks import local
from gproxy.server.process import hyperconfig, listeners, lock

_KEYRING_S = 2.0
_HEALTH_S = 1.5
_LITTLE_BYTES = 256 * 1024 * 1024
"""With less free on its disk the store is about to stop the server."""

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `told` is one line, without a secret; `fix` what to do, "" if nothing is."""

    about: str
    state: State
    told: str
    fix: str = ""


def of_problems(problems: tuple[Problem, ...], name: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What was found when the file was loaded; `name` is the file's."""
    for problem in problems:
        state: State = "wrong" if problem.severity == "error" else "warning"
        place = f"{name}:{problem.line}: " if problem.line else "" if problem.path else f"{name}: "
        path = f"{problem.path}: " if problem.path else ""
        fix = problem.hint or ("mend the file: `gproxy config edit`" if state == "wrong" else "")
        yield Finding("configuration", state, f"{place}{path}{problem.message}", fix)
    if given := ", ".join(overrides(environ)):
        told = f"{given} of this terminal's environment goes over the file"
        yield Finding("configuration", "ok", told)


def machine(config: schema.Config, path: Path) -> Iterator[Finding]:
    """All but the upstreams, in a few seconds; `path` is the configuration file."""
    directory = path.resolve().parent
    folder = data_dir(config, directory)
    yield from _contents(config)
    yield from _permissions(config.globals, directory, folder)
    yield from _keyring(config)
    yield _sqlite()
    yield from _store(folder)
    yield from _port(config.globals, directory, folder)


def serving(config: schema.Config, directory: Path) -> bool:
    """Whether a server runs on the configuration's store."""
    try:
        return lock.is_held(data_dir(config, directory))
    except OSError:
        return False


def _contents(config: schema.Config) -> Iterator[Finding]:
    providers = [row for row in config.providers if row.enabled]
    keys = [key for user in config.users if user.enabled for key in user.keys if key.enabled]
    if not providers:
        fix = "`gproxy providers add NAME --channel CHANNEL`"
        yield Finding("providers", "wrong", "none is enabled: nothing can be served", fix)
    if not keys:
        yield Finding("keys", "wrong", "there is none: nobody can call", "`gproxy keys create`")
    elif not config.permissions:
        fix = f"`gproxy permissions allow {shlex.quote(config.users[0].name)} '*'`"
        yield Finding("permissions", "wrong", "there is none: nobody may use a model", fix)


def _permissions(settings: schema.Global, directory: Path, folder: Path) -> Iterator[Finding]:
    """Loading the file has told of its own mode already."""
    if os.name == "nt":
        return
    found = []
    mode = directory.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        told = f"{directory} can be written by others, who so can replace the file in it"
        found.append(Finding("permissions", "wrong", told, f"`chmod o-w {shlex.quote(str(directory))}`"))
    if key := hyperconfig.readable_key(settings, directory):
        found.append(
            Finding(
                "permissions", "warning", "others can read tls_key", f"`chmod go= {shlex.quote(str(key))}`"
            )
        )
    try:
        inside = [folder, *folder.iterdir()] if folder.is_dir() else []
        open_to_all = [each.name for each in inside if each.stat().st_mode & 0o077]
    except OSError as error:
        fix = f"give it to who runs gproxy: `chown -R` for {folder}"
        found.append(Finding("permissions", "wrong", f"{folder} cannot be read: {error.strerror}", fix))
    else:
        if open_to_all:
            told = f"others can get at {', '.join(open_to_all)}"
            found.append(
                Finding("permissions", "warning", told, f"`chmod -R go= {shlex.quote(str(folder))}`")
            )
    yield from found or [Finding("permissions", "ok", "only the owner can read the file and the store")]


def _keyring(config: schema.Config) -> Iterator[Finding]:
    needed = any(credential.keyring for row in config.providers for credential in row.credentials)
    try:
        name = secrets.backend(patience_s=_KEYRING_S)
    except ConfigError as error:
        if needed:
            yield Finding("keyring", "wrong", error.message, "`gproxy providers set-key NAME --env VARIABLE`")
        else:
            yield Finding("keyring", "ok", "there is none that keeps secrets, and none is needed")
    else:
        yield Finding("keyring", "ok", name)


def _sqlite() -> Finding:
    number, module = sqlite.version()
    fault = sqlite.known_fault()
    if fault is None:
        return Finding("SQLite", "ok", f"{number} of {module}")
    told, _, fix = fault.rstrip(".").partition("; ")
    return Finding("SQLite", "warning", told, fix)


def _store(folder: Path) -> Iterator[Finding]:
    path = folder / "gproxy.db"
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK):
        fix = "choose another data_dir, or run as its owner"
        yield Finding("store", "wrong", f"{there} cannot be written", fix)
        return
    free = shutil.disk_usage(there).free
    if free < _LITTLE_BYTES:
        told = f"{free >> 20} MiB are free on its disk"
        fix = "make room: `gproxy usage prune` and `gproxy logs clear` give some back"
        yield Finding("store", "warning", told, fix)
    if not path.exists():
        yield Finding("store", "ok", f"{path} comes with the first `gproxy serve`")
        return
    try:
        sqlite.connect_read_only(path).close()
    except StoreError as error:
        yield Finding("store", "wrong", str(error), "`gproxy usage verify` says more")
    else:
        yield Finding("store", "ok", f"{path}, {path.stat().st_size >> 10} KiB")


def _port(settings: schema.Global, directory: Path, folder: Path) -> Iterator[Finding]:
    runs = False
    try:
        runs = lock.is_held(folder)
        with _bound(settings):
            pass
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            where = f"{settings.host}:{settings.port}"
            yield Finding("port", "wrong", f"{where}: {error.strerror}", "see `host` and `port` in [global]")
            return
        yield _taken(settings, directory, runs)
    else:
        at = f"{settings.port} is free" if settings.port else "a free one is taken"
        told = (
            "a server runs on this store, at another address"
            if runs
            else f"{at}; no server runs on this store"
        )
        yield Finding("port", "ok", told)


def _bound(settings: schema.Global) -> socket.socket:
    """A socket at the server's address, as a start would have it."""
    family, _, _, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name != "nt":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _taken(settings: schema.Global, directory: Path, runs: bool) -> Finding:
    url = local.address(settings)
    tls = hyperconfig.tls_files(settings, directory)
    try:
        local.reach(url, tls[0] if tls else None, _HEALTH_S)
    except ConfigError:
        who = listeners.holder(settings.port) or "another program"
        fix = "stop it, or choose another `port` in [global]"
        return Finding(
            "port", "wrong", f"{settings.port} is taken by {who}, which does not answer as gproxy", fix
        )
    if runs:
        return Finding("port", "ok", f"a server runs at {url}")
    fix = "choose another `port` in [global], or the configuration of that server with --config"
    return Finding("port", "wrong", f"the server at {url} is of another configuration", fix)
