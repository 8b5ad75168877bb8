"""Events are written as Anthropic writes them: each block started and stopped once, all counts at the end."""

import json
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from gproxy.errors import UpstreamTimeout
from gproxy.translate.anthropic_messages.stream_out import MessagesWriter
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Added,
    Answer,
    Citation,
    Opened,
    Reasoning,
    Refusal,
    Signature,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.values import Usage
from tests.translate.grammar import check_messages, events_of

CLIENT = ClientFacts(model="alias", answer_id="7f", created=5)
ANSWER = Answer(
    (
        Reasoning("hm", Signature("s", "openai_chat")),
        Reasoning("", Signature("d", "anthropic_messages"), redacted=True),
        Text("ab", (Citation("u", "t", 0, 2, "q"),)),
        Refusal("no"),
        ToolCall("c", "f", '{"a":1}', Signature("g", "gemini")),
        ToolCall("d", "f", "{}"),
    ),
    "tools",
    Usage(9, 4, 3, 2),
)


def written(answer: Answer) -> bytes:
    writer = MessagesWriter(CLIENT)
    return b"".join(map(writer.feed, deltas_of(answer))) + writer.end()


def objects(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data or b"") for event in events_of(stream)]


def test_a_stream_is_one_that_the_sdk_knows() -> None:
    stream = written(ANSWER)
    check_messages(stream)
    found = objects(stream)
    known: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in found:
        known.validate_python(event)
    starts = [event["content_block"] for event in found if event["type"] == "content_block_start"]
    kinds = ["thinking", "redacted_thinking", "text", "text", "thinking", "tool_use", "tool_use"]
    assert [start["type"] for start in starts] == kinds
    assert starts[1]["data"] == "d"
    deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    assert [d["signature"] for d in deltas if d["type"] == "signature_delta"] == [
        "gproxy.openai_chat.s",
        "gproxy-call.gemini.g",
    ]
    assert [d["partial_json"] for d in deltas if d["type"] == "input_json_delta"] == ['{"a":1}', "{}"]
    assert found[0]["message"]["id"] == "msg_7f"
    assert found[0]["message"]["model"] == "alias"
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert found[-2]["usage"]["input_tokens"] == 4


def test_the_sdk_puts_the_stream_together_again() -> None:
    known: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    message: Any = None
    buffers: dict[int, Any] = {}
    for event in objects(written(ANSWER)):
        event = known.validate_python(event)
        message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)
    blocks = [block.to_dict() for block in message.content]
    assert blocks[0] == {"type": "thinking", "thinking": "hm", "signature": "gproxy.openai_chat.s"}
    assert blocks[1] == {"type": "redacted_thinking", "data": "d"}
    assert (blocks[2]["text"], blocks[2]["citations"][0]["url"]) == ("ab", "u")
    assert [block["input"] for block in blocks if block["type"] == "tool_use"] == [{"a": 1}, {}]
    assert (message.stop_reason, message.usage.output_tokens, message.usage.input_tokens) == (
        "tool_use",
        4,
        4,
    )


def test_the_start_tells_the_input_if_it_is_known_by_then() -> None:
    writer = MessagesWriter(CLIENT)
    writer.feed(UsageSeen(Usage(9)))
    (start,) = objects(writer.feed(Started()))
    assert start["message"]["usage"]["input_tokens"] == 9
    (start,) = objects(MessagesWriter(CLIENT).feed(Started()))
    assert start["message"]["usage"] == {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }


def test_an_answer_of_nothing_is_a_whole_stream() -> None:
    stream = written(Answer((), "refused"))
    check_messages(stream)
    assert objects(stream)[-2]["delta"]["stop_reason"] == "refusal"


def test_a_stop_sequence_is_told() -> None:
    assert objects(written(Answer((), "stop_sequence", None, "END")))[-2]["delta"]["stop_sequence"] == "END"


def test_each_piece_goes_out_at_once() -> None:
    writer = MessagesWriter(CLIENT)
    writer.feed(Opened(Text("")))
    (event,) = objects(writer.feed(Added("ä")))
    assert event == {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ä"}}


def test_a_broken_stream_ends_in_an_error_without_an_end() -> None:
    (event,) = events_of(MessagesWriter(CLIENT).abort(UpstreamTimeout("too slow"), "req"))
    assert event.name == b"error"
    assert json.loads(event.data or b"")["error"]["message"] == "too slow"
