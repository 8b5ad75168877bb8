"""The server from its lock and its sockets to its last row: one process, or workers below one that serves nothing.

What is served is `app.py`'s; which configuration, the caller's; how workers live and die, `workers.py`'s.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import shlex
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hypercorn.asyncio import serve

from gproxy.config import schema
from gproxy.config.problems import Problem
from gproxy.config.scrub import Scrubber, known
from gproxy.config.snapshot import Snapshot
from gproxy.config.source import Loaded, completed, data_dir, make_data_dir
from gproxy.errors import ConfigError, StoreError
from gproxy.ledger import retention
from gproxy.ledger.memory import Shared
from gproxy.ledger.presence import Presence
from gproxy.ledger.spend import recover_store
from gproxy.ledger.succession import succeed
from gproxy.ledger.writer import Writer
from gproxy.server import descriptors
from gproxy.server.app import Gateway
from gproxy.server.console import LINES, LOG, log_faults, say
from gproxy.server.control import metricfiles
from gproxy.server.engine import handover, repair
from gproxy.server.engine.http1 import Engine
from gproxy.server.process import coredumps, hyperconfig, listeners, tuning
from gproxy.server.process.ending import FORCED_END_SECONDS, Ending
from gproxy.server.process.lock import held
from gproxy.server.process.watch import NOT_IN_FORCE, LastGood, Load, Seen, failure, look, watch
from gproxy.server.process.workers import (
    HURRY_S,
    REFUSED,
    Worker,
    Workers,
    ignore_endings,
    ignore_hangups,
    run_apart,
)
from gproxy.server.tasks import Tasks

_NEEDS_RESTART = ("host", "port", "data_dir", "workers", "http_engine", "tls_certificate", "tls_key")

_BROKEN = "the configuration has errors; `gproxy check` lists them."


@dataclass(frozen=True, slots=True)
class _Server:
    """What all processes of a server have in common. `known` are the problems that were told of before.

    `started` is what `_NEEDS_RESTART` is taken from, `good` stands in for a bad file; several count in `memory`.
    """

    load: Load
    known: tuple[Problem, ...]
    started: schema.Global
    good: LastGood
    path: Path | None
    directory: Path
    store: Path
    own_id: str
    memory: Shared | None = None


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
        return _refuse(_BROKEN)
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
        server = _Server(load, first.problems, settings, good, path, directory, store, own_id)
        # A refused start leaves no folder. Where there is one, another server may have it, which is told first.
        sockets = [] if os.path.exists(folder) else _listening(server)
        make_data_dir(first.config, directory)
        with held(folder):
            metricfiles.begin(store)
            sockets = sockets or _listening(server)
            return _serve_at(server, sockets, announce)
    except (ConfigError, StoreError) as error:
        return _refuse(str(error))
    finally:
        _close(sockets)
        LINES.close()


def _listening(server: _Server) -> list[socket.socket]:
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


def _serve_at(server: _Server, sockets: list[socket.socket], announce: Callable[[str], None] | None) -> int:
    settings = server.started
    url = listeners.url(settings, sockets[0])

    def begin() -> None:
        if announce is not None:
            announce(url)

    def ready() -> None:
        say(f"listening on {url}")

    def stop() -> float:
        _close(sockets)
        return server.good.settings.drain_seconds + FORCED_END_SECONDS + HURRY_S

    if settings.workers == 1:
        return _work(server, sockets, None, begin, ready)
    server = replace(server, memory=Shared(settings.workers))
    # What a killed server left is settled apart, so that nothing of a store is in this process when it forks.
    if code := run_apart(lambda: _recover(server.store)):
        return code
    begin()
    workers = Workers(
        settings.workers,
        lambda worker: _work(server, sockets, worker, lambda: None, worker.ready),
        # Beside others a worker must open what they have open: by other files it would count for itself.
        obstacle=_obstacle(Presence(server.store, alone=True)),
        obstacle_beside=lambda: _obstacle(Presence(server.store)),
        on_ready=ready,
        on_told=server.good.look,
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
    try:
        recover_store(store, None)
    except StoreError as error:
        return _refuse(str(error))
    return 0


def _work(
    server: _Server,
    sockets: list[socket.socket],
    worker: Worker | None,
    begin: Callable[[], None],
    ready: Callable[[], None],
) -> int:
    """Serve in this process, as one of several or (None) alone; its exit code.

    `begin` is called when nothing can fail any more, `ready` when requests are taken.
    """
    listener = sockets[worker.slot if worker else 0].dup()
    _close(sockets)
    seen = look(server.path) if server.path else None
    loaded = server.load()
    failed = None
    # What every worker would say is said by the first; what is said before it serves is waited for.
    speaks = worker is None or worker.slot == 0
    name = server.path.name if server.path else "the configuration"
    for problem in loaded.problems:
        if speaks and problem not in server.known:
            say(problem.render(name))
    if loaded.snapshot is None:
        failed = failure(loaded, name)
        if speaks:
            say(NOT_IN_FORCE)
        loaded = completed(server.good.loaded, name, os.environ)
        assert loaded.snapshot is not None
    snapshot = _as_started(loaded.snapshot, server.started)
    _speak_as(snapshot)
    writer = Writer(server.store, worker=worker.slot if worker else None)
    try:
        if worker is None or server.memory is None:
            recover_store(server.store, None)
        else:
            succeed(server.store, server.memory, worker.slot)
        writer.start()
    except StoreError as error:
        listener.close()
        return _refuse(str(error))
    begin()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(server, snapshot, failed, seen, writer, listener, worker, ready, speaks))
    finally:
        code = _closed(writer)
    return code


def _closed(writer: Writer) -> int:
    """The exit code of a process whose ledger is closed now: not 0 if it has lost rows."""
    try:
        writer.close()
    except StoreError as error:
        return _refuse(str(error))
    return 0


async def _serve(
    server: _Server,
    snapshot: Snapshot,
    failed: str | None,
    seen: Seen,
    writer: Writer,
    listener: socket.socket,
    worker: Worker | None,
    ready: Callable[[], None],
    speaks: bool,
) -> None:
    tuning.tune()
    tasks = Tasks()
    gateway = Gateway(snapshot, writer, tasks, server.own_id, server.memory)
    gateway.reload_failure = failed
    gateway.metrics.reload_failed = failed is not None
    await gateway.health.refresh()
    following = tasks.spawn(gateway.health.follow())
    repair.install()
    engine = _fast_engine(server.started, gateway, speaks)
    if engine is not None:
        writer.together = engine.outbox.gather
    config = hyperconfig.made(server.started, listener, server.directory)
    ending = Ending(gateway, engine, worker)
    serving = tasks.spawn(serve(gateway, config, shutdown_trigger=ending.told.wait))
    if server.path is not None:
        tell = LINES.say if speaks else _not_told
        swap = _swapper(gateway, server.started, tell, worker.ready if worker else lambda: None)
        fail = partial(_set_failure, gateway)
        watching = tasks.spawn(watch(server.path, seen, server.load, swap, fail, tell))
    # Of several workers one is enough to clear the logs; its successor takes it over with its slot.
    keeping = tasks.spawn(retention.keep(writer, _retention_days(gateway))) if speaks else None
    ready()
    try:
        stopping = tasks.spawn(ending.told.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await ending.run(serving)
    finally:
        if server.path is not None:
            watching.cancel()
        if keeping is not None:
            keeping.cancel()
        following.cancel()
        serving.cancel()
        # InvalidStateError: Hypercorn asks for the outcome of connections that are not over.
        with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError):
            await serving
        await tasks.drain(FORCED_END_SECONDS)
        gateway.health.close()
        gateway.metrics.close()
        await gateway.prices.close()
        await gateway.upstream.close()
        ending.close()


def _fast_engine(settings: schema.Global, gateway: Gateway, speaks: bool) -> Engine | None:
    """What serves HTTP/1.1 in the place of Hypercorn's own; None if that is wanted, or must do."""
    if settings.http_engine != "fast" or settings.tls_certificate:
        return None
    if reason := handover.obstacle():
        if speaks:
            say(f"Hypercorn's own HTTP/1.1 serves, not the fast engine: {reason}.")
        return None
    engine = Engine(gateway.answer, idle=hyperconfig.KEEP_ALIVE_S)
    handover.install(engine)
    return engine


def _swapper(
    gateway: Gateway, started: schema.Global, tell: Callable[[str], None], swapped: Callable[[], None]
) -> Callable[[Snapshot], None]:
    def swap(snapshot: Snapshot) -> None:
        fixed = [
            name
            for name in _NEEDS_RESTART
            if getattr(snapshot.config.globals, name) != getattr(started, name)
        ]
        if fixed:
            tell(f"restart to apply [global] {', '.join(fixed)}")
        _speak_as(snapshot)
        gateway.swap(_as_started(snapshot, started))
        gateway.metrics.reloaded(ok=True)
        swapped()

    return swap


def _as_started(snapshot: Snapshot, started: schema.Global) -> Snapshot:
    """With the settings that need a restart as they were at the start: all workers of a server serve alike."""
    fixed = {name: getattr(started, name) for name in _NEEDS_RESTART}
    settings = replace(snapshot.config.globals, **fixed)
    return replace(snapshot, config=replace(snapshot.config, globals=settings))


def _retention_days(gateway: Gateway) -> Callable[[], int]:
    return lambda: gateway.snapshot.config.globals.log_retention_days


def _set_failure(gateway: Gateway, reason: str | None) -> None:
    gateway.reload_failure = reason
    if reason:
        gateway.metrics.reloaded(ok=False)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _speak_as(snapshot: Snapshot) -> None:
    """Have the lines of this process as that configuration wants them, without its secrets."""
    LOG.scrub = Scrubber(known(snapshot)).text
    LINES.style = snapshot.config.globals.log_format


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _not_told(text: str) -> None:
    """Another worker tells it."""


def _refuse(reason: str) -> int:
    say(reason)
    return REFUSED
