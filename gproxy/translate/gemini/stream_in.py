"""A target's stream of generateContent answers as deltas.

Whole answers are in `answers.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import mapping, objects, reader
from gproxy.protocols.base import Event
from gproxy.protocols.gemini import is_terminal, usage_of
from gproxy.translate.gemini.answers import (
    citations_of,
    finish_of,
    first_candidate,
    is_blocked,
    parts_of,
)
from gproxy.translate.model import (
    Added,
    AnswerPart,
    Cited,
    Closed,
    Delta,
    Finish,
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


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: Any = None
    usage_metadata: Any = None
    prompt_feedback: Any = None


_chunk = reader(_Chunk)


class GeminiReader:
    """Reads one stream. Calls come whole; a text or a thought goes on until another part, or its signature, comes."""

    def __init__(self) -> None:
        self._started = False
        self._open: AnswerPart | None = None
        self._text: list[str] = []  # of the open part, by which sources are placed
        self._parts: list[AnswerPart] = []
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._finished = False

    def feed(self, event: Event) -> list[Delta]:
        """What a chunk says. Raises AnswerBroken on one that is no JSON object, and as `finish_of` does."""
        if event.data is None:
            return self.end() if is_terminal(event) else []
        chunk = _chunk(event.data)
        if chunk is None:
            raise AnswerBroken("an event of the stream is not a JSON object")
        return list(self._read(chunk))

    def end(self) -> list[Delta]:
        return list(self._end()) if self._finish is not None else []

    def _read(self, chunk: _Chunk) -> Iterator[Delta]:
        usage = usage_of(self._usage, chunk.usage_metadata)
        if usage is not None and usage != self._usage:
            self._usage = usage
            yield UsageSeen(usage)
        if not self._started:
            self._started = True
            yield Started()
        candidate = first_candidate(chunk.candidates)
        if candidate is None:
            if is_blocked(chunk.prompt_feedback):
                self._finish = "refused"
            return
        for wire in objects(mapping(candidate.get("content")).get("parts")):
            for part in parts_of(wire):
                yield from self._part(part)
        yield from self._cited(candidate)
        if candidate.get("finishReason"):
            self._finish = finish_of(candidate["finishReason"], self._parts)

    def _part(self, part: AnswerPart) -> Iterator[Delta]:
        match part:
            case ToolCall():
                yield from self._begin(replace(part, arguments=""))
                yield Added(part.arguments)
                yield from self._close()
            case Reasoning(redacted=True):
                yield from self._begin(part)
                yield from self._close()
            case Reasoning(text, signature):
                yield from self._grow(Reasoning(""), text)
                if signature is not None:
                    if not isinstance(self._open, Reasoning):
                        yield from self._begin(Reasoning(""))
                    yield Signed(signature)
                    yield from self._close()
            case Text(text):
                yield from self._grow(Text(""), text)

    def _cited(self, candidate: Mapping[str, Any]) -> Iterator[Delta]:
        if isinstance(self._open, Text) and (
            "groundingMetadata" in candidate or "citationMetadata" in candidate
        ):
            yield from map(Cited, citations_of(candidate, "".join(self._text)))

    def _grow(self, empty: AnswerPart, text: str) -> Iterator[Delta]:
        if not text:
            return
        if type(self._open) is not type(empty):
            yield from self._begin(empty)
        self._text.append(text)
        yield Added(text)

    def _begin(self, part: AnswerPart) -> Iterator[Delta]:
        yield from self._close()
        self._open, self._text = part, []
        self._parts.append(part)
        yield Opened(part)

    def _close(self) -> Iterator[Delta]:
        if self._open is not None:
            self._open = None
            yield Closed()

    def _end(self) -> Iterator[Delta]:
        if self._finished or self._finish is None:
            return
        self._finished = True
        yield from self._close()
        # A call may have come after the reason.
        called = any(isinstance(part, ToolCall) for part in self._parts)
        yield Finished("tools" if called and self._finish == "stop" else self._finish)
