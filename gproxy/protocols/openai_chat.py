"""OpenAI's chat completions and the older text completions, which stream and count alike.

The Responses API, embeddings and the routes passed through have modules of their own.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import BadRequest
from gproxy.protocols import envelopes
from gproxy.protocols.answers import (
    Count,
    InputDetails,
    OutputDetails,
    detailed,
    mapping,
    merged,
    objects,
    reader,
    reported_cost,
    service_tier,
    size,
    status_of_error,
    tokens,
    web_searches,
    with_reasoning,
)
from gproxy.protocols.base import Body, Event, Facts, Protocol
from gproxy.protocols.forms import varying
from gproxy.protocols.jsonwalk import Edit, members
from gproxy.protocols.requests import (
    answers_asked,
    encoded,
    model_edits,
    piece,
    read_limited,
    token_limit,
)
from gproxy.protocols.splice import replace_in_answer, replace_in_event
from gproxy.protocols.steps import again
from gproxy.values import Usage

_MODEL = ("model",)
_HAS_USAGE = re.compile(rb'"usage"\s*:\s*\{')  # it is null on most chunks
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_ASKED = '{"include_usage":true}'
_ASKING = f',"stream_options":{_ASKED}'
_STREAM_ASKED = msgspec.Raw(f"true{_ASKING}".encode())
_READ = frozenset({"stream_options", "max_tokens", "max_completion_tokens", "n", "best_of", "prompt"})


_PARTS = {
    "prompt_tokens_details": {
        "cached_tokens": "cache_read_tokens",
        "cache_write_tokens": "cache_write_tokens",
        "audio_tokens": "input_audio_tokens",
        "image_tokens": "input_image_tokens",
    },
    "completion_tokens_details": {
        "reasoning_tokens": "reasoning_tokens",
        "audio_tokens": "output_audio_tokens",
        "image_tokens": "output_image_tokens",
    },
}
"""What of a count is told apart, and what it is here."""


class _Chunk(msgspec.Struct):
    choices: Any = None
    usage: Any = None
    error: Any = None


class _Reported(msgspec.Struct):
    usage: Any = None
    service_tier: Any = None
    x_groq: Any = None


class _Counts(msgspec.Struct):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Any = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: Any = None
    cached_tokens: Any = None
    server_tool_use: Any = None
    cost: Any = None
    cost_in_usd_ticks: Any = None


class _Plain(msgspec.Struct):
    usage: _Counts
    service_tier: Any = None


_plain = msgspec.json.Decoder(_Plain).decode
_chunk = reader(_Chunk)
_reported = reader(_Reported)  # without the choices, which may be long


def read(body: Body, _path_model: str | None, _query: str) -> Facts:
    """What both operations need to know. Raises BadRequest."""
    tree = body.tree
    asked, limit, answers = False, None, 1
    if not _READ.isdisjoint(tree):
        options = tree.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise BadRequest("`stream_options` must be an object.")
        asked = mapping(options).get("include_usage") not in (None, False)
        limit = token_limit(tree, "max_tokens", "max_completion_tokens")
        answers = _prompts(tree.get("prompt")) * answers_asked(tree, "n", "best_of")
    return read_limited(body, asked_usage=asked, max_output_tokens=limit, answers=answers)


def _prompts(prompt: object) -> int:
    """How many prompts a completion is asked for at once: each of them gets its answers."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return len(prompt)
    return 1  # a text, or one prompt as token ids


def with_model(facts: Facts, model: str, ask_usage: bool) -> bytes:
    """The request with the upstream's model and, if `ask_usage` on a stream, with usage asked for."""
    body = facts.body
    asks = ask_usage and facts.stream and not facts.asked_usage
    if body.pieces is not None and not (asks and "stream_options" in body.tree):
        changes = {} if facts.model == model else {"model": piece(model)}
        if asks:
            changes["stream"] = _STREAM_ASKED
        return body.pieces.changed(changes)
    edits = model_edits(facts, model)
    if asks:
        edits += _asking_edits(body)
    return encoded(body, edits)


def _asking_edits(body: Body) -> list[Edit]:
    if "stream_options" not in body.tree:
        after_stream = body.spans["stream"][1]
        return [(after_stream, after_stream, _ASKING)]
    span = body.spans["stream_options"]
    options = body.tree["stream_options"]
    if not options:
        return [(*span, _ASKED)]
    if "include_usage" in options:
        found, _ = members(body.text, span[0], again(body.text))
        return [(m.start, m.end, "true") for m in found if m.name == "include_usage"]
    return [(span[0] + 1, span[0] + 1, _ASKED[1:-1] + ",")]


def usage_of(fields: object, tier: object = None) -> Usage | None:
    """A `usage` object: the prompt includes cached tokens, the completion reasoning. None if it is none.

    Cached tokens have other names at DeepSeek (`prompt_cache_hit_tokens`) and Moonshot (`cached_tokens`), beside
    OpenAI's or instead of it. `tier` is the answer's `service_tier`.
    """
    if not isinstance(fields, dict):
        return None
    counts: dict[str, int | None] = {}
    for details, names in _PARTS.items():
        if parts := fields.get(details):
            for part, value in mapping(parts).items():
                if value is not None and part in names:
                    counts[names[part]] = tokens(value)
    if "cache_read_tokens" not in counts:
        cached = fields.get("prompt_cache_hit_tokens", fields.get("cached_tokens"))
        if cached is not None:
            counts["cache_read_tokens"] = tokens(cached)
    read_tokens, written = tokens(fields.get("prompt_tokens")), tokens(fields.get("completion_tokens"))
    reasoning = counts.get("reasoning_tokens")
    if reasoning:
        written = with_reasoning(read_tokens, written, reasoning, fields.get("total_tokens"))
    return Usage(
        input_tokens=read_tokens,
        output_tokens=written,
        web_searches=web_searches(fields),
        service_tier=service_tier(tier),
        cost_nano=reported_cost(fields),
        **counts,
    )


def usage_in_body(answer: bytes) -> Usage | None:
    """As `usage_of`, in a third of the time where all counts are such and nobody tells more than OpenAI."""
    try:
        plain = _plain(answer)
    except (ValueError, RecursionError):
        return _usage_in_any(answer)
    told, tier = plain.usage, plain.service_tier
    if (
        told.prompt_cache_hit_tokens is not None
        or told.cached_tokens is not None
        or told.server_tool_use is not None
        or told.cost is not None
        or told.cost_in_usd_ticks is not None
    ):
        return _usage_in_any(answer)
    read_tokens, written = told.prompt_tokens, told.completion_tokens
    prompt, completion = told.prompt_tokens_details, told.completion_tokens_details
    if prompt is None and completion is None:
        return Usage(read_tokens, written, service_tier=None if tier is None else service_tier(tier))
    return detailed(read_tokens, written, told.total_tokens, prompt, completion, tier)


def _usage_in_any(answer: bytes) -> Usage | None:
    chunk = _reported(answer)
    if chunk is None:
        return None
    # Groq's own place for it in a stream that was not asked for usage.
    fields = mapping(chunk.x_groq).get("usage") if chunk.usage is None else chunk.usage
    return usage_of(fields, chunk.service_tier)


def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
    if event.data is None or not _HAS_USAGE.search(event.data):
        return before
    return merged(before, usage_in_body(event.data))


def restore_body(answer: bytes, client_model: str) -> bytes:
    return replace_in_answer(answer, "model", client_model)


def restore_event(event: Event, client_model: str) -> bytes:
    return replace_in_event(event, _MODEL, client_model)


def is_usage_only(event: Event) -> bool:
    if event.data is None or not _HAS_USAGE.search(event.data):
        return False
    chunk = _chunk(event.data)
    return chunk is not None and isinstance(chunk.usage, dict) and not chunk.choices and not chunk.error


def is_done(event: Event) -> bool:
    return event.data is not None and event.data.strip() == b"[DONE]"


def is_complete(event: Event) -> bool:
    if event.data is None or not _FINISHED.search(event.data):
        return False
    chunk = _chunk(event.data)
    return chunk is not None and any(c.get("finish_reason") for c in objects(chunk.choices))


def error_in_event(event: Event) -> int | None:
    if event.data is None or event.data.find(b'"error"') < 0:
        return None
    chunk = _chunk(event.data)
    return status_of_error(chunk.error) if chunk is not None and chunk.error else None


def chat_output(event: Event) -> int:
    """Bytes of content, reasoning, refusals and tool arguments in a chunk, or in a whole answer."""
    chunk = _chunk(event.data)
    if chunk is None:
        return 0
    return sum(_message_size(mapping(c.get("delta") or c.get("message"))) for c in objects(chunk.choices))


def _message_size(message: Mapping[str, Any]) -> int:
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        reasoning = message.get("reasoning")
    said = size(message.get("content"), reasoning, message.get("refusal"))
    if "tool_calls" not in message and "function_call" not in message:
        return said
    calls = [mapping(call.get("function")) for call in objects(message.get("tool_calls"))]
    calls.append(mapping(message.get("function_call")))
    return said + size(*(call.get("arguments") for call in calls))


def text_output(event: Event) -> int:
    """Bytes of text in a chunk of text completions."""
    chunk = _chunk(event.data)
    return 0 if chunk is None else size(*(choice.get("text") for choice in objects(chunk.choices)))


CHAT = Protocol(
    name="openai_chat",
    operation="chat_completions",
    paths=("/v1/chat/completions",),
    carried_by=frozenset({"openai_chat"}),
    read=read,
    with_model=with_model,
    upstream_path=lambda _model, _query: "/v1/chat/completions",
    usage_in_body=usage_in_body,
    usage_in_event=usage_in_event,
    restore_body=restore_body,
    restore_event=restore_event,
    is_usage_only=is_usage_only,
    is_terminal=is_done,
    is_complete=is_complete,
    error_in_event=error_in_event,
    output_text=chat_output,
    varying=varying(
        *("content", "reasoning_content", "reasoning", "refusal", "arguments", "text", "obfuscation"),
        counts=(
            *("prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "cached_tokens"),
            *("text_tokens", "audio_tokens", "image_tokens"),
        ),
        stamps=("id", "created", "system_fingerprint"),
    ),
    error_body=envelopes.openai_body,
    error_event=envelopes.openai_event,
)

COMPLETIONS = replace(
    CHAT,
    name="openai_completions",
    operation="completions",
    paths=("/v1/completions",),
    carried_by=frozenset({"openai_chat", "openai_responses", "openai_embeddings"}),
    upstream_path=lambda _model, _query: "/v1/completions",
    output_text=text_output,
)
