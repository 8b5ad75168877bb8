"""The messages of a client's chat completion request as turns.

What else stands in the request is read in `read.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields, ids, media, signatures
from gproxy.translate.model import (
    Audio,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from gproxy.translate.openai_chat.reasoning import read_reasoning

_KNOWN = {
    "system": frozenset({"role", "content"}),
    "developer": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "assistant": frozenset(
        {"role", "content", "refusal", "tool_calls", "reasoning_content", "reasoning", "reasoning_details"}
    ),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}
_ANSWERS_ONLY = frozenset({"annotations", "function_call", "audio"})
"""What an assistant's message has of an answer that is sent back: `audio` and `function_call` only if not null."""


@dataclass(slots=True)
class Messages:
    """What was read; `system` is what stands before the first turn."""

    system: tuple[Text, ...] = ()
    turns: tuple[Turn, ...] = ()
    lost: set[str] = field(default_factory=set)


def read_messages(messages: list[Mapping[str, Any]]) -> Messages:
    """The messages as turns. Raises BadRequest."""
    found = Messages()
    system: list[Text] = []
    turns: list[Turn] = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        role = message.get("role")
        if not isinstance(role, str) or role not in _KNOWN:
            raise fields.wrong("role", where, "system, developer, user, assistant or tool")
        found.lost |= {f"messages[].{name}" for name in fields.unknown(message, _KNOWN[role] | _ANSWERS_ONLY)}
        if role in ("system", "developer"):
            parts = tuple(_texts(message, where))
            if turns:
                turns.append(Turn("system", parts))
            else:
                system += parts
        elif role == "user":
            turns.append(Turn("user", tuple(_user_parts(message, where, found.lost))))
        elif role == "assistant":
            turns.append(Turn("assistant", tuple(_assistant_parts(message, where, found.lost))))
        else:
            result = _result(message, where, found.lost)
            if turns and turns[-1].role == "tool":
                turns[-1] = Turn("tool", (*turns[-1].parts, result))
            else:
                turns.append(Turn("tool", (result,)))
    found.system, found.turns = tuple(system), tuple(turns)
    return found


def _content(message: Mapping[str, Any], where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The parts of a content, and where each stands; a string is one part of text."""
    content = message.get("content")
    if content is None:
        return
    if isinstance(content, str):
        yield {"type": "text", "text": content}, f"{where}.content"
        return
    for at, part in enumerate(fields.objects(message, "content", where)):
        yield part, f"{where}.content[{at}]"


def _text(part: Mapping[str, Any], where: str) -> Text:
    if part.get("type") != "text":
        raise BadRequest(
            f"`{where}` is of the type {fields.short(part.get('type'))}, which cannot stand there."
        )
    return Text(fields.text(part, "text", where), cache=media.cache_of(part))


def _texts(message: Mapping[str, Any], where: str) -> Iterator[Text]:
    for part, place in _content(message, where):
        yield _text(part, place)


def _user_parts(message: Mapping[str, Any], where: str, lost: set[str]) -> Iterator[Part]:
    for part, place in _content(message, where):
        kind = part.get("type")
        if kind == "image_url":
            yield _image(part, place)
        elif kind == "file":
            yield _file(part, place)
        elif kind == "input_audio":
            sound = fields.an_object(part, "input_audio", place)
            yield Audio(
                fields.required(sound, "data", f"{place}.input_audio"),
                fields.required(sound, "format", f"{place}.input_audio"),
            )
        else:
            yield _text(part, place)
        if part.get("prompt_cache_breakpoint") is not None:
            lost.add("prompt_cache_breakpoint")


def _image(part: Mapping[str, Any], where: str) -> Image:
    given = fields.an_object(part, "image_url", where)
    url = fields.required(given, "url", f"{where}.image_url")
    media_type, data = media.from_data_url(url, f"{where}.image_url.url")
    return Image(
        data=data,
        media_type=media_type,
        url="" if data else url,
        detail=fields.text(given, "detail", f"{where}.image_url"),
        cache=media.cache_of(part),
    )


def _file(part: Mapping[str, Any], where: str) -> File:
    given = fields.an_object(part, "file", where)
    within = f"{where}.file"
    if given.get("file_id") is not None:
        raise media.of_another_account(f"{within}.file_id")
    media_type, data = media.from_data_url(fields.required(given, "file_data", within), f"{within}.file_data")
    if not data:
        raise fields.wrong("file_data", within, "a data URL with base64")
    return File(data, media_type, name=fields.text(given, "filename", within), cache=media.cache_of(part))


def _assistant_parts(message: Mapping[str, Any], where: str, lost: set[str]) -> Iterator[Part]:
    for name in ("audio", "function_call"):
        if message.get(name) is not None:
            raise BadRequest(f"`{where}.{name}` cannot be translated for this model's provider.")
    if message.get("annotations"):
        lost.add("messages[].annotations")
    yield from read_reasoning(message)
    for part, place in _content(message, where):
        if part.get("type") == "refusal":
            yield Refusal(fields.text(part, "refusal", place))
        elif part.get("type") == "thinking":  # Mistral's form of reasoning
            yield Reasoning(media.text_within(part.get("thinking")))
        else:
            yield _text(part, place)
    if refusal := fields.text(message, "refusal", where):
        yield Refusal(refusal)
    for at, call in enumerate(fields.objects(message, "tool_calls", where)):
        yield _call(call, f"{where}.tool_calls[{at}]")


def _call(call: Mapping[str, Any], where: str) -> ToolCall:
    call_id = ids.original(fields.required(call, "id", where))
    if call.get("type") == "custom":
        custom = fields.an_object(call, "custom", where)
        name = fields.required(custom, "name", f"{where}.custom")
        return ToolCall(call_id, name, fields.text(custom, "input", f"{where}.custom"), freeform=True)
    function = fields.an_object(call, "function", where)
    return ToolCall(
        call_id,
        fields.required(function, "name", f"{where}.function"),
        fields.text(function, "arguments", f"{where}.function"),
        signature_of(call),
    )


def signature_of(call: Mapping[str, Any]) -> Signature | None:
    """The thought signature of a call, where Google's own OpenAI-compatible endpoint has it.

    https://ai.google.dev/gemini-api/docs/thought-signatures
    """
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    value = google.get("thought_signature") if isinstance(google, dict) else None
    return signatures.from_client(value, "gemini") if isinstance(value, str) else None


def _result(message: Mapping[str, Any], where: str, lost: set[str]) -> ToolResult:
    call_id = ids.original(fields.required(message, "tool_call_id", where))
    parts = tuple(_user_parts(message, where, lost))
    kept = tuple(part for part in parts if isinstance(part, Text | Image | File))
    if len(kept) != len(parts):
        raise BadRequest(f"`{where}.content` holds what a result of a tool cannot hold.")
    return ToolResult(call_id, kept)
