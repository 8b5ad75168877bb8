"""Descriptors run out: who asks is told so, nothing is spun on, and it is over when some are free again."""

import errno
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from gproxy.errors import Unavailable
from gproxy.server import descriptors
from tests.kit.gateway import ROOT, poll
from tests.kit.upstream import Upstream
from tests.server.parts import ALICE, KEY, provider
from tests.server.running import Running, running, settings

LIMITED = "import resource; from gproxy.server.descriptors import raise_limit; {}; raise_limit(); print({})"
NOW = "resource.getrlimit(resource.RLIMIT_NOFILE)"


@pytest.mark.parametrize(("soft", "hard", "after"), [(64, 256, 256), (256, 256, 256)])
def test_the_limit_is_raised_to_what_the_system_allows(soft: int, hard: int, after: int) -> None:
    program = LIMITED.format(f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))", NOW)
    done = subprocess.run(
        (sys.executable, "-c", program), env={"PYTHONPATH": ROOT}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"({after}, {hard})\n"


@pytest.mark.skipif(sys.platform != "linux", reason="where the kernel tells the size of the table")
@pytest.mark.parametrize("workers", [1, 2])
def test_each_process_that_serves_has_a_table_that_need_not_grow(tmp_path: Path, workers: int) -> None:
    with running(tmp_path, settings(workers=workers)) as it:
        it.url()
        serving = [it.process.pid] if workers == 1 else it.workers()
        states = [Path(f"/proc/{pid}/status").read_text() for pid in serving]
    rooms = [int(state.partition("\nFDSize:")[2].split()[0]) for state in states]
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], descriptors.ENOUGH)
    assert len(rooms) == workers
    assert all(room >= most for room in rooms)


@pytest.mark.skipif(sys.platform != "linux", reason="where room is made")
@pytest.mark.parametrize("left", [0, 1, 100])
def test_room_takes_no_descriptor_and_is_done_without_where_none_is_left(left: int) -> None:
    program = f"""
import os, resource
from gproxy.server.descriptors import make_room
def opened(): return sorted(map(int, os.listdir("/proc/self/fd")))
first = os.dup(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (first + 101, first + 101))
for _ in range(100 - {left}): os.dup(0)
if {left}: before = opened()
make_room()
if {left}: assert opened() == before
"""
    subprocess.run(
        (sys.executable, "-c", program), env={"PYTHONPATH": ROOT}, stdin=subprocess.DEVNULL, check=True
    )


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_want_of_one_is_seen_below_what_it_led_to(number: int) -> None:
    failed = httpx.ConnectError("x")
    failed.__cause__ = OSError(number, "y")
    assert isinstance(descriptors.exhausted(failed), Unavailable)
    assert descriptors.exhausted(httpx.ConnectError("x")) is None
    assert descriptors.exhausted(ConnectionRefusedError(errno.ECONNREFUSED, "z")) is None


def fill(it: Running, count: int) -> list[socket.socket]:
    host, port = it.url().removeprefix("http://").split(":")
    return [socket.create_connection((host, int(port)), 5) for _ in range(count)]


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limit is set by prlimit")
@pytest.mark.parametrize("family", ["openai", "anthropic", "gemini"])
def test_a_request_that_finds_none_is_503_in_its_dialect_and_a_later_one_is_served(
    tmp_path: Path, upstream: Upstream, family: str
) -> None:
    path, body = {
        "openai": ("/v1/chat/completions", {"model": "up/m", "messages": []}),
        "anthropic": ("/v1/messages", {"model": "up/m", "messages": [], "max_tokens": 5}),
        "gemini": ("/v1beta/models/up/m:generateContent", {"contents": []}),
    }[family]
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        running(tmp_path, settings() + provider(upstream.url) + ALICE) as it,
        httpx.Client(base_url=it.url(), headers=headers, trust_env=False, timeout=10) as client,
    ):
        assert client.get("/health").text == "OK"
        resource.prlimit(it.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        held = fill(it, 80)
        open_ones = Path(f"/proc/{it.process.pid}/fd")
        poll(lambda: len(list(open_ones.iterdir())) == 64, "none left")
        before = it.cpu()
        time.sleep(1)  # what a busy loop would fill
        assert it.cpu() - before < 20, "of a hundred"
        answer = client.post(path, json=body)
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert "as many connections open as the system allows" in error["message"]
        kind = {"openai": "overloaded_error", "anthropic": "overloaded_error", "gemini": "UNAVAILABLE"}[
            family
        ]
        assert error["status" if family == "gemini" else "type"] == kind
        for each in held:
            each.close()
        assert client.post(path, json=body).status_code == 200
        (refused, served) = it.rows()
        poll(lambda: "no file descriptors are left" in it.said, "a line about it")
    assert (refused["status"], served["status"]) == (503, 200)
    assert "Traceback" not in it.said


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limit is set by prlimit")
def test_an_edit_that_finds_none_and_a_route_that_is_not_there_yet_have_their_turn_later(
    tmp_path: Path, upstream: Upstream
) -> None:
    """What else than requests to models asks for files: the configuration, and modules that are read when needed."""
    with (
        running(tmp_path, settings() + provider(upstream.url) + ALICE) as it,
        httpx.Client(base_url=it.url(), trust_env=False, timeout=10) as client,
    ):
        assert client.post("/v1/chat/completions").status_code == 401
        resource.prlimit(it.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        held = fill(it, 80)
        open_ones = Path(f"/proc/{it.process.pid}/fd")
        poll(lambda: len(list(open_ones.iterdir())) == 64, "none left")
        it.path.write_text(it.path.read_text() + '\n[[providers]]\nname = "later"\nchannel = "demo"\n')
        poll(lambda: "cannot be read: Too many open files" in it.said, "an edit is missed")
        assert client.get("/ready").status_code == 503
        for each in held:
            each.close()
        poll(lambda: "configuration reloaded" in it.said, "it is in force")
        assert client.get("/ready").status_code == 200
    assert "Traceback" not in it.said


def test_it_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(descriptors.LINES, "say", said.append)
    monkeypatch.setattr(descriptors, "_told", time.monotonic() - descriptors.TELL_SECONDS)
    for _ in range(3):
        descriptors.exhausted(OSError(errno.EMFILE, "x"))
    assert len(said) == 1
