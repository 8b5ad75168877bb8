"""A target's stream of Responses events as deltas.

Whole responses are in `answers.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import mapping, objects, reader
from gproxy.protocols.base import Event
from gproxy.protocols.openai_responses import usage_of
from gproxy.translate.assembly import deltas_of_part
from gproxy.translate.model import (
    Added,
    AnswerPart,
    Cited,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Refusal,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.translate.openai_responses.answers import call_of, citations_of, finish_of, parts_of
from gproxy.translate.openai_responses.reasoning import BETWEEN_SUMMARIES, reasoning_of


class _Event(msgspec.Struct):
    type: Any = None
    response: Any = None
    item: Any = None
    part: Any = None
    delta: Any = None
    annotation: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None


_event = reader(_Event)
_CALLS = ("function_call", "custom_tool_call")
_GROWING: dict[str, AnswerPart] = {
    "response.output_text.delta": Text(""),
    "response.refusal.delta": Refusal(""),
    "response.reasoning_summary_text.delta": Reasoning(""),
    "response.reasoning_text.delta": Reasoning(""),
}
_GROWING_CALLS = ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta")


class ResponsesReader:
    """Reads one stream. Of items that are told in turns, one is streamed; the others are told when they are whole.

    Items of OpenAI's own tools are passed over.
    """

    def __init__(self) -> None:
        self._started = False
        self._streams = (
            False  # whether an item is being streamed; its index and type, and whether it has parts
        )
        self._item: object = None
        self._item_type = ""
        self._told = False
        self._open: AnswerPart | None = None
        self._content: object = None  # the index of the open part in its item
        self._said = False  # whether the open part has text, and sources
        self._cited = False
        self._thought = ""  # which kind of event tells the open reasoning
        self._waiting: list[Mapping[str, Any]] = []  # whole items, until the open one is
        self._parts: list[AnswerPart] = []
        self._finished = False

    def feed(self, event: Event) -> list[Delta]:
        """What an event says. Raises AnswerBroken on one that is no JSON object."""
        if event.data is None or self._finished:
            return []
        found = _event(event.data)
        if found is None:
            if event.data == b"[DONE]":  # which some servers end with, as they do in chat completions
                return []
            raise AnswerBroken("an event of the stream is not a JSON object")
        return list(self._read(found)) if isinstance(found.type, str) else []

    def end(self) -> list[Delta]:
        return []

    def _read(self, event: _Event) -> Iterator[Delta]:
        kind = event.type
        if kind in _GROWING:
            yield from self._grow(event)
        elif kind in _GROWING_CALLS:
            if isinstance(self._open, ToolCall) and self._is_streamed(event):
                yield from self._add(event.delta)
        elif kind == "response.output_item.added":
            yield from self._begin_item(event)
        elif kind == "response.output_item.done":
            yield from self._end_item(event)
        elif kind == "response.output_text.annotation.added":
            if self._is_streamed(event):
                yield from self._cite([event.annotation])
        elif kind == "response.content_part.done":
            yield from self._end_part(event)
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._end({**mapping(event.response), "status": kind.removeprefix("response.")})
        elif kind in ("response.created", "response.in_progress", "response.queued"):
            yield from self._start()

    def _start(self) -> Iterator[Delta]:
        if not self._started:
            self._started = True
            yield Started()

    def _is_streamed(self, event: _Event) -> bool:
        return self._streams and bool(self._item == event.output_index)

    def _begin_item(self, event: _Event) -> Iterator[Delta]:
        yield from self._start()
        item = mapping(event.item)
        kind = item.get("type")
        if self._streams or not isinstance(kind, str) or kind not in (*_CALLS, "message", "reasoning"):
            return
        self._stream(event, kind)
        if kind in _CALLS:
            call = call_of(item)
            yield from self._begin(replace(call, arguments=""))
            yield from self._add(call.arguments)

    def _stream(self, event: _Event, kind: str) -> None:
        self._streams, self._item, self._item_type, self._told = True, event.output_index, kind, False

    def _grow(self, event: _Event) -> Iterator[Delta]:
        """More of a text, a refusal or reasoning, each in a part of its own."""
        if not isinstance(event.delta, str) or not event.delta:
            return
        part = _GROWING[event.type]
        if not self._streams:  # a server that does not tell of the beginnings of items
            yield from self._start()
            self._stream(event, "reasoning" if isinstance(part, Reasoning) else "message")
        if not self._is_streamed(event):
            return
        if isinstance(part, Reasoning):
            yield from self._think(event)
            return
        if type(self._open) is not type(part) or self._content != event.content_index:
            yield from self._begin(part)
            self._content = event.content_index
        yield from self._add(event.delta)

    def _think(self, event: _Event) -> Iterator[Delta]:
        """More of reasoning, by its summary or as it is: of the two, what comes first."""
        if not isinstance(self._open, Reasoning):
            yield from self._begin(Reasoning(""))
            self._thought, self._content = event.type, event.summary_index
        if event.type != self._thought:
            return
        if self._content != event.summary_index:
            self._content = event.summary_index
            yield Added(BETWEEN_SUMMARIES)
        yield from self._add(event.delta)

    def _cite(self, annotations: list[Any]) -> Iterator[Delta]:
        if isinstance(self._open, Text):
            for citation in citations_of(annotations):
                self._cited = True
                yield Cited(citation)

    def _end_part(self, event: _Event) -> Iterator[Delta]:
        part = mapping(event.part)
        if self._is_streamed(event) and self._content == event.content_index:
            if not self._cited:
                yield from self._cite(objects(part.get("annotations")))
            if isinstance(self._open, Text | Refusal):
                yield from self._close()

    def _end_item(self, event: _Event) -> Iterator[Delta]:
        yield from self._start()
        item = mapping(event.item)
        streamed = self._is_streamed(event)
        if streamed and self._told and item.get("type") == self._item_type:
            yield from self._end_told(item)
        else:
            self._waiting.append(item)
        if streamed:
            yield from self._close()
            self._streams = False
        if not self._streams:
            yield from self._tell_waiting()

    def _end_told(self, item: Mapping[str, Any]) -> Iterator[Delta]:
        """What the whole item says of its open part beyond what was told."""
        if isinstance(self._open, ToolCall) and not self._said:
            yield from self._add(call_of(item).arguments)
        elif isinstance(self._open, Reasoning):
            thought = reasoning_of(item)
            if thought is not None and thought.signature is not None:
                yield Signed(thought.signature)

    def _tell_waiting(self) -> Iterator[Delta]:
        for item in self._waiting:
            for part in parts_of(item):
                self._parts.append(part)
                yield from deltas_of_part(part)
        self._waiting = []

    def _begin(self, part: AnswerPart) -> Iterator[Delta]:
        yield from self._close()
        self._open, self._told, self._said, self._cited = part, True, False, False
        self._parts.append(part)
        yield Opened(part)

    def _add(self, text: object) -> Iterator[Delta]:
        if isinstance(text, str) and text:
            self._said = True
            yield Added(text)

    def _close(self) -> Iterator[Delta]:
        if self._open is not None:
            self._open = None
            yield Closed()

    def _end(self, response: Mapping[str, Any]) -> Iterator[Delta]:
        self._finished = True
        yield from self._start()
        yield from self._close()
        if not self._parts and not self._waiting:
            self._waiting = objects(response.get("output"))
        yield from self._tell_waiting()
        usage = usage_of(response.get("usage"), response.get("service_tier"), response.get("output"))
        if usage is not None:
            yield UsageSeen(usage)
        yield Finished(finish_of(response, self._parts))
