"""The events' framing; `test_error_shape.py` holds the shapes of all errors in all dialects."""

import json

from gproxy.errors import ContextTooLong, UpstreamFailed
from gproxy.protocols import envelopes

ERROR = UpstreamFailed("gone")


def test_openais_and_geminis_events_are_data_lines() -> None:
    assert envelopes.openai_event(ERROR, "r") == b"data: " + envelopes.openai_body(ERROR, "r") + b"\n\n"
    assert envelopes.gemini_event(ERROR, "r") == b"data: " + envelopes.gemini_body(ERROR, "r") + b"\n\n"


def test_anthropics_event_is_named() -> None:
    expected = b"event: error\ndata: " + envelopes.anthropic_body(ERROR, "r") + b"\n\n"
    assert envelopes.anthropic_event(ERROR, "r") == expected


def test_the_responses_event_has_its_fields_at_the_top() -> None:
    data = envelopes.responses_event(ERROR, "r").removeprefix(b"event: error\ndata: ")
    fields = json.loads(data)
    assert (fields["type"], fields["code"], fields["message"]) == ("error", "upstream_error", "gone")


def test_the_responses_event_has_its_number_where_the_events_were_numbered_here() -> None:
    data = envelopes.numbered_responses_event(ERROR, 7).removeprefix(b"event: error\ndata: ")
    plain = json.loads(envelopes.responses_event(ERROR, "r").removeprefix(b"event: error\ndata: "))
    assert json.loads(data) == plain | {"sequence_number": 7}


def test_clients_know_that_the_context_is_too_long_by_the_words_of_their_dialect() -> None:
    error = ContextTooLong("too many tokens")
    event = json.loads(envelopes.responses_event(error, "r").removeprefix(b"event: error\ndata: "))
    assert (event["code"], event["error"]["code"]) == ("context_length_exceeded", "context_length_exceeded")
    said = json.loads(envelopes.anthropic_body(error, "r"))["error"]["message"]
    assert said == "prompt is too long: too many tokens"
    own = json.loads(envelopes.anthropic_body(ContextTooLong("prompt is too long: 2 > 1"), "r"))
    assert own["error"]["message"] == "prompt is too long: 2 > 1"
