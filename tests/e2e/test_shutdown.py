"""The end of the process: streams finish, what was answered is in the ledger, the exit is clean."""

import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.kit.answers import Told
from tests.kit.calls import BY_ID
from tests.kit.gateway import Gateway, poll
from tests.kit.settings import chatting
from tests.kit.upstream import Script, Upstream

pytestmark = pytest.mark.both_engines

CALL = BY_ID["chat-stream"]


def test_an_idle_server_ends_at_once(upstream: Upstream, tmp_path: Path) -> None:
    with Gateway(tmp_path, chatting(upstream.url)) as gateway:
        # A connection that is kept alive is no reason to wait.
        with gateway.client() as client:
            assert client.get("/health").text == "OK"
            began = time.monotonic()
            gateway.stop()
        assert time.monotonic() - began < 3


def test_a_running_stream_finishes_after_sigterm(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model(Script(stop_after=2, then="gate"))
    with Gateway(tmp_path, chatting(upstream.url)) as gateway:
        with (
            gateway.client() as client,
            client.stream("POST", CALL.url(model, "oa"), json=CALL.fields(model)) as answer,
        ):
            pieces = answer.iter_bytes()
            got = next(pieces)
            gateway.process.send_signal(signal.SIGTERM)
            poll(lambda: refuses(gateway.url), "no new requests are taken")
            upstream.open_gate(model)
            got += b"".join(pieces)
        assert got.endswith(b"data: [DONE]\n\n")
        gateway.ended()
        row = gateway.row(model=model)
        assert (row["status"], row["outcome"]) == (200, "ok")
        assert upstream.only(model).told.differs_from(row) == {}


def refuses(url: str) -> bool:
    """Whether a new connection is refused, or answered that the server is going."""
    try:
        with httpx.Client(trust_env=False, timeout=2) as client:
            return client.get(f"{url}/ready").status_code == 503
    except httpx.TransportError:
        return True


def test_a_stream_that_outlasts_the_drain_is_ended_in_its_dialect(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model(Script(stop_after=2, then="hang"))
    text = chatting(upstream.url, "drain_seconds = 1\n")
    with Gateway(tmp_path, text) as gateway:
        with (
            gateway.client() as client,
            client.stream("POST", CALL.url(model, "oa"), json=CALL.fields(model)) as answer,
        ):
            pieces = answer.iter_bytes()
            got = next(pieces)
            began = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            got += b"".join(pieces)
        assert b'"error"' in got
        assert b"[DONE]" not in got
        gateway.ended()
        assert 0.9 < time.monotonic() - began < 6
        assert gateway.row(model=model)["outcome"] == "interrupted"


def test_a_killed_process_loses_no_answered_request(upstream: Upstream, tmp_path: Path) -> None:
    models = [upstream.model() for _ in range(60)]
    answered: list[str] = []
    with Gateway(tmp_path, chatting(upstream.url)) as gateway:

        def work(mine: list[str]) -> None:
            with gateway.client() as client:
                for model in mine:
                    try:
                        answer = client.post(CALL.url(model, "oa"), json=CALL.fields(model))
                    except httpx.TransportError:
                        return
                    if answer.content.endswith(b"[DONE]\n\n"):
                        answered.append(model)

        threads = [threading.Thread(target=work, args=(models[at::6],)) for at in range(6)]
        for thread in threads:
            thread.start()
        poll(lambda: len(answered) >= 20, "some answers")
        gateway.kill()
        for thread in threads:
            thread.join()
        for model in answered:
            row = gateway.row(model=model)
            assert upstream.only(model).told != Told()
            assert upstream.only(model).told.differs_from(row) == {}
