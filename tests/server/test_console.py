import contextlib
import io
import json
import logging
import os
import subprocess
import sys

import pytest

from gproxy.config.scrub import Known, Scrubber
from gproxy.server import console
from gproxy.server.console import Lines, LinesHandler, say


class Writes(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def write(self, text: str) -> int:
        self.all.append(text)
        return len(text)


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Writes()
    monkeypatch.setattr(sys, "stderr", stream)
    say("well")
    assert stream.all == ["gproxy: well\n"]


def test_what_is_said_is_an_object_a_line_where_json_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Writes()
    monkeypatch.setattr(sys, "stderr", stream)
    lines = Lines()
    lines.style = "json"
    lines.say("a fault\nTraceback: ä")
    lines.close()
    (line,) = "".join(stream.all).splitlines()
    assert json.loads(line).keys() == {"time", "message"}
    assert json.loads(line)["message"] == "a fault\nTraceback: ä"


def test_a_stream_that_is_closed_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    say("well")


def test_lines_come_out_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Writes()
    monkeypatch.setattr(sys, "stderr", stream)
    lines = Lines()
    said = [letter * (7 * number % 90) for number in range(500) for letter in "aä€😀"]
    for text in said:
        lines.say(text)
    lines.close()
    assert "".join(stream.all) == "".join(f"gproxy: {text}\n" for text in said)
    assert all(text.endswith("\n") and len(text.encode()) <= 4096 for text in stream.all)


def test_what_waits_goes_in_pieces_as_large_as_a_pipe_takes_whole() -> None:
    """Each is a wait for the interpreter, and so for the requests."""
    lines = Lines()
    said = [letter * (7 * number % 90) for number in range(500) for letter in "aä€😀"]
    lines._waiting.extend(said)
    pieces = list(lines._gathered())
    assert "\n".join(pieces) == "\n".join(said)
    sizes = [len(piece.encode()) + 1 for piece in pieces]
    assert max(sizes) <= 4096
    assert min(sizes[:-1]) > 4096 - 4 * 90 - 1


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `gproxy serve 2>&1 | less` does, once the pipe is full."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    lines = Lines()
    for _ in range(3 * console.MOST_WAITING):
        lines.put("x" * 100)
    said = b""
    while b"were dropped" not in said:
        said += os.read(reader, 65536)
        lines.put("more")
    os.close(reader)  # from here on every write fails at once
    lines.close()
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_a_traceback_is_told_without_what_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Writes()
    monkeypatch.setattr(sys, "stderr", stream)
    handler = LinesHandler()
    handler.scrub = Scrubber(Known(keys=frozenset({"sk-canary-4711"}))).text
    logger = logging.Logger("apart")
    logger.addHandler(handler)
    try:
        raise KeyError("sk-canary-4711")
    except KeyError:
        logger.exception("a fault")
    console.LINES.close()
    said = "".join(stream.all)
    assert said.startswith("gproxy: a fault\nTraceback")
    assert said.endswith("KeyError: '[redacted]'\n")


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("raise RuntimeError(SECRET)", 1),
        ("threading.Thread(target=fail).start()", 0),
        ("Fails()", 0),
    ],
    ids=["main", "thread", "destructor"],
)
def test_a_fault_that_nobody_caught_is_told_without_secrets(where: str, code: int) -> None:
    program = f"""
import logging, threading
from gproxy.config.scrub import Known, Scrubber
from gproxy.server.console import LINES, LOG, log_faults
SECRET = "sk-canary-0123456789"
logging.basicConfig(handlers=[LOG])
log_faults()
LOG.scrub = Scrubber(Known(keys=frozenset([SECRET]))).text
def fail(*_):
    raise RuntimeError(SECRET)
class Fails:
    __del__ = fail
{where}
for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join()
LINES.close()
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "canary" not in done.stderr + done.stdout
    assert "RuntimeError: [redacted]" in done.stderr
    assert "Traceback" in done.stderr


def test_who_interrupts_a_command_is_told_as_ever() -> None:
    program = "from gproxy.server.console import log_faults; log_faults(); raise KeyboardInterrupt"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=False)
    assert done.stderr.endswith("KeyboardInterrupt\n")
