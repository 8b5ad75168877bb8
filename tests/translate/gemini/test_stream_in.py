"""Chunks as deltas: texts and thoughts that go on, calls that come whole, the end and its reason."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken
from gproxy.protocols.base import Event
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.translate.assembly import answer_of, deltas_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.gemini.stream_in import GeminiReader
from gproxy.translate.gemini.stream_out import GeminiWriter
from gproxy.translate.model import (
    Added,
    Answer,
    Citation,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Signature,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.values import Usage
from tests.translate.conversations import answers
from tests.translate.grammar import check_deltas


def chunk(*parts: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}
    return {"candidates": [candidate | ({"finishReason": reason} if reason else {})]}


def read(*chunks: Any) -> list[Delta]:
    reader = GeminiReader()
    deltas = [d for tree in chunks for d in reader.feed(Event(b"", json.dumps(tree).encode()))] + reader.end()
    check_deltas(deltas, whole=bool(deltas) and isinstance(deltas[-1], Finished))
    return deltas


def test_texts_go_on_until_another_part_comes() -> None:
    assert read(
        chunk({"text": "h", "thought": True}) | {"usageMetadata": {"promptTokenCount": 3}},
        chunk({"text": "m", "thought": True}),
        chunk({"text": "He"}),
        chunk({"text": "llo"}, reason="STOP")
        | {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}},
    ) == [
        UsageSeen(Usage(3)),
        Started(),
        Opened(Reasoning("")),
        Added("h"),
        Added("m"),
        Closed(),
        Opened(Text("")),
        Added("He"),
        UsageSeen(Usage(3, 2)),
        Added("llo"),
        Closed(),
        Finished("stop"),
    ]


def test_calls_are_whole_parts() -> None:
    call = {"functionCall": {"id": "x", "name": "f", "args": {"a": 1}}, "thoughtSignature": "s"}
    found = answer_of(
        read(
            chunk(call, {"functionCall": {"name": "f"}}),
            chunk({"functionCall": {"name": "g"}}, reason="STOP"),
        )
    )
    assert found == Answer(
        (
            ToolCall("x", "f", '{"a":1}', Signature("s", "gemini")),
            ToolCall("", "f", "{}"),
            ToolCall("", "g", "{}"),
        ),
        "tools",
    )


def test_a_signature_ends_a_thought_or_follows_a_text() -> None:
    deltas = read(
        chunk({"text": "hm", "thought": True, "thoughtSignature": "s1"}),
        chunk({"text": "a"}),
        chunk({"text": "", "thoughtSignature": "s2"}, reason="STOP"),
    )
    assert deltas[1:] == [
        Opened(Reasoning("")),
        Added("hm"),
        Signed(Signature("s1", "gemini")),
        Closed(),
        Opened(Text("")),
        Added("a"),
        Closed(),
        Opened(Reasoning("", Signature("s2", "gemini"), redacted=True)),
        Closed(),
        Finished("stop"),
    ]


def test_a_signature_alone_is_that_of_a_thought_before_it() -> None:
    found = answer_of(
        read(
            chunk({"text": "hm", "thought": True}),
            chunk({"text": "", "thought": True, "thoughtSignature": "s"}, reason="STOP"),
        )
    )
    assert found.parts == (Reasoning("hm", Signature("s", "gemini")),)
    alone = answer_of(read(chunk({"thought": True, "thoughtSignature": "s"}, reason="STOP")))
    assert alone.parts == (Reasoning("", Signature("s", "gemini")),)


def test_a_thought_after_a_signature_is_another_one() -> None:
    first = {"text": "a", "thought": True, "thoughtSignature": "s1"}
    second = {"text": "b", "thought": True, "thoughtSignature": "s2"}
    found = answer_of(read(chunk(first, second, reason="STOP")))
    assert found.parts == (
        Reasoning("a", Signature("s1", "gemini")),
        Reasoning("b", Signature("s2", "gemini")),
    )


def test_sources_are_of_the_open_text() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a"}}],
        "groundingSupports": [{"segment": {"endIndex": 3}, "groundingChunkIndices": [0]}],
    }
    found = answer_of(
        read(chunk({"text": "ä"}), chunk({"text": "b"}, reason="STOP", groundingMetadata=grounding))
    )
    assert found.parts == (Text("äb", (Citation("https://a", "", 0, 2),)),)
    call = {"functionCall": {"name": "f"}}
    assert len(answer_of(read(chunk(call, reason="STOP", groundingMetadata=grounding))).parts) == 1


def test_a_blocked_prompt_is_refused() -> None:
    assert read({"promptFeedback": {"blockReason": "SAFETY"}}) == [Started(), Finished("refused")]


def test_a_stream_without_a_reason_has_no_end() -> None:
    assert read(chunk({"text": "a"}))[-1] == Added("a")
    assert read({"candidates": []}) == [Started()]


def test_the_end_of_an_array_is_the_end() -> None:
    reader, framer = GeminiReader(), JsonArrayFramer()
    stream = b"[" + json.dumps(chunk({"text": "a"}, reason="STOP")).encode() + b"\n]"
    deltas = [d for event in framer.feed(stream) for d in reader.feed(event)]
    assert deltas[-1] == Finished("stop")
    assert reader.end() == []
    assert GeminiReader().feed(Event(b"]", None)) == []
    assert GeminiReader().feed(Event(b": ping", None)) == []


@settings(deadline=None)
@given(answers("gemini"), st.lists(st.integers(0, 3000), max_size=8))
def test_an_array_says_the_same_at_any_split(answer: Answer, places: list[int]) -> None:
    writer = GeminiWriter(ClientFacts(model="m", answer_id="7f", created=0, sse=False))
    stream = b"".join(map(writer.feed, deltas_of(answer))) + writer.end()
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    reader, framer = GeminiReader(), JsonArrayFramer()
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    deltas = [d for piece in pieces for event in framer.feed(piece) for d in reader.feed(event)]
    check_deltas(deltas)
    assert answer_of(deltas) == answer


def test_a_call_after_the_reason_counts() -> None:
    late = read(chunk({"text": "a"}, reason="STOP"), chunk({"functionCall": {"name": "f"}}))
    assert late[-1] == Finished("tools")


@pytest.mark.parametrize("data", [b"[]", b"x", b"{"])
def test_what_is_no_chunk_is_broken(data: bytes) -> None:
    with pytest.raises(AnswerBroken):
        GeminiReader().feed(Event(b"", data))


def test_a_call_that_the_model_could_not_write_is_broken() -> None:
    with pytest.raises(AnswerBroken, match="UNEXPECTED_TOOL_CALL"):
        read(chunk(reason="UNEXPECTED_TOOL_CALL"))
