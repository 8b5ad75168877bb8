"""The offline channel in OpenAI's chat and completions dialects.

What is said is decided in `demo_talk.py`; the Responses dialect is in `demo_responses.py`.
"""

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
from gproxy.providers.demo_wire import CREATED, Ask, DemoAnswer, json_answer, sse_answer

ANY_JSON = {"type": "object", "properties": {"answer": {"type": "string"}}}
"""The shape of a request for JSON without a schema."""

_DONE = b"data: [DONE]\n\n"


def chat_completions(ask: Ask) -> DemoAnswer:
    """`POST /v1/chat/completions`. Raises BadRequest."""
    reply = reply_to(_chat_prompt(ask.tree), ask.model)
    if ask.stream:
        return sse_answer(_chat_events(ask, reply), end=_DONE)
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.tool is not None:
        message["tool_calls"] = [_call(ask, reply.tool, reply.arguments)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    return json_answer(_head(ask, "chat.completion") | {"choices": [choice], "usage": usage(reply)})


def _chat_prompt(tree: Mapping[str, Any]) -> Prompt:
    messages = objects(tree, "messages", required=True)
    last = messages[-1]
    ended_by_tool = last.get("role") in ("tool", "function")
    functions = [as_map(tool.get("function")) for tool in objects(tree, "tools")]
    named = [f for f in functions if isinstance(f.get("name"), str)]
    return Prompt(
        question=text_of(latest(messages, lambda m: m.get("role") == "user").get("content")),
        tokens=count(messages, tree.get("tools")),
        tools=[Tool(f["name"], as_map(f.get("parameters"))) for f in named],
        result=text_of(last.get("content")) if ended_by_tool else None,
        forced=forced(tree.get("tool_choice")),
        shape=shape(as_map(tree.get("response_format"))),
        limit=whole(tree, "max_completion_tokens") or whole(tree, "max_tokens"),
    )


def forced(choice: Any) -> str | None:
    """`Prompt.forced` for a `tool_choice` of the chat or the Responses dialect."""
    if isinstance(choice, Mapping):
        name = choice.get("name") or as_map(choice.get("function")).get("name")
        return name if isinstance(name, str) else "*"
    return {"none": "", "required": "*"}.get(choice) if isinstance(choice, str) else None


def shape(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`Prompt.shape` for a `response_format`, or for the `text.format` of the Responses dialect."""
    if form.get("type") == "json_schema":
        return as_map(form.get("schema") or as_map(form.get("json_schema")).get("schema"))
    return ANY_JSON if form.get("type") == "json_object" else None


def _head(ask: Ask, kind: str) -> dict[str, Any]:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {"id": f"{prefix}-{ask.seed[:24]}", "object": kind, "created": CREATED, "model": ask.model}


def _call(ask: Ask, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{ask.seed[:24]}", "type": "function", "function": function}


def _finish(reply: Reply) -> str:
    if reply.tool is not None:
        return "tool_calls"
    return "length" if reply.cut else "stop"


def usage(reply: Reply) -> dict[str, Any]:
    """The usage of the chat and completions dialects."""
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.total_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _wants_usage(tree: Mapping[str, Any]) -> bool:
    return as_map(tree.get("stream_options")).get("include_usage") is True


def _chat_events(ask: Ask, reply: Reply) -> Iterator[tuple[float, object]]:
    head = _head(ask, "chat.completion.chunk")
    wanted = _wants_usage(ask.tree)

    def chunk(delta: object, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return head | {"choices": [choice]} | ({"usage": None} if wanted else {})

    if reply.tool is None:
        yield 0.0, chunk({"role": "assistant", "content": "", "refusal": None})
        for delay, bit in paced(pieces(reply.text)):
            yield delay, chunk({"content": bit})
    else:
        call = {"index": 0, **_call(ask, reply.tool, "")}
        yield 0.0, chunk({"role": "assistant", "content": None, "tool_calls": [call]})
        for delay, bit in paced(pieces(reply.arguments)):
            yield delay, chunk({"tool_calls": [{"index": 0, "function": {"arguments": bit}}]})
    yield 0.0, chunk({}, _finish(reply))
    if wanted:
        yield 0.0, head | {"choices": [], "usage": usage(reply)}


def completions(ask: Ask) -> DemoAnswer:
    """`POST /v1/completions`, one choice for each prompt. Raises BadRequest."""
    limit = whole(ask.tree, "max_tokens")
    prompts = [Prompt(question=text, tokens=n, limit=limit) for text, n in inputs(ask.tree, "prompt")]
    replies = [reply_to(prompt, ask.model) for prompt in prompts]
    total = Reply(
        input_tokens=sum(r.input_tokens for r in replies), output_tokens=sum(r.output_tokens for r in replies)
    )
    head = _head(ask, "text_completion")
    if ask.stream:
        return sse_answer(_completion_events(ask, head, replies, total), end=_DONE)
    choices = [_choice(number, reply.text, _finish(reply)) for number, reply in enumerate(replies)]
    return json_answer(head | {"choices": choices, "usage": usage(total)})


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _completion_events(
    ask: Ask, head: dict[str, Any], replies: list[Reply], total: Reply
) -> Iterator[tuple[float, object]]:
    wanted = _wants_usage(ask.tree)
    extra = {"usage": None} if wanted else {}
    for number, reply in enumerate(replies):
        for delay, bit in paced(pieces(reply.text)):
            yield delay, head | {"choices": [_choice(number, bit, None)]} | extra
        yield 0.0, head | {"choices": [_choice(number, "", _finish(reply))]} | extra
    if wanted:
        yield 0.0, head | {"choices": [], "usage": usage(total)}


def inputs(tree: Mapping[str, Any], name: str) -> list[tuple[str, int]]:
    """The text and the tokens of `tree[name]`: a string, a list of tokens, or a list of either.

    A list of tokens has its numbers for text. Raises BadRequest.
    """
    value = tree.get(name)
    if isinstance(value, str):
        return [(value, count(value))]
    items = as_list(value)
    if items and all(_is_token(item) for item in items):
        items = [items]
    if not items:
        raise BadRequest(f"'{name}' must be a non-empty string or list")
    return [_input(item, name) for item in items]


def _is_token(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _input(item: Any, name: str) -> tuple[str, int]:
    if isinstance(item, str):
        return item, count(item)
    if isinstance(item, list) and item and all(_is_token(token) for token in item):
        return " ".join(map(str, item)), len(item)
    raise BadRequest(f"'{name}' must hold strings, or lists of tokens, only")
