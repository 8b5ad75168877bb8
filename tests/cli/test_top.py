"""`gproxy top` beside a served gateway: one picture for pipes, and a live one in a real terminal, given back."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.kit.gateway import ROOT, Gateway

DEMO = """
[[providers]]
name = "local"
channel = "demo"
[[users]]
name = "alice"
[[users.keys]]
api_key = "sk-client-alice"
[[permissions]]
user_name = "alice"
model_pattern = "*"
"""
ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path, DEMO) as running:
        body = {"model": "local/echo-1", "messages": [{"role": "user", "content": "Hello"}]}
        assert running.post("/v1/chat/completions", body).status_code == 200
        yield running


class Terminal:
    """A terminal of 80 by 24, and the command in it."""

    def __init__(self, gateway: Gateway, kind: str = "xterm") -> None:
        self.mine, self.its = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.its)
        self.shown = b""
        self.process = subprocess.Popen(
            (sys.executable, "-m", "gproxy.cli.main", "top", "--config", str(gateway.path)),
            stdin=self.its,
            stdout=self.its,
            stderr=self.its,
            env={**os.environ, "PYTHONPATH": ROOT, "TERM": kind},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that its keys are signals
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: bytes, since: int = 0) -> None:
        end = time.monotonic() + 20
        while text not in self.shown[since:]:
            assert time.monotonic() < end, self.shown
            self._read(0.1)

    def ended(self) -> int:
        """The exit code; asserts that the terminal is as it was found."""
        end = time.monotonic() + 20
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown
            self._read(0.05)
        self._read(0.05)
        assert termios.tcgetattr(self.its) == self.before
        assert self.shown.count(ENTER) == self.shown.count(LEAVE) == 1
        assert self.shown.rindex(SHOW_CURSOR) > self.shown.rindex(ENTER)
        assert b"Traceback" not in self.shown
        return self.process.returncode

    def _read(self, seconds: float) -> None:
        while select.select([self.mine], (), (), seconds)[0]:
            self.shown += os.read(self.mine, 65536)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.mine)
        os.close(self.its)


@pytest.fixture
def terminal(gateway: Gateway) -> Iterator[Terminal]:
    it = Terminal(gateway)
    try:
        it.until(b"local/echo-1")
        it.until(b"q quits")
        yield it
    finally:
        it.close()


def test_a_picture_is_printed_where_nobody_watches(gateway: Gateway) -> None:
    for arguments in (("top",), ("top", "--once")):
        told = gateway.cli(*arguments)
        assert "local/echo-1" in told
        assert "\x1b" not in told
        assert all(len(line) <= 80 for line in told.splitlines())
    tree = json.loads(gateway.cli("top", "--json"))
    assert (tree["running"], tree["in_flight"], tree["today"]["requests"]) == (True, 0, 1)
    assert tree["requests_per_s"] > 0
    assert [row["provider"] for row in tree["today"]["by"]] == ["local"]
    assert [row["state"] for row in tree["credentials"]] == ["ready"]


def test_a_dumb_terminal_gets_one_picture(gateway: Gateway) -> None:
    it = Terminal(gateway, "dumb")
    try:
        it.until(b"CREDENTIALS")
        it.process.wait(20)
        assert b"\x1b" not in it.shown
        assert b"quits" not in it.shown
    finally:
        it.close()


def test_without_a_store_or_a_server_that_is_said(run: Run, tmp_path: Path, gateway: Gateway) -> None:
    gateway.stop()
    ran = run("top", "--config", str(gateway.path))
    assert (ran.code, ran.out) == (1, "")
    assert "no server is running" in ran.err
    (tmp_path / "empty.toml").write_text('[global]\ndata_dir = "nowhere"\n')
    ran = run("top", "--config", "empty.toml")
    assert ran.code == 1
    assert "no usage store" in ran.err


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03"])
def test_a_key_ends_it_and_the_terminal_is_as_it_was(terminal: Terminal, key: bytes) -> None:
    os.write(terminal.mine, key)
    assert terminal.ended() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)]
)
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(terminal: Terminal, number: int, code: int) -> None:
    terminal.process.send_signal(number)
    assert terminal.ended() == code


def test_a_store_that_fails_ends_it_and_the_terminal_is_as_it_was(
    terminal: Terminal, gateway: Gateway
) -> None:
    gateway.kill()
    for path in gateway.database.parent.glob("gproxy.db*"):
        path.unlink()
    gateway.database.write_bytes(b"no database" * 1000)
    assert terminal.ended() == 1
    said = terminal.shown[terminal.shown.rindex(LEAVE) :]
    assert b"not a usable SQLite database" in b" ".join(
        said.split()
    )  # its lines end where the path lets them


def test_it_goes_on_beside_a_server_that_has_ended_and_follows_the_size_of_the_window(
    terminal: Terminal, gateway: Gateway
) -> None:
    gateway.stop()
    terminal.until(b"NO SERVER IS RUNNING")
    seen = len(terminal.shown)
    terminal.resize(10, 50)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.until(b"gproxy top", since=seen)
    os.write(terminal.mine, b"\x1a")  # Ctrl-Z is no way out of it half way
    os.write(terminal.mine, b"q")
    assert terminal.ended() == 0
