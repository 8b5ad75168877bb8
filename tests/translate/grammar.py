"""Checkers of what a stream may be: one for the deltas of the model, and one for each dialect's events."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gproxy.protocols.base import Event
from gproxy.protocols.sse import SseFramer
from gproxy.translate.model import (
    Added,
    Cited,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)

_STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def check_deltas(deltas: Sequence[Delta], *, whole: bool = True) -> None:
    """Raises AssertionError unless the deltas are in the order that `translate/model.py` promises.

    `whole`: and the stream has its end.
    """
    opened: object = None
    started = finished = False
    for delta in deltas:
        assert not finished, f"{delta} after the end"
        assert started or isinstance(delta, Started | UsageSeen), f"{delta} before the beginning"
        match delta:
            case Started():
                assert not started
                started = True
            case Opened(part):
                assert opened is None, f"{part} opened inside {opened}"
                assert not (part.arguments if isinstance(part, ToolCall) else part.text)
                opened = part
            case Added(text):
                assert opened is not None
                assert text
            case Cited():
                assert isinstance(opened, Text)
            case Signed():
                assert isinstance(opened, Reasoning)
            case Closed():
                assert opened is not None
                opened = None
            case Finished():
                assert opened is None, "an open part at the end"
                finished = True
            case UsageSeen():
                pass
    assert finished or not whole


def events_of(stream: bytes) -> list[Event]:
    """The events of an SSE stream, each of which must have data and its empty line."""
    framer = SseFramer()
    events = framer.feed(stream)
    assert not framer.pending, "the stream ends inside an event"
    assert all(event.data is not None for event in events)
    return events


def _objects(events: Sequence[Event]) -> Iterator[dict[str, Any]]:
    for event in events:
        yield json.loads(event.data or b"")


def check_chat(stream: bytes, *, asked_usage: bool = True) -> None:
    """Raises AssertionError unless the bytes are a whole stream of chat completion chunks.

    One id, model and time; the role first; calls by index, each with its id, kind and name in its first chunk alone;
    one finish reason; after it usage, only if it was asked for, without choices; `[DONE]` once, last.
    """
    events = events_of(stream)
    assert [event.data == b"[DONE]" for event in events] == [False] * (len(events) - 1) + [True]
    chunks = list(_objects(events[:-1]))
    assert len({(chunk["id"], chunk["model"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    finished = [
        at for at, c in enumerate(chunks) if c["choices"] and c["choices"][0]["finish_reason"] is not None
    ]
    assert len(finished) == 1
    calls: list[str] = []
    for at, chunk in enumerate(chunks):
        if not chunk["choices"]:
            assert asked_usage
            assert at == finished[0] + 1 == len(chunks) - 1
            assert chunk["usage"]["total_tokens"] >= 0
            continue
        assert at <= finished[0]
        assert chunk.get("usage", ...) is (None if asked_usage else ...)
        (choice,) = chunk["choices"]
        assert choice["index"] == 0
        for call in choice["delta"].get("tool_calls", ()):
            _check_call(call, calls)


def _check_call(call: dict[str, Any], calls: list[str]) -> None:
    if "id" in call:
        assert call["index"] == len(calls)
        assert call["type"] in ("function", "custom")
        assert call[call["type"]]["name"]
        calls.append(call["id"])
        assert len(set(calls)) == len(calls)
    else:
        assert call["index"] == len(calls) - 1
        assert "function" in call or "custom" in call


_DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set(),
    "tool_use": {"input_json_delta"},
}


def check_messages(stream: bytes) -> None:
    """Raises AssertionError unless the bytes are a whole stream of Messages events.

    `message_start` first; blocks one after another, indexes from 0, each started and stopped once and grown by its
    own deltas alone; one `message_delta` with the reason, when no block is open; `message_stop` once, last.
    """
    events = events_of(stream)
    found = list(_objects(events))
    assert [event.name.decode() for event in events] == [event["type"] for event in found]
    kinds = [event["type"] for event in found]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    message = found[0]["message"]
    assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
    assert message["stop_reason"] is None
    assert found[-2]["delta"]["stop_reason"]
    assert found[-2]["usage"]["output_tokens"] >= 0
    index, kind = -1, ""
    for event in found[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not kind, "a block inside a block"
                assert event["index"] == index + 1
                index, kind = event["index"], event["content_block"]["type"]
                _check_empty(event["content_block"])
            case "content_block_delta":
                assert event["index"] == index
                assert event["delta"]["type"] in _DELTAS[kind]
            case "content_block_stop":
                assert kind
                assert event["index"] == index
                kind = ""
            case other:
                raise AssertionError(f"{other} among the blocks")
    assert not kind, "an open block at the end"


def _check_empty(block: dict[str, Any]) -> None:
    match block["type"]:
        case "text":
            assert block["text"] == ""
        case "thinking":
            assert (block["thinking"], block["signature"]) == ("", "")
        case "tool_use":
            assert block["input"] == {}
            assert block["id"]
            assert block["name"]
        case "redacted_thinking":
            assert block["data"]


def check_gemini(stream: bytes) -> None:
    """Raises AssertionError unless the bytes are a whole stream of generateContent answers, as server-sent events."""
    check_gemini_chunks(list(_objects(events_of(stream))))


def check_gemini_chunks(chunks: Sequence[dict[str, Any]]) -> None:
    """One candidate with one part of one kind; calls whole, each with an id; the reason and usage last, once."""
    assert chunks
    assert len({(chunk["modelVersion"], chunk["responseId"]) for chunk in chunks}) == 1
    ids: list[str] = []
    for chunk in chunks:
        (candidate,) = chunk["candidates"]
        assert candidate["index"] == 0
        assert candidate["content"]["role"] == "model"
        (part,) = candidate["content"]["parts"]
        assert len(part.keys() & {"text", "functionCall"}) == 1
        if "functionCall" in part:
            assert isinstance(part["functionCall"]["args"], dict)
            assert part["functionCall"]["name"]
            ids.append(part["functionCall"]["id"])
        last = chunk is chunks[-1]
        assert ("finishReason" in candidate) == last
        assert last or "usageMetadata" not in chunk
    assert len(set(ids)) == len(ids)


_GROWN_BY = {
    "output_text": "response.output_text",
    "refusal": "response.refusal",
    "function_call": "response.function_call_arguments",
    "custom_tool_call": "response.custom_tool_call_input",
    "reasoning": "response.reasoning_summary_text",
}
_SAID = {
    "output_text": "text",
    "refusal": "refusal",
    "function_call": "arguments",
    "custom_tool_call": "input",
    "reasoning": "text",
}
_OF_RESPONSES = {"response.completed": "completed", "response.incomplete": "incomplete"}


def check_responses(stream: bytes) -> None:
    """Raises AssertionError unless the bytes are a whole stream of Responses events.

    Every event is what the official SDK has for its type; numbers from 0, each once; `created` and `in_progress`
    first, `completed` or `incomplete` once, last; items by index, one after another, each added empty and done whole,
    with what its deltas told; the last event has them all.
    """
    events = events_of(stream)
    found = list(_objects(events))
    assert [event.name.decode() for event in events] == [event["type"] for event in found]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        _STREAM_EVENT.validate_python(event)
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    assert all(event["response"]["status"] == "in_progress" for event in found[:2])
    assert len({event["response"]["id"] for event in (found[0], found[1], found[-1])}) == 1
    last = found[-1]["response"]
    assert last["status"] == _OF_RESPONSES[found[-1]["type"]]
    assert bool(last["incomplete_details"]) == (last["status"] == "incomplete")
    items: list[dict[str, Any]] = []
    inner: list[dict[str, Any]] = []
    for event in found[2:-1]:
        assert event["output_index"] == len(items)
        inner.append(event)
        if event["type"] == "response.output_item.done":
            _check_item(inner)
            items.append(event["item"])
            inner = []
    assert not inner, "an open item at the end"
    assert last["output"] == items
    assert len({item["id"] for item in items}) == len(items)
    calls = [item["call_id"] for item in items if "call_id" in item]
    assert len(set(calls)) == len(calls)


def _check_item(events: list[dict[str, Any]]) -> None:
    """The events of one item: added, told, done."""
    added, *told, done = events
    item = done["item"]
    assert added["type"] == "response.output_item.added"
    assert (added["item"]["id"], added["item"]["type"]) == (item["id"], item["type"])
    assert all(event["item_id"] == item["id"] for event in told)
    kind = item["type"]
    if kind == "message":
        assert added["item"]["content"] == []
        kind = item["content"][0]["type"]
        assert [event["type"] for event in (told[0], told[-1])] == [
            "response.content_part.added",
            "response.content_part.done",
        ]
        assert told[-1]["part"] == item["content"][0]
        assert all(event["content_index"] == 0 for event in told)
        told = told[1:-1]
    elif kind == "reasoning":
        assert added["item"]["summary"] == []
        assert all(event["summary_index"] == 0 for event in told)
        if not told:
            assert item["summary"] == []
            return
        assert told[0]["type"] == "response.reasoning_summary_part.added"
        assert told[-1]["type"] == "response.reasoning_summary_part.done"
        assert [told[-1]["part"]] == item["summary"]
        told = told[1:-1]
    else:
        assert added["item"][_SAID[kind]] == ""
    _check_told(told, kind, item)


def _check_told(told: list[dict[str, Any]], kind: str, item: dict[str, Any]) -> None:
    """Deltas, sources of a text in any place among them, and all of it at the end."""
    name = _SAID[kind]
    whole = told[-1]
    assert whole["type"] == f"{_GROWN_BY[kind]}.done"
    sources = [event for event in told[:-1] if event["type"] == "response.output_text.annotation.added"]
    deltas = [event for event in told[:-1] if event not in sources]
    assert {event["type"] for event in deltas} <= {f"{_GROWN_BY[kind]}.delta"}
    assert all(event["delta"] for event in deltas)
    assert "".join(event["delta"] for event in deltas) == whole[name]
    holder = item["content"][0] if item["type"] == "message" else item
    if item["type"] == "reasoning":
        holder = item["summary"][0]
    assert holder[name] == whole[name]
    assert [event["annotation_index"] for event in sources] == list(range(len(sources)))
    assert [event["annotation"] for event in sources] == holder.get("annotations", [])


CHECKS = {
    "openai_chat": check_chat,
    "anthropic_messages": check_messages,
    "gemini": check_gemini,
    "openai_responses": check_responses,
}
"""The checker of each dialect's streams."""
