"""The serving process from its socket to its last row: Hypercorn's set-up, signals, the drain and its deadline.

What is served is `app.py`'s; which configuration, the caller's.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config as HypercornConfig

from gproxy.config import schema
from gproxy.config.snapshot import Snapshot
from gproxy.config.source import Loaded, data_dir
from gproxy.errors import ConfigError, StoreError
from gproxy.ledger.writer import Writer
from gproxy.server import repair
from gproxy.server.app import Gateway
from gproxy.server.tasks import Tasks
from gproxy.server.watch import watch

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75.0
FORCED_END_SECONDS = 3.0
"""How long requests that the end of the drain has cut off may take to say so."""

_NEEDS_RESTART = ("host", "port", "data_dir", "workers", "http_engine", "tls_certificate", "tls_key")


def run(
    load: Callable[[], Loaded],
    *,
    path: Path | None,
    directory: Path,
    announce: Callable[[str], None] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    `load` reads the configuration: now, and again whenever the file at `path` changes (None: never).
    `directory` is what relative paths in it start from. `announce` gets the base URL before anything is accepted.
    """
    logging.basicConfig(level=logging.WARNING, format="gproxy: %(message)s", stream=sys.stderr)
    snapshot = load().snapshot
    if snapshot is None:
        return _refuse("the configuration has errors; `gproxy check` lists them.")
    settings = snapshot.config.globals
    try:
        if files := _tls_files(settings, directory):
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
    except OSError as error:
        return _refuse(f"tls_certificate and tls_key are not a certificate and its key ({error.strerror}).")
    try:
        listener = _listen(settings)
    except OSError as error:
        return _refuse(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); "
            "choose another with --host and --port."
        )
    try:
        writer = Writer(data_dir(snapshot.config, directory) / "gproxy.db")
        writer.start()
    except (ConfigError, StoreError) as error:
        listener.close()
        return _refuse(str(error))
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(snapshot, writer, listener, directory, load, path, announce))
    finally:
        try:
            writer.close()
        except StoreError as error:
            _refuse(str(error))
    return 0


async def _serve(
    snapshot: Snapshot,
    writer: Writer,
    listener: socket.socket,
    directory: Path,
    load: Callable[[], Loaded],
    path: Path | None,
    announce: Callable[[str], None] | None,
) -> None:
    settings = snapshot.config.globals
    tasks = Tasks()
    gateway = Gateway(snapshot, writer, tasks)
    stop = asyncio.Event()
    url = _url(settings, listener)
    if announce is not None:
        announce(url)
    repair.install()
    config = _hypercorn(settings, listener, directory)
    server = tasks.spawn(serve(gateway, config, shutdown_trigger=stop.wait))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, gateway, stop)
    if path is not None:
        watching = tasks.spawn(watch(path, load, _swapper(gateway), lambda why: _set_failure(gateway, why)))
    print(f"gproxy: listening on {url}", file=sys.stderr, flush=True)
    try:
        stopping = tasks.spawn(stop.wait())
        await asyncio.wait({server, stopping}, return_when=asyncio.FIRST_COMPLETED)
        gateway.draining = True
        # Hypercorn stops accepting and lets requests finish; the deadline is kept here, since on Python 3.12 and
        # later its own is not (pgjones/hypercorn#308).
        await asyncio.wait({server}, timeout=settings.drain_seconds)
        gateway.cut_off()
        await asyncio.wait({server}, timeout=FORCED_END_SECONDS)
    finally:
        if path is not None:
            watching.cancel()
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
        await tasks.drain(FORCED_END_SECONDS)
        await gateway.upstream.close()


def _on_signal(gateway: Gateway, stop: asyncio.Event) -> None:
    if stop.is_set():
        gateway.cut_off()  # asked twice: at once
    stop.set()


def _swapper(gateway: Gateway) -> Callable[[Snapshot], None]:
    started = gateway.snapshot.config.globals

    def swap(snapshot: Snapshot) -> None:
        fixed = [
            name
            for name in _NEEDS_RESTART
            if getattr(snapshot.config.globals, name) != getattr(started, name)
        ]
        if fixed:
            print(f"gproxy: restart to apply [global] {', '.join(fixed)}", file=sys.stderr, flush=True)
        gateway.swap(snapshot)

    return swap


def _set_failure(gateway: Gateway, reason: str | None) -> None:
    gateway.reload_failure = reason


def _listen(settings: schema.Global) -> socket.socket:
    """A bound socket. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _url(settings: schema.Global, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate and settings.tls_key else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _hypercorn(settings: schema.Global, listener: socket.socket, directory: Path) -> HypercornConfig:
    """Every default of Hypercorn's that matters, set on purpose."""
    config = HypercornConfig()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = sys.maxsize
    config.h11_max_incomplete_size = 64 * 1024
    config.graceful_timeout = settings.drain_seconds + FORCED_END_SECONDS
    config.read_timeout = None  # would end a stream whose client has nothing to say
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("gproxy.http")
    if files := _tls_files(settings, directory):
        config.certfile, config.keyfile = map(str, files)
    return config


def _tls_files(settings: schema.Global, directory: Path) -> tuple[Path, Path] | None:
    """The certificate and its key, None without TLS."""
    if not (settings.tls_certificate and settings.tls_key):
        return None
    certificate, key = Path(settings.tls_certificate).expanduser(), Path(settings.tls_key).expanduser()
    return directory / certificate, directory / key


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _refuse(reason: str) -> int:
    print(f"gproxy: {reason}", file=sys.stderr, flush=True)
    return 1
