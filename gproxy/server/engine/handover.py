"""Hands connections that Hypercorn has accepted to the fast engine: the one place that knows Hypercorn's inside.

Hypercorn keeps the sockets, TLS, HTTP/2, the lifespan, and the life of the process; its own HTTP/1.1 serves wherever
this does not fit the version that is installed.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable
from importlib.metadata import version
from typing import Any, cast

from hypercorn.asyncio import run, tcp_server

from gproxy.server.engine.engine import Engine

_VERSION = "0.18."
_MOST_EARLY_BYTES = 1024 * 1024
"""More than a reader of asyncio's takes in."""

_PARAMETERS = ("self", "app", "loop", "config", "context", "state", "reader", "writer")


def obstacle() -> str | None:
    """Why this version of Hypercorn cannot hand its connections over; None if it can."""
    found = version("hypercorn")
    if not found.startswith(_VERSION):
        return f"Hypercorn is {found}, not {_VERSION}x"
    server = getattr(tcp_server, "TCPServer", None)
    if not inspect.isclass(server) or tuple(inspect.signature(server.__init__).parameters) != _PARAMETERS:
        return "Hypercorn's TCPServer is another"
    if not issubclass(getattr(run, "TCPServer", object), server):
        return "Hypercorn serves by something else than its TCPServer"
    return None


def install(engine: Engine) -> None:
    """From now on, connections in the clear that this process accepts are the engine's; `obstacle` must be None."""
    original = run.TCPServer  # type: ignore[attr-defined]  # what Hypercorn makes for each connection, and awaits

    def server(*given: Any) -> Awaitable[None]:
        state, reader, writer = given[-3:]
        if writer.get_extra_info("ssl_object") is not None:
            return cast(Awaitable[None], original(*given))
        return _hand_over(engine, state, reader, writer)

    run.TCPServer = server  # type: ignore[attr-defined, assignment]  # called as the class is


async def _hand_over(
    engine: Engine, state: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    transport = cast(asyncio.Transport, writer.transport)
    if transport.is_closing():
        return
    early, ended = _read_so_far(reader), reader.at_eof()
    # It is told of no end of the transport that it loses here, and would wait to be found among garbage.
    transport.get_protocol().connection_lost(None)
    scope = {
        "type": "http",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "scheme": "http",
        "root_path": "",
        "client": _address(transport.get_extra_info("peername")),
        "server": _address(transport.get_extra_info("sockname")),
        "state": state,
    }
    # Cancelled at the end of the process, which asyncio's streams would tell as a fault on Python 3.11.
    with contextlib.suppress(asyncio.CancelledError):
        await engine.serve(transport, early, ended, scope)


def _read_so_far(reader: asyncio.StreamReader) -> bytes:
    """What has come, without waiting for more."""
    reading = reader.read(_MOST_EARLY_BYTES)
    try:
        reading.send(None)
    except StopIteration as done:
        return bytes(done.value)
    reading.close()
    return b""


def _address(name: object) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None
