"""How Hypercorn is set: every default of its that matters, on purpose.

When it begins and ends is `serving.py`'s; how HTTP/1.1 is spoken, `http1.py`'s where the fast engine serves.
"""

import logging
import os
import socket
import sys
from pathlib import Path

from hypercorn.config import Config

from gproxy.config import schema
from gproxy.config.source import located
from gproxy.server.process import listeners

KEEP_ALIVE_S = 75.0

LISTENING_TIMES = 8
"""How often the listener is there for uvloop, whose libuv takes one connection of each socket that is ready in a turn
of the loop. If it were one a turn, newcomers would wait for as many turns as there are of them, and turns are longest
where most is to be done. asyncio's own loops take all that wait, and stumble over each copy when there are no
descriptors left."""

LONGEST_END_S = 86_400.0
"""More than any drain may take."""


def made(settings: schema.Global, listener: socket.socket, directory: Path, *, by_uvloop: bool) -> Config:
    """Of a server that takes over `listener`; relative paths of TLS files start from `directory`."""
    config = Config()
    copies = [os.dup(listener.fileno()) for _ in range(LISTENING_TIMES - 1)] if by_uvloop else []
    config.bind = [f"fd://{descriptor}" for descriptor in (listener.detach(), *copies)]
    config.backlog = listeners.BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = sys.maxsize
    config.h11_max_incomplete_size = 64 * 1024
    config.graceful_timeout = LONGEST_END_S  # the deadline is kept by `ending.py`, and may change
    config.read_timeout = None  # would end a stream whose client has nothing to say
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("gproxy.http")
    if files := tls_files(settings, directory):
        config.certfile, config.keyfile = map(str, files)
    return config


def tls_files(settings: schema.Global, directory: Path) -> tuple[Path, Path] | None:
    """The certificate and its key, None without TLS."""
    if not (settings.tls_certificate and settings.tls_key):
        return None
    return located(settings.tls_certificate, directory), located(settings.tls_key, directory)


def readable_key(settings: schema.Global, directory: Path) -> Path | None:
    """The TLS key, if others than who runs gproxy can read it. A group may where root has given it the file, as
    systems do that keep their keys in one folder."""
    files = tls_files(settings, directory)
    if files is None or os.name == "nt":
        return None
    key = files[1]
    try:
        found = key.stat()
    except OSError:
        return None  # which is told by who reads it
    others = 0o007 if found.st_uid == 0 != os.geteuid() else 0o077
    return key if found.st_mode & others else None
