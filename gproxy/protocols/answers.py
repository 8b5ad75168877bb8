"""Reads what dialects have in common in their answers: fields of any type, token counts, kinds of failure.

Upstreams are not trusted to keep to their own types, so nothing here raises on what they send. Where a
dialect keeps its fields is its own module's.
"""

from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import structs

from gproxy.protocols.base import Event
from gproxy.protocols.strict import LARGE_BYTES
from gproxy.values import Usage

T = TypeVar("T", bound=msgspec.Struct)

MOST_CONTAINERS = 200_000
"""Objects and arrays of a large answer that are looked into: a hundred thousand take 50 ms, and 20 MB."""

_MOST_REMEMBERED = (
    16 * 1024
)  # bytes of what is read several times over: of an event, and not of a long answer
_MOST_TOKENS = 2**53  # a count beyond this is no count, and sums of some still fit SQLite's integers

Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)] | None
"""What `tokens` takes as it is; most upstreams send no other counts, and these are told in the decoder."""

_MOST_NANO_USD = 2**60
_NANO = Decimal(10**9)
_NANO_OF_TICK = Decimal("0.1")

_SERVICE_TIERS = frozenset({"flex", "scale", "priority", "performance", "fast", "ultrafast", "batch"})

_STATUS_OF_KIND = {
    "invalid_request_error": 400,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "UNAUTHENTICATED": 401,
    "billing_error": 402,
    "permission_error": 403,
    "PERMISSION_DENIED": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "NOT_FOUND": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "timeout_error": 504,
    "DEADLINE_EXCEEDED": 504,
    "overloaded_error": 529,
}


def reader(struct: type[T]) -> Callable[[bytes | None], T | None]:
    """A function that reads just the fields of `struct` out of a JSON object; None for anything else.

    What it gives is not to be changed: asked again for the same event it gives the same.
    """
    decode = msgspec.json.Decoder(struct).decode
    last: tuple[bytes | None, T | None] = (None, None)

    def read(data: bytes | None) -> T | None:
        nonlocal last
        known, found = last
        if data is known:
            return found
        try:
            found = None if data is None else decode(data)
        except (ValueError, RecursionError):  # of UTF-8, msgspec tells by an error that is none of its own
            found = None
        if data is not None and len(data) <= _MOST_REMEMBERED:
            last = (data, found)
        return found

    return read


def is_crowded(data: bytes) -> bool:
    """Whether a JSON text holds more objects and arrays than can be made of it without holding others up."""
    return len(data) > LARGE_BYTES and data.count(b"{") + data.count(b"[") > MOST_CONTAINERS


def is_json(data: bytes) -> bool:
    """Whether `data` is one whole JSON value."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


def json_of(data: bytes) -> Any:
    """The JSON value that `data` is; None if it is none, holds what no UTF-8 can, or is nested without end."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects in `value`, if it is an array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def size(*values: object) -> int:
    """UTF-8 bytes of those values that are strings."""
    return sum(len(v) if v.isascii() else len(v.encode()) for v in values if isinstance(v, str))


def json_size(value: object) -> int:
    """Bytes of `value` as JSON; 0 if it is empty or absent."""
    return len(msgspec.json.encode(value)) if value else 0


def tokens(value: object) -> int | None:
    """A token count: None if unreported, which what is no whole number from 0 to 2**53 counts as."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def nano_usd(value: object) -> int | None:
    """A cost in USD as nano-dollars, rounded half-even; None if unreported, negative or beyond all sense."""
    return _nano(value, _NANO)


def reported_cost(usage: Mapping[str, Any]) -> int | None:
    """What a `usage` object says the request cost, in nano-dollars; None if it does not.

    xAI counts in ticks, 1e10 to the dollar (docs.x.ai, "Cost Tracking"). OpenRouter's `cost` is in dollars; for who
    brings a key of his own it is the fee alone, beside `upstream_inference_cost` (openrouter.ai/docs, "Usage
    Accounting").
    """
    ticks, told = usage.get("cost_in_usd_ticks"), usage.get("cost")
    if ticks is not None:
        return _nano(ticks, _NANO_OF_TICK)
    cost = None if told is None else nano_usd(told)
    if cost is not None and usage.get("is_byok") is True:
        cost += nano_usd(mapping(usage.get("cost_details")).get("upstream_inference_cost")) or 0
    return cost


def web_searches(usage: Mapping[str, Any]) -> int | None:
    """The searches in a `usage` object, as Anthropic, OpenRouter and DeepSeek tell them."""
    used = usage.get("server_tool_use")
    return tokens(used.get("web_search_requests")) if isinstance(used, dict) else None


def service_tier(*names: object) -> str | None:
    """The first of the names that is a class of service with a price of its own; None for the ordinary one."""
    for name in names:
        if name and isinstance(name, str) and (lower := name.lower()) in _SERVICE_TIERS:
            return lower
    return None


def total(*counts: int | None) -> int | None:
    """The sum of what was reported; None if nothing was."""
    reported = [count for count in counts if count is not None]
    return sum(reported) if reported else None


def with_reasoning(
    read: int | None, written: int | None, reasoning: int | None, reported_total: object
) -> int | None:
    """Output tokens, reasoning included: `written`, to which xAI and others leave it to be added.

    Only the total tells: it is that of all three counts.
    """
    if not reasoning or read is None or written is None:
        return written
    return written + reasoning if tokens(reported_total) == read + written + reasoning else written


class InputDetails(msgspec.Struct):
    """What of the input is what, as both of OpenAI's dialects tell it."""

    cached_tokens: Count = None
    cache_write_tokens: Count = None
    audio_tokens: Count = None
    image_tokens: Count = None


class OutputDetails(msgspec.Struct):
    """Likewise of the output."""

    reasoning_tokens: Count = None
    audio_tokens: Count = None
    image_tokens: Count = None


_NO_INPUT, _NO_OUTPUT = InputDetails(), OutputDetails()


def detailed(
    read: int | None,
    written: int | None,
    reported_total: object,
    given: InputDetails | None,
    made: OutputDetails | None,
    tier: object,
) -> Usage:
    """Usage by plain counts and what of them is what. `tier` is the answer's class of service."""
    given, made = given or _NO_INPUT, made or _NO_OUTPUT
    reasoning = made.reasoning_tokens
    return Usage(
        read,
        with_reasoning(read, written, reasoning, reported_total) if reasoning else written,
        given.cached_tokens,
        given.cache_write_tokens,
        reasoning_tokens=reasoning,
        input_audio_tokens=given.audio_tokens,
        input_image_tokens=given.image_tokens,
        output_audio_tokens=made.audio_tokens,
        output_image_tokens=made.image_tokens,
        service_tier=service_tier(tier),
    )


def merged(before: Usage | None, now: Usage | None) -> Usage | None:
    """What is known after `now`: its counts replace those of `before`, what it leaves out stays."""
    if before is None or now is None:
        return now or before
    changes = {name: new for name in Usage.__struct_fields__ if (new := getattr(now, name)) is not None}
    return structs.replace(before, **changes)


def consistent(usage: Usage) -> Usage:
    """The counts with each part within its whole, the wholes raised where they contradict: what they cost stays.

    `ledger/pricing.py` prices them by the same rule.
    """
    if (
        usage.cache_read_tokens is None
        and usage.cache_write_tokens is None
        and usage.cache_write_1h_tokens is None
        and usage.reasoning_tokens is None
    ):
        return usage
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if (
        cached <= (usage.input_tokens or 0)
        and (usage.reasoning_tokens or 0) <= (usage.output_tokens or 0)
        and (usage.cache_write_1h_tokens or 0) <= (usage.cache_write_tokens or 0)
    ):
        return usage
    written = _at_least(usage.cache_write_tokens, usage.cache_write_1h_tokens)
    given = _at_least(usage.input_tokens, total(usage.cache_read_tokens, written))
    answered = _at_least(usage.output_tokens, usage.reasoning_tokens)
    return structs.replace(usage, cache_write_tokens=written, input_tokens=given, output_tokens=answered)


def _at_least(whole: int | None, part: int | None) -> int | None:
    return part if part and part > (whole or 0) else whole


def _nano(value: object, each: Decimal) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    nano = Decimal(str(value)) * each
    if not nano.is_finite() or not 0 <= nano <= _MOST_NANO_USD:
        return None
    return int(nano.to_integral_value(ROUND_HALF_EVEN))


def status_of_error(error: object) -> int:
    """The HTTP status that an error object inside an answer stands for; 500 if it does not say."""
    for field in ("code", "status", "type"):
        value = mapping(error).get(field)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, str) and value in _STATUS_OF_KIND:
            return _STATUS_OF_KIND[value]
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return 500


def never(_event: Event) -> bool:
    """For a dialect without such events."""
    return False


def as_received(answer: bytes, _client_model: str) -> bytes:
    """For an answer that holds no model name."""
    return answer


def unreported(_answer: bytes) -> Usage | None:
    """For an answer that holds no usage."""
    return None


def usage_stays(_event: Event, before: Usage | None) -> Usage | None:
    """For a stream that holds no usage."""
    return before
