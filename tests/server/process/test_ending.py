"""The end of the server: what it waits for, how long, and what it says. Each test is a process."""

import os
import pty
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from gproxy.server.process.ending import FORCED_END_SECONDS
from tests.kit.gateway import poll
from tests.kit.upstream import Script, Upstream
from tests.server.parts import ALICE, provider
from tests.server.running import accepts, running, settings, streaming


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_zero_and_without_a_traceback(tmp_path: Path, number: int) -> None:
    with running(tmp_path, settings() + ALICE) as it:
        assert httpx.get(f"{it.url()}/health", trust_env=False).text == "OK"
        it.signal(number)
        assert it.code() == 0
        assert "Traceback" not in it.said


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


@pytest.mark.parametrize("workers", [1, 2])
def test_two_signals_in_one_moment_cut_it_off_and_it_is_told_so(
    tmp_path: Path, upstream: Upstream, workers: int
) -> None:
    model, texts = upstream.model(Script(stop_after=2, then="hang")), list[str]()
    with running(tmp_path, settings(workers=workers) + provider(upstream.url) + ALICE) as it:
        stream = streaming(it, model, texts.append)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            it.signal(number)
        assert it.code(8) == 0
        stream.join(5)
    assert "overloaded_error" in texts[0]
    assert it.said.count("cuts off 1 request") == 1
    assert workers > 1 or "waits up to" not in it.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_signals_that_go_on_until_it_has_ended_change_nothing(
    tmp_path: Path, workers: int, number: int
) -> None:
    with running(tmp_path, settings(workers=workers) + ALICE) as it:
        assert httpx.get(f"{it.url()}/health", trust_env=False).text == "OK"

        def ended() -> bool:
            it.signal(number)
            return it.process.poll() is not None

        poll(ended, "it ends")
        assert it.code() == 0
        assert "Traceback" not in it.said


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


def test_it_says_what_it_waits_for_and_what_it_cuts_off(tmp_path: Path, upstream: Upstream) -> None:
    model, texts = upstream.model(Script(stop_after=2, then="hang")), list[str]()
    with running(tmp_path, settings(drain_seconds=6) + provider(upstream.url) + ALICE) as it:
        stream = streaming(it, model, texts.append)
        it.signal()
        assert it.code(15) == 0
        stream.join(5)
    said = it.said[it.said.index("waits up to") :].splitlines()
    assert said[0] == "waits up to 6 s for 1 request to finish; a second signal ends it at once"
    assert said[1:3] == ["gproxy: still waits for 1 request, 1 s at most", "gproxy: cuts off 1 request"]


def test_with_nothing_under_way_it_says_nothing(tmp_path: Path) -> None:
    with running(tmp_path, settings() + ALICE) as it:
        it.url()
        it.signal()
        assert it.code() == 0
    assert "wait" not in it.said
    assert "cuts off" not in it.said


def test_of_several_workers_each_says_what_it_waits_for(tmp_path: Path, upstream: Upstream) -> None:
    model, texts = upstream.model(Script(stop_after=2, then="gate")), list[str]()
    with running(tmp_path, settings(workers=2) + provider(upstream.url) + ALICE) as it:
        stream = streaming(it, model, texts.append)
        it.signal()
        poll(lambda: re.search(r"gproxy: worker \d waits up to 30 s for 1 request", it.said), "a line")
        upstream.open_gate(model)
        assert it.code() == 0
        stream.join(5)
    assert "[DONE]" in texts[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_ends_nothing_without_a_terminal(tmp_path: Path, workers: int) -> None:
    with running(tmp_path, settings(workers=workers) + ALICE, start_new_session=True) as it:
        url = it.url()
        os.killpg(it.process.pid, signal.SIGHUP)
        time.sleep(0.3)  # nothing is to come of it
        assert httpx.get(f"{url}/health", trust_env=False).text == "OK"
        it.signal()
        assert it.code() == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", ["ctrl-c", "closed"])
def test_a_terminal_ends_it_by_ctrl_c_or_its_own_end_and_streams_finish(
    tmp_path: Path, upstream: Upstream, how: str, workers: int
) -> None:
    model, texts = upstream.model(Script(stop_after=2, then="gate")), list[str]()
    ours, theirs = pty.openpty()
    text = settings(workers=workers) + provider(upstream.url) + ALICE
    with running(tmp_path, text, terminal=os.ttyname(theirs), start_new_session=True) as it:
        stream = streaming(it, model, texts.append)
        os.close(theirs)
        if how == "ctrl-c":
            os.write(ours, b"\x03")
        else:
            os.close(ours)
        poll(lambda: not accepts(it.url()), "no new connection is taken")
        upstream.open_gate(model)
        assert it.code() == 0, it.said
        stream.join(5)
        (row,) = it.rows()
    if how == "ctrl-c":
        os.close(ours)
    assert "[DONE]" in texts[0]
    assert row["outcome"] == "ok"
