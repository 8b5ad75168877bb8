"""Gemini's generateContent family: five actions on a model that is named in the path.

How its streams are framed without `alt=sse` is in `json_array.py`; its lists of models are in `models.py`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec
from msgspec import structs

from gproxy.errors import BadRequest
from gproxy.protocols import envelopes
from gproxy.protocols.answers import (
    Count,
    as_received,
    json_size,
    mapping,
    merged,
    never,
    objects,
    reader,
    service_tier,
    size,
    status_of_error,
    tokens,
    total,
    unreported,
    usage_stays,
)
from gproxy.protocols.base import Body, Event, Facts, Protocol
from gproxy.protocols.forms import varying
from gproxy.protocols.jsonwalk import Edit, Member, TooMany, members
from gproxy.protocols.requests import answers_asked, encoded, token_limit
from gproxy.protocols.splice import replace_in_event, replace_value
from gproxy.protocols.steps import again
from gproxy.protocols.strict import checked_model
from gproxy.values import Usage

MAX_REQUESTS = 1000
"""Requests in a batch. Google itself takes 100; each costs time that other requests wait for."""

MAX_NESTED_NAMES = 10_000
"""Names of all requests within a body together; a request has some six."""

_MODEL = re.compile(r"[A-Za-z0-9._:@/-]*")
_NESTED = re.compile(r"(?:[^/]+/)?models/")
_PREFIX = "models/"
_NO_PARTS = frozenset({"", ".", ".."})
_VERSION = ("modelVersion",)
_NESTED_REQUESTS = ("generateContentRequest", "generate_content_request")
_NAMING = frozenset({"model", "requests", *_NESTED_REQUESTS})
"""Where a body names a model, if it does."""

_CONFIGS = ("generationConfig", "generation_config")
_AUDIO = frozenset({"AUDIO"})
_IMAGE = frozenset({"IMAGE", "DOCUMENT"})
"""A document is read, and billed, as images of its pages."""

_TRAFFIC = {"ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}
_ARRAY_ENDS = (b"]", b"[]")


class _Answer(msgspec.Struct, rename="camel"):
    candidates: Any = None
    usage_metadata: Any = None
    prompt_feedback: Any = None
    error: Any = None


class _Part(msgspec.Struct, rename="camel"):
    modality: Any = None
    token_count: Count = None


class _Counts(msgspec.Struct, rename="camel"):
    prompt_token_count: Count = None
    candidates_token_count: Count = None
    thoughts_token_count: Count = None
    tool_use_prompt_token_count: Count = None
    cached_content_token_count: Count = None
    prompt_tokens_details: list[_Part] | None = None
    tool_use_prompt_tokens_details: list[_Part] | None = None
    cache_tokens_details: list[_Part] | None = None
    candidates_tokens_details: list[_Part] | None = None
    service_tier: Any = None
    traffic_type: Any = None


class _Plain(msgspec.Struct, rename="camel"):
    usage_metadata: _Counts


_plain = msgspec.json.Decoder(_Plain).decode
_answer = reader(_Answer)


def checked_path_model(name: str) -> str:
    """A model's name fit for a path, without the prefix `models/`. Raises BadRequest."""
    model = name.removeprefix(_PREFIX)
    if not _MODEL.fullmatch(model):
        raise BadRequest("The model in the path must be made of letters, digits and . _ : @ / - only.")
    if not _NO_PARTS.isdisjoint(model.split("/")):
        raise BadRequest('A part of the model in the path, between its slashes, is empty, "." or "..".')
    return model


def read(body: Body, path_model: str | None, query: str) -> Facts:
    """Facts of a request that is answered whole. Raises BadRequest."""
    model = checked_path_model(path_model or "")
    if _NESTED.match(model):
        # The upstream's path would lose it again: one model under two names, and so under two limits.
        raise BadRequest("The model in the path has the prefix `models/` more than once.")
    tree = body.tree
    named = [] if _NAMING.isdisjoint(tree) else _models_within(body)
    for member in named:
        checked_model(member.value)
    most, answers, tier = None, 1, None
    for name in _CONFIGS:
        if name in tree:
            config = mapping(tree[name])
            limit = token_limit(config, "maxOutputTokens", "max_output_tokens")
            if limit is not None and (most is None or limit > most):
                most = limit
            answers = max(answers, answers_asked(config, "candidateCount", "candidate_count"))
    if "serviceTier" in tree or "service_tier" in tree:
        tier = service_tier(tree.get("serviceTier"), tree.get("service_tier"))
    return Facts(body, model, max_output_tokens=most, answers=answers, service_tier=tier, named=tuple(named))


def read_stream(body: Body, path_model: str | None, query: str) -> Facts:
    """Facts of a request that is answered by a stream: SSE with `alt=sse`, else a JSON array."""
    return structs.replace(read(body, path_model, query), stream=True, sse=_wants_sse(query))


def with_model(facts: Facts, model: str, _ask_usage: bool) -> bytes:
    """The request with those models changed that its body names: each must be the one in the path."""
    bare = model.removeprefix(_PREFIX)
    full = _PREFIX + bare
    edits: list[Edit] = [
        (member.start, member.end, json.dumps(full))
        for member in facts.named
        if member.value not in (bare, full)
    ]
    return encoded(facts.body, edits)


def _models_within(body: Body) -> list[Member]:
    """The places in a body that name a model: its own, that of a request to count, those of a batch.

    Raises BadRequest beyond MAX_REQUESTS and MAX_NESTED_NAMES.
    """
    text, tree, spans = body.text, body.tree, body.spans
    inner = [spans[name][0] for name in _NESTED_REQUESTS if isinstance(tree.get(name), dict)]
    found = [Member("model", tree["model"], *spans["model"])] if "model" in tree else []
    left, read = MAX_NESTED_NAMES, again(text)
    try:
        if isinstance(tree.get("requests"), list):
            batch, _ = members(text, spans["requests"][0], read, array=True, most=MAX_REQUESTS)
            inner += [element.start for element in batch if isinstance(element.value, dict)]
        for at in inner:
            fields, _ = members(text, at, read, most=left)
            left -= len(fields)
            found += [member for member in fields if member.name == "model"]
    except TooMany:
        raise BadRequest(
            f"The body has more than {MAX_REQUESTS} requests in it, or {MAX_NESTED_NAMES} names in those."
        ) from None
    return found


def _wants_sse(query: str) -> bool:
    return ("alt", "sse") in parse_qsl(query)


def usage_of(before: Usage | None, fields: object) -> Usage | None:
    """What is known after a `usageMetadata` object, whose counts are cumulative; those it leaves out stay.

    The prompt includes cached content, but not the results of built-in tools; candidates leave thoughts out. Google
    AI tells the class of service in `serviceTier`, Vertex in `trafficType`.
    """
    if not isinstance(fields, dict):
        return before
    known = before or Usage()
    prompt = tokens(fields.get("promptTokenCount"))
    tools = tokens(fields.get("toolUsePromptTokenCount"))
    thoughts = tokens(fields.get("thoughtsTokenCount"))
    candidates = tokens(fields.get("candidatesTokenCount"))
    if tools is None:
        tools = known.tool_tokens
    if prompt is None and known.input_tokens is not None:
        prompt = known.input_tokens - (known.tool_tokens or 0)
    if thoughts is None:
        thoughts = known.reasoning_tokens
    if candidates is None and known.output_tokens is not None:
        candidates = known.output_tokens - (known.reasoning_tokens or 0)
    unreadable = candidates is None and fields.get("candidatesTokenCount") is not None
    now = Usage(
        input_tokens=None if prompt is None else total(prompt, tools),
        output_tokens=None if unreadable else total(candidates, thoughts),
        cache_read_tokens=tokens(fields.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
        tool_tokens=tools,
        input_audio_tokens=_of_kind(fields, _AUDIO, "promptTokensDetails", "toolUsePromptTokensDetails"),
        input_image_tokens=_of_kind(fields, _IMAGE, "promptTokensDetails", "toolUsePromptTokensDetails"),
        cache_read_audio_tokens=_of_kind(fields, _AUDIO, "cacheTokensDetails"),
        cache_read_image_tokens=_of_kind(fields, _IMAGE, "cacheTokensDetails"),
        output_audio_tokens=_of_kind(fields, _AUDIO, "candidatesTokensDetails"),
        output_image_tokens=_of_kind(fields, _IMAGE, "candidatesTokensDetails"),
        service_tier=service_tier(fields.get("serviceTier"), _TRAFFIC.get(str(fields.get("trafficType")))),
    )
    return merged(before, now)


def _of_kind(fields: Mapping[str, Any], kinds: frozenset[str], *names: str) -> int | None:
    """The tokens of some kinds of content in the lists under `names`."""
    found = None
    for name in names:
        for part in objects(fields.get(name)) if name in fields else ():
            if part.get("modality") in kinds:
                found = (found or 0) + (tokens(part.get("tokenCount")) or 0)
    return found


def usage_in_body(answer: bytes) -> Usage | None:
    """As `usage_of`, in a third of the time where all counts are such and all content is text."""
    try:
        told = _plain(answer).usage_metadata
    except (ValueError, RecursionError):
        return _usage_in_any(answer)
    for details in (
        told.prompt_tokens_details,
        told.candidates_tokens_details,
        told.cache_tokens_details,
        told.tool_use_prompt_tokens_details,
    ):
        for part in details or ():
            if part.modality != "TEXT":
                return _usage_in_any(answer)
    prompt, tools = told.prompt_token_count, told.tool_use_prompt_token_count
    candidates, thoughts = told.candidates_token_count, told.thoughts_token_count
    return Usage(
        None if prompt is None else prompt + (tools or 0),
        total(candidates, thoughts),
        told.cached_content_token_count,
        reasoning_tokens=thoughts,
        tool_tokens=tools,
        service_tier=service_tier(told.service_tier, _TRAFFIC.get(str(told.traffic_type))),
    )


def _usage_in_any(answer: bytes) -> Usage | None:
    found = _answer(answer)
    return None if found is None else usage_of(None, found.usage_metadata)


def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
    if event.data is None or event.data.find(b'"usageMetadata"') < 0:
        return before
    found = _answer(event.data)
    return before if found is None else usage_of(before, found.usage_metadata)


def restore_body(answer: bytes, client_model: str) -> bytes:
    return replace_value(answer, _VERSION, client_model)


def restore_event(event: Event, client_model: str) -> bytes:
    return replace_in_event(event, _VERSION, client_model)


def is_terminal(event: Event) -> bool:
    """Only a JSON array has an end of its own."""
    return event.data is None and event.raw.strip() in _ARRAY_ENDS


def is_complete(event: Event) -> bool:
    """A finish reason, or a prompt that was blocked and so has no candidates."""
    data = event.data
    if data is None or (data.find(b'"finishReason"') < 0 and data.find(b'"blockReason"') < 0):
        return False
    found = _answer(event.data)
    if found is None:
        return False
    blocked = mapping(found.prompt_feedback).get("blockReason")
    return bool(blocked) or any(c.get("finishReason") for c in objects(found.candidates))


def error_in_event(event: Event) -> int | None:
    if event.data is None or event.data.find(b'"error"') < 0:
        return None
    found = _answer(event.data)
    return status_of_error(found.error) if found is not None and found.error else None


def output_text(event: Event) -> int:
    """Bytes of text and of the arguments of function calls in a chunk."""
    found = _answer(event.data)
    if found is None:
        return 0
    parts = [p for c in objects(found.candidates) for p in objects(mapping(c.get("content")).get("parts"))]
    return sum(
        size(part.get("text")) + json_size(mapping(part.get("functionCall")).get("args")) for part in parts
    )


def _path_of(action: str, suffix: str = "") -> Callable[[str, str], str]:
    def upstream_path(model: str, query: str) -> str:
        path = f"/v1beta/models/{quote(checked_path_model(model), safe='')}:{action}"
        return path + suffix if suffix and _wants_sse(query) else path

    return upstream_path


def _paths(action: str) -> tuple[str, ...]:
    return tuple(f"/{version}/models/{{model}}:{action}" for version in ("v1beta", "v1"))


GENERATE = Protocol(
    name="gemini",
    operation="generateContent",
    paths=_paths("generateContent"),
    carried_by=frozenset({"gemini"}),
    read=read,
    with_model=with_model,
    upstream_path=_path_of("generateContent"),
    usage_in_body=usage_in_body,
    usage_in_event=usage_in_event,
    restore_body=restore_body,
    restore_event=restore_event,
    is_usage_only=never,
    is_terminal=is_terminal,
    is_complete=is_complete,
    error_in_event=error_in_event,
    output_text=output_text,
    varying=varying(
        *("text", "thoughtSignature"),
        counts=(
            *(
                "promptTokenCount",
                "candidatesTokenCount",
                "thoughtsTokenCount",
                "totalTokenCount",
                "tokenCount",
            ),
            *("cachedContentTokenCount", "toolUsePromptTokenCount"),
        ),
        stamps=("responseId", "createTime"),
    ),
    error_body=envelopes.gemini_body,
    error_event=envelopes.gemini_event,
)


def _action(action: str) -> Protocol:
    return replace(GENERATE, operation=action, paths=_paths(action), upstream_path=_path_of(action))


STREAM = replace(
    _action("streamGenerateContent"),
    read=read_stream,
    upstream_path=_path_of("streamGenerateContent", "?alt=sse"),
)
COUNT_TOKENS = replace(
    _action("countTokens"),
    metered=False,
    usage_in_body=unreported,
    usage_in_event=usage_stays,
    restore_body=as_received,
)
EMBED = replace(_action("embedContent"), generates=False)
BATCH_EMBED = replace(_action("batchEmbedContents"), generates=False)
