"""One thing said in each dialect: what an upstream answers, and what it was asked, written by hand after the
providers' documentation.

It shares no code with the translation that it is held against.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DIALECTS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")


@dataclass(frozen=True, kw_only=True)
class Says:
    """An answer. `calls` are (id, name, arguments); `inside` counts the `cached` tokens, `outside` the `reasoned`.

    `finish` is "stop", "length", "tools" or "refused".
    """

    text: str = ""
    thought: str = ""
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    finish: str = "stop"
    inside: int = 211
    outside: int = 97
    cached: int = 0
    reasoned: int = 0


@dataclass(kw_only=True)
class Heard:
    """A request. `calls` are (id, name, arguments), `results` (id, text); ids are names where there are no ids."""

    model: str = ""
    system: str = ""
    user: str = ""
    images: list[tuple[str, str]] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    schema: Mapping[str, Any] | None = None
    thinks: bool = False
    stream: bool = False


def answered(dialect: str, says: Says, model: str) -> bytes:
    """The whole answer."""
    return json.dumps(_WHOLE[dialect](says, model), ensure_ascii=False).encode()


def streamed(dialect: str, says: Says, model: str) -> tuple[bytes, ...]:
    """The answer as the chunks of an SSE stream."""
    return tuple(_STREAMED[dialect](says, model))


def failure(dialect: str, status: int, kind: str, message: str) -> bytes:
    """The body of an error; `kind` is the dialect's word for it."""
    if dialect == "gemini":
        return json.dumps({"error": {"code": status, "message": message, "status": kind}}).encode()
    error = {"type": kind, "message": message}
    return json.dumps(
        {"error": error} | ({"type": "error"} if dialect == "anthropic_messages" else {})
    ).encode()


def failing(dialect: str, message: str) -> bytes:
    """The event by which a stream fails."""
    if dialect == "gemini":
        return _sse({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})
    error: dict[str, Any] = {"type": "server_error", "code": "server_error", "message": message}
    if dialect == "anthropic_messages":
        return _sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")
    if dialect == "openai_responses":
        return _sse({**error, "type": "error", "sequence_number": 5, "param": None}, "error")
    return _sse({"error": error})


def heard(dialect: str, body: bytes, path: str) -> Heard:
    """What a request said. `path` names the model where the body does not, and whether it is streamed."""
    found: Heard = _HEARD[dialect](json.loads(body))
    if dialect == "gemini":
        found.model = path.rpartition("/")[2].partition(":")[0]
        found.stream = "streamGenerateContent" in path
    return found


def _sse(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _halves(text: str) -> tuple[str, ...]:
    return tuple(half for half in (text[: len(text) // 2], text[len(text) // 2 :]) if half)


# Chat completions.

_CHAT_FINISH = {"stop": "stop", "length": "length", "tools": "tool_calls", "refused": "content_filter"}


def _chat_usage(says: Says) -> dict[str, Any]:
    return {
        "prompt_tokens": says.inside,
        "completion_tokens": says.outside,
        "total_tokens": says.inside + says.outside,
        "prompt_tokens_details": {"cached_tokens": says.cached},
        "completion_tokens_details": {"reasoning_tokens": says.reasoned},
    }


def _chat_calls(says: Says) -> list[dict[str, Any]]:
    return [
        {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for i, name, given in says.calls
    ]


def _chat(says: Says, model: str) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": says.text or None}
    if says.thought:
        message["reasoning_content"] = says.thought
    if says.calls:
        message["tool_calls"] = _chat_calls(says)
    choice = {"index": 0, "message": message, "finish_reason": _CHAT_FINISH[says.finish]}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    return head | {"choices": [choice], "usage": _chat_usage(says)}


def _chat_stream(says: Says, model: str) -> list[bytes]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _sse(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    out = [chunk({"role": "assistant", "content": ""})]
    out += [chunk({"reasoning_content": half}) for half in _halves(says.thought)]
    out += [chunk({"content": half}) for half in _halves(says.text)]
    for index, call in enumerate(_chat_calls(says)):
        arguments = call["function"]["arguments"]
        named = call | {"index": index, "function": call["function"] | {"arguments": ""}}
        out.append(chunk({"tool_calls": [named]}))
        for half in _halves(arguments):
            out.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": half}}]}))
    out.append(chunk({}, _CHAT_FINISH[says.finish]))
    out.append(_sse(head | {"choices": [], "usage": _chat_usage(says)}))
    return [*out, b"data: [DONE]\n\n"]


def _chat_heard(tree: Any) -> Heard:
    out = Heard(model=tree["model"], stream=tree.get("stream", False), thinks="reasoning_effort" in tree)
    for message in tree["messages"]:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "".join(part.get("text", "") for part in parts)
        if message["role"] in ("system", "developer"):
            out.system += text
        elif message["role"] == "user":
            out.user = text
        elif message["role"] == "tool":
            out.results.append((message["tool_call_id"], text))
        for part in parts:
            if part["type"] == "image_url":
                out.images.append(_data_uri(part["image_url"]["url"]))
        for call in message.get("tool_calls", ()):
            function = call["function"]
            out.calls.append((call["id"], function["name"], json.loads(function["arguments"])))
    out.tools = [tool["function"]["name"] for tool in tree.get("tools", ())]
    out.schema = tree.get("response_format", {}).get("json_schema", {}).get("schema")
    return out


def _data_uri(url: str) -> tuple[str, str]:
    media, _, data = url.removeprefix("data:").partition(";base64,")
    return media, data


# Responses.


def _response_items(says: Says) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if says.thought:
        summary = [{"type": "summary_text", "text": says.thought}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": summary})
    if says.text:
        part = {"type": "output_text", "text": says.text, "annotations": [], "logprobs": []}
        items.append(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        )
    for number, (i, name, given) in enumerate(says.calls):
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{number}",
                "call_id": i,
                "name": name,
                "arguments": json.dumps(given),
                "status": "completed",
            }
        )
    return items


def _response(says: Says, model: str) -> Any:
    whole = says.finish in ("stop", "tools")
    reason = {"length": "max_output_tokens", "refused": "content_filter"}.get(says.finish)
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": "completed" if whole else "incomplete",
        "incomplete_details": None if whole else {"reason": reason},
        "error": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "output": _response_items(says),
        "usage": {
            "input_tokens": says.inside,
            "input_tokens_details": {"cached_tokens": says.cached},
            "output_tokens": says.outside,
            "output_tokens_details": {"reasoning_tokens": says.reasoned},
            "total_tokens": says.inside + says.outside,
        },
    }


def _response_stream(says: Says, model: str) -> list[bytes]:
    done = _response(says, model)
    begun = done | {"status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    steps: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(done["output"]):
        steps += _item_steps(index, item)
    kind = "response.completed" if done["status"] == "completed" else "response.incomplete"
    steps.append({"type": kind, "response": done})
    return [_sse(step | {"sequence_number": n}, step["type"]) for n, step in enumerate(steps)]


def _item_steps(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    where = {"item_id": item["id"], "output_index": index}
    added, ended = "response.output_item.added", "response.output_item.done"
    steps: list[dict[str, Any]] = []
    if item["type"] == "function_call":
        steps.append({"type": added, **where, "item": item | {"arguments": "", "status": "in_progress"}})
        text, name = item["arguments"], "function_call_arguments"
        steps += [{"type": f"response.{name}.delta", **where, "delta": half} for half in _halves(text)]
        steps.append({"type": f"response.{name}.done", **where, "arguments": text})
    elif item["type"] == "reasoning":
        steps.append({"type": added, **where, "item": item | {"summary": []}})
        part, at = item["summary"][0], {**where, "summary_index": 0}
        steps.append({"type": "response.reasoning_summary_part.added", **at, "part": part | {"text": ""}})
        name = "reasoning_summary_text"
        steps += [{"type": f"response.{name}.delta", **at, "delta": half} for half in _halves(part["text"])]
        steps.append({"type": f"response.{name}.done", **at, "text": part["text"]})
        steps.append({"type": "response.reasoning_summary_part.done", **at, "part": part})
    else:
        steps.append({"type": added, **where, "item": item | {"content": [], "status": "in_progress"}})
        part, at = item["content"][0], {**where, "content_index": 0}
        steps.append({"type": "response.content_part.added", **at, "part": part | {"text": ""}})
        for half in _halves(part["text"]):
            steps.append({"type": "response.output_text.delta", **at, "delta": half, "logprobs": []})
        steps.append({"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []})
        steps.append({"type": "response.content_part.done", **at, "part": part})
    return [*steps, {"type": ended, **where, "item": item}]


def _response_heard(tree: Any) -> Heard:
    out = Heard(model=tree["model"], stream=tree.get("stream", False), system=tree.get("instructions") or "")
    out.thinks = "effort" in tree.get("reasoning", {})
    items = tree["input"]
    items = [{"role": "user", "content": items}] if isinstance(items, str) else items
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            out.calls.append((item["call_id"], item["name"], json.loads(item["arguments"])))
        elif kind == "function_call_output":
            output = item["output"]
            text = output if isinstance(output, str) else "".join(part.get("text", "") for part in output)
            out.results.append((item["call_id"], text))
        elif kind == "message":
            content = item["content"]
            parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
            text = "".join(part.get("text", "") for part in parts)
            if item["role"] in ("system", "developer"):
                out.system += text
            elif item["role"] == "user":
                out.user = text
            out.images += [_data_uri(part["image_url"]) for part in parts if part["type"] == "input_image"]
    out.tools = [tool["name"] for tool in tree.get("tools", ())]
    out.schema = tree.get("text", {}).get("format", {}).get("schema")
    return out


# Messages.

_MESSAGES_FINISH = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "refused": "refusal"}


def _blocks(says: Says) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if says.thought:
        blocks.append({"type": "thinking", "thinking": says.thought, "signature": "EqoBsigned"})
    if says.text:
        blocks.append({"type": "text", "text": says.text})
    return blocks + [
        {"type": "tool_use", "id": i, "name": name, "input": given} for i, name, given in says.calls
    ]


def _messages(says: Says, model: str) -> Any:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _blocks(says),
        "stop_reason": _MESSAGES_FINISH[says.finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": says.inside - says.cached,
            "cache_read_input_tokens": says.cached,
            "output_tokens": says.outside,
            "output_tokens_details": {"thinking_tokens": says.reasoned},
        },
    }


def _messages_stream(says: Says, model: str) -> list[bytes]:
    done = _messages(says, model)
    begun = done | {"content": [], "stop_reason": None, "usage": done["usage"] | {"output_tokens": 1}}
    steps: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(done["content"]):
        kind = block["type"]
        member = {"thinking": "thinking", "text": "text", "tool_use": "input"}[kind]
        blank = (
            block
            | {member: {} if kind == "tool_use" else ""}
            | ({"signature": ""} if kind == "thinking" else {})
        )
        steps.append({"type": "content_block_start", "index": index, "content_block": blank})
        text = json.dumps(block["input"]) if kind == "tool_use" else block[member]
        delta, name = {
            "thinking": ("thinking_delta", "thinking"),
            "text": ("text_delta", "text"),
            "tool_use": ("input_json_delta", "partial_json"),
        }[kind]
        deltas = [{"type": delta, name: half} for half in _halves(text)]
        if kind == "thinking":
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        steps += [{"type": "content_block_delta", "index": index, "delta": each} for each in deltas]
        steps.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": done["stop_reason"], "stop_sequence": None}
    steps.append({"type": "message_delta", "delta": ended, "usage": done["usage"]})
    steps.append({"type": "message_stop"})
    return [_sse(step, step["type"]) for step in steps]


def _messages_heard(tree: Any) -> Heard:
    out = Heard(model=tree["model"], stream=tree.get("stream", False))
    system = tree.get("system", "")
    out.system = system if isinstance(system, str) else "".join(block["text"] for block in system)
    out.thinks = tree.get("thinking", {}).get("type") in ("enabled", "adaptive")
    for message in tree["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "user" and (said := "".join(b.get("text", "") for b in blocks)):
            out.user = said
        for block in blocks:
            if block["type"] == "image":
                out.images.append((block["source"]["media_type"], block["source"]["data"]))
            elif block["type"] == "tool_use":
                out.calls.append((block["id"], block["name"], block["input"]))
            elif block["type"] == "tool_result":
                inner = block["content"]
                text = inner if isinstance(inner, str) else "".join(part["text"] for part in inner)
                out.results.append((block["tool_use_id"], text))
    out.tools = [tool["name"] for tool in tree.get("tools", ())]
    out.schema = tree.get("output_config", {}).get("format", {}).get("schema")
    return out


# Gemini.

_GEMINI_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tools": "STOP", "refused": "SAFETY"}


def _gemini_parts(says: Says) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": says.thought, "thought": True}] if says.thought else []
    parts += [{"text": says.text}] if says.text else []
    return parts + [{"functionCall": {"name": name, "args": given}} for _, name, given in says.calls]


def _gemini_chunk(says: Says, model: str, parts: list[dict[str, Any]], *, last: bool) -> Any:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    tree: dict[str, Any] = {"candidates": [candidate], "modelVersion": model, "responseId": "r1"}
    if last:
        candidate["finishReason"] = _GEMINI_FINISH[says.finish]
        tree["usageMetadata"] = {
            "promptTokenCount": says.inside,
            "cachedContentTokenCount": says.cached,
            "candidatesTokenCount": says.outside - says.reasoned,
            "thoughtsTokenCount": says.reasoned,
            "totalTokenCount": says.inside + says.outside,
        }
    return tree


def _gemini(says: Says, model: str) -> Any:
    return _gemini_chunk(says, model, _gemini_parts(says), last=True)


def _gemini_stream(says: Says, model: str) -> list[bytes]:
    pieces: list[dict[str, Any]] = []
    for part in _gemini_parts(says):
        pieces += [part | {"text": half} for half in _halves(part["text"])] if "text" in part else [part]
    ends = [False] * (len(pieces) - 1) + [True]
    return [
        _sse(_gemini_chunk(says, model, [part], last=last)) for part, last in zip(pieces, ends, strict=True)
    ]


def _gemini_heard(tree: Any) -> Heard:
    out = Heard()
    out.system = "".join(part["text"] for part in tree.get("systemInstruction", {}).get("parts", ()))
    for content in tree["contents"]:
        for part in content["parts"]:
            if "inlineData" in part:
                out.images.append((part["inlineData"]["mimeType"], part["inlineData"]["data"]))
            elif "functionCall" in part:
                call = part["functionCall"]
                out.calls.append((call["name"], call["name"], call["args"]))
            elif "functionResponse" in part:
                response = part["functionResponse"]
                out.results.append((response["name"], next(iter(response["response"].values()))))
            elif content.get("role", "user") == "user":
                out.user = part["text"]
    out.tools = [f["name"] for tool in tree.get("tools", ()) for f in tool["functionDeclarations"]]
    config = tree.get("generationConfig", {})
    out.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    thinking = config.get("thinkingConfig", {})
    out.thinks = bool(thinking.get("thinkingBudget") or thinking.get("thinkingLevel"))
    return out


_WHOLE = {
    "openai_chat": _chat,
    "openai_responses": _response,
    "anthropic_messages": _messages,
    "gemini": _gemini,
}
_STREAMED = {
    "openai_chat": _chat_stream,
    "openai_responses": _response_stream,
    "anthropic_messages": _messages_stream,
    "gemini": _gemini_stream,
}
_HEARD = {
    "openai_chat": _chat_heard,
    "openai_responses": _response_heard,
    "anthropic_messages": _messages_heard,
    "gemini": _gemini_heard,
}
