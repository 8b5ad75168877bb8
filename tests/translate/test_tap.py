"""A target's stream as it is watched and told to the client, at any split."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken, UpstreamFailed
from gproxy.protocols.anthropic_messages import MESSAGES
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.sse import SseFramer
from gproxy.translate.base import ClientFacts
from gproxy.translate.exchange import StreamTranslation
from gproxy.translate.registry import DIALECTS
from gproxy.translate.tap import TranslatingTap
from gproxy.values import Usage
from tests.translate.grammar import check_chat, check_messages

CLIENT = ClientFacts(model="alias", answer_id="7f", created=0)
CHAT_DIALECT, ANTHROPIC = DIALECTS["openai_chat"], DIALECTS["anthropic_messages"]


def line(tree: object) -> bytes:
    return b"data: " + json.dumps(tree).encode() + b"\n\n"


def chunk(text: str = "", finish: str | None = None) -> bytes:
    return line({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


USAGE = line({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
DONE = b"data: [DONE]\n\n"
WHOLE = b": ping\n\n" + chunk("hel") + chunk("lo") + chunk(finish="stop") + USAGE + DONE
FAILURE = line({"error": {"message": "no", "type": "server_error", "code": 503}})


def tap() -> TranslatingTap:
    return TranslatingTap(CHAT, SseFramer(), StreamTranslation(CHAT_DIALECT, ANTHROPIC, CLIENT))


def test_a_whole_stream_is_told_and_counted() -> None:
    it = tap()
    out = it.feed(WHOLE) + it.end()
    assert (it.complete, it.terminal, it.failed, it.first_seen) == (True, True, None, True)
    assert it.usage == Usage(7, 3)
    assert it.output_bytes == 5
    assert b"message_stop" not in out
    check_messages(out + it.tail)


@given(st.sets(st.integers(1, len(WHOLE) - 1), max_size=8))
def test_any_split_tells_the_same(cuts: set[int]) -> None:
    whole, split = tap(), tap()
    edges = [0, *sorted(cuts), len(WHOLE)]
    out = b"".join(split.feed(WHOLE[a:b]) for a, b in pairwise(edges))
    assert out + split.end() == whole.feed(WHOLE) + whole.end()
    assert (split.usage, split.output_bytes, split.tail) == (whole.usage, whole.output_bytes, whole.tail)


@pytest.mark.parametrize("rest", [b"", b'data: {"choices": [{"ind', USAGE])
def test_a_stream_that_ends_early_is_not_complete(rest: bytes) -> None:
    it = tap()
    it.feed(chunk("hel") + rest)
    it.end()
    assert not it.complete
    assert b"event: error" in it.abort(UpstreamFailed("broken"), "req_1")


def test_an_error_event_ends_it_and_nothing_of_it_goes_out() -> None:
    it = tap()
    it.feed(chunk("hel"))
    assert it.feed(FAILURE + chunk("lo") + DONE) + it.end() == b""
    assert (it.failed, it.complete) == (503, False)
    assert b'"no"' in it.failure


def test_a_comment_is_no_event() -> None:
    it = tap()
    assert it.feed(b": ping\n\n") == b""
    assert not it.first_seen


def test_what_makes_no_sense_is_broken() -> None:
    with pytest.raises(AnswerBroken):
        tap().feed(b"data: {nonsense\n\n")


@pytest.mark.parametrize("broken", [b"data: {nonsense\n\n", chunk(finish="error")])
def test_good_events_that_came_with_a_broken_one_are_sent(broken: bytes) -> None:
    it = tap()
    out = it.feed(chunk("hel"))
    with pytest.raises(AnswerBroken):
        it.feed(chunk("lo") + broken)
    out += it.abort(UpstreamFailed("broken"), "req_1")
    assert [out.count(part) for part in (b'"hel"', b'"lo"', b"event: error")] == [1, 1, 1]


def test_an_answer_that_did_not_stream_is_told_at_once() -> None:
    tree = {
        "type": "message",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    it = TranslatingTap(MESSAGES, SseFramer(), StreamTranslation(ANTHROPIC, CHAT_DIALECT, CLIENT))
    out = it.whole(json.dumps(tree).encode(), tree) + it.end()
    assert (it.complete, it.terminal, it.first_seen) == (True, True, True)
    assert (it.usage, it.output_bytes) == (Usage(9, 1), 2)
    check_chat(out + it.tail)


def test_of_a_flood_some_is_looked_at_and_what_comes_meanwhile_waits_behind_it() -> None:
    it = tap()
    it.feed(b": so\n\n" * 3000 + chunk("hel"))
    assert (it.behind, it.first_seen) == (True, False)
    it.feed(chunk("lo") + chunk(finish="stop") + USAGE + DONE)
    while it.behind:
        it.feed(b"")
    assert (it.first_seen, it.terminal, it.output_bytes) == (True, True, 5)
