"""The messages of a client's Messages request as turns.

What else stands in the request is read in `read.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields, ids, media, signatures
from gproxy.translate.arguments import text_of
from gproxy.translate.model import (
    File,
    Image,
    Part,
    Reasoning,
    Role,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)

DIALECT = "anthropic_messages"

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_OF_SERVER_TOOLS = ("server_tool_use", "_tool_result")


def read_messages(messages: list[Mapping[str, Any]], lost: set[str]) -> tuple[Turn, ...]:
    """The messages as turns: results of tools, which stand in a user's message, are a turn of their own."""
    turns: list[Turn] = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        role = _ROLES.get(fields.text(message, "role", where))
        if role is None:
            raise fields.wrong("role", where, "user or assistant")
        parts = list(_parts(message, where, lost))
        results = tuple(part for part in parts if isinstance(part, ToolResult))
        others = tuple(part for part in parts if not isinstance(part, ToolResult))
        if results and role != "user":
            raise BadRequest(f"`{where}` holds a tool's result, which only a user's message can.")
        if results:
            turns.append(Turn("tool", results))
        if others or not results:
            turns.append(Turn(role, others))
    if turns[-1].role == "assistant" and any(isinstance(part, Text) for part in turns[-1].parts):
        lost.add("prefill")  # others do not go on with the beginning of an answer: they answer anew
    return tuple(turns)


def read_texts(tree: Mapping[str, Any], name: str, where: str, lost: set[str]) -> tuple[Text, ...]:
    """The texts under `name`: a string, or blocks of text. Raises BadRequest for other blocks."""
    value = tree.get(name)
    if isinstance(value, str):
        return (Text(value),) if value else ()
    return tuple(
        _text(block, f"{fields.place(name, where)}[{at}]", lost)
        for at, block in enumerate(fields.objects(tree, name, where))
    )


def _parts(message: Mapping[str, Any], where: str, lost: set[str]) -> Iterator[Part]:
    content = message.get("content")
    if isinstance(content, str):
        yield Text(content)
        return
    if content is None:
        raise fields.wrong("content", where, "a string or an array of blocks")
    signed: Signature | None = None  # by the call that follows
    for at, block in enumerate(fields.objects(message, "content", where)):
        place = f"{where}.content[{at}]"
        if block.get("type") == "thinking":
            own = signatures.of_call(fields.text(block, "signature", place))
            if own is not None:
                signed = own
                continue
        for part in _block(block, place, lost):
            if isinstance(part, ToolCall) and signed is not None:
                part, signed = replace(part, signature=signed), None
            yield part


def _block(block: Mapping[str, Any], where: str, lost: set[str]) -> Iterator[Part]:
    kind = fields.text(block, "type", where)
    match kind:
        case "text":
            yield _text(block, where, lost)
        case "image":
            yield _image(block, where)
        case "document":
            yield from _document(block, where, lost)
        case "search_result":
            yield from _search_result(block, where, lost)
        case "tool_use":
            yield _call(block, where)
        case "tool_result":
            yield _result(block, where, lost)
        case "thinking":
            signature = signatures.from_client(fields.text(block, "signature", where), DIALECT)
            yield Reasoning(fields.text(block, "thinking", where), signature)
        case "redacted_thinking":
            signature = signatures.from_client(fields.required(block, "data", where), DIALECT)
            yield Reasoning("", signature, redacted=True)
        case _ if kind.endswith(_OF_SERVER_TOOLS):
            lost.add(f"messages[].{kind}")
        case _:
            raise BadRequest(
                f"`{where}` is a block of the type {fields.short(kind)}, which cannot be translated."
            )


def _text(block: Mapping[str, Any], where: str, lost: set[str]) -> Text:
    if block.get("type") != "text":
        raise BadRequest(f"`{where}` must be a block of text.")
    if block.get("citations"):
        lost.add("messages[].citations")
    return Text(fields.text(block, "text", where), cache=media.cache_of(block))


def _image(block: Mapping[str, Any], where: str) -> Image:
    source = fields.an_object(block, "source", where)
    within = f"{where}.source"
    cache = media.cache_of(block)
    match source.get("type"):
        case "base64":
            data = fields.required(source, "data", within)
            return Image(data, fields.required(source, "media_type", within), cache=cache)
        case "url":
            return Image(url=fields.required(source, "url", within), cache=cache)
        case "file":
            raise media.of_another_account(f"{within}.file_id")
    raise fields.wrong("type", within, "base64 or url")


def _document(block: Mapping[str, Any], where: str, lost: set[str]) -> Iterator[Part]:
    source = fields.an_object(block, "source", where)
    within = f"{where}.source"
    name, cache = fields.text(block, "title", where), media.cache_of(block)
    if fields.an_object(block, "citations", where).get("enabled"):
        lost.add("messages[].citations")
    if block.get("context"):
        lost.add("messages[].context")
    match source.get("type"):
        case "base64":
            data = fields.required(source, "data", within)
            yield File(data, fields.required(source, "media_type", within), name=name, cache=cache)
        case "text":
            text = media.encoded_text(fields.text(source, "data", within))
            yield File(text, "text/plain", name=name, cache=cache)
        case "url":
            yield File(url=fields.required(source, "url", within), name=name, cache=cache)
        case "content":
            yield from _inner(source, within, lost)
        case "file":
            raise media.of_another_account(f"{within}.file_id")
        case _:
            raise fields.wrong("type", within, "base64, text, url or content")


def _search_result(block: Mapping[str, Any], where: str, lost: set[str]) -> Iterator[Text]:
    """A client's own search result: its source and title as text, and what was found."""
    heading = f"{fields.text(block, 'title', where)} ({fields.text(block, 'source', where)})"
    yield Text(heading)
    yield from read_texts(block, "content", where, lost)


def _inner(tree: Mapping[str, Any], where: str, lost: set[str]) -> Iterator[Text | Image | File]:
    """What stands inside a result or a document."""
    content = tree.get("content")
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    for at, block in enumerate(fields.objects(tree, "content", where)):
        place = f"{where}.content[{at}]"
        if block.get("type") == "tool_reference":
            yield Text(fields.text(block, "tool_name", place))
            continue
        for part in _block(block, place, lost):
            if not isinstance(part, Text | Image | File):
                raise BadRequest(f"`{place}` cannot stand inside a result or a document.")
            yield part


def _call(block: Mapping[str, Any], where: str) -> ToolCall:
    arguments = text_of(fields.an_object(block, "input", where))
    call_id = ids.original(fields.required(block, "id", where))
    return ToolCall(call_id, fields.required(block, "name", where), arguments, cache=media.cache_of(block))


def _result(block: Mapping[str, Any], where: str, lost: set[str]) -> ToolResult:
    return ToolResult(
        ids.original(fields.required(block, "tool_use_id", where)),
        tuple(_inner(block, where, lost)),
        bool(fields.flag(block, "is_error", where)),
        media.cache_of(block),
    )
