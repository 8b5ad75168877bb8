"""File descriptors: as many as this process may have, and what is said when there are no more.

A connection of a client that cannot be accepted for want of one is closed at once by the event loop (libuv).
"""

import contextlib
import errno
import os
import sys
import time

from gproxy.errors import Unavailable
from gproxy.server.console import LINES

if sys.platform != "win32":
    import fcntl
    import resource

ENOUGH = 65_536
"""What is asked for where the system names no bound (macOS, which then refuses to have none), and what there is room
for at the start: half a megabyte of the kernel's."""

TELL_SECONDS = 60.0
"""Between two lines about it."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE)

_told = -TELL_SECONDS


def raise_limit() -> None:
    """Have as many as the system allows: the usual limit of 1024, or 256, is for programs that call select()."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def make_room() -> None:
    """Let this process's table of descriptors have all the room that it may need, before it has threads.

    Linux doubles the table when it is full, at the 65th descriptor, the 129th and so on. Where threads share it, who
    opens that one waits until all processors have let go of the old table (`synchronize_rcu` in `expand_fdtable`):
    10 to 30 ms, measured, in which the event loop stood still, with all its streams.
    """
    if sys.platform != "linux":
        return
    last = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], ENOUGH) - 1
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, last))
        finally:
            os.close(null)


def exhausted(error: BaseException) -> Unavailable | None:
    """What a client is told if `error`, or what it came of, is that there are none left. Says so on stderr too."""
    cause: BaseException | None = error
    while not (isinstance(cause, OSError) and cause.errno in _EXHAUSTED):
        if cause is None:
            return None
        cause = cause.__cause__ or cause.__context__
    _tell()
    return Unavailable("The proxy has as many connections open as the system allows; try again later.")


def _tell() -> None:
    global _told
    if (now := time.monotonic()) - _told >= TELL_SECONDS:
        _told = now
        LINES.say("no file descriptors are left: requests are refused. `ulimit -Hn` shows the limit.")
