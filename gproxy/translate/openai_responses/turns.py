"""A conversation's turns as the input items of a Responses request.

What else stands in the request is written in `write.py`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import freeform, ids, media, traits
from gproxy.translate.model import (
    Conversation,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from gproxy.translate.openai_responses.reasoning import item_for_target
from gproxy.translate.turns import settled

Item = dict[str, Any]

LONGEST_NAME = 64
_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_ID = 64  # OpenAI refuses longer ones


def written_items(conversation: Conversation, model: str, lost: set[str]) -> list[Item]:
    """The items. Raises BadRequest for what cannot be said."""
    writer = _Items(model, lost)
    return [item for turn in settled(conversation.turns) for item in writer.written(turn)]


class _Items:
    """Writes turns for one model; what it cannot say is added to `lost`."""

    def __init__(self, model: str, lost: set[str]) -> None:
        self._lost = lost
        self._native = traits.is_of_openai(model)
        self._text_tools = traits.takes_text_tools(model)
        self._custom: set[str] = set()  # ids of the calls of tools that take text

    def written(self, turn: Turn) -> Iterator[Item]:
        self._note_cache(turn.parts)
        if turn.role == "assistant":
            yield from self._said(turn.parts)
        elif turn.role == "tool":
            for part in turn.parts:
                if isinstance(part, ToolResult):
                    yield self._result(part)
        elif turn.parts:
            # Of the two names of this role, the newer is OpenAI's alone.
            instructing = "developer" if self._native else "system"
            role = instructing if turn.role == "system" else "user"
            yield {"type": "message", "role": role, "content": [self._part(part) for part in turn.parts]}

    def _note_cache(self, parts: Iterable[Part]) -> None:
        if any(getattr(part, "cache", "") for part in parts):
            self._lost.add("cache_control")

    def _part(self, part: Part) -> Item:
        match part:
            case Text(text):
                return {"type": "input_text", "text": text}
            case Image():
                url = part.url or media.data_url(part.media_type, part.data)
                return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
            case File():
                return self._file(part)
        raise BadRequest(f"A part of the kind {type(part).__name__} cannot be sent to this model's provider.")

    def _file(self, part: File) -> Item:
        if part.url:
            if part.name:
                self._lost.add("file.name")
            return {"type": "input_file", "file_url": part.url}
        if part.media_type.startswith("text/"):
            # As text it is understood by every model.
            text = media.decoded_text(part.data)
            return {"type": "input_text", "text": f"{part.name}\n\n{text}" if part.name else text}
        # OpenAI refuses a file without a name.
        data = media.data_url(part.media_type, part.data)
        return {"type": "input_file", "filename": part.name or "file", "file_data": data}

    def _said(self, parts: Iterable[Part]) -> Iterator[Item]:
        """What the assistant said, in its order: neighbouring texts are one message."""
        content: list[Item] = []
        for part in parts:
            if isinstance(part, Text | Refusal):
                content.append(self._text(part))
                continue
            if content:
                yield {"type": "message", "role": "assistant", "content": content}
                content = []
            match part:
                case ToolCall():
                    yield self._call(part)
                case Reasoning():
                    item = item_for_target(part)
                    if item is None:
                        self._lost.add("reasoning")
                    else:
                        yield item
                case _:
                    raise BadRequest(
                        f"An assistant's turn cannot hold a part of the kind {type(part).__name__}."
                    )
        if content:
            yield {"type": "message", "role": "assistant", "content": content}

    def _text(self, part: Text | Refusal) -> Item:
        if isinstance(part, Refusal):
            return {"type": "refusal", "refusal": part.text}
        if part.citations:
            self._lost.add("citations")
        return {"type": "output_text", "text": part.text, "annotations": []}

    def _call(self, call: ToolCall) -> Item:
        call_id = ids.fitting(call.id, _VALID_ID, _LONGEST_ID)
        name = ids.fitting_name(call.name, LONGEST_NAME)
        if call.freeform and self._text_tools:
            self._custom.add(call.id)
            return {"type": "custom_tool_call", "call_id": call_id, "name": name, "input": call.arguments}
        arguments = freeform.arguments_of(call) or "{}"
        return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}

    def _result(self, result: ToolResult) -> Item:
        if result.is_error:
            self._lost.add("tool_result.is_error")
        self._note_cache(result.parts)
        kind = "custom_tool_call_output" if result.call_id in self._custom else "function_call_output"
        output: str | list[Item] = [self._part(part) for part in result.parts]
        if not result.parts:
            output = ""
        elif len(result.parts) == 1 and isinstance(result.parts[0], Text):
            output = result.parts[0].text
        return {
            "type": kind,
            "call_id": ids.fitting(result.call_id, _VALID_ID, _LONGEST_ID),
            "output": output,
        }
