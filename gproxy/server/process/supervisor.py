"""The server: its lock, its sockets, and one process, or workers below one that serves nothing.

What a process does is `serving.py`'s; which configuration, the caller's; how workers live and die, `workers.py`'s.
"""

import errno
import logging
import os
import secrets
import shlex
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from gproxy.config.source import Loaded, data_dir, make_data_dir
from gproxy.errors import ConfigError, StoreError
from gproxy.ledger.memory import Shared
from gproxy.ledger.presence import Presence
from gproxy.ledger.spend import recover_store
from gproxy.server import descriptors
from gproxy.server.console import LINES, LOG, log_faults, say
from gproxy.server.control import metricfiles
from gproxy.server.process import coredumps, hyperconfig, listeners
from gproxy.server.process.ending import FORCED_END_SECONDS
from gproxy.server.process.lock import held
from gproxy.server.process.serving import Server, Serving, refused
from gproxy.server.process.watch import LastGood, Load
from gproxy.server.process.workers import (
    HURRY_S,
    Worker,
    Workers,
    ignore_endings,
    ignore_hangups,
    run_apart,
)

_BROKEN = "the configuration has errors; `gproxy check` lists them."


def run(
    first: Loaded,
    load: Load,
    *,
    path: Path | None,
    directory: Path,
    announce: Callable[[str], None] | None = None,
) -> int:
    """Serve until one of `workers.endings()`, a second one of which ends it at once; returns the exit code.

    `first` is the configuration as it is now, whose problems have been told; no secret is needed in it. `load`
    reads it with its secrets: when serving begins, and again whenever the file at `path` changes (None: never).
    `directory` is what relative paths in it start from. `announce` gets the base URL before anything is accepted.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[LOG])
    log_faults()
    if first.config is None:
        return refused(_BROKEN)
    settings = first.config.globals
    LINES.style = settings.log_format
    ignore_hangups()
    descriptors.raise_limit()
    coredumps.forbid()
    sockets: list[socket.socket] = []
    try:
        folder = data_dir(first.config, directory)
        store = folder / "gproxy.db"
        good = LastGood(first, load, path)
        own_id = secrets.token_hex(8)
        server = Server(load, first.problems, settings, good, path, directory, store, own_id)
        # A refused start leaves no folder. Where there is one, another server may have it, which is told first.
        sockets = [] if os.path.exists(folder) else _listening(server)
        make_data_dir(first.config, directory)
        with held(folder):
            metricfiles.begin(store)
            sockets = sockets or _listening(server)
            return _serve_at(server, sockets, announce)
    except (ConfigError, StoreError) as error:
        return refused(str(error))
    finally:
        _close(sockets)
        LINES.close()


def _listening(server: Server) -> list[socket.socket]:
    """The sockets to be served from, one for each worker. Raises ConfigError."""
    settings = server.started
    try:
        if files := hyperconfig.tls_files(settings, server.directory):
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
    except OSError as error:
        reason = f"tls_certificate and tls_key are not a certificate and its key ({error.strerror})."
        raise ConfigError(reason) from None
    if key := hyperconfig.readable_key(settings, server.directory):
        say(f"warning: others can read tls_key: `chmod go= {shlex.quote(str(key))}`.")
    try:
        return listeners.listen(settings)
    except OSError as error:
        by = listeners.holder(settings.port) if error.errno == errno.EADDRINUSE else ""
        reason = f"{error.strerror or error}{by and ' by '}{by}"
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({reason}); choose another with --host and --port."
        ) from None


def _serve_at(server: Server, sockets: list[socket.socket], announce: Callable[[str], None] | None) -> int:
    """Serve from `sockets`: in this process, or in workers that it forks and outlives; the exit code."""
    settings = server.started
    url = listeners.url(settings, sockets[0])

    def begin() -> None:
        if announce is not None:
            announce(url)

    def ready() -> None:
        say(f"listening on {url}")

    def stop() -> float:
        _close(sockets)
        return server.last_good.settings.drain_seconds + FORCED_END_SECONDS + HURRY_S

    if settings.workers == 1:
        return _process(server, sockets, None, begin, ready)
    server = replace(server, memory=Shared(settings.workers))
    # What a killed server left is settled apart, so that nothing of a store is in this process when it forks.
    if code := run_apart(lambda: _recover(server.store)):
        return code
    begin()
    workers = Workers(
        settings.workers,
        lambda worker: _process(server, sockets, worker, lambda: None, worker.ready),
        # Beside others a worker must open what they have open: by other files it would count for itself.
        obstacle=_obstacle(Presence(server.store, alone=True)),
        obstacle_beside=lambda: _obstacle(Presence(server.store)),
        on_ready=ready,
        on_told=server.last_good.look,
        on_stop=stop,
        on_vacant=partial(listeners.vacate, sockets),
    )
    code = workers.run()
    ignore_endings()
    return code


def _obstacle(files: Presence) -> Callable[[], str | None]:
    """Asks why no worker may open the store: its files are not these any more."""

    def ask() -> str | None:
        try:
            files.look()
        except StoreError as error:
            return str(error)
        return None

    return ask


def _recover(store: Path) -> int:
    """Settle what a server that was killed left open; an exit code."""
    try:
        recover_store(store, None)
    except StoreError as error:
        return refused(str(error))
    return 0


def _process(
    server: Server,
    sockets: list[socket.socket],
    worker: Worker | None,
    on_begin: Callable[[], None],
    on_ready: Callable[[], None],
) -> int:
    """Serve in this process, by the socket of its slot alone; its exit code."""
    listener = sockets[worker.slot if worker else 0].dup()
    _close(sockets)
    return Serving(server, listener, worker, on_begin=on_begin, on_ready=on_ready).run()


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
