"""What the recorded cases do not show of the Responses API."""

import pytest

from gproxy.protocols.base import Event
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.protocols.strict import decode


def test_nothing_is_asked_for_on_a_stream() -> None:
    raw = b'{"model":"m","stream":true,"input":"x"}'
    facts = RESPONSES.read(decode(raw), None, "")
    assert facts.asked_usage
    assert RESPONSES.with_model(facts, "m", True) == raw


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_each_of_its_last_events_is_terminal(kind: str) -> None:
    data = b'{"type":"response.%b","response":{}}' % kind.encode()
    assert RESPONSES.is_terminal(Event(data, data))


def test_audio_is_not_text() -> None:
    data = b'{"type":"response.audio.delta","delta":"QUFBQQ=="}'
    assert RESPONSES.output_text(Event(data, data)) == 0
