"""A serving process below a test, and what it says; a stream through it."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.kit.gateway import ROOT, poll
from tests.server.parts import KEY

PROGRAM = """
import os, sys
from pathlib import Path
from gproxy.config.source import load_file
from gproxy.providers.catalog import CHANNELS
from gproxy.server.process.supervisor import run
path = Path(sys.argv[1])
terminal = os.open(sys.argv[2], os.O_RDWR) if sys.argv[2] else None  # a session's first is the one that it has
load = lambda **options: load_file(path, channels=CHANNELS, environ={}, **options)
announce = lambda url: print("announced", url, flush=True)
sys.exit(run(load(), load, path=path, directory=path.parent, announce=announce))
"""
LISTENING = "gproxy: listening on "


class Running:
    """A serving process and what it has said on stderr."""

    def __init__(self, folder: Path, text: str, terminal: str, start_new_session: bool) -> None:
        self.path = folder / "gproxy.toml"
        self.path.write_text(text)
        self.path.chmod(0o600)
        environ = {**os.environ, "PYTHONPATH": ROOT}
        self.process = subprocess.Popen(
            (sys.executable, "-c", PROGRAM, str(self.path), terminal),
            start_new_session=start_new_session,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def url(self) -> str:
        """The address that it listens on, once it does."""
        poll(lambda: LISTENING in self.said or self.process.poll() is not None, "listening")
        assert LISTENING in self.said, self.said
        return self.said.partition(LISTENING)[2].split()[0]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def code(self, within: float = 10) -> int:
        code = self.process.wait(within)
        self._reader.join(5)
        return code

    def cpu(self) -> int:
        """How much it has worked, in ticks."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def workers(self) -> list[int]:
        """Its processes that serve, where they are several."""
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def rows(self) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self.path.parent / "data" / "gproxy.db")) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM usage")]


@contextmanager
def running(
    folder: Path, text: str, *, terminal: str = "", start_new_session: bool = False
) -> Iterator[Running]:
    """`terminal` is the one that it is run from, for which it has to have a session of its own."""
    it = Running(folder, text, terminal, start_new_session)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.communicate()


def settings(port: int = 0, **more: object) -> str:
    lines = [f"port = {port}", *(f"{name} = {value!r}" for name, value in more.items())]
    return "\n".join(["[global]", *lines, ""])


def streaming(it: Running, model: str, told: Callable[[str], None]) -> threading.Thread:
    """A stream through the process in a thread of its own; `told` gets all of it in the end."""
    url, begun = it.url(), threading.Event()

    def run() -> None:
        body = {"model": f"up/{model}", "messages": [], "stream": True}
        headers = {"authorization": f"Bearer {KEY}"}
        with (
            httpx.Client(trust_env=False, timeout=20) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            text = ""
            for piece in answer.iter_text():
                begun.set()
                text += piece
            told(text)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    return thread


def accepts(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
