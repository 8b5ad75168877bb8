"""What the server says on stderr: whole lines, also when several processes share it.

The line per request is `accesslog.py`'s.
"""

import contextlib
import sys


def say(text: str) -> None:
    """Print `gproxy: text` in one write; a terminal that is gone is no failure."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"gproxy: {text}\n")
        sys.stderr.flush()
