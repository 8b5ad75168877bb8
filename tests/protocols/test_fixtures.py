"""Every recorded case, walked: what is read of it, what is changed in it, and that nothing else is."""

import json
from collections.abc import Iterable
from itertools import takewhile

import pytest

from gproxy.protocols.base import Event
from gproxy.protocols.tap import StreamTap
from tests.protocols.fixture_cases import ANSWERS, CASES, CLIENT_MODEL, STREAMS, Case

each = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
each_stream = pytest.mark.parametrize("case", STREAMS.values(), ids=STREAMS.keys())
each_answer = pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS.keys())


def _run(case: Case, pieces: Iterable[bytes], *, rewrite: bool) -> tuple[StreamTap, bytes]:
    tap = StreamTap(
        case.protocol,
        case.framer(),
        client_model=CLIENT_MODEL if rewrite else None,
        withhold_usage=rewrite and case.facts.stream and not case.facts.asked_usage,
    )
    sent = b"".join(tap.feed(piece) for piece in pieces)
    return tap, sent + tap.end() + tap.tail


def _events(case: Case, data: bytes) -> list[Event]:
    framer = case.framer()
    return framer.feed(data) + framer.end()


def _due(case: Case) -> list[Event]:
    """The events of a stream that a client gets: those before the one that reports an error, if one does."""
    is_error = case.protocol.error_in_event
    return list(takewhile(lambda event: is_error(event) is None, _events(case, case.stream)))


def _assert_same(case: Case, sent: bytes, whole: bytes, *, rewrite: bool) -> None:
    """That a split stream is the whole one, though of an error event a part may have gone out before it was one."""
    if "failed" in case.expected and not rewrite:
        assert sent.startswith(whole)
        assert case.stream.startswith(sent)
    else:
        assert sent == whole


@each
def test_a_request_is_read_as_its_client_meant_it(case: Case) -> None:
    facts, expected = case.facts, case.expected
    assert facts.model == expected["model"]
    assert facts.stream is expected.get("stream", False)
    assert facts.max_output_tokens == expected.get("max_output_tokens")
    if facts.stream:
        assert facts.asked_usage is expected.get("asked_usage", True)


@each
def test_a_request_that_needs_no_change_goes_up_byte_for_byte(case: Case) -> None:
    assert (
        case.protocol.with_model(case.facts, case.expected["model"], False)
        == (case.folder / "request.json").read_bytes()
    )


@each_answer
def test_an_answer_is_counted_and_only_its_model_renamed(case: Case) -> None:
    protocol, answer, expected = case.protocol, case.answer, case.expected
    assert protocol.usage_in_body(answer) == case.usage
    if "output_bytes" in expected:
        assert protocol.output_text(Event(answer, answer)) == expected["output_bytes"]
    restored = protocol.restore_body(answer, CLIENT_MODEL)
    assert _named(case, restored) == ([CLIENT_MODEL] if "upstream_model" in expected else [])
    assert _renamed_back(case, restored) == answer
    assert all(text.encode() in restored for text in expected.get("kept", []))


@each_stream
def test_a_stream_that_needs_no_change_is_sent_as_received(case: Case) -> None:
    tap, sent = _run(case, [case.stream], rewrite=False)
    assert sent == b"".join(event.raw for event in _due(case))
    _assert_observed(tap, case)


@each_stream
def test_a_stream_has_only_its_model_renamed(case: Case) -> None:
    tap, sent = _run(case, [case.stream], rewrite=True)
    _assert_observed(tap, case)
    upstream_model = case.expected.get("upstream_model")
    if upstream_model is not None:
        assert set(_named(case, sent)) == {CLIENT_MODEL}
    original = _due(case)
    if "withheld" in case.expected:
        original = [e for e in original if case.expected["withheld"].encode() not in e.raw]
    assert _renamed_back(case, sent) == b"".join(event.raw for event in original)
    assert all(text.encode() in sent for text in case.expected.get("kept", []))


@each_stream
@pytest.mark.parametrize("rewrite", [False, True])
def test_a_stream_cut_in_two_anywhere_is_the_same_stream(case: Case, rewrite: bool) -> None:
    whole_tap, whole = _run(case, [case.stream], rewrite=rewrite)
    for at in range(len(case.stream) + 1):
        tap, sent = _run(case, [case.stream[:at], case.stream[at:]], rewrite=rewrite)
        _assert_same(case, sent, whole, rewrite=rewrite)
        assert _state(tap) == _state(whole_tap)


@each_stream
@pytest.mark.parametrize("rewrite", [False, True])
def test_a_stream_that_comes_byte_by_byte_is_the_same_stream(case: Case, rewrite: bool) -> None:
    whole_tap, whole = _run(case, [case.stream], rewrite=rewrite)
    tap, sent = _run(case, [bytes([byte]) for byte in case.stream], rewrite=rewrite)
    _assert_same(case, sent, whole, rewrite=rewrite)
    assert _state(tap) == _state(whole_tap)


def _state(tap: StreamTap) -> tuple[object, ...]:
    return (tap.usage, tap.complete, tap.terminal, tap.failed, tap.first_seen, tap.output_bytes)


def _assert_observed(tap: StreamTap, case: Case) -> None:
    expected = case.expected
    assert tap.usage == case.usage
    assert (tap.complete, tap.terminal) == (expected["complete"], expected["terminal"])
    assert tap.failed == expected.get("failed")
    assert tap.output_bytes == expected["output_bytes"]
    assert tap.first_seen


def _named(case: Case, data: bytes) -> list[str]:
    """The models that a client sees at the known positions of an answer or of each event."""
    payloads = [event.data for event in _events(case, data)] if case.is_stream else [data]
    trees = [json.loads(p) for p in payloads if p is not None and p != b"[DONE]"]
    found = []
    for tree in trees:
        if case.protocol.name == "gemini":
            found.append(tree.get("modelVersion"))
        elif case.is_stream and case.protocol.name == "openai_responses":
            found.append(tree.get("response", {}).get("model"))
        elif case.is_stream and case.protocol.name == "anthropic_messages":
            found.append(tree.get("message", {}).get("model") if tree["type"] == "message_start" else None)
        else:
            found.append(tree.get("model"))
    return [name for name in found if name is not None]


def _renamed_back(case: Case, data: bytes) -> bytes:
    """`data` with the client's name, which occurs nowhere else, made the upstream's again."""
    upstream_model = json.dumps(case.expected.get("upstream_model", ""))
    return data.replace(json.dumps(CLIENT_MODEL).encode(), upstream_model.encode())
