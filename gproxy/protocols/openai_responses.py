"""OpenAI's Responses API.

Chat completions and the other operations have modules of their own.
"""

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
    never,
    objects,
    reader,
    reported_cost,
    service_tier,
    size,
    status_of_error,
    tokens,
    with_reasoning,
)
from gproxy.protocols.base import Body, Event, Facts, Protocol
from gproxy.protocols.forms import varying
from gproxy.protocols.requests import read_limited, token_limit, with_model
from gproxy.protocols.splice import replace_in_answer, replace_in_event
from gproxy.values import Usage

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
_MODEL_IN_EVENT = ("response", "model")


class _Answer(msgspec.Struct):
    usage: Any = None
    service_tier: Any = None


class _Output(msgspec.Struct):
    output: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    status: Any = None
    response: Any = None
    delta: Any = None
    error: Any = None
    code: Any = None
    output: Any = None


class _Kind(msgspec.Struct):
    type: Any = None


class _Counts(msgspec.Struct):
    input_tokens: Count = None
    output_tokens: Count = None
    total_tokens: Any = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None
    cost: Any = None
    cost_in_usd_ticks: Any = None


class _Plain(msgspec.Struct):
    usage: _Counts | None = None
    service_tier: Any = None


class _PlainEvent(msgspec.Struct):
    response: _Plain


_plain = msgspec.json.Decoder(_Plain).decode
_plain_event = msgspec.json.Decoder(_PlainEvent).decode
_answer = reader(_Answer)
_output = reader(_Output)
_event = reader(_Event)
_kind_in = reader(_Kind)


def read(body: Body, _path_model: str | None, _query: str) -> Facts:
    """Facts of a request. Usage always comes with the last event, so there is nothing to ask for.

    Raises BadRequest, also for `background`: what is made after the answer's end is in no row and in no quota.
    """
    if body.tree.get("background"):
        raise BadRequest(
            "`background` is not served here, where no answer can be asked for later: wait for it."
        )
    return read_limited(body, max_output_tokens=token_limit(body.tree, "max_output_tokens"))


def usage_of(fields: object, tier: object = None, output: object = None) -> Usage | None:
    """A `usage` object: input includes cached tokens, output includes reasoning. None if it is none.

    `tier` is the answer's `service_tier`. Searches are not in `usage`, so they are counted in `output`.
    """
    if not isinstance(fields, dict):
        return None
    details = mapping(fields.get("input_tokens_details"))
    written_details = mapping(fields.get("output_tokens_details"))
    read_tokens, written = tokens(fields.get("input_tokens")), tokens(fields.get("output_tokens"))
    reasoning = tokens(written_details.get("reasoning_tokens"))
    return Usage(
        input_tokens=read_tokens,
        output_tokens=with_reasoning(read_tokens, written, reasoning, fields.get("total_tokens")),
        cache_read_tokens=tokens(details.get("cached_tokens")),
        cache_write_tokens=tokens(details.get("cache_write_tokens")),
        reasoning_tokens=reasoning,
        input_audio_tokens=tokens(details.get("audio_tokens")),
        input_image_tokens=tokens(details.get("image_tokens")),
        output_audio_tokens=tokens(written_details.get("audio_tokens")),
        output_image_tokens=tokens(written_details.get("image_tokens")),
        web_searches=_searches(output),
        service_tier=service_tier(tier),
        cost_nano=reported_cost(fields),
    )


def _searches(output: object) -> int | None:
    """Calls of the tool that searched: to open a page, or to look within one, is not billed as a search."""
    calls = [item for item in objects(output) if item.get("type") == "web_search_call"]
    return sum(mapping(call.get("action")).get("type", "search") == "search" for call in calls) or None


def usage_in_body(answer: bytes) -> Usage | None:
    """As `usage_of`, in a third of the time where all counts are such and nobody tells more than OpenAI."""
    try:
        plain = _plain(answer)
    except (ValueError, RecursionError):
        return _usage_in_any(answer)
    return _usage_in_any(answer) if _tells_more(plain, answer) else _plain_usage(plain)


def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
    """Likewise: what else the response holds (instructions, tools, all of the output) is passed over."""
    data = event.data
    if data is None or data.find(b'"usage"') < 0:
        return before
    try:
        plain = _plain_event(data).response
    except (ValueError, RecursionError):
        return _usage_in_any_event(data, before)
    if _tells_more(plain, data):
        return _usage_in_any_event(data, before)
    return merged(before, _plain_usage(plain))


def _tells_more(plain: _Plain, data: bytes) -> bool:
    told = plain.usage
    if told is None:
        return False
    return told.cost is not None or told.cost_in_usd_ticks is not None or data.find(b'"web_search_call"') >= 0


def _plain_usage(plain: _Plain) -> Usage | None:
    told = plain.usage
    if told is None:
        return None
    given, made = told.input_tokens_details, told.output_tokens_details
    return detailed(told.input_tokens, told.output_tokens, told.total_tokens, given, made, plain.service_tier)


def _usage_in_any(answer: bytes) -> Usage | None:
    found = _answer(answer)
    if found is None:
        return None
    searched = _output(answer) if answer.find(b'"web_search_call"') >= 0 else None
    return usage_of(found.usage, found.service_tier, searched.output if searched else None)


def _usage_in_any_event(data: bytes, before: Usage | None) -> Usage | None:
    found = _event(data)
    if found is None:
        return before
    response = mapping(found.response)
    now = usage_of(response.get("usage"), response.get("service_tier"), response.get("output"))
    return merged(before, now)


def restore_body(answer: bytes, client_model: str) -> bytes:
    return replace_in_answer(answer, "model", client_model)


def restore_event(event: Event, client_model: str) -> bytes:
    return replace_in_event(event, _MODEL_IN_EVENT, client_model)


def is_terminal(event: Event) -> bool:
    return _kind(event) in _LAST


def error_in_event(event: Event) -> int | None:
    kind = _kind(event)
    if kind not in ("", "error", "response.failed") or (
        not kind and (event.data or b"").find(b'"error"') < 0
    ):
        return None
    found = _event(event.data)
    if not kind:
        # An error's body inside a 200, or a response that says that it has failed: it has an output all the same.
        failed = found and (found.status == "failed" or (found.error and found.output is None))
        return status_of_error(found.error) if found and failed else None
    if found is None:
        return 500
    if kind == "error":
        return status_of_error(found.error or {"code": found.code})
    return status_of_error(mapping(found.response).get("error"))


def output_text(event: Event) -> int:
    """Bytes of text, reasoning, refusal or tool arguments in a delta, or in a whole answer.

    Audio is base64 and left out.
    """
    found = _event(event.data)
    if found is None or found.type == "response.audio.delta":
        return 0
    items = objects(found.output)
    parts = [part for item in items for part in objects(item.get("content")) + objects(item.get("summary"))]
    return size(
        found.delta,
        *(item.get("arguments") for item in items),
        *(text for part in parts for text in (part.get("text"), part.get("refusal"))),
    )


def _kind(event: Event) -> str:
    found = _kind_in(event.data)
    return found.type if found is not None and isinstance(found.type, str) else ""


RESPONSES = Protocol(
    name="openai_responses",
    operation="responses",
    paths=("/v1/responses",),
    carried_by=frozenset({"openai_responses"}),
    read=read,
    with_model=with_model,
    upstream_path=lambda _model, _query: "/v1/responses",
    usage_in_body=usage_in_body,
    usage_in_event=usage_in_event,
    restore_body=restore_body,
    restore_event=restore_event,
    is_usage_only=never,
    is_terminal=is_terminal,
    is_complete=is_terminal,
    error_in_event=error_in_event,
    output_text=output_text,
    varying=varying(
        *("delta", "text", "arguments", "refusal", "obfuscation", "sequence_number"),
        stamps=("id", "item_id", "response_id", "call_id", "created_at"),
    ),
    error_body=envelopes.openai_body,
    error_event=envelopes.responses_event,
)
