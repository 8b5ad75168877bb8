"""A conversation's turns as the messages of a chat completion request.

Plain strings are written wherever they can be: many servers that speak this dialect take nothing else.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import freeform, ids, media, traits
from gproxy.translate.model import (
    Audio,
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
from gproxy.translate.openai_chat.reasoning import DIALECT, detail_of
from gproxy.translate.turns import settled

Message = dict[str, Any]

_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_LONGEST_ID = 40  # OpenAI refuses longer ones
_ANY_ID = re.compile(r"[!-~]{1,64}")  # as they come: Kimi must have its own again, `functions.NAME:0`
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
_SHORT_ID_LENGTH = 9
_LONGEST_NAME = 64
_BETWEEN_SYSTEM_TEXTS = "\n\n"
_SEE_BELOW = "See the image or file below."


def written_turns(conversation: Conversation, model: str, lost: set[str]) -> list[Message]:
    """The messages. Raises BadRequest for what cannot be said."""
    writer = _Turns(model, lost)
    messages: list[Message] = []
    if conversation.system:
        # One message: templates of open models refuse a second one.
        text = _BETWEEN_SYSTEM_TEXTS.join(part.text for part in conversation.system)
        writer.note_cache(conversation.system)
        messages.append({"role": "system", "content": text})
    for turn in settled(conversation.turns):
        messages += writer.written(turn)
    return messages


class _Turns:
    """Writes turns for one model; what it cannot say is added to `lost`."""

    def __init__(self, model: str, lost: set[str]) -> None:
        self._lost = lost
        self._native = traits.is_of_openai(model)
        self._text_tools = traits.takes_text_tools(model)
        self._keeps_reasoning = traits.wants_reasoning_back(model)
        self._signs_calls = "gemini" in model
        self._short_ids = traits.has_short_ids(model)
        strict = self._native or traits.claude_version(model) is not None
        self._valid_id = _VALID_ID if strict else _ANY_ID

    def note_cache(self, parts: Iterable[Part]) -> None:
        if any(getattr(part, "cache", "") for part in parts):
            self._lost.add("cache_control")

    def written(self, turn: Turn) -> list[Message]:
        self.note_cache(turn.parts)
        if turn.role == "tool":
            return self._results([part for part in turn.parts if isinstance(part, ToolResult)])
        if turn.role == "assistant":
            message = self._assistant(turn.parts)
            return [message] if len(message) > 1 else []
        if turn.role == "system":
            texts = [part.text for part in turn.parts if isinstance(part, Text)]
            return [{"role": "system", "content": _BETWEEN_SYSTEM_TEXTS.join(texts)}]
        return [{"role": "user", "content": self._content(turn.parts)}] if turn.parts else []

    def _content(self, parts: Sequence[Part]) -> str | list[Message]:
        if len(parts) == 1 and isinstance(parts[0], Text):
            return parts[0].text
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> Message:
        match part:
            case Text(text):
                return {"type": "text", "text": text}
            case Image():
                url = part.url or media.data_url(part.media_type, part.data)
                image = {"url": url, "detail": part.detail} if part.detail else {"url": url}
                return {"type": "image_url", "image_url": image}
            case File():
                return self._file(part)
            case Audio(data, format):
                return {"type": "input_audio", "input_audio": {"data": data, "format": format}}
            case _:
                raise BadRequest(f"A user's turn cannot hold a part of the kind {type(part).__name__}.")

    def _file(self, part: File) -> Message:
        if part.url:
            raise BadRequest(
                "A file given by its URL cannot be translated for this model's provider: send its data."
            )
        if part.media_type.startswith("text/"):
            # As text it is understood by every model.
            text = media.decoded_text(part.data)
            return {"type": "text", "text": f"{part.name}\n\n{text}" if part.name else text}
        file = {"file_data": media.data_url(part.media_type, part.data)}
        # OpenAI refuses a file without a name.
        return {"type": "file", "file": {"filename": part.name or "file", **file}}

    def _assistant(self, parts: Iterable[Part]) -> Message:
        message: Message = {"role": "assistant"}
        texts, refusals, calls, reasoning = [], [], [], []
        for part in parts:
            match part:
                case Text(text):
                    texts.append(text)
                    if part.citations:
                        self._lost.add("citations")
                case Refusal(text):
                    refusals.append(text)
                case ToolCall():
                    calls.append(self._call(part))
                case Reasoning():
                    reasoning.append(part)
                case _:
                    raise BadRequest(
                        f"An assistant's turn cannot hold a part of the kind {type(part).__name__}."
                    )
        if texts or (not calls and not refusals and reasoning):
            message["content"] = "".join(texts)
        elif calls or refusals:
            message["content"] = None
        if refusals:
            message["refusal"] = "".join(refusals)
        if calls:
            message["tool_calls"] = calls
        self._add_reasoning(message, reasoning, bool(calls))
        return message

    def _add_reasoning(self, message: Message, parts: list[Reasoning], called: bool) -> None:
        """Signed reasoning goes back to the dialect that signed it, plain text to those who want it back."""
        signed = [part for part in parts if part.signature is not None and part.signature.dialect == DIALECT]
        text = "".join(part.text for part in parts)
        if signed and not self._native:
            message["reasoning_details"] = [detail_of(part) for part in signed]
        elif text and called and self._keeps_reasoning:
            message["reasoning_content"] = text
        elif parts:
            self._lost.add("reasoning")

    def _call(self, call: ToolCall) -> Message:
        call_id = self._id(call.id)
        name = ids.fitting_name(call.name, _LONGEST_NAME)
        if call.freeform and self._text_tools:
            return {"id": call_id, "type": "custom", "custom": {"name": name, "input": call.arguments}}
        function = {"name": name, "arguments": freeform.arguments_of(call) or "{}"}
        written: Message = {"id": call_id, "type": "function", "function": function}
        if call.signature is not None and self._signs_calls and call.signature.dialect == "gemini":
            written["extra_content"] = {"google": {"thought_signature": call.signature.value}}
        return written

    def _id(self, call_id: str) -> str:
        if self._short_ids:
            return ids.fitting(call_id, _SHORT_ID, _SHORT_ID_LENGTH)
        return ids.fitting(call_id, self._valid_id, _LONGEST_ID)

    def _results(self, results: Iterable[ToolResult]) -> list[Message]:
        """A message for each result, which holds text alone; its images and files are a user's after them."""
        messages: list[Message] = []
        beside: list[Part] = []
        for result in results:
            if result.is_error:
                self._lost.add("tool_result.is_error")
            self.note_cache(result.parts)
            others = [part for part in result.parts if not isinstance(part, Text)]
            texts = [part.text for part in result.parts if isinstance(part, Text)]
            content = "\n".join(texts) if texts or not others else _SEE_BELOW
            messages.append({"role": "tool", "tool_call_id": self._id(result.call_id), "content": content})
            beside += others
        if beside:
            messages.append({"role": "user", "content": [self._part(part) for part in beside]})
        return messages
