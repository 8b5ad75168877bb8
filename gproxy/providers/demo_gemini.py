"""The offline channel in Gemini's dialect. What is said is decided in `demo_talk.py`.

Like the real one it takes names in camel case and in snake case.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.providers.demo_media import vector
from gproxy.providers.demo_openai import ANY_JSON
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
from gproxy.providers.demo_wire import Ask, DemoAnswer, encode, json_answer, sse_answer

_DIMENSIONS = 256
_MOST_DIMENSIONS = 3072
_HUMP = re.compile(r"[A-Z]")


def generate_content(ask: Ask) -> DemoAnswer:
    """`:generateContent`. Raises BadRequest."""
    reply = reply_to(_prompt(ask.tree), ask.model)
    return json_answer(_answer(ask, [_part(reply)], _finish(reply), _usage(reply, reply.output_tokens)))


def stream_generate_content(ask: Ask) -> DemoAnswer:
    """`:streamGenerateContent`: SSE, or one growing JSON array. Raises BadRequest."""
    events = list(_events(ask, reply_to(_prompt(ask.tree), ask.model)))
    if ask.sse:
        return sse_answer(events)
    chunks = [
        (delay, (b",\r\n" if number else b"[") + encode(value))
        for number, (delay, value) in enumerate(events)
    ]
    return DemoAnswer(200, "application/json; charset=UTF-8", (*chunks, (0.0, b"]\n")))


def count_tokens(ask: Ask) -> DemoAnswer:
    """`:countTokens`, of `contents` or of a whole `generateContentRequest`. Raises BadRequest."""
    inner = _get(ask.tree, "generateContentRequest")
    total = _prompt(inner if isinstance(inner, Mapping) else ask.tree).tokens
    details = [{"modality": "TEXT", "tokenCount": total}]
    return json_answer({"totalTokens": total, "promptTokensDetails": details})


def embed_content(ask: Ask) -> DemoAnswer:
    """`:embedContent`. Raises BadRequest."""
    return json_answer({"embedding": _embedding(ask.tree)})


def batch_embed_contents(ask: Ask) -> DemoAnswer:
    """`:batchEmbedContents`. Raises BadRequest."""
    requests = objects(ask.tree, "requests", required=True)
    return json_answer({"embeddings": [_embedding(request) for request in requests]})


def _embedding(tree: Mapping[str, Any]) -> dict[str, Any]:
    content = tree.get("content")
    if not isinstance(content, Mapping):
        raise BadRequest("'content' must be an object with 'parts'")
    config = {"outputDimensionality": _get(tree, "outputDimensionality")}
    size = whole(config, "outputDimensionality", high=_MOST_DIMENSIONS) or _DIMENSIONS
    return {"values": vector(text_of(content), size)}


def _get(tree: Mapping[str, Any], name: str) -> Any:
    """`tree[name]` under its camel-case name or its snake-case one."""
    return tree[name] if name in tree else tree.get(_HUMP.sub(lambda hump: "_" + hump[0].lower(), name))


def _prompt(tree: Mapping[str, Any]) -> Prompt:
    contents = objects(tree, "contents", required=True)
    results = _functions(contents[-1], "functionResponse")
    asked = latest(
        contents, lambda c: c.get("role") in ("user", None) and not _functions(c, "functionResponse")
    )
    config = as_map(_get(tree, "generationConfig"))
    limit = {"maxOutputTokens": _get(config, "maxOutputTokens")}
    return Prompt(
        question=text_of(asked),
        tokens=count(_get(tree, "systemInstruction"), contents, tree.get("tools")),
        tools=_tools(tree),
        result=json.dumps(as_map(results[-1].get("response")), ensure_ascii=False) if results else None,
        forced=_forced(tree),
        shape=_shape(config),
        limit=whole(limit, "maxOutputTokens"),
    )


def _functions(content: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = [_get(part, name) for part in as_list(content.get("parts")) if isinstance(part, Mapping)]
    return [item for item in found if isinstance(item, Mapping)]


def _tools(tree: Mapping[str, Any]) -> list[Tool]:
    declared = [d for t in objects(tree, "tools") for d in as_list(_get(t, "functionDeclarations"))]
    return [
        Tool(d["name"], as_map(d.get("parameters") or _get(d, "parametersJsonSchema")))
        for d in declared
        if isinstance(d, Mapping) and isinstance(d.get("name"), str)
    ]


def _forced(tree: Mapping[str, Any]) -> str | None:
    config = as_map(_get(as_map(_get(tree, "toolConfig")), "functionCallingConfig"))
    if config.get("mode") == "ANY":
        names = [n for n in as_list(_get(config, "allowedFunctionNames")) if isinstance(n, str)]
        return names[0] if names else "*"
    return "" if config.get("mode") == "NONE" else None


def _shape(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if _get(config, "responseMimeType") != "application/json":
        return None
    schema = _get(config, "responseSchema") or _get(config, "responseJsonSchema")
    return as_map(schema) or ANY_JSON


def _part(reply: Reply) -> dict[str, Any]:
    if reply.tool is None:
        return {"text": reply.text}
    return {"functionCall": {"name": reply.tool, "args": json.loads(reply.arguments)}}


def _finish(reply: Reply) -> str:
    return "MAX_TOKENS" if reply.cut else "STOP"


def _usage(reply: Reply, output_tokens: int) -> dict[str, Any]:
    return {
        "promptTokenCount": reply.input_tokens,
        "candidatesTokenCount": output_tokens,
        "totalTokenCount": reply.input_tokens + output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input_tokens}],
    }


def _answer(ask: Ask, parts: list[object], finish: str | None, usage: object) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": ask.model,
        "responseId": ask.seed[:22],
    }


def _events(ask: Ask, reply: Reply) -> Iterator[tuple[float, object]]:
    """One answer per piece, with the usage so far; the last one holds the finish reason."""
    if reply.tool is not None:
        yield 0.06, _answer(ask, [_part(reply)], _finish(reply), _usage(reply, reply.output_tokens))
        return
    bits = pieces(reply.text)
    sent = 0
    for number, (delay, bit) in enumerate(paced(bits), 1):
        sent += len(bit)
        last = number == len(bits)
        so_far = reply.output_tokens if last else -(-sent // 4)
        yield delay, _answer(ask, [{"text": bit}], _finish(reply) if last else None, _usage(reply, so_far))
