"""A conversation's turns as the messages of a Messages request.

Users and the assistant take turns there, the user first; results of tools are in a user's message.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import freeform, ids, media, signatures
from gproxy.translate.anthropic_messages.messages import DIALECT
from gproxy.translate.arguments import object_of
from gproxy.translate.model import (
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
from gproxy.translate.turns import merged, settled

Block = dict[str, Any]

_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_LONGEST_ID = 128
_LONGEST_NAME = 64
_PLACEHOLDER = "."
"""What a user says where one must have spoken first: a request must begin so, and not with an empty text."""


def written_system(system: Iterable[Text]) -> str | list[Block]:
    blocks = [_text(part.text) | cache_control(part.cache) for part in system if part.text.strip()]
    return blocks[0]["text"] if len(blocks) == 1 and len(blocks[0]) == 2 else blocks


def written_turns(turns: Sequence[Turn], lost: set[str]) -> list[dict[str, Any]]:
    """The messages. Raises BadRequest for what cannot be said."""
    if any(turn.role == "system" for turn in turns):
        lost.add("messages[].role")  # instructions on the way are said by the user
    sides = merged(
        (
            "assistant" if turn.role == "assistant" else "user",
            [b for part in turn.parts for b in _blocks(part, lost)],
        )
        for turn in settled(turns)
    )
    if not sides or sides[0][0] != "user":
        sides.insert(0, ("user", [_text(_PLACEHOLDER)]))
    side, blocks = sides[-1]
    if side == "assistant" and blocks[-1]["type"] == "text":
        # The beginning of an answer, which may not end in white space.
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
    return [{"role": side, "content": _plain(blocks)} for side, blocks in sides]


def _plain(blocks: Sequence[Block]) -> str | Sequence[Block]:
    """A text that stands alone as a string."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return str(blocks[0]["text"])
    return blocks


def cache_control(cache: str) -> Block:
    """The field that marks the end of what may be cached; none for ""."""
    if not cache:
        return {}
    return {"cache_control": {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}}


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _blocks(part: Part, lost: set[str]) -> list[Block]:
    """The block of a part; none for what cannot be sent, as texts of white space alone."""
    match part:
        case Text(text):
            if part.citations:
                lost.add("citations")
            return [_text(text) | cache_control(part.cache)] if text.strip() else []
        case Refusal(text):
            return [_text(text)] if text.strip() else []
        case Image() | File():
            return [_medium(part, lost)]
        case ToolCall():
            return [_call(part)]
        case ToolResult():
            return [_result(part, lost)]
        case Reasoning():
            return _reasoning(part, lost)
        case _:
            raise BadRequest("Audio cannot be translated for this model's provider.")


def _medium(part: Image | File, lost: set[str]) -> Block:
    if isinstance(part, Image):
        if part.detail:
            lost.add("detail")
        block: Block = {"type": "image", "source": _source(part)}
    elif part.media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": media.decoded_text(part.data)}
        block = {"type": "document", "source": source}
    elif part.url or part.media_type == "application/pdf":
        block = {"type": "document", "source": _source(part)}
    else:
        raise BadRequest(
            f"A file of the type {part.media_type} cannot be translated for this model's provider."
        )
    if isinstance(part, File) and part.name:
        block["title"] = part.name
    return block | cache_control(part.cache)


def _source(part: Image | File) -> Block:
    if part.url:
        return {"type": "url", "url": part.url}
    return {"type": "base64", "media_type": part.media_type, "data": part.data}


def _call(call: ToolCall) -> Block:
    return {
        "type": "tool_use",
        "id": ids.fitting(call.id, _VALID_ID, _LONGEST_ID),
        "name": ids.fitting_name(call.name, _LONGEST_NAME),
        "input": object_of(freeform.arguments_of(call)),
    } | cache_control(call.cache)


def _result(result: ToolResult, lost: set[str]) -> Block:
    block: Block = {
        "type": "tool_result",
        "tool_use_id": ids.fitting(result.call_id, _VALID_ID, _LONGEST_ID),
    }
    if content := [inner for part in result.parts for inner in _blocks(part, lost)]:
        block["content"] = _plain(content)
    if result.is_error:
        block["is_error"] = True
    return block | cache_control(result.cache)


def _reasoning(part: Reasoning, lost: set[str]) -> list[Block]:
    """Reasoning that Anthropic signed; it takes no other."""
    signature = signatures.valid_for(part.signature, DIALECT)
    if not signature:
        lost.add("reasoning")
        return []
    if part.redacted:
        return [{"type": "redacted_thinking", "data": signature}]
    return [{"type": "thinking", "thinking": part.text, "signature": signature}]
