"""A target's stream of chat completion chunks as deltas.

Whole completions are in `answers.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import is_json, mapping, objects, reader
from gproxy.protocols.base import Event
from gproxy.protocols.openai_chat import is_done, usage_of
from gproxy.translate import media
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
from gproxy.translate.openai_chat.answers import call_of, citations_of, finish_of, is_failed
from gproxy.translate.openai_chat.reasoning import plain_text, signature_of


class _Chunk(msgspec.Struct):
    choices: Any = None
    usage: Any = None


_chunk = reader(_Chunk)


@dataclass(slots=True)
class _Told:
    """A call without its arguments, and what was told of those."""

    call: ToolCall
    index: int | None
    arguments: list[str] = field(default_factory=list)

    def goes_on(self, call: ToolCall, index: int | None) -> bool:
        """Whether `call` is more of it."""
        return (index is None or index == self.index) and (
            not call.id or call.id == self.call.id or not call.name
        )

    @property
    def whole(self) -> bool:
        """Whether nothing can follow: most servers tell a call to its end before the next one."""
        return self.call.freeform or is_json("".join(self.arguments).encode(errors="surrogatepass"))


class ChatReader:
    """Reads one stream. Parts are told apart by the field of a delta they come in, calls by index and id.

    Calls that begin while another one is not whole wait until that is closed.
    """

    def __init__(self) -> None:
        self._started = False
        self._open: AnswerPart | None = None
        self._told: list[_Told] = []  # the open call and those that wait for its end
        self._calls: set[tuple[int | None, str]] = set()  # index and id of all so far
        self._thought: list[str] = []  # the text of the open reasoning
        self._thought_length = 0
        self._parts: list[AnswerPart] = []
        self._reason: object = None
        self._finished = False

    def feed(self, event: Event) -> list[Delta]:
        """What a chunk says. Raises AnswerBroken on more of a call that was whole, and on an error."""
        if event.data is None:
            return []
        if is_done(event):
            return list(self._end())
        chunk = _chunk(event.data)
        if chunk is None:
            raise AnswerBroken("an event of the stream is not a chunk")
        return list(self._read(chunk))

    def end(self) -> list[Delta]:
        return list(self._end()) if self._reason is not None else []

    def _read(self, chunk: _Chunk) -> Iterator[Delta]:
        if not self._started:
            self._started = True
            yield Started()
        for choice in objects(chunk.choices):
            if choice.get("index", 0) not in (0, None):
                continue
            if self._reason is None:
                yield from self._delta(mapping(choice.get("delta")))
            if is_failed(choice):
                raise AnswerBroken("the model's answer ended with an error")
            if choice.get("finish_reason") is not None:
                self._reason = choice["finish_reason"]
                yield from self._close()
        if (usage := usage_of(chunk.usage)) is not None:
            yield UsageSeen(usage)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        yield from self._reasoning(delta)
        content = delta.get("content")
        if isinstance(content, list):  # Mistral's reasoning models
            for part in objects(content):
                thought = part.get("type") == "thinking"
                text = media.text_within(part.get("thinking") if thought else [part])
                yield from self._grow(Reasoning("") if thought else Text(""), text)
        else:
            yield from self._grow(Text(""), content)
        yield from self._grow(Refusal(""), delta.get("refusal"))
        if delta.get("annotations"):
            if not isinstance(self._open, Text):
                yield from self._begin(Text(""))
            yield from map(Cited, citations_of(delta["annotations"]))
        for call in objects(delta.get("tool_calls")):
            yield from self._call(call)

    def _reasoning(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        details = objects(delta.get("reasoning_details"))
        text = plain_text(delta)
        if text:
            yield from self._grow(Reasoning(""), text)
        for detail in details:
            signed = signature_of(detail)
            if detail.get("type") == "reasoning.encrypted":
                if signed is not None:
                    yield from self._begin(Reasoning("", signed, redacted=True))
                    yield from self._close()
                continue
            told = detail.get("text") or detail.get("summary")
            if not text and not self._was_told(told):
                yield from self._grow(Reasoning(""), told)
            if signed is not None:
                if not isinstance(self._open, Reasoning):
                    yield from self._begin(Reasoning(""))
                yield Signed(signed)
                yield from self._close()

    def _was_told(self, text: object) -> bool:
        """Whether it is all of the open reasoning's text once more, as it comes beside a signature."""
        if not isinstance(text, str) or len(text) != self._thought_length:
            return False
        return text == "".join(self._thought)

    def _call(self, item: Mapping[str, Any]) -> Iterator[Delta]:
        call = call_of(item)
        index = item["index"] if isinstance(item.get("index"), int) else None
        arguments = call.arguments or _custom_input(item)
        told = next((told for told in reversed(self._told) if told.goes_on(call, index)), None)
        if told is None:
            if not call.name or (call.id and (index, call.id) in self._calls):
                raise AnswerBroken("the stream goes on with a tool call that was whole")
            self._calls.add((index, call.id))
            told = _Told(replace(call, arguments=""), index)
            if self._told and not self._told[0].whole:
                self._told.append(told)
            else:
                yield from self._begin(told.call)
                self._told = [told]
        if arguments:
            told.arguments.append(arguments)
            if told is self._told[0]:
                yield Added(arguments)

    def _grow(self, empty: AnswerPart, text: object) -> Iterator[Delta]:
        if not isinstance(text, str) or not text:
            return
        if type(self._open) is not type(empty):
            yield from self._begin(empty)
        if isinstance(empty, Reasoning):
            self._thought.append(text)
            self._thought_length += len(text)
        yield Added(text)

    def _begin(self, part: AnswerPart) -> Iterator[Delta]:
        yield from self._close()
        self._open, self._thought, self._thought_length = part, [], 0
        self._parts.append(part)
        yield Opened(part)

    def _close(self) -> Iterator[Delta]:
        if self._open is None:
            return
        self._open = None
        yield Closed()
        waiting, self._told = self._told[1:], []
        for told in waiting:
            self._parts.append(told.call)
            yield from deltas_of_part(replace(told.call, arguments="".join(told.arguments)))

    def _end(self) -> Iterator[Delta]:
        if self._finished:
            return
        self._finished = True
        if not self._started:
            yield Started()
        yield from self._close()
        yield Finished(finish_of(self._reason, self._parts))


def _custom_input(item: Mapping[str, Any]) -> str:
    """A later piece of a custom tool's input, which may come without its type."""
    value = mapping(item.get("custom")).get("input")
    return value if isinstance(value, str) else ""
