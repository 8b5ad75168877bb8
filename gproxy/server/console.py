"""What the server says on stderr: whole lines, also when several processes share it, and never at a request's cost.

What the lines say is their callers'.
"""

import contextlib
import logging
import queue
import sys
import threading

MOST_WAITING = 10_000
_CLOSE_SECONDS = 1.0


def say(text: str) -> None:
    """Print `gproxy: text` in one write, and wait for it; a terminal that is gone is no failure."""
    _write(f"gproxy: {text}")


class Lines:
    """Lines that a thread writes: a pipe that nobody reads costs lines, and holds no request up.

    The thread is started by the first line, so in the process that says it and not before a fork.
    """

    def __init__(self) -> None:
        self._waiting: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def put(self, line: str) -> None:
        """Hand a line over, from any thread, without waiting; dropped, and counted, if too many wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def say(self, text: str) -> None:
        """Hand `gproxy: text` over."""
        self.put(f"gproxy: {text}")

    def close(self) -> None:
        """Write what waits, for no longer than a moment."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_CLOSE_SECONDS)
            thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                _write(f"gproxy: {dropped} lines were dropped, since stderr was not read")
            _write(line)


LINES = Lines()
"""This process's."""


class LinesHandler(logging.Handler):
    """Python's own log, by the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        LINES.say(self.format(record))


def _write(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
