"""Anthropic's Messages API: messages and the counting of their tokens.

The answer's `error` events are read here; how our own failures look is in `envelopes.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

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
    reported_cost,
    service_tier,
    size,
    status_of_error,
    tokens,
    total,
    unreported,
    usage_stays,
    web_searches,
)
from gproxy.protocols.base import Body, Event, Facts, Protocol
from gproxy.protocols.forms import varying
from gproxy.protocols.requests import read_limited, token_limit, with_model
from gproxy.protocols.splice import replace_in_answer, replace_in_event
from gproxy.values import Usage

_MODEL_IN_EVENT = ("message", "model")
_PASSED_PARAMETERS = frozenset({"beta"})
_MOST_QUERY_CHARS = 2048
"""What goes up of a query is kept with what its target is asked, and no URL may be beyond what servers take."""


class _Message(msgspec.Struct):
    type: Any = None
    usage: Any = None
    message: Any = None
    delta: Any = None
    content: Any = None
    error: Any = None


class _Created(msgspec.Struct):
    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class _Thought(msgspec.Struct):
    thinking_tokens: Count = None


class _Counts(msgspec.Struct):
    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: _Created | None = None
    output_tokens_details: _Thought | None = None
    speed: Any = None
    service_tier: Any = None
    iterations: Any = None
    server_tool_use: Any = None
    cost: Any = None
    cost_in_usd_ticks: Any = None


class _Plain(msgspec.Struct):
    usage: _Counts


class _PlainStart(msgspec.Struct):
    message: _Plain
    usage: None = None


_plain = msgspec.json.Decoder(_Plain).decode
_plain_start = msgspec.json.Decoder(_PlainStart).decode
_message = reader(_Message)


def read(body: Body, _path_model: str | None, query: str) -> Facts:
    """Facts of a request. Its streams report usage unasked. Raises BadRequest."""
    if len(query) > _MOST_QUERY_CHARS:
        raise BadRequest(f"The query is longer than {_MOST_QUERY_CHARS} characters.")
    return read_limited(body, max_output_tokens=token_limit(body.tree, "max_tokens"))


def upstream_path(path: str, query: str) -> str:
    """`path` with those parameters of the query that the upstream may see."""
    passed = [(n, v) for n, v in parse_qsl(query, keep_blank_values=True) if n in _PASSED_PARAMETERS]
    return f"{path}?{urlencode(passed)}" if passed else path


def updated(before: Usage | None, fields: object) -> Usage | None:
    """What is known after a `usage` object, whose counts are cumulative.

    Its `input_tokens` leaves the cache out; ours holds reads and writes. So what it leaves unsaid is taken
    from `before` part by part, and added up anew.
    """
    if not isinstance(fields, dict):
        return before
    known = before or Usage()
    one_hour = _count(fields, "cache_creation", "ephemeral_1h_input_tokens")
    written = _count(fields, "cache_creation_input_tokens")
    if written is None:
        written = total(_count(fields, "cache_creation", "ephemeral_5m_input_tokens"), one_hour)
    cached = _count(fields, "cache_read_input_tokens")
    fresh = _count(fields, "input_tokens")
    if fresh is None and known.input_tokens is not None:
        fresh = known.input_tokens - (total(known.cache_read_tokens, known.cache_write_tokens) or 0)
    written = known.cache_write_tokens if written is None else written
    cached = known.cache_read_tokens if cached is None else cached
    now = Usage(
        input_tokens=None if fresh is None else total(fresh, cached, written),
        output_tokens=_count(fields, "output_tokens"),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=one_hour,
        reasoning_tokens=tokens(mapping(fields.get("output_tokens_details")).get("thinking_tokens")),
        web_searches=web_searches(fields),
        service_tier=service_tier(fields.get("speed"), fields.get("service_tier")),
        cost_nano=reported_cost(fields),
    )
    return merged(before, now)


def _count(fields: Mapping[str, Any], *path: str) -> int | None:
    """A count of a `usage` object, with what its compactions used beside it: that is billed, and not in the counts
    (platform.claude.com, "Compaction at a token threshold")."""
    count = tokens(_at(fields, path))
    if count is None or "iterations" not in fields:
        return count
    iterations = objects(fields["iterations"])
    return count + sum(tokens(_at(i, path)) or 0 for i in iterations if i.get("type") == "compaction")


def _at(fields: Mapping[str, Any], path: tuple[str, ...]) -> object:
    *folders, name = path
    for folder in folders:
        fields = mapping(fields.get(folder))
    return fields.get(name)


def usage_in_body(answer: bytes) -> Usage | None:
    """As `updated`, in a third of the time where all counts are such, and nothing is billed beside them."""
    try:
        told = _plain(answer).usage
    except (ValueError, RecursionError):
        return _usage_in_any(answer)
    return _usage_in_any(answer) if _tells_more(told) else _plain_usage(told)


def usage_in_event(event: Event, before: Usage | None) -> Usage | None:
    """Likewise of the event that begins a message."""
    data = event.data
    if data is None or data.find(b'"usage"') < 0:
        return before
    if before is None and data.find(b'"message_start"') >= 0:
        try:
            told = _plain_start(data).message.usage
        except (ValueError, RecursionError):
            return _usage_in_any_event(data, before)
        if not _tells_more(told):
            told.output_tokens = None
            return _plain_usage(told)
    return _usage_in_any_event(data, before)


def _tells_more(told: _Counts) -> bool:
    return (
        told.iterations is not None
        or told.server_tool_use is not None
        or told.cost is not None
        or told.cost_in_usd_ticks is not None
    )


def _plain_usage(told: _Counts) -> Usage:
    fresh, cached, written = told.input_tokens, told.cache_read_input_tokens, told.cache_creation_input_tokens
    created, thought, one_hour = told.cache_creation, told.output_tokens_details, None
    if created is not None:
        one_hour = created.ephemeral_1h_input_tokens
        if written is None:
            written = total(created.ephemeral_5m_input_tokens, one_hour)
    return Usage(
        None if fresh is None else fresh + (cached or 0) + (written or 0),
        told.output_tokens,
        cached,
        written,
        one_hour,
        None if thought is None else thought.thinking_tokens,
        service_tier=service_tier(told.speed, told.service_tier),
    )


def _usage_in_any(answer: bytes) -> Usage | None:
    found = _message(answer)
    return None if found is None else updated(None, found.usage)


def _usage_in_any_event(data: bytes, before: Usage | None) -> Usage | None:
    found = _message(data)
    if found is None:
        return before
    if found.usage is not None:
        return updated(before, found.usage)
    told = mapping(found.message).get("usage")
    if not isinstance(told, dict):  # the word stands somewhere else
        return before
    began = updated(before, told)
    # The output in message_start is a placeholder, 1 to 8 tokens; what was written is in message_delta, if anywhere.
    return None if began is None else structs.replace(began, output_tokens=None)


def restore_body(answer: bytes, client_model: str) -> bytes:
    return replace_in_answer(answer, "model", client_model)


def restore_event(event: Event, client_model: str) -> bytes:
    if event.data is None or event.data.find(b"message_start") < 0:
        return event.raw
    return replace_in_event(event, _MODEL_IN_EVENT, client_model)


def is_terminal(event: Event) -> bool:
    if event.data is None or event.data.find(b"message_stop") < 0:
        return False
    found = _message(event.data)
    return found is not None and found.type == "message_stop"


def is_complete(event: Event) -> bool:
    if event.data is None or event.data.find(b'"stop_reason"') < 0:
        return False
    found = _message(event.data)
    return (
        found is not None and found.type == "message_delta" and bool(mapping(found.delta).get("stop_reason"))
    )


def error_in_event(event: Event) -> int | None:
    if event.data is None or event.data.find(b'"error"') < 0:
        return None
    found = _message(event.data)
    # Some that speak this dialect leave out that it is an error.
    failed = found is not None and (found.type == "error" or (found.type is None and found.error))
    return status_of_error(found.error) if found is not None and failed else None


def output_text(event: Event) -> int:
    """Bytes of text, thinking and tool arguments in a delta, or in a whole answer."""
    found = _message(event.data)
    if found is None:
        return 0
    blocks = objects(found.content) if found.type == "message" else [mapping(found.delta)]
    return sum(
        size(block.get("text"), block.get("thinking"), block.get("partial_json"))
        + json_size(block.get("input"))
        for block in blocks
    )


MESSAGES = Protocol(
    name="anthropic_messages",
    operation="messages",
    paths=("/v1/messages",),
    carried_by=frozenset({"anthropic_messages"}),
    read=read,
    with_model=with_model,
    upstream_path=lambda _model, query: upstream_path("/v1/messages", query),
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
        *("text", "thinking", "partial_json", "signature"),
        counts=(
            *("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
            *("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "thinking_tokens"),
            *("web_search_requests", "web_fetch_requests"),
        ),
        stamps=("id", "tool_use_id"),
    ),
    error_body=envelopes.anthropic_body,
    error_event=envelopes.anthropic_event,
)

COUNT_TOKENS = replace(
    MESSAGES,
    operation="count_tokens",
    paths=("/v1/messages/count_tokens", "/v1/messages/count-tokens"),
    metered=False,
    upstream_path=lambda _model, query: upstream_path("/v1/messages/count_tokens", query),
    usage_in_body=unreported,
    usage_in_event=usage_stays,
    restore_body=as_received,
)
