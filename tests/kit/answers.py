"""What a well-behaved provider answers to each operation, with usage figures drawn anew for every request.

How an answer is sent, broken or delayed is `upstream.py`'s. Written after the providers' documentation.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

TOOL_ARGUMENTS = '{"model": "inner-model", "city": "Oslo"}'
"""Arguments of every tool call: the key `model` in them is nobody's business."""

TEXT = 'Say "model": "gpt" — straße, 雪.'
"""The text of every answer; it looks like a model name to anyone who searches bytes."""


@dataclass(frozen=True)
class Told:
    """What the ledger must show for what an answer reported; None: not reported (the row holds null or 0)."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None

    def differs_from(self, row: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Column -> (told, in the row), for every column that is not what was told."""
        found = {f.name: (getattr(self, f.name), row[f.name]) for f in fields(self)}
        wrong = {k: pair for k, pair in found.items() if (pair[0] or 0) != (pair[1] or 0)}
        total = (self.input_tokens or 0) + (self.output_tokens or 0)
        if (row["total_tokens"] or 0) != total:
            wrong["total_tokens"] = (total, row["total_tokens"])
        return wrong


@dataclass(frozen=True)
class Ask:
    """One request as the answers see it: `uid` goes into the answer, `usage` is drawn from `rng`."""

    uid: str
    model: str
    body: Mapping[str, Any]
    query: str
    rng: random.Random

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


@dataclass(frozen=True)
class Answer:
    """A body (one chunk) or a stream (a chunk for each event), and what it says of usage."""

    chunks: tuple[bytes, ...]
    told: Told = Told()
    content_type: str = "application/json"


Say = Callable[[Ask], Answer]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _sse(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + (value if isinstance(value, bytes) else _json(value)) + b"\n\n"


def _events(*chunks: bytes, told: Told) -> Answer:
    return Answer(chunks, told, "text/event-stream; charset=utf-8")


def _openai_usage(ask: Ask, prompt: str, completion: str) -> tuple[dict[str, Any], Told]:
    """Usage in the names of chat (`prompt`, `completion`) or responses (`input`, `output`)."""
    inside, outside = ask.rng.randint(10, 9000), ask.rng.randint(1, 4000)
    usage: dict[str, Any] = {
        f"{prompt}_tokens": inside,
        f"{completion}_tokens": outside,
        "total_tokens": inside + outside,
    }
    if ask.rng.random() < 0.3:
        return usage, Told(inside, outside)
    cached, thought = ask.rng.randint(0, inside), ask.rng.randint(0, outside)
    usage[f"{prompt}_tokens_details"] = {"cached_tokens": cached}
    usage[f"{completion}_tokens_details"] = {"reasoning_tokens": thought}
    return usage, Told(inside, outside, cache_read_tokens=cached, reasoning_tokens=thought)


def chat(ask: Ask) -> Answer:
    usage, told = _openai_usage(ask, "prompt", "completion")
    head = {"id": f"chatcmpl-{ask.uid}", "created": 1700000000, "model": ask.model}
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": TOOL_ARGUMENTS},
    }
    tools = bool(ask.body.get("tools"))
    if not ask.stream:
        message: dict[str, Any] = {"role": "assistant", "content": TEXT, "refusal": None}
        if tools:
            message |= {"content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}
        body = head | {"object": "chat.completion", "choices": [choice], "usage": usage}
        return Answer((_json(body),), told)
    asked = (ask.body.get("stream_options") or {}).get("include_usage") is True
    spare = {"usage": None} if asked else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _sse(head | {"object": "chat.completion.chunk", "choices": [choice]} | spare)

    if tools:
        cut = len(TOOL_ARGUMENTS) // 2
        start = call | {"index": 0, "function": {"name": "weather", "arguments": ""}}
        deltas: list[dict[str, Any]] = [{"tool_calls": [start]}]
        for part in (TOOL_ARGUMENTS[:cut], TOOL_ARGUMENTS[cut:]):
            deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    else:
        deltas = [{"content": TEXT[:9]}, {"content": TEXT[9:]}]
    chunks = [chunk({"role": "assistant", "content": ""}), *map(chunk, deltas)]
    chunks.append(chunk({}, "tool_calls" if tools else "stop"))
    if asked:
        chunks.append(_sse(head | {"object": "chat.completion.chunk", "choices": [], "usage": usage}))
    return _events(*chunks, _sse(b"[DONE]"), told=told if asked else Told())


def completions(ask: Ask) -> Answer:
    usage, told = _openai_usage(ask, "prompt", "completion")
    head = {"id": f"cmpl-{ask.uid}", "object": "text_completion", "created": 1, "model": ask.model}
    if not ask.stream:
        choice = {"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}
        return Answer((_json(head | {"choices": [choice], "usage": usage}),), told)
    asked = (ask.body.get("stream_options") or {}).get("include_usage") is True
    chunks = [
        _sse(head | {"choices": [{"index": 0, "text": part, "finish_reason": finish, "logprobs": None}]})
        for part, finish in ((TEXT[:9], None), (TEXT[9:], None), ("", "stop"))
    ]
    if asked:
        chunks.append(_sse(head | {"choices": [], "usage": usage}))
    return _events(*chunks, _sse(b"[DONE]"), told=told if asked else Told())


def responses(ask: Ask) -> Answer:
    usage, told = _openai_usage(ask, "input", "output")
    usage.setdefault("input_tokens_details", {"cached_tokens": 0})
    usage.setdefault("output_tokens_details", {"reasoning_tokens": 0})
    part = {"type": "output_text", "text": TEXT, "annotations": []}
    item = {
        "type": "message",
        "id": f"msg_{ask.uid}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    base = {
        "id": f"resp_{ask.uid}",
        "object": "response",
        "created_at": 1700000000,
        "model": ask.model,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {"model": "inner-model"},
    }
    done = base | {"status": "completed", "output": [item], "usage": usage}
    if not ask.stream:
        return Answer((_json(done),), told)
    opened = base | {"status": "in_progress", "output": [], "usage": None}
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    steps: list[dict[str, Any]] = [
        {"type": "response.created", "response": opened},
        {"type": "response.in_progress", "response": opened},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **where, "part": part | {"text": ""}},
        {"type": "response.output_text.delta", **where, "delta": TEXT[:9], "logprobs": []},
        {"type": "response.output_text.delta", **where, "delta": TEXT[9:], "logprobs": []},
        {"type": "response.output_text.done", **where, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **where, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    chunks = [_sse(step | {"sequence_number": n}, step["type"]) for n, step in enumerate(steps)]
    return _events(*chunks, told=told)


def embeddings(ask: Ask) -> Answer:
    count = ask.rng.randint(1, 900)
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
    usage = {"prompt_tokens": count, "total_tokens": count}
    body = {"object": "list", "data": data, "model": ask.model, "usage": usage, "id": ask.uid}
    return Answer((_json(body),), Told(count))


def images(ask: Ask) -> Answer:
    inside, outside = ask.rng.randint(1, 500), ask.rng.randint(1, 5000)
    usage = {"input_tokens": inside, "output_tokens": outside, "total_tokens": inside + outside}
    usage_all = usage | {"input_tokens_details": {"text_tokens": inside, "image_tokens": 0}}
    body = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage_all, "id": ask.uid}
    return Answer((_json(body),), Told(inside, outside))


def moderations(ask: Ask) -> Answer:
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return Answer((_json({"id": f"modr-{ask.uid}", "model": ask.model, "results": [result]}),))


def speech(ask: Ask) -> Answer:
    return Answer((b"ID3\x00\xff" + ask.uid.encode() + b"\x00" * 3000,), content_type="audio/mpeg")


def rerank(ask: Ask) -> Answer:
    count = ask.rng.randint(1, 900)
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return Answer(
        (_json({"id": ask.uid, "model": ask.model, "results": results, "usage": usage}),), Told(count)
    )


def _anthropic_usage(ask: Ask) -> tuple[dict[str, Any], Told]:
    fresh, outside = ask.rng.randint(1, 3000), ask.rng.randint(1, 4000)
    if ask.rng.random() < 0.3:
        return {"input_tokens": fresh, "output_tokens": outside}, Told(fresh, outside)
    read, short, long = (ask.rng.randint(0, 2000) for _ in range(3))
    usage = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": outside,
        "service_tier": "standard",
    }
    return usage, Told(fresh + read + short + long, outside, read, short + long, long)


def messages(ask: Ask) -> Answer:
    usage, told = _anthropic_usage(ask)
    tools = bool(ask.body.get("tools"))
    block: dict[str, Any] = {"type": "text", "text": TEXT}
    if tools:
        block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": json.loads(TOOL_ARGUMENTS)}
    head = {"id": f"msg_{ask.uid}", "type": "message", "role": "assistant", "model": ask.model}
    ended = {"stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None}
    if not ask.stream:
        return Answer((_json(head | {"content": [block], **ended, "usage": usage}),), told)
    opened: dict[str, Any] = head | {"content": [], "stop_reason": None, "stop_sequence": None}
    start = opened | {"usage": usage | {"output_tokens": 1}}
    blank: dict[str, Any] = {"input": {}} if tools else {"text": ""}
    text = TOOL_ARGUMENTS if tools else TEXT
    kind, member = ("input_json_delta", "partial_json") if tools else ("text_delta", "text")
    # Both forms of the last usage are seen in the wild: all figures again, or the output alone.
    last = usage if ask.rng.random() < 0.5 else {"output_tokens": usage["output_tokens"]}
    steps: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block | blank},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": kind, member: text[:9]}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": kind, member: text[9:]}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": last},
        {"type": "message_stop"},
    ]
    return _events(*(_sse(step, step["type"]) for step in steps), told=told)


def count_tokens(ask: Ask) -> Answer:
    return Answer((_json({"input_tokens": 17}),))


def _gemini_usage(ask: Ask) -> tuple[dict[str, Any], Told]:
    prompt, said = ask.rng.randint(1, 3000), ask.rng.randint(1, 3000)
    usage: dict[str, Any] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": said,
        "totalTokenCount": prompt + said,
    }
    if ask.rng.random() < 0.3:
        return usage, Told(prompt, said)
    cached, thought = ask.rng.randint(0, prompt), ask.rng.randint(0, 2000)
    usage |= {"cachedContentTokenCount": cached, "thoughtsTokenCount": thought}
    usage["totalTokenCount"] += thought
    return usage, Told(prompt, said + thought, cached, reasoning_tokens=thought)


def _gemini_part(ask: Ask, text: str, **more: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"text": text}
    if ask.body.get("tools"):
        part = {"functionCall": {"name": "weather", "args": json.loads(TOOL_ARGUMENTS)}}
    candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, **more}
    return {"candidates": [candidate], "modelVersion": ask.model, "responseId": ask.uid}


def generate_content(ask: Ask) -> Answer:
    usage, told = _gemini_usage(ask)
    body = _gemini_part(ask, TEXT, finishReason="STOP") | {"usageMetadata": usage}
    return Answer((_json(body),), told)


def stream_generate_content(ask: Ask) -> Answer:
    usage, told = _gemini_usage(ask)
    first = usage | {"candidatesTokenCount": 1, "totalTokenCount": usage["promptTokenCount"] + 1}
    parts = [
        _gemini_part(ask, TEXT[:9]) | {"usageMetadata": first},
        _gemini_part(ask, TEXT[9:], finishReason="STOP") | {"usageMetadata": usage},
    ]
    if "alt=sse" in ask.query:
        return _events(*(b"data: " + json.dumps(part).encode() + b"\r\n\r\n" for part in parts), told=told)
    opening, closing = (json.dumps(part, indent=2).encode() for part in parts)
    return Answer((b"[" + opening, b"\n,\r\n" + closing, b"\n]\n"), told)


def gemini_count_tokens(ask: Ask) -> Answer:
    return Answer((_json({"totalTokens": 17}),))


def embed_content(ask: Ask) -> Answer:
    return Answer((_json({"embedding": {"values": [0.25, -0.5]}}),))


def batch_embed_contents(ask: Ask) -> Answer:
    return Answer((_json({"embeddings": [{"values": [0.25]}, {"values": [-0.5]}]}),))


def token(ask: Ask) -> Answer:
    """What a token endpoint gives for a service account's assertion."""
    return Answer((_json({"access_token": f"ya29.{ask.uid}", "expires_in": 3600, "token_type": "Bearer"}),))


BY_PATH: dict[str, Say] = {
    "/token": token,
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/responses": responses,
    "/v1/embeddings": embeddings,
    "/v1/images/generations": images,
    "/v1/moderations": moderations,
    "/v1/audio/speech": speech,
    "/v1/rerank": rerank,
    "/v1/messages": messages,
    "/v1/messages/count_tokens": count_tokens,
}

BY_ACTION: dict[str, Say] = {
    "generateContent": generate_content,
    "streamGenerateContent": stream_generate_content,
    "countTokens": gemini_count_tokens,
    "embedContent": embed_content,
    "batchEmbedContents": batch_embed_contents,
}

LISTED = ("listed-b", "listed-a", "vendor/listed-c")
"""What the upstream's own list of models holds, in its order."""


def model_list(path: str, headers: Mapping[str, str]) -> bytes:
    if path.startswith("/v1beta/") or "x-goog-api-key" in headers:
        return _json({"models": [{"name": f"models/{m}", "displayName": m} for m in LISTED]})
    if "anthropic-version" in headers:
        made = "2025-01-01T00:00:00Z"
        data = [{"type": "model", "id": m, "display_name": m, "created_at": made} for m in LISTED]
        return _json({"data": data, "has_more": False, "first_id": LISTED[0], "last_id": LISTED[-1]})
    entries: list[dict[str, Any]] = [
        {"id": m, "object": "model", "created": 5, "owned_by": "upstream"} for m in LISTED
    ]
    return _json({"object": "list", "data": entries})
