"""Whole chat completions: read as an answer, and written for a client.

Streams of chunks are in `stream_in.py` and `stream_out.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import mapping, objects
from gproxy.protocols.openai_chat import usage_of
from gproxy.translate import media
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Answer,
    AnswerPart,
    Citation,
    Finish,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from gproxy.translate.openai_chat.messages import signature_of
from gproxy.translate.openai_chat.reasoning import detail_of, read_reasoning
from gproxy.values import Usage

_FINISHES: dict[str, Finish] = {
    "length": "length",
    "tool_calls": "tools",
    "function_call": "tools",
    "content_filter": "refused",
}
_REASONS: dict[Finish, str] = {"length": "length", "tools": "tool_calls", "refused": "content_filter"}


def read_answer(tree: Mapping[str, Any]) -> Answer:
    """The first choice of a completion. Raises AnswerBroken if there is none, or one that failed."""
    choice = next((choice for choice in objects(tree.get("choices"))), None)
    if choice is None or is_failed(choice):
        raise AnswerBroken("the answer holds no choice, or one that ended with an error")
    message = mapping(choice.get("message"))
    parts: list[AnswerPart] = [*read_reasoning(message), *_said(message)]
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        parts.append(Refusal(refusal))
    parts += [call_of(call) for call in objects(message.get("tool_calls"))]
    return Answer(tuple(parts), finish_of(choice.get("finish_reason"), parts), usage_of(tree.get("usage")))


def is_failed(choice: Mapping[str, Any]) -> bool:
    """Whether a choice ended with an error, as OpenRouter tells of a provider that failed on the way.

    https://openrouter.ai/docs/api/reference/errors-and-debugging
    """
    return bool(choice.get("error")) or choice.get("finish_reason") == "error"


def _said(message: Mapping[str, Any]) -> Iterator[AnswerPart]:
    content = message.get("content")
    if isinstance(content, list):  # Mistral's reasoning models answer in parts
        for part in objects(content):
            thought = part.get("type") == "thinking"
            text = media.text_within(part.get("thinking") if thought else [part])
            if text:
                yield Reasoning(text) if thought else Text(text)
    elif isinstance(content, str) and content:
        yield Text(content, citations_of(message.get("annotations")))


def call_of(call: Mapping[str, Any]) -> ToolCall:
    """A tool call of a message, or the beginning of one in a chunk."""
    call_id = call.get("id")
    kind = "custom" if call.get("type") == "custom" else "function"
    called = mapping(call.get(kind))
    name, arguments = called.get("name"), called.get("input" if kind == "custom" else "arguments")
    return ToolCall(
        call_id if isinstance(call_id, str) else "",
        name if isinstance(name, str) else "",
        arguments if isinstance(arguments, str) else "",
        signature_of(call),
        freeform=kind == "custom",
    )


def citations_of(annotations: object) -> tuple[Citation, ...]:
    """The web pages among a message's annotations, each with the characters of the content that it supports."""
    found = (mapping(item.get("url_citation")) for item in objects(annotations))
    return tuple(
        Citation(cited["url"], str(cited.get("title") or ""), _index(cited, "start"), _index(cited, "end"))
        for cited in found
        if isinstance(cited.get("url"), str)
    )


def _index(cited: Mapping[str, Any], side: str) -> int:
    value = cited.get(f"{side}_index")
    return value if isinstance(value, int) else 0


def annotation_of(citation: Citation, offset: int) -> dict[str, Any]:
    """A citation of a text that begins at `offset` of the content."""
    return {
        "type": "url_citation",
        "url_citation": {
            "url": citation.url,
            "title": citation.title,
            "start_index": offset + citation.start,
            "end_index": offset + citation.end,
        },
    }


def finish_of(reason: object, parts: list[AnswerPart]) -> Finish:
    """Why it ended; some servers say `stop` of an answer that calls tools."""
    if any(isinstance(part, Refusal) for part in parts):
        return "refused"
    found = _FINISHES.get(reason, "stop") if isinstance(reason, str) else "stop"
    return "tools" if found == "stop" and any(isinstance(p, ToolCall) for p in parts) else found


def reason_of(finish: Finish, refusal_given: bool) -> str:
    """The `finish_reason`; a refusal that is told is an answer that ended well."""
    return "stop" if refusal_given and finish == "refused" else _REASONS.get(finish, "stop")


def write_answer(answer: Answer, client: ClientFacts) -> dict[str, Any]:
    """The completion for the client."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    texts: list[str] = []
    annotations: list[dict[str, Any]] = []
    thoughts: list[Reasoning] = []
    calls: list[dict[str, Any]] = []
    for part in answer.parts:
        match part:
            case Text(text, citations):
                offset = sum(map(len, texts))
                annotations += [annotation_of(citation, offset) for citation in citations]
                texts.append(text)
            case Refusal(text):
                message["refusal"] = (message["refusal"] or "") + text
            case Reasoning():
                thoughts.append(part)
            case ToolCall():
                calls.append(call_for_client(part))
    if texts:
        message["content"] = "".join(texts)
    if annotations:
        message["annotations"] = annotations
    if calls:
        message["tool_calls"] = calls
    message |= _reasoning_fields(thoughts)
    reason = reason_of(answer.finish, message["refusal"] is not None)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    tree: dict[str, Any] = {
        "id": f"chatcmpl-{client.answer_id}",
        "object": "chat.completion",
        "created": client.created,
        "model": client.model,
        "choices": [choice],
    }
    if answer.usage is not None:
        tree["usage"] = usage_for_client(answer.usage)
    return tree


def _reasoning_fields(thoughts: list[Reasoning]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if text := "".join(part.text for part in thoughts):
        fields["reasoning_content"] = text
    if details := [detail for part in thoughts if (detail := detail_of(part)) is not None]:
        fields["reasoning_details"] = details
    return fields


def call_for_client(call: ToolCall) -> dict[str, Any]:
    if call.freeform:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    written: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None:
        written["extra_content"] = {"google": {"thought_signature": call.signature.value}}
    return written


def usage_for_client(usage: Usage) -> dict[str, Any]:
    """The `usage` object; a count that was not reported is 0 where the dialect must have one."""
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    prompt = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    details: dict[str, Any] = {
        "prompt_tokens_details": {name: count for name, count in prompt.items() if count is not None}
    }
    if usage.reasoning_tokens is not None:
        details["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        **{name: counts for name, counts in details.items() if counts},
    }
