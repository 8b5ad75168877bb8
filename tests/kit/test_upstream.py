"""The scripted upstream is the ground truth of the end-to-end tests, so its faults are held to their word."""

import threading
import time

import httpx
import pytest

from tests.kit.upstream import Script, Upstream


def ask(upstream: Upstream, model: str, **more: object) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=5) as client:
        return client.post(
            f"{upstream.url}/v1/chat/completions", json={"model": model, "messages": []} | more
        )


def test_an_answer_names_its_request_and_what_it_told(upstream: Upstream) -> None:
    model = upstream.model()
    answer = ask(upstream, model).json()
    seen = upstream.only(model)
    assert answer["id"] == f"chatcmpl-{seen.uid}"
    assert answer["usage"]["prompt_tokens"] == seen.told.input_tokens


@pytest.mark.parametrize("then", ["reset", "cut"])
def test_a_stream_that_breaks_has_no_end(upstream: Upstream, then: str) -> None:
    model = upstream.model(Script(stop_after=2, then=then))  # type: ignore[arg-type]  # the parameter's two values
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        ask(upstream, model, stream=True)
    assert len(upstream.only(model).sent) == 2


def test_a_stream_that_ends_early_ends_well(upstream: Upstream) -> None:
    model = upstream.model(Script(stop_after=2, then="end"))
    assert ask(upstream, model, stream=True).text.count("data:") == 2


def test_a_peer_that_leaves_is_noticed(upstream: Upstream) -> None:
    model = upstream.model(Script(silent=True))
    with pytest.raises(httpx.ReadTimeout), httpx.Client(trust_env=False, timeout=0.2) as client:
        client.post(f"{upstream.url}/v1/chat/completions", json={"model": model})
    assert upstream.closed_within(model, time.monotonic(), 1.0)


def test_a_gate_holds_the_stream_until_it_is_opened(upstream: Upstream) -> None:
    model = upstream.model(Script(stop_after=1, then="gate"))
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(ask(upstream, model, stream=True).text))
    thread.start()
    upstream.wait_for(model)
    thread.join(0.2)
    assert thread.is_alive()
    upstream.open_gate(model)
    thread.join(5)
    assert "[DONE]" in texts[0]
