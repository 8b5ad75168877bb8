"""Relayed operations: little is read of them, and of sound nothing."""

from gproxy.protocols.base import Event
from gproxy.protocols.passthrough import IMAGES, MODERATIONS, RERANK, SPEECH
from gproxy.protocols.strict import decode
from gproxy.values import Usage


def test_speech_is_passed_through_unread() -> None:
    sound = b'{"model":"up","usage":{"input_tokens":5}}'
    assert SPEECH.binary
    assert SPEECH.restore_body(sound, "alias") == sound
    assert SPEECH.usage_in_body(sound) is None


def test_speech_streams_when_asked_in_its_own_way() -> None:
    assert SPEECH.read(decode(b'{"model":"m","stream_format":"sse"}'), None, "").stream
    assert not SPEECH.read(decode(b'{"model":"m"}'), None, "").stream


def test_what_is_not_billed_by_its_text_is_not_estimated() -> None:
    assert [p.estimable for p in (IMAGES, MODERATIONS, SPEECH, RERANK)] == [False, False, False, True]


def test_a_total_alone_is_input() -> None:
    assert RERANK.usage_in_body(b'{"usage":{"total_tokens":7}}') == Usage(input_tokens=7)
    assert RERANK.usage_in_body(b'{"results":[]}') is None


def test_a_partial_image_does_not_complete_a_stream() -> None:
    data = b'{"type":"image_generation.partial_image"}'
    assert not IMAGES.is_complete(Event(data, data))


def test_what_an_image_model_writes_is_images_and_what_speech_is_audio() -> None:
    answer = b'{"usage": {"input_tokens": 1, "output_tokens": 9}}'
    event = Event(answer, answer)
    drawn = Usage(input_tokens=1, output_tokens=9, output_image_tokens=9)
    assert IMAGES.usage_in_body(answer) == IMAGES.usage_in_event(event, None) == drawn
    assert SPEECH.usage_in_event(event, None) == Usage(input_tokens=1, output_tokens=9, output_audio_tokens=9)
    told = b'{"usage": {"output_tokens": 9, "output_tokens_details": {"image_tokens": 5, "text_tokens": 4}}}'
    assert IMAGES.usage_in_body(told) == Usage(output_tokens=9, output_image_tokens=5)
