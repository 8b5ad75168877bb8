"""Whole messages: read as an answer, and written for a client.

Streams of their events are in `stream_in.py` and `stream_out.py`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import objects
from gproxy.protocols.anthropic_messages import updated
from gproxy.translate import signatures
from gproxy.translate.anthropic_messages.messages import DIALECT
from gproxy.translate.arguments import object_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Answer,
    AnswerPart,
    Citation,
    Finish,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from gproxy.values import Usage

_FINISHES: dict[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tools",
    "refusal": "refused",
}
_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tools": "tool_use",
    "refused": "refusal",
}


def read_answer(tree: Mapping[str, Any]) -> Answer:
    """A message. Raises AnswerBroken if it is none."""
    if not isinstance(tree.get("content"), list):
        raise AnswerBroken("the answer holds no content")
    parts = tuple(part for block in objects(tree["content"]) if (part := part_of(block)) is not None)
    stop_sequence = tree.get("stop_sequence")
    return Answer(
        parts,
        finish_of(tree.get("stop_reason")),
        updated(None, tree.get("usage")),
        stop_sequence if isinstance(stop_sequence, str) else "",
    )


def part_of(block: Mapping[str, Any]) -> AnswerPart | None:
    """A block of an answer, or the beginning of one; None for what only Anthropic's own tools make."""
    match block.get("type"):
        case "text":
            text = string(block, "text")
            return Text(text, citations_of(block.get("citations"), len(text)))
        case "thinking":
            return Reasoning(string(block, "thinking"), signature_of(string(block, "signature")))
        case "redacted_thinking":
            return Reasoning("", signature_of(string(block, "data")), redacted=True)
        case "tool_use":
            given = block.get("input")
            arguments = msgspec.json.encode(given).decode() if given else "{}"
            return ToolCall(string(block, "id"), string(block, "name"), arguments)
    return None


def string(block: Mapping[str, Any], name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""


def signature_of(value: str) -> Signature | None:
    """The signature of an answer's reasoning: it is always the dialect's own, also where gproxy is the upstream."""
    return Signature(value, DIALECT) if value and value != signatures.OF_NOBODY else None


def citations_of(found: object, length: int) -> tuple[Citation, ...]:
    """The web pages that a block of text of that length is taken from: all of it."""
    return tuple(
        Citation(url, string(cited, "title"), 0, length, string(cited, "cited_text"))
        for cited in objects(found)
        if (url := string(cited, "url"))
    )


def finish_of(reason: object) -> Finish:
    return _FINISHES.get(reason, "stop") if isinstance(reason, str) else "stop"


def reason_of(finish: Finish) -> str:
    return _REASONS[finish]


def write_answer(answer: Answer, client: ClientFacts) -> dict[str, Any]:
    """The message for the client."""
    return {
        **empty_message(client),
        "content": [block for part in answer.parts for block in blocks_for_client(part)],
        "stop_reason": reason_of(answer.finish),
        "stop_sequence": answer.stop_sequence or None,
        "usage": usage_for_client(answer.usage or Usage()),
    }


def empty_message(client: ClientFacts) -> dict[str, Any]:
    """The message before it says anything, as a stream begins."""
    return {
        "id": f"msg_{client.answer_id}",
        "type": "message",
        "role": "assistant",
        "model": client.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_for_client(Usage()),
    }


def blocks_for_client(part: AnswerPart) -> list[dict[str, Any]]:
    """The block of a part; a call whose signature the client must keep has a thought in front of it."""
    match part:
        case Text(text, citations):
            block: dict[str, Any] = {"type": "text", "text": text}
            return [block | ({"citations": [citation_for_client(c) for c in citations]} if citations else {})]
        case Refusal(text):
            return [{"type": "text", "text": text}]
        case Reasoning(text, signature, redacted):
            worn = signatures.worn(signature, DIALECT)
            if redacted:
                return [{"type": "redacted_thinking", "data": worn}]
            return [{"type": "thinking", "thinking": text, "signature": worn or signatures.OF_NOBODY}]
        case ToolCall():
            called = {
                "type": "tool_use",
                "id": part.id,
                "name": part.name,
                "input": object_of(part.arguments),
            }
            return [*thought_before(part), called]


def thought_before(call: ToolCall) -> list[dict[str, Any]]:
    """The block that keeps the signature of a call; none without one."""
    if call.signature is None:
        return []
    return [{"type": "thinking", "thinking": "", "signature": signatures.worn_by_call(call.signature)}]


def citation_for_client(citation: Citation) -> dict[str, Any]:
    """A web page as what Anthropic's own search would have found; `encrypted_index` is of use to that alone."""
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": citation.quote,
        "encrypted_index": "",
    }


def usage_for_client(usage: Usage) -> dict[str, Any]:
    """The `usage` object, whose input leaves the cache out."""
    cached, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    counts: dict[str, Any] = {
        "input_tokens": max(0, (usage.input_tokens or 0) - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts
