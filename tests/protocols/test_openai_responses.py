"""What the recorded cases do not show of the Responses API."""

import pytest

from gproxy.errors import BadRequest
from gproxy.protocols.base import Event
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.protocols.strict import decode
from gproxy.values import Usage


def test_nothing_is_asked_for_on_a_stream() -> None:
    raw = b'{"model":"m","stream":true,"input":"x"}'
    facts = RESPONSES.read(decode(raw), None, "")
    assert facts.asked_usage
    assert RESPONSES.with_model(facts, "m", True) == raw


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_each_of_its_last_events_is_terminal(kind: str) -> None:
    data = b'{"type":"response.%b","response":{}}' % kind.encode()
    assert RESPONSES.is_terminal(Event(data, data))


@pytest.mark.parametrize(("total", "output"), [(60, 50), (30, 20)])
def test_reasoning_beside_the_output_is_added_where_the_total_says_so(total: int, output: int) -> None:
    data = (
        b'{"usage":{"input_tokens":10,"output_tokens":20,"output_tokens_details":{"reasoning_tokens":30},'
        b'"total_tokens":%d}}' % total
    )
    expected = Usage(input_tokens=10, output_tokens=output, reasoning_tokens=30)
    assert RESPONSES.usage_in_body(data) == expected


def test_audio_is_not_text() -> None:
    data = b'{"type":"response.audio.delta","delta":"QUFBQQ=="}'
    assert RESPONSES.output_text(Event(data, data)) == 0


def test_an_answer_that_is_made_later_is_refused() -> None:
    for ordinary in (b"false", b"null"):
        RESPONSES.read(decode(b'{"model": "m", "background": %b}' % ordinary), None, "")
    for later in (b"true", b'"yes"'):
        with pytest.raises(BadRequest, match="`background`"):
            RESPONSES.read(decode(b'{"model": "m", "background": %b}' % later), None, "")
