"""What an answer in another dialect is found to be: in the form that was asked for, in the other, or none."""

import asyncio
import itertools
import json
import math
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken, AnswerRefused
from gproxy.protocols.headers import CLIENT
from gproxy.server.request.crossing import MOST_EVENTS, cross
from gproxy.server.request.opened import Opened, look
from gproxy.server.request.reply import lines
from gproxy.server.request.upstream import Answer, Attempt, Upstream, Way
from gproxy.server.transport import h1head
from gproxy.server.transport.h1exchange import Exchange
from gproxy.server.transport.h1head import Heads
from gproxy.values import Target, Usage
from tests.server.parts import ALICE, STREAM, always, call, data, http, peer, provider, snapshot, sse

MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
FAILURE = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}


def named(tree: dict[str, object]) -> bytes:
    return f"event: {tree['type']}\n".encode() + data(tree)


EVENTS = b"".join(
    map(
        named,
        (
            {"type": "message_start", "message": MESSAGE | {"content": []}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 2},
            },
            {"type": "message_stop"},
        ),
    )
)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    it = Upstream()
    yield it
    await it.close()


async def looked(upstream: Upstream, answer: bytes, *, stream: bool) -> Opened:
    """What a chat client's call finds whose target speaks Messages and answers that."""
    async with peer(always(answer)) as up:
        here = snapshot(provider(up.url, protocols=("anthropic_messages",)) + ALICE)
        body = {"model": "alias", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        asked = call(here, json.dumps(body).encode())
        crossing = await cross(asked, Target("up", "m"), True)
        settings = here.providers["up"].settings
        attempt = Attempt(way=Way(up.url), body=crossing.body, settings=settings)
        opened = await look(asked, await upstream.send(attempt), False, crossing)
        opened.answer.close()
        return opened


@pytest.mark.parametrize("answer", [http(json.dumps(MESSAGE).encode()), sse(EVENTS)], ids=["asked", "other"])
async def test_a_whole_answer_is_that_in_either_form(upstream: Upstream, answer: bytes) -> None:
    opened = await looked(upstream, answer, stream=False)
    assert opened.crossed is not None
    tree = json.loads(opened.crossed.body)
    assert (tree["object"], tree["model"]) == ("chat.completion", "alias")
    assert tree["choices"][0]["message"]["content"] == "hello"
    assert (opened.crossed.usage, opened.crossed.output_bytes) == (Usage(5, 2), 5)
    assert dict(opened.headers())[b"content-type"] == b"application/json"


@pytest.mark.parametrize("answer", [sse(EVENTS), http(json.dumps(MESSAGE).encode())], ids=["asked", "other"])
async def test_a_stream_is_that_in_either_form(upstream: Upstream, answer: bytes) -> None:
    opened = await looked(upstream, answer, stream=True)
    assert opened.tap is not None
    assert b'"object":"chat.completion.chunk"' in opened.first + opened.tap.end()
    assert dict(opened.headers())[b"content-type"].startswith(b"text/event-stream")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "answer", [http(json.dumps(FAILURE).encode()), sse(named(FAILURE))], ids=["body", "event"]
)
async def test_an_error_inside_a_200_is_a_refusal(upstream: Upstream, answer: bytes, stream: bool) -> None:
    opened = await looked(upstream, answer, stream=stream)
    assert opened.refused == 529
    assert b"busy" in (opened.body or b"")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_used_before_a_failure_is_known(upstream: Upstream, stream: bool) -> None:
    start = named({"type": "message_start", "message": MESSAGE | {"content": []}})
    opened = await looked(upstream, sse(start + named(FAILURE)), stream=stream)
    assert (opened.refused, opened.spent) == (529, Usage(input_tokens=5))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http(b"<html>", media="text/html"), AnswerRefused),
        (http(b"[1]"), AnswerBroken),
        (http(b"{ }"), AnswerRefused),
        (sse(b"data: {]\n\n" + EVENTS), AnswerBroken),
        (http(b'{"a": }'), AnswerBroken),
        (http(b'{"type": "message", "content": 7}'), AnswerBroken),
        (sse(b""), (AnswerBroken, AnswerRefused)),
        (sse(STREAM), AnswerBroken),
    ],
    ids=["html", "array", "empty", "broken event", "no json", "no message", "empty stream", "other dialect"],
)
async def test_what_is_no_answer_of_that_dialect_is_a_failed_attempt(
    upstream: Upstream, answer: bytes, kind: type[Exception], stream: bool
) -> None:
    with pytest.raises(kind):
        await looked(upstream, answer, stream=stream)


async def test_an_answer_that_is_cut_off_is_no_whole_answer(upstream: Upstream) -> None:
    with pytest.raises(AnswerBroken):
        await looked(upstream, sse(EVENTS[:200]), stream=False)


async def test_a_stream_of_nothing_that_is_put_together_holds_nobody_up(upstream: Upstream) -> None:
    """An upstream that sends comments on and on is an answer all the same, when it comes to its end."""
    moments: list[float] = []

    async def look_around() -> None:
        while True:
            moments.append(time.monotonic())
            await asyncio.sleep(0.001)

    looking = asyncio.create_task(look_around())
    try:
        opened = await looked(upstream, sse(b": still at work\n\n" * 400_000 + EVENTS), stream=False)
    finally:
        looking.cancel()
    assert opened.crossed is not None
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert max(gaps) < (moments[-1] - moments[0]) / 3


async def test_a_stream_of_more_events_than_any_answer_has_is_broken(upstream: Upstream) -> None:
    with pytest.raises(AnswerBroken, match="more than"):
        await looked(upstream, sse(b"data: 1\n\n" * (MOST_EVENTS + 70_000)), stream=False)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_a_crowd_is_not_translated(upstream: Upstream, stream: bool) -> None:
    body = json.dumps(MESSAGE).encode()[:-1] + b',"x":[' + b"{}," * 400_000 + b"{}]}"
    with pytest.raises(AnswerRefused, match="more than 200000 objects"):
        await looked(upstream, http(body), stream=stream)


NAMES = st.sampled_from([*sorted(CLIENT), b"Connection", b"connection", b"Request-Id", b"x-a"])
VALUES = st.sampled_from([b"a", b"%b", b"request-id, x-a", b"keep-alive", b"close", b"a\x01", b"\xe9", b""])


@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=6))
@example([(b"Request-Id", b"a"), (b"Connection", b"request-id, x-a")])
@example([(b"connection", b"close"), (b"Request-Id", b"a"), (b"Connection", b"request-id, x-a")])
def test_lines_of_a_head_are_those_of_the_headers(headers: list[tuple[bytes, bytes]]) -> None:
    told, _, _ = h1head.read([name for name, _ in headers], [value for _, value in headers])
    opened = Opened(Answer(200, told, (), 1.0, Exchange(Heads(), bodiless=False), float, 0.0, math.inf))
    assert opened.lines() == lines(opened.headers())
