"""Deltas as chunks: events or one array, the last one kept for the end."""

import json
from collections.abc import Sequence
from typing import Any

from gproxy.errors import UpstreamFailed
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.gemini.stream_out import GeminiWriter
from gproxy.translate.model import (
    Added,
    Answer,
    Citation,
    Closed,
    Delta,
    Opened,
    Reasoning,
    Refusal,
    Signature,
    Started,
    Text,
    ToolCall,
)
from gproxy.values import Usage
from tests.translate.grammar import check_gemini, check_gemini_chunks, events_of

OF_NOBODY = "Z3Byb3h5Lm5vbmUu"  # gproxy.none.
ANSWER = Answer(
    (Reasoning("hm", Signature("s", "gemini")), Text("Hi"), ToolCall("x", "f", '{"a":1}')),
    "tools",
    Usage(3, 2),
)


def client(sse: bool = True) -> ClientFacts:
    return ClientFacts(model="my-alias", answer_id="7f", created=0, sse=sse)


def written(deltas: Sequence[Delta], sse: bool = True) -> bytes:
    writer = GeminiWriter(client(sse))
    return b"".join(map(writer.feed, deltas)) + writer.end()


def parts(stream: bytes) -> list[dict[str, Any]]:
    chunks = [json.loads(event.data or b"") for event in events_of(stream)]
    return [chunk["candidates"][0]["content"]["parts"][0] for chunk in chunks]


def test_an_answer_is_written_part_by_part() -> None:
    stream = written(list(deltas_of(ANSWER)))
    check_gemini(stream)
    assert parts(stream) == [
        {"text": "hm", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": "s"},
        {"text": "Hi"},
        {"functionCall": {"id": "x", "name": "f", "args": {"a": 1}}, "thoughtSignature": OF_NOBODY},
        {"text": ""},
    ]
    last = json.loads(events_of(stream)[-1].data or b"")
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["usageMetadata"] == {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    assert last["modelVersion"] == "my-alias"


def test_the_last_chunk_waits_for_the_end() -> None:
    writer = GeminiWriter(client())
    out = b"".join(map(writer.feed, deltas_of(ANSWER)))
    assert b"finishReason" not in out
    assert b"finishReason" in writer.end()


def test_an_array_is_one_json_value() -> None:
    for answer in (ANSWER, Answer((), "refused")):
        chunks = json.loads(written(list(deltas_of(answer)), sse=False))
        check_gemini_chunks(chunks)


def test_pieces_go_out_as_they_come_but_those_of_calls() -> None:
    writer = GeminiWriter(client())
    assert writer.feed(Started()) == b""
    assert writer.feed(Opened(Text(""))) == b""
    assert parts(writer.feed(Added("H"))) == [{"text": "H"}]
    assert parts(writer.feed(Added("i"))) == [{"text": "i"}]
    assert writer.feed(Closed()) == b""
    writer.feed(Opened(ToolCall("x", "f", "")))
    assert writer.feed(Added('{"a"')) == b""
    assert writer.feed(Added(":1}")) == b""
    assert parts(writer.feed(Closed())) == [
        {"functionCall": {"id": "x", "name": "f", "args": {"a": 1}}, "thoughtSignature": OF_NOBODY}
    ]


def test_a_refusal_is_text_and_hidden_thoughts_are_kept() -> None:
    hidden = Reasoning("", Signature("s", "gemini"), redacted=True)
    stream = written(list(deltas_of(Answer((hidden, Refusal("no")), "refused"))))
    assert parts(stream)[:2] == [{"text": "", "thoughtSignature": "s"}, {"text": "no"}]
    assert b'"finishReason":"SAFETY"' in stream


def test_sources_follow_their_text() -> None:
    stream = written(list(deltas_of(Answer((Text("äb", (Citation("https://a", "A", 0, 1),)),), "stop"))))
    cited = json.loads(events_of(stream)[1].data or b"")["candidates"][0]
    assert cited["groundingMetadata"]["groundingChunks"] == [{"web": {"uri": "https://a", "title": "A"}}]
    assert cited["groundingMetadata"]["groundingSupports"][0]["segment"] == {
        "startIndex": 0,
        "endIndex": 2,
        "text": "ä",
    }


def test_a_broken_stream_ends_in_an_error_in_its_own_framing() -> None:
    error = UpstreamFailed("The upstream failed.")
    writer = GeminiWriter(client())
    begun = writer.feed(Opened(Text(""))) + writer.feed(Added("a"))
    assert json.loads(events_of(begun + writer.abort(error, "r"))[-1].data or b"")["error"]["code"] == 502
    writer = GeminiWriter(client(sse=False))
    assert json.loads(writer.abort(error, "r"))[0]["error"]["code"] == 502
    begun = writer.feed(Opened(Text(""))) + writer.feed(Added("a"))
    assert json.loads(begun + writer.abort(error, "r"))[1]["error"]["code"] == 502
