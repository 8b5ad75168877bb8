"""One process that serves: from the configuration it begins by to the last row of its ledger.

How many there are, their lock and their sockets is `supervisor.py`'s; what is served, `app.py`'s.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hypercorn.asyncio import serve

from gproxy.config import schema
from gproxy.config.problems import Problem
from gproxy.config.scrub import Scrubber, known
from gproxy.config.snapshot import Snapshot
from gproxy.config.source import completed
from gproxy.errors import StoreError
from gproxy.ledger import retention
from gproxy.ledger.memory import Shared
from gproxy.ledger.spend import recover_store
from gproxy.ledger.succession import succeed
from gproxy.ledger.writer import Writer
from gproxy.server import descriptors
from gproxy.server.app import Gateway
from gproxy.server.console import LINES, LOG, say
from gproxy.server.engine import handover, repair
from gproxy.server.engine.engine import Engine
from gproxy.server.process import hyperconfig, tuning
from gproxy.server.process.ending import FORCED_END_SECONDS, Ending
from gproxy.server.process.watch import NOT_IN_FORCE, LastGood, Load, Seen, failure, look, watch
from gproxy.server.process.workers import REFUSED, Worker
from gproxy.server.tasks import Tasks

_NEEDS_RESTART = ("host", "port", "data_dir", "workers", "http_engine", "tls_certificate", "tls_key")


@dataclass(frozen=True, slots=True)
class Server:
    """What all processes of a server have in common, made before any of them is forked.

    `load` reads the configuration with its secrets, from the file at `path` (None: from no file, and never again);
    relative paths in it start from `directory`. `started` has the settings that hold until a restart. `last_good`
    stands in for a file with errors. `told` are the problems that the user has been told of.
    `own_id` marks what this server sends upstream: a request that comes with it has gone in a circle.
    Several processes count in `memory`; None is one that serves alone.
    """

    load: Load
    told: tuple[Problem, ...]
    started: schema.Global
    last_good: LastGood
    path: Path | None
    directory: Path
    store: Path
    own_id: str
    memory: Shared | None = None


class Serving:
    """The life of one process, as one of several workers or (None) alone. It is begun once, by `run`.

    `listener` is its own socket. `on_begin` is called when nothing can fail any more, `on_ready` when requests are
    taken.
    """

    def __init__(
        self,
        server: Server,
        listener: socket.socket,
        worker: Worker | None,
        *,
        on_begin: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._server = server
        self._listener = listener
        self._worker = worker
        self._on_begin = on_begin
        self._on_ready = on_ready
        # What every worker would say or do is said and done by the first, or its successor in its slot.
        self._is_first = worker is None or worker.slot == 0

    def run(self) -> int:
        """Serve until it is told to end; the exit code."""
        descriptors.make_room()
        server, worker = self._server, self._worker
        seen = look(server.path) if server.path else None
        snapshot, failed = self._configuration()
        _speak_as(snapshot)
        writer = Writer(server.store, worker=worker.slot if worker else None)
        try:
            self._settle()
            writer.start()
        except StoreError as error:
            self._listener.close()
            return refused(str(error))
        self._on_begin()
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve(snapshot, failed, seen, writer))
        finally:
            code = _closed(writer)
        return code

    def _configuration(self) -> tuple[Snapshot, str | None]:
        """What to serve by, and why that is not what the file says now, if it is not."""
        server = self._server
        loaded = server.load()
        failed = None
        name = server.path.name if server.path else "the configuration"
        # What is said before it serves is waited for.
        for problem in loaded.problems:
            if self._is_first and problem not in server.told:
                say(problem.render(name))
        if loaded.snapshot is None:
            failed = failure(loaded, name)
            if self._is_first:
                say(NOT_IN_FORCE)
            loaded = completed(server.last_good.loaded, name, os.environ)
            assert loaded.snapshot is not None
        return _as_started(loaded.snapshot, server.started), failed

    def _settle(self) -> None:
        """Settle what was left open: alone, by a server that was killed; in a slot, by the worker before in it.

        A worker is struck out of the memory that all count in as well. What a killed server of several left is
        settled by their parent, before it forks. Raises `StoreError`.
        """
        server = self._server
        if self._worker is None or server.memory is None:
            recover_store(server.store, None)
        else:
            succeed(server.store, server.memory, self._worker.slot)

    async def _serve(self, snapshot: Snapshot, failed: str | None, seen: Seen, writer: Writer) -> None:
        """Serve by `snapshot` until it is told to end.

        `seen` is the file as it was just before it was read, `failed` why what it says is not in force, if so.
        """
        tuning.tune()
        server, worker = self._server, self._worker
        tasks = Tasks()
        gateway = Gateway(snapshot, writer, tasks, server.own_id, server.memory)
        gateway.reload_failure = failed
        gateway.metrics.reload_failed = failed is not None
        await gateway.health.refresh()
        following = tasks.spawn(gateway.health.follow())
        repair.install()
        engine = self._fast_engine(gateway)
        if engine is not None:
            writer.together = engine.terms.outbox.gather
        by_uvloop = _loop_factory() is not None
        config = hyperconfig.made(server.started, self._listener, server.directory, by_uvloop=by_uvloop)
        ending = Ending(gateway, engine, worker)
        serving = tasks.spawn(serve(gateway, config, shutdown_trigger=ending.told.wait))
        if server.path is not None:
            watching = tasks.spawn(self._watch(server.path, seen, gateway))
        # Of several workers one is enough to clear the logs; its successor takes it over with its slot.
        keeping = tasks.spawn(retention.keep(writer, _retention_days(gateway))) if self._is_first else None
        self._on_ready()
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

    def _fast_engine(self, gateway: Gateway) -> Engine | None:
        """What serves HTTP/1.1 in the place of Hypercorn's own; None if that is wanted, or must do."""
        settings = self._server.started
        if settings.http_engine != "fast" or settings.tls_certificate:
            return None
        if reason := handover.obstacle():
            if self._is_first:
                say(f"Hypercorn's own HTTP/1.1 serves, not the fast engine: {reason}.")
            return None
        engine = Engine(gateway.answer, idle=hyperconfig.KEEP_ALIVE_S)
        handover.install(engine)
        return engine

    async def _watch(self, path: Path, seen: Seen, gateway: Gateway) -> None:
        """Put in force what the file says whenever it changes."""
        started, worker = self._server.started, self._worker
        tell = LINES.say if self._is_first else _not_told

        def swap(snapshot: Snapshot) -> None:
            settings = snapshot.config.globals
            fixed = [name for name in _NEEDS_RESTART if getattr(settings, name) != getattr(started, name)]
            if fixed:
                tell(f"restart to apply [global] {', '.join(fixed)}")
            _speak_as(snapshot)
            gateway.swap(_as_started(snapshot, started))
            gateway.metrics.reloaded(ok=True)
            if worker is not None:
                worker.ready()

        await watch(path, seen, self._server.load, swap, partial(_set_failure, gateway), tell)


def refused(reason: str) -> int:
    """The exit code of a process that cannot serve, or not as it should, of which it says the reason."""
    say(reason)
    return REFUSED


def _closed(writer: Writer) -> int:
    """The exit code of a process whose ledger is closed now: not 0 if it has lost rows."""
    try:
        writer.close()
    except StoreError as error:
        return refused(str(error))
    return 0


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


def _not_told(text: str) -> None:
    """The first worker tells it."""
