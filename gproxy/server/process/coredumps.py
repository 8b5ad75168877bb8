"""That no core dump of a server is written: its memory holds every provider's key.

What a process of the same user can read of a running server is the system's to decide.
"""

import contextlib
import sys

if sys.platform != "win32":
    import resource


def forbid() -> None:
    """Let a crash leave no core file, in this process and in all that it starts; systemd-coredump heeds it too."""
    if sys.platform == "win32":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
