"""The sockets that a server listens on: one, or one for each worker at the same address.

What is read from them is Hypercorn's.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from gproxy.config.schema import Global

BACKLOG = 2048

UNSENT_BYTES = 128 * 1024
"""Most that the system holds unsent for a client, where that can be set. Left to itself it takes over megabytes, and
says only now and then that it has room again: a slow reader would look like one that has stopped."""


def listen(settings: Global) -> list[socket.socket]:
    """A listening socket for each worker, in the order of their slots. Raises OSError.

    On Linux each worker has its own queue, which the kernel fills evenly: from one queue the first to wake would
    take nearly everything. A queue lives for as long as any process has its socket open, so none of it is lost
    when its worker dies. Elsewhere the workers share one socket, and the list holds it several times.
    """
    count = settings.workers
    family, _, _, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with contextlib.ExitStack() as opened:
        first = opened.enter_context(_bound(family, address))
        listeners = [first] * count
        if count > 1 and sys.platform == "linux":
            # Sockets that may share an address would share it with another server too: the first one shows that
            # it is free, and what it is where it was left open.
            address = first.getsockname()
            first.close()
            listeners = [opened.enter_context(_bound(family, address, shared=True)) for _ in range(count)]
        for listener in set(listeners):
            listener.listen(BACKLOG)
        opened.pop_all()
    return listeners


def vacate(listeners: Sequence[socket.socket], slot: int, vacant: bool) -> None:
    """The place of a worker is `vacant`: let nobody wait in its queue, so that the system leads who comes to another.
    Who waits there is reset, and may come again. Then, no longer vacant: let them wait. Only if it has its own queue.
    """
    if len(set(listeners)) > 1:
        listeners[slot].shutdown(socket.SHUT_RD) if vacant else listeners[slot].listen(BACKLOG)


def url(settings: Global, listener: socket.socket) -> str:
    """The base URL of what is served there."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate and settings.tls_key else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def holder(port: int) -> str:
    """The process that listens on a port, as `python3, process 123`; "" where the system does not say (it does on
    Linux, of one's own processes)."""
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    rows = [row.split() for table in tables if table.exists() for row in table.read_text().splitlines()[1:]]
    # The fields of proc(5): local address, state (0A listens), inode.
    ours = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    for process in Path("/proc").glob("[0-9]*") if ours else ():
        with contextlib.suppress(OSError):
            if any(os.readlink(each) in ours for each in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()}, process {process.name}"
    return ""


def _bound(family: int, address: tuple[object, ...], *, shared: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            bound.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
            )  # for what it accepts
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
