"""Lines on stderr that never hold a request up: a thread writes them, and what it cannot keep up with is dropped.

What the lines say is their callers'. A pipe that nobody reads, or a terminal that is gone, costs lines and nothing else.
"""

import logging
import queue
import sys
import threading

MOST_WAITING = 10_000
_CLOSE_SECONDS = 1.0


class StderrThread:
    """Started by its first line, in the process that says it."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def say(self, line: str) -> None:
        """Put a line on stderr, from any thread, without waiting."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
            self._thread.start()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for no longer than a moment. Later lines start anew."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._lines.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            return
        thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                line = f"gproxy: {dropped} lines were dropped, since stderr was not read\n{line}"
            try:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except (OSError, ValueError):
                pass  # nobody is there to read it


STDERR = StderrThread()
say = STDERR.say


class StderrHandler(logging.Handler):
    """Python's own log, by the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))
