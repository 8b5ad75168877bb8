"""Time in streams: events pass when they are in, and no framework's default ends what goes on."""

import os
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.kit.calls import BY_ID, Call
from tests.kit.gateway import KEY, ROOT, Gateway
from tests.kit.settings import everything
from tests.kit.upstream import Script, Upstream

pytestmark = pytest.mark.both_engines

STREAMS = [
    BY_ID[id]
    for id in (
        "chat-stream",
        "completions-stream",
        "responses-stream",
        "messages-stream",
        "stream-sse",
        "stream-array",
    )
]


@pytest.mark.parametrize("call", STREAMS, ids=lambda call: call.id)
@pytest.mark.parametrize("renamed", [False, True], ids=["as-is", "renamed"])
def test_the_first_event_is_out_before_the_second_is_in(
    gateway: Gateway, upstream: Upstream, call: Call, renamed: bool
) -> None:
    model = upstream.model(Script(stop_after=1, then="gate"))
    name = f"{call.provider}/{model}" if renamed else model
    url = call.url(name, "" if renamed else call.provider)
    with gateway.client() as client, client.stream("POST", url, json=call.fields(name)) as answer:
        pieces = answer.iter_bytes()
        got = b""
        while b"}" not in got:
            got += next(pieces)
        # The upstream is waiting for us: what came is what it sent so far, name apart.
        sent = b"".join(upstream.only(model).sent).replace(model.encode(), name.encode())
        assert len(upstream.only(model).sent) == 1
        assert sent.rstrip().startswith(got.rstrip())
        upstream.open_gate(model)
        got += b"".join(pieces)
    sent = b"".join(upstream.only(model).sent)
    assert len(got) >= len(sent) - 400
    assert gateway.row(model=model)["outcome"] == "ok"


def test_time_to_the_first_event_is_in_the_row(gateway: Gateway, upstream: Upstream) -> None:
    call, model = BY_ID["messages-stream"], upstream.model(Script(delay_s=0.05))
    gateway.post(call.url(model, "an"), call.fields(model))
    row = gateway.row(model=model)
    assert row["ttft_ms"] is not None
    assert row["ttft_ms"] < 300 <= row["latency_ms"]


SHORT_DEFAULTS = """
import hypercorn.config, quart

quart.Quart.default_config = {**quart.Quart.default_config, "RESPONSE_TIMEOUT": 1, "BODY_TIMEOUT": 1}
hypercorn.config.Config.keep_alive_timeout = 1
"""


@pytest.fixture(scope="module")
def hurried(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway in whose process the time-outs that frameworks have by default are all one second."""
    folder = tmp_path_factory.mktemp("hurried")
    (folder / "sitecustomize.py").write_text(SHORT_DEFAULTS)
    path = os.pathsep.join([str(folder), ROOT])
    with Gateway(folder, everything(upstream.url), env={"PYTHONPATH": path}) as gateway:
        yield gateway


@pytest.mark.parametrize("call", STREAMS, ids=lambda call: call.id)
def test_no_framework_default_cuts_a_stream(hurried: Gateway, upstream: Upstream, call: Call) -> None:
    # Between two and three seconds in all, and silent for longer than a second where there are few events.
    model = upstream.model(Script(delay_s=1.3 if call.family == "gemini" else 0.5))
    answer = hurried.post(call.url(model, call.provider), call.fields(model))
    assert answer.status_code == 200
    assert hurried.row(model=model)["outcome"] == "ok"


def test_no_framework_default_cuts_a_slow_answer_or_upload(hurried: Gateway, upstream: Upstream) -> None:
    model = upstream.model(Script(stop_after=0, then="gate"))
    url = httpx.URL(hurried.url)
    body = f'{{"model": "{model}", "messages": []}}'.encode()
    head = (
        f"POST /oa/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 0), timeout=10) as sock:
        sock.sendall(head.encode() + body[:5])
        time.sleep(1.5)  # longer than the shortened defaults
        sock.sendall(body[5:])
        upstream.wait_for(model)
        time.sleep(1.5)  # likewise
        upstream.open_gate(model)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
