"""The offline channel in Anthropic's Messages dialect. What is said is decided in `demo_talk.py`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.providers.demo_talk import (
    Prompt,
    Reply,
    Tool,
    as_list,
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
from gproxy.providers.demo_wire import Ask, DemoAnswer, json_answer, sse_answer


def messages(ask: Ask) -> DemoAnswer:
    """`POST /v1/messages`. Raises BadRequest."""
    if whole(ask.tree, "max_tokens") is None:
        raise BadRequest("'max_tokens' is required")
    reply = reply_to(_prompt(ask.tree), ask.model)
    if ask.stream:
        return sse_answer(_events(ask, reply), named=True)
    block = _block(ask, reply) | (
        {"text": reply.text} if reply.tool is None else {"input": json.loads(reply.arguments)}
    )
    return json_answer(_message(ask, [block], _stop(reply), _usage(reply, reply.output_tokens)))


def count_tokens(ask: Ask) -> DemoAnswer:
    """`POST /v1/messages/count_tokens`. Raises BadRequest."""
    return json_answer({"input_tokens": _prompt(ask.tree).tokens})


def _prompt(tree: Mapping[str, Any]) -> Prompt:
    turns = objects(tree, "messages", required=True)
    results = _blocks(turns[-1], "tool_result")
    asked = latest(turns, lambda t: t.get("role") == "user" and not _blocks(t, "tool_result"))
    return Prompt(
        question=text_of(asked.get("content")),
        tokens=count(tree.get("system"), turns, tree.get("tools")),
        tools=[
            Tool(t["name"], as_map(t.get("input_schema")))
            for t in objects(tree, "tools")
            if isinstance(t.get("name"), str) and isinstance(t.get("input_schema"), Mapping)
        ],
        result="\n".join(text_of(block.get("content")) for block in results) if results else None,
        forced=_forced(as_map(tree.get("tool_choice"))),
        shape=_shape(tree),
        limit=whole(tree, "max_tokens"),
    )


def _blocks(turn: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [b for b in as_list(turn.get("content")) if isinstance(b, Mapping) and b.get("type") == kind]


def _forced(choice: Mapping[str, Any]) -> str | None:
    name = choice.get("name")
    if choice.get("type") == "tool":
        return name if isinstance(name, str) else "*"
    return {"none": "", "any": "*"}.get(str(choice.get("type")))


def _shape(tree: Mapping[str, Any]) -> Mapping[str, Any] | None:
    form = as_map(tree.get("output_format") or as_map(tree.get("output_config")).get("format"))
    return as_map(form.get("schema")) if form.get("type") == "json_schema" else None


def _message(ask: Ask, content: list[object], stop: str | None, usage: object) -> dict[str, Any]:
    return {
        "id": f"msg_{ask.seed[:24]}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def _block(ask: Ask, reply: Reply) -> dict[str, Any]:
    """The one content block as it starts: without its text, or its tool's arguments."""
    if reply.tool is None:
        return {"type": "text", "text": ""}
    return {"type": "tool_use", "id": f"toolu_{ask.seed[:24]}", "name": reply.tool, "input": {}}


def _stop(reply: Reply) -> str:
    if reply.tool is not None:
        return "tool_use"
    return "max_tokens" if reply.cut else "end_turn"


def _usage(reply: Reply, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }


def _events(ask: Ask, reply: Reply) -> Iterator[tuple[float, object]]:
    yield 0.0, {"type": "message_start", "message": _message(ask, [], None, _usage(reply, 1))}
    yield 0.0, {"type": "content_block_start", "index": 0, "content_block": _block(ask, reply)}
    yield 0.0, {"type": "ping"}
    kind, name = ("text_delta", "text") if reply.tool is None else ("input_json_delta", "partial_json")
    for delay, bit in paced(pieces(reply.text if reply.tool is None else reply.arguments)):
        yield delay, {"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: bit}}
    yield 0.0, {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": _stop(reply), "stop_sequence": None}
    yield 0.0, {"type": "message_delta", "delta": ended, "usage": _usage(reply, reply.output_tokens)}
    yield 0.0, {"type": "message_stop"}
