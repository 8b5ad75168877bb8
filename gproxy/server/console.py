"""What the server says on stderr: whole lines, also when several processes share it, and never at a request's cost.

What the lines say is their callers'.
"""

import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType

from gproxy.config.printable import json_text, printable
from gproxy.ledger.when import stamp

MOST_WAITING = 10_000
_CLOSE_SECONDS = 1.0
_logger = logging.getLogger(__name__)
_GATHER_SECONDS = 0.1
_WHOLE_BYTES = 4096
"""So much a pipe takes in one piece (POSIX: PIPE_BUF)."""


def say(text: str) -> None:
    """Print `gproxy: text`, or an object, in one write, and wait for it; a terminal that is gone is no failure."""
    _write(LINES.told(text))


class Lines:
    """Lines that a thread writes: a pipe that nobody reads costs lines, and holds no request up.

    The thread is started by the first line, so in the process that says it and not before a fork. It gathers for a
    moment and writes what came together at once: a wake-up for each line would cost requests more than the lines do.

    `style` is `log_format`: "text", or "json", whose every line is an object with `time` and `message`.
    """

    def __init__(self) -> None:
        self.style = "text"
        self._waiting: deque[str] = deque()
        self._thread: threading.Thread | None = None
        self._said = threading.Event()
        self._awake = False  # the thread, or about to be: it takes all that is put before it sets this back
        self._closing = threading.Event()
        self._dropped = 0

    def put(self, line: str) -> None:
        """Hand a line over, from any thread, without waiting; dropped, and counted, if too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += 1
            return
        self._waiting.append(line)
        if not self._awake:
            self._wake()

    def _wake(self) -> None:
        self._awake = True
        self._said.set()
        if self._thread is None:
            self._closing.clear()
            self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
            self._thread.start()

    def say(self, text: str) -> None:
        """Hand `gproxy: text`, or an object, over."""
        self.put(self.told(text))

    def told(self, text: str) -> str:
        """What is printed of what the server says of itself."""
        if self.style != "json":
            return printable(f"gproxy: {text}", lines=True)
        return json_text({"time": stamp(datetime.now(UTC)), "message": text})

    def close(self) -> None:
        """Write what waits, for no longer than a moment."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._closing.set()
            self._said.set()
            thread.join(_CLOSE_SECONDS)
            self._awake = False

    def _run(self) -> None:
        while not self._closing.is_set():
            self._said.wait()
            self._closing.wait(_GATHER_SECONDS)
            self._said.clear()
            self._awake = False
            for text in self._gathered():
                _write(text)

    def _gathered(self) -> Iterator[str]:
        """All that waits, in texts of whole lines that are written in one piece, less the last line's end."""
        lines: list[str] = []
        size = 0
        while self._waiting:
            line = self._waiting.popleft()
            dropped, self._dropped = self._dropped, 0
            if dropped:
                line = f"{self.told(f'{dropped} lines were dropped, since stderr was not read')}\n{line}"
            needed = len(line.encode(errors="replace")) + 1
            if lines and size + needed > _WHOLE_BYTES:
                yield "\n".join(lines)
                lines.clear()
                size = 0
            lines.append(line)
            size += needed
        if lines:
            yield "\n".join(lines)


LINES = Lines()
"""This process's."""


class LinesHandler(logging.Handler):
    """Python's own log, by the same way. `scrub` takes secrets out: a traceback ends with what an exception says, and
    that may be any value."""

    def __init__(self) -> None:
        super().__init__()
        self.scrub: Callable[[str], str] = str

    def emit(self, record: logging.LogRecord) -> None:
        LINES.say(self.scrub(self.format(record)))


LOG = LinesHandler()
"""This process's."""


def log_faults() -> None:
    """Have faults that nobody caught, in any thread or in a destructor, told by the log, and so without secrets."""

    def in_thread(fault: threading.ExceptHookArgs) -> None:
        if fault.exc_value is not None:  # None: as the interpreter ends
            _logger.critical(
                "a fault in the thread %s", fault.thread and fault.thread.name, exc_info=fault.exc_value
            )

    def unraisable(fault: "sys.UnraisableHookArgs") -> None:
        _logger.error("a fault in %s", type(fault.object).__name__, exc_info=fault.exc_value)

    def anywhere(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, Exception):
            sys.__excepthook__(kind, error, trace)
            return
        _logger.critical("a fault ends the process", exc_info=error)
        LINES.close()

    sys.excepthook, threading.excepthook, sys.unraisablehook = anywhere, in_thread, unraisable


def _write(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
