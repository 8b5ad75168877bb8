"""A target's stream of Messages events as deltas.

Whole messages are in `answers.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import mapping, reader
from gproxy.protocols.anthropic_messages import updated
from gproxy.protocols.base import Event
from gproxy.translate.anthropic_messages.answers import (
    citations_of,
    finish_of,
    part_of,
    signature_of,
    string,
)
from gproxy.translate.model import (
    Added,
    AnswerPart,
    Citation,
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
from gproxy.values import Usage


class _Event(msgspec.Struct):
    type: Any = None
    message: Any = None
    content_block: Any = None
    delta: Any = None
    usage: Any = None


_event = reader(_Event)
_NO_ARGUMENTS = "{}"


class MessagesReader:
    """Reads one stream. Blocks of Anthropic's own tools are passed over."""

    def __init__(self) -> None:
        self._started = False
        self._open: AnswerPart | None = None
        self._length = 0  # of the open part's text
        self._sources: list[Citation] = []  # of the open part, which they are about as a whole
        self._usage: Usage | None = None
        self._reason: object = None
        self._stop_sequence = ""
        self._finished = False

    def feed(self, event: Event) -> list[Delta]:
        """What an event says. Raises AnswerBroken on one that is no JSON object."""
        if event.data is None:
            return []
        found = _event(event.data)
        if found is None:
            raise AnswerBroken("an event of the stream is not a JSON object")
        match found.type:
            case "content_block_delta":
                return list(self._delta(mapping(found.delta)))
            case "content_block_start":
                return list(self._start(mapping(found.content_block)))
            case "content_block_stop":
                return list(self._close())
            case "message_start":
                return list(self._begin(mapping(found.message)))
            case "message_delta":
                return list(self._message_delta(mapping(found.delta), found.usage))
            case "message_stop":
                return list(self._end())
        return []

    def end(self) -> list[Delta]:
        return list(self._end()) if self._reason is not None else []

    def _begin(self, message: Mapping[str, Any]) -> Iterator[Delta]:
        if self._started:
            return
        self._started = True
        yield from self._seen(message.get("usage"))
        yield Started()

    def _start(self, block: Mapping[str, Any]) -> Iterator[Delta]:
        yield from self._begin({})
        yield from self._close()
        part = part_of(block)
        if part is None:
            return
        given = part.arguments if isinstance(part, ToolCall) else part.text
        if isinstance(part, ToolCall):
            self._open = replace(part, arguments="")
            given = "" if given == _NO_ARGUMENTS else given  # a placeholder, which the deltas replace
        elif isinstance(part, Reasoning) and not part.redacted:
            self._open = Reasoning("")
        else:
            self._open = Text("") if isinstance(part, Text) else part
        yield Opened(self._open)
        yield from self._add(given)
        if isinstance(part, Reasoning) and not part.redacted and part.signature is not None:
            yield Signed(part.signature)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        if self._open is None:
            return
        match delta.get("type"):
            case "text_delta":
                yield from self._add(string(delta, "text"))
            case "input_json_delta":
                yield from self._add(string(delta, "partial_json"))
            case "thinking_delta":
                yield from self._add(string(delta, "thinking"))
            case "signature_delta":
                signature = signature_of(string(delta, "signature"))
                if signature is not None and isinstance(self._open, Reasoning):
                    yield Signed(signature)
            case "citations_delta":
                self._sources += citations_of([delta.get("citation")], 0)

    def _add(self, text: str) -> Iterator[Delta]:
        if text:
            self._length += len(text)
            yield Added(text)

    def _close(self) -> Iterator[Delta]:
        part, self._open = self._open, None
        if part is None:
            return
        if isinstance(part, ToolCall) and not self._length:
            yield Added(_NO_ARGUMENTS)
        if isinstance(part, Text):
            yield from (Cited(replace(source, end=self._length)) for source in self._sources)
        self._length, self._sources = 0, []
        yield Closed()

    def _message_delta(self, delta: Mapping[str, Any], usage: object) -> Iterator[Delta]:
        if delta.get("stop_reason") is not None:
            self._reason = delta["stop_reason"]
        self._stop_sequence = string(delta, "stop_sequence") or self._stop_sequence
        yield from self._seen(usage)

    def _seen(self, fields: object) -> Iterator[Delta]:
        known = updated(self._usage, fields)
        if known is not None and known != self._usage:
            self._usage = known
            yield UsageSeen(known)

    def _end(self) -> Iterator[Delta]:
        if self._finished:
            return
        self._finished = True
        yield from self._begin({})
        yield from self._close()
        yield Finished(finish_of(self._reason), self._stop_sequence)
