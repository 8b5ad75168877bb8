"""The input items of a client's Responses request as turns.

What else stands in the request is read in `read.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields, ids, media
from gproxy.translate.model import (
    File,
    Image,
    Part,
    Refusal,
    Role,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from gproxy.translate.openai_responses.names import joined
from gproxy.translate.openai_responses.reasoning import reasoning_of, signature_of_call

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_MAY_HOLD: dict[Role, tuple[type, ...]] = {
    "user": (Text, Image, File),
    "assistant": (Text, Refusal),
    "system": (Text,),
}
_OF_ANSWERS = frozenset({"id", "status"})
_KNOWN: dict[str, frozenset[str]] = {
    "message": frozenset({"type", "role", "content"}),
    "reasoning": frozenset({"type", "summary", "content", "encrypted_content"}),
    "function_call": frozenset({"type", "call_id", "name", "namespace", "arguments"}),
    "custom_tool_call": frozenset({"type", "call_id", "name", "namespace", "input"}),
    "function_call_output": frozenset({"type", "call_id", "output", "name", "namespace"}),
    "custom_tool_call_output": frozenset({"type", "call_id", "output", "name", "namespace"}),
    "additional_tools": frozenset({"type", "role", "tools"}),
}
_OF_HOSTED_TOOLS = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "mcp_list_tools", "mcp_call"}
    | {"tool_search_call", "tool_search_output"}
)
"""What OpenAI's own tools did: the answer that was made of it stands behind it."""
_REFUSED = {
    "item_reference": "the item that it names is stored at another provider: send the item itself",
    "compaction": "only the provider that made it can read it: send the conversation itself",
    "compaction_trigger": "only OpenAI compacts conversations",
}


@dataclass(slots=True)
class Items:
    """What was read; `system` is what stands before the first turn, `tools` what was added to the request's."""

    system: list[Text] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    tools: list[tuple[Mapping[str, Any], str]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def add(self, role: Role, parts: tuple[Part, ...]) -> None:
        """An item's parts: with those before it if they are the assistant's, or results of tools."""
        if role == "system" and not self.turns:
            self.system += [part for part in parts if isinstance(part, Text)]
        elif role in ("assistant", "tool") and self.turns and self.turns[-1].role == role:
            self.turns[-1] = Turn(role, (*self.turns[-1].parts, *parts))
        else:
            self.turns.append(Turn(role, parts))


def read_items(items: list[Mapping[str, Any]]) -> Items:
    """The items as turns. Raises BadRequest."""
    found = Items()
    signed: Signature | None = None  # by the call that follows
    for at, item in enumerate(items):
        where = f"input[{at}]"
        kind = fields.text(item, "type", where) or ("message" if "role" in item else "item_reference")
        if kind in _REFUSED:
            raise BadRequest(f"`{where}`, of the type {kind}, cannot be translated: {_REFUSED[kind]}.")
        if kind in _OF_HOSTED_TOOLS:
            found.lost.add(f"input[].{kind}")
            continue
        if kind not in _KNOWN:
            raise BadRequest(f"`{where}` is of the type {fields.short(kind)}, which cannot be translated.")
        found.lost |= {f"input[].{name}" for name in fields.unknown(item, _KNOWN[kind] | _OF_ANSWERS)}
        if kind == "reasoning":
            own = signature_of_call(item)
            if own is not None:
                signed = own
            elif (thought := reasoning_of(item)) is not None:
                found.add("assistant", (thought,))
        elif kind in ("function_call", "custom_tool_call"):
            found.add("assistant", (_call(item, where, signed),))
            signed = None
        elif kind == "message":
            _read_message(item, where, found)
        elif kind == "additional_tools":
            tools = fields.objects(item, "tools", where)
            found.tools += [(tool, f"{where}.tools[{n}]") for n, tool in enumerate(tools)]
        else:
            found.add("tool", (_result(item, where, found.lost),))
    return found


def _read_message(item: Mapping[str, Any], where: str, found: Items) -> None:
    role = _ROLES.get(fields.text(item, "role", where))
    if role is None:
        raise fields.wrong("role", where, "user, assistant, system or developer")
    parts: list[Part] = []
    for part, place in _content(item, "content", where):
        read = _part(part, place, found.lost)
        if not isinstance(read, _MAY_HOLD[role]):
            raise BadRequest(f"`{place}` cannot stand in a message of the {role}.")
        parts.append(read)
    found.add(role, tuple(parts))


def _content(item: Mapping[str, Any], name: str, where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The parts of a content, and where each stands; a string is one part of text."""
    value = item.get(name)
    if isinstance(value, str):
        yield {"type": "input_text", "text": value}, f"{where}.{name}"
        return
    for at, part in enumerate(fields.objects(item, name, where)):
        yield part, f"{where}.{name}[{at}]"


def _part(part: Mapping[str, Any], where: str, lost: set[str]) -> Text | Refusal | Image | File:
    if part.get("prompt_cache_breakpoint") is not None:
        lost.add("prompt_cache_breakpoint")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            if part.get("annotations"):
                lost.add("input[].annotations")
            return Text(fields.text(part, "text", where), cache=media.cache_of(part))
        case "refusal":
            return Refusal(fields.text(part, "refusal", where))
        case "input_image":
            return _image(part, where)
        case "input_file":
            return _file(part, where, lost)
        case kind:
            raise BadRequest(f"`{where}` is of the type {fields.short(kind)}, which cannot be translated.")


def _image(part: Mapping[str, Any], where: str) -> Image:
    if part.get("file_id") is not None:
        raise media.of_another_account(f"{where}.file_id")
    url = fields.required(part, "image_url", where)
    media_type, data = media.from_data_url(url, f"{where}.image_url")
    detail = fields.text(part, "detail", where)
    return Image(
        data=data,
        media_type=media_type,
        url="" if data else url,
        detail="" if detail == "auto" else detail,
        cache=media.cache_of(part),
    )


def _file(part: Mapping[str, Any], where: str, lost: set[str]) -> File:
    if part.get("file_id") is not None:
        raise media.of_another_account(f"{where}.file_id")
    if part.get("detail") not in (None, "auto"):
        lost.add("input[].detail")
    name, cache = fields.text(part, "filename", where), media.cache_of(part)
    if url := fields.text(part, "file_url", where):
        return File(url=url, name=name, cache=cache)
    media_type, data = media.from_data_url(fields.required(part, "file_data", where), f"{where}.file_data")
    if not data:
        raise fields.wrong("file_data", where, "a data URL with base64")
    return File(data, media_type, name=name, cache=cache)


def _call(item: Mapping[str, Any], where: str, signature: Signature | None) -> ToolCall:
    freeform = item["type"] == "custom_tool_call"
    name = joined(fields.text(item, "namespace", where), fields.required(item, "name", where))
    return ToolCall(
        ids.original(fields.required(item, "call_id", where)),
        name,
        fields.text(item, "input" if freeform else "arguments", where),
        signature,
        freeform=freeform,
    )


def _result(item: Mapping[str, Any], where: str, lost: set[str]) -> ToolResult:
    parts: list[Text | Image | File] = []
    for part, place in _content(item, "output", where):
        read = _part(part, place, lost)
        if isinstance(read, Refusal):
            raise BadRequest(f"`{place}` cannot stand in a result of a tool.")
        parts.append(read)
    return ToolResult(ids.original(fields.required(item, "call_id", where)), tuple(parts))
