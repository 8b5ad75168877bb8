"""The process around the server: its socket, its signals, its drain and its exit code. Each test is a process."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gproxy.server.supervisor import FORCED_END_SECONDS
from tests.kit.gateway import ROOT, poll
from tests.kit.upstream import Script, Upstream
from tests.server.parts import ALICE, KEY, provider

PROGRAM = """
import sys
from pathlib import Path
from gproxy.config.source import load_file
from gproxy.providers.catalog import CHANNELS
from gproxy.server.supervisor import run
path = Path(sys.argv[1])
load = lambda **options: load_file(path, channels=CHANNELS, environ={}, **options)
announce = lambda url: print("announced", url, flush=True)
sys.exit(run(load(), load, path=path, directory=path.parent, announce=announce))
"""
LISTENING = "gproxy: listening on "


class Running:
    """A serving process and what it has said on stderr."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "gproxy.toml"
        self.path.write_text(text)
        self.path.chmod(0o600)
        environ = {**os.environ, "PYTHONPATH": ROOT}
        self.process = subprocess.Popen(
            (sys.executable, "-c", PROGRAM, str(self.path)),
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

    def rows(self) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self.path.parent / "data" / "gproxy.db")) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM usage")]


@contextmanager
def running(folder: Path, text: str) -> Iterator[Running]:
    it = Running(folder, text)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.communicate()


def settings(port: int = 0, **more: object) -> str:
    lines = [f"port = {port}", *(f"{name} = {value!r}" for name, value in more.items())]
    return "\n".join(["[global]", *lines, ""])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_zero_and_without_a_traceback(tmp_path: Path, number: int) -> None:
    with running(tmp_path, settings() + ALICE) as it:
        assert httpx.get(f"{it.url()}/health", trust_env=False).text == "OK"
        it.signal(number)
        assert it.code() == 0
        assert "Traceback" not in it.said


def test_the_address_is_announced_before_it_is_listened_on(tmp_path: Path) -> None:
    with running(tmp_path, settings() + ALICE) as it:
        url = it.url()
        assert it.process.stdout is not None
        assert it.process.stdout.readline() == f"announced {url}\n"


def test_a_port_that_is_taken_is_one_sentence_and_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path, settings(port) + ALICE) as it:
            assert it.code() == 1
            (line,) = it.said.splitlines()
    for word in (f"127.0.0.1:{port}", "--port", "--host"):
        assert word in line


def test_an_address_that_is_not_ours_is_one_sentence_and_one(tmp_path: Path) -> None:
    with running(tmp_path, settings(host="203.0.113.7") + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "203.0.113.7" in line


def test_a_configuration_with_errors_is_one_sentence_and_one(tmp_path: Path) -> None:
    with running(tmp_path, "nonsense") as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "gproxy check" in line


def test_a_store_that_cannot_be_opened_is_one_sentence_and_one(tmp_path: Path) -> None:
    (tmp_path / "data" / "gproxy.db").mkdir(parents=True)
    with running(tmp_path, settings() + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "gproxy.db" in line


def test_files_that_are_no_certificate_are_one_sentence_and_one(tmp_path: Path) -> None:
    (tmp_path / "tls.pem").write_text("nonsense")
    with running(tmp_path, settings(tls_certificate="tls.pem", tls_key="tls.pem") + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "tls_certificate" in line


def test_a_folder_that_cannot_be_made_is_one_sentence_and_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with running(tmp_path, settings(data_dir="file/data") + ALICE) as it:
        assert it.code() == 1
        (line,) = it.said.splitlines()
    assert "data_dir" in line


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_listened_on(tmp_path: Path) -> None:
    with running(tmp_path, settings(host="::1") + ALICE) as it:
        url = it.url()
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/health", trust_env=False).text == "OK"


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


def test_a_stream_may_finish_after_the_signal(tmp_path: Path, upstream: Upstream) -> None:
    model, texts = upstream.model(Script(stop_after=2, then="gate")), list[str]()
    with running(tmp_path, settings() + provider(upstream.url) + ALICE) as it:
        stream = streaming(it, model, texts.append)
        it.signal()
        poll(lambda: not accepts(it.url()), "no new connection is taken")
        assert it.process.poll() is None
        upstream.open_gate(model)
        assert it.code() == 0
        stream.join(5)
        (row,) = it.rows()
    assert "[DONE]" in texts[0]
    assert row["outcome"] == "ok"


def accepts(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("drain", "signals"), [(1, 1), (30, 2)], ids=["the drain ends", "a second signal"])
def test_a_stream_that_is_cut_off_is_told_so_and_leaves_its_row(
    tmp_path: Path, upstream: Upstream, drain: int, signals: int
) -> None:
    model, texts = upstream.model(Script(stop_after=2, then="hang")), list[str]()
    with running(tmp_path, settings(drain_seconds=drain) + provider(upstream.url) + ALICE) as it:
        stream = streaming(it, model, texts.append)
        for _ in range(signals):
            it.signal()
            poll(lambda: not accepts(it.url()), "no new connection is taken")
        assert it.code(8) == 0
        assert "Traceback" not in it.said
        stream.join(5)
        (row,) = it.rows()
    assert "overloaded_error" in texts[0]
    assert "[DONE]" not in texts[0]
    assert row["outcome"] == "interrupted"


@pytest.mark.parametrize("engine", ["fast", "hypercorn"])
@pytest.mark.parametrize("signals", [1, 2])
def test_a_client_that_does_not_take_its_answer_does_not_hold_the_end_up(
    tmp_path: Path, signals: int, engine: str
) -> None:
    with running(tmp_path, settings(drain_seconds=1 if signals == 1 else 60, http_engine=engine)) as it:
        host, port = it.url().removeprefix("http://").split(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            # Answers that are more than the system holds, and less than makes us wait.
            client.sendall(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n" * 650)
            before = -1
            while (now := it.cpu()) != before:
                before = now
                time.sleep(0.3)  # no CPU spent in this time: all answers are made, and wait for their client
            began = time.monotonic()
            for _ in range(signals):
                it.signal()
                time.sleep(0.2)  # two signals at once are one to the system
            assert it.code() == 0
            assert time.monotonic() - began < (3 if engine == "fast" else 5)
    assert "Traceback" not in it.said


def test_what_needs_a_restart_is_said_and_the_rest_is_put_in_force(tmp_path: Path) -> None:
    text = settings() + ALICE
    with running(tmp_path, text) as it:
        url = it.url()
        it.path.write_text(text.replace("port = 0", "port = 1").replace(KEY, "sk-new"))
        poll(lambda: "configuration reloaded" in it.said, "the reload")
        assert "restart to apply [global] port" in it.said
        headers = {"authorization": "Bearer sk-new"}
        assert httpx.get(f"{url}/v1/models", headers=headers, trust_env=False).status_code == 200


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(30, 0), (0, 30)])
def test_the_drain_is_as_long_as_the_configuration_in_force_says(
    tmp_path: Path, upstream: Upstream, before: int, after: int, workers: int
) -> None:
    model, texts = upstream.model(Script(stop_after=2, then="gate")), list[str]()
    text = settings(drain_seconds=before, workers=workers) + provider(upstream.url) + ALICE
    with running(tmp_path, text) as it:
        it.url()
        it.path.write_text(text.replace(f"drain_seconds = {before}", f"drain_seconds = {after}"))
        poll(lambda: "configuration reloaded" in it.said, "the reload")
        time.sleep(0.6)  # the other worker has polled too
        stream = streaming(it, model, texts.append)
        it.signal()
        if after:
            time.sleep(FORCED_END_SECONDS + 1)  # past the end of the drain that was
            upstream.open_gate(model)
        assert it.code(5) == 0
        stream.join(5)
    assert ("[DONE]" in texts[0]) == bool(after)


def test_a_bad_edit_makes_it_not_ready_until_it_is_mended(tmp_path: Path) -> None:
    text = settings() + ALICE
    with running(tmp_path, text) as it:
        url = it.url()
        it.path.write_text("nonsense")
        answer = poll(lambda: ready(url, 503), "not ready")
        assert "not in force" in answer["reasons"][0]
        it.path.write_text(text)
        poll(lambda: ready(url, 200), "ready again")


def ready(url: str, status: int) -> dict[str, Any] | None:
    """What /ready says, if it says it with that status."""
    answer = httpx.get(f"{url}/ready", trust_env=False)
    tree: dict[str, Any] = answer.json()
    return tree if answer.status_code == status else None
