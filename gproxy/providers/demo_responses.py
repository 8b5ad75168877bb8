"""The offline channel in OpenAI's Responses dialect.

What is said is decided in `demo_talk.py`. Nothing is stored: `previous_response_id` is accepted and unknown.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.providers.demo_openai import forced, shape
from gproxy.providers.demo_talk import (
    Prompt,
    Reply,
    Tool,
    as_map,
    count,
    latest,
    objects,
    paced,
    pieces,
    reply_to,
    text_of,
    whole,
)
from gproxy.providers.demo_wire import CREATED, Ask, DemoAnswer, json_answer, sse_answer


def responses(ask: Ask) -> DemoAnswer:
    """`POST /v1/responses`. Raises BadRequest."""
    reply = reply_to(_prompt(ask.tree), ask.model)
    if ask.stream:
        numbered = enumerate(_events(ask, reply))
        return sse_answer(((wait, e | {"sequence_number": n}) for n, (wait, e) in numbered), named=True)
    return json_answer(_response(ask, reply, done=True))


def _prompt(tree: Mapping[str, Any]) -> Prompt:
    said = tree.get("input")
    if isinstance(said, str) and said:
        items: list[Mapping[str, Any]] = [{"role": "user", "content": said}]
    elif isinstance(said, list):
        items = objects(tree, "input", required=True)
    else:
        raise BadRequest("'input' must be a non-empty string or list")
    last = items[-1]
    ended_by_tool = last.get("type") == "function_call_output"
    functions = [t for t in objects(tree, "tools") if t.get("type") == "function"]
    named = [f for f in functions if isinstance(f.get("name"), str)]
    return Prompt(
        question=text_of(latest(items, lambda i: i.get("role") == "user").get("content")),
        tokens=count(tree.get("instructions"), items, tree.get("tools")),
        tools=[Tool(t["name"], as_map(t.get("parameters"))) for t in named],
        result=text_of(last.get("output")) if ended_by_tool else None,
        forced=forced(tree.get("tool_choice")),
        shape=shape(as_map(as_map(tree.get("text")).get("format"))),
        limit=whole(tree, "max_output_tokens"),
    )


def _response(ask: Ask, reply: Reply, *, done: bool) -> dict[str, Any]:
    tree = ask.tree
    ended = "incomplete" if reply.cut else "completed"
    return {
        "id": f"resp_{ask.seed[:32]}",
        "object": "response",
        "created_at": CREATED,
        "status": ended if done else "in_progress",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if done and reply.cut else None,
        "instructions": tree.get("instructions"),
        "max_output_tokens": tree.get("max_output_tokens"),
        "model": ask.model,
        "output": [_item(ask, reply, done=True)] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": tree.get("tool_choice") or "auto",
        "tools": tree.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage(reply) if done else None,
        "metadata": {},
    }


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.total_tokens,
    }


def _item(ask: Ask, reply: Reply, *, done: bool) -> dict[str, Any]:
    status = ("incomplete" if reply.cut else "completed") if done else "in_progress"
    if reply.tool is not None:
        return {
            "id": f"fc_{ask.seed[:32]}",
            "type": "function_call",
            "status": status,
            "call_id": f"call_{ask.seed[:24]}",
            "name": reply.tool,
            "arguments": reply.arguments if done else "",
        }
    return {
        "id": f"msg_{ask.seed[:32]}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_part(reply.text)] if done else [],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _events(ask: Ask, reply: Reply) -> Iterator[tuple[float, dict[str, Any]]]:
    started = _response(ask, reply, done=False)
    yield 0.0, {"type": "response.created", "response": started}
    yield 0.0, {"type": "response.in_progress", "response": started}
    item = _item(ask, reply, done=False)
    yield 0.0, {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield from _text_events(item["id"], reply) if reply.tool is None else _call_events(item["id"], reply)
    yield 0.0, {"type": "response.output_item.done", "output_index": 0, "item": _item(ask, reply, done=True)}
    ended = _response(ask, reply, done=True)
    yield 0.0, {"type": f"response.{ended['status']}", "response": ended}


def _text_events(item_id: str, reply: Reply) -> Iterator[tuple[float, dict[str, Any]]]:
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    yield 0.0, {"type": "response.content_part.added", **place, "part": _part("")}
    for delay, bit in paced(pieces(reply.text)):
        yield delay, {"type": "response.output_text.delta", **place, "delta": bit, "logprobs": []}
    yield 0.0, {"type": "response.output_text.done", **place, "text": reply.text, "logprobs": []}
    yield 0.0, {"type": "response.content_part.done", **place, "part": _part(reply.text)}


def _call_events(item_id: str, reply: Reply) -> Iterator[tuple[float, dict[str, Any]]]:
    place = {"item_id": item_id, "output_index": 0}
    for delay, bit in paced(pieces(reply.arguments)):
        yield delay, {"type": "response.function_call_arguments.delta", **place, "delta": bit}
    yield (
        0.0,
        {
            "type": "response.function_call_arguments.done",
            **place,
            "name": reply.tool,
            "arguments": reply.arguments,
        },
    )
