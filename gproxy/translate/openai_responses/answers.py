"""Whole responses: read as an answer, and written for a client.

Streams of their events are in `stream_in.py` and `stream_out.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import mapping, objects
from gproxy.protocols.openai_responses import usage_of
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
from gproxy.translate.openai_responses.names import parted
from gproxy.translate.openai_responses.reasoning import item_for_client, kept_for_call, reasoning_of
from gproxy.values import Usage

Item = dict[str, Any]

_WHOLE = frozenset({"completed", "incomplete", None})
"""States of a response that is an answer; other servers than OpenAI may leave it out."""
_REASONS: dict[object, Finish] = {"max_output_tokens": "length", "content_filter": "refused"}
_INCOMPLETE: dict[Finish, str] = {"length": "max_output_tokens", "refused": "content_filter"}


def read_answer(tree: Mapping[str, Any]) -> Answer:
    """A response. Raises AnswerBroken if it is none, or one that failed or is not finished."""
    status = tree.get("status")
    if not isinstance(tree.get("output"), list) or not isinstance(status, str | None) or status not in _WHOLE:
        raise AnswerBroken("the answer holds no output, or is not finished")
    parts = tuple(part for item in objects(tree["output"]) for part in parts_of(item))
    usage = usage_of(tree.get("usage"), tree.get("service_tier"), tree.get("output"))
    return Answer(parts, finish_of(tree, parts), usage)


def parts_of(item: Mapping[str, Any]) -> Iterator[AnswerPart]:
    """What an item of the output says; nothing, for what OpenAI's own tools did."""
    match item.get("type"):
        case "message":
            for part in objects(item.get("content")):
                if refusal := string(part, "refusal"):
                    yield Refusal(refusal)
                elif text := string(part, "text"):
                    yield Text(text, citations_of(part.get("annotations")))
        case "reasoning":
            thought = reasoning_of(item)
            if thought is not None:
                yield thought
        case "function_call" | "custom_tool_call":
            yield call_of(item)


def call_of(item: Mapping[str, Any]) -> ToolCall:
    """A call, or the beginning of one."""
    freeform = item.get("type") == "custom_tool_call"
    arguments = string(item, "input" if freeform else "arguments")
    return ToolCall(string(item, "call_id"), string(item, "name"), arguments, freeform=freeform)


def string(tree: Mapping[str, Any], name: str) -> str:
    value = tree.get(name)
    return value if isinstance(value, str) else ""


def citations_of(annotations: object) -> tuple[Citation, ...]:
    """The web pages among the annotations of a text."""
    return tuple(
        Citation(url, string(found, "title"), _index(found, "start"), _index(found, "end"))
        for found in objects(annotations)
        if found.get("type") == "url_citation" and (url := string(found, "url"))
    )


def _index(cited: Mapping[str, Any], side: str) -> int:
    value = cited.get(f"{side}_index")
    return value if isinstance(value, int) else 0


def finish_of(response: Mapping[str, Any], parts: Iterable[AnswerPart]) -> Finish:
    """Why it ended, by what is said of it and by what it says."""
    if response.get("status") == "incomplete":
        reason = mapping(response.get("incomplete_details")).get("reason")
        return _REASONS.get(reason, "length") if isinstance(reason, str) else "length"
    kinds = {type(part) for part in parts}
    if Refusal in kinds:
        return "refused"
    return "tools" if ToolCall in kinds else "stop"


def write_answer(answer: Answer, client: ClientFacts) -> dict[str, Any]:
    """The response for the client."""
    output: list[Item] = []
    for part in answer.parts:
        output += items_for_client(part, client, len(output))
    refused = any(isinstance(part, Refusal) for part in answer.parts)
    return response_for_client(client, output, answer.usage, answer.finish, refused)


def items_for_client(part: AnswerPart, client: ClientFacts, at: int) -> list[Item]:
    """The item of a part, the output's one in the place `at`; a call whose signature the client must keep has one
    of reasoning in front of it."""
    match part:
        case Text():
            return [message(client, at, [text_part(part)])]
        case Refusal(text):
            return [message(client, at, [{"type": "refusal", "refusal": text}])]
        case Reasoning():
            return [item_for_client(part, item_id("rs", client, at))]
        case ToolCall():
            kept = (
                [kept_for_call(part.signature, item_id("rs", client, at))]
                if part.signature is not None
                else []
            )
            return [*kept, _call_for_client(part, client, at + len(kept))]


def _call_for_client(call: ToolCall, client: ClientFacts, at: int) -> Item:
    fields = {"call_id": call.id, **parted(call.name)}
    if call.freeform:
        own = {"id": item_id("ctc", client, at), "type": "custom_tool_call", "status": "completed"}
        return {**own, **fields, "input": call.arguments}
    own = {"id": item_id("fc", client, at), "type": "function_call", "status": "completed"}
    return {**own, **fields, "arguments": call.arguments}


def item_id(prefix: str, client: ClientFacts, at: int) -> str:
    return f"{prefix}_{client.answer_id}_{at}"


def message(client: ClientFacts, at: int, content: list[Item]) -> Item:
    """A message of the output. Each text is one of its own, so that it can be told when it is whole."""
    return {
        "id": item_id("msg", client, at),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }


def text_part(text: Text) -> Item:
    return {
        "type": "output_text",
        "text": text.text,
        "annotations": [annotation_of(citation) for citation in text.citations],
        "logprobs": [],
    }


def annotation_of(citation: Citation) -> Item:
    return {
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title,
        "start_index": citation.start,
        "end_index": citation.end,
    }


def empty_response(client: ClientFacts) -> dict[str, Any]:
    """The response before it says anything. What the client set of it is not repeated: only it has no default."""
    return {
        "id": f"resp_{client.answer_id}",
        "object": "response",
        "created_at": client.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": client.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
    }


def response_for_client(
    client: ClientFacts, output: list[Item], usage: Usage | None, finish: Finish, refused: bool
) -> dict[str, Any]:
    """The response when it is whole. `refused`: a refusal is told, which is an answer that ended well."""
    reason = None if finish == "refused" and refused else _INCOMPLETE.get(finish)
    return {
        **empty_response(client),
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": None if usage is None else usage_for_client(usage),
    }


def usage_for_client(usage: Usage) -> dict[str, Any]:
    """The `usage` object; a count that was not reported is 0 where the dialect must have one."""
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": read + written,
    }
