"""How a `Record` becomes a row of the table `usage`. Owns no connection: `bulk.py` writes it."""

from operator import attrgetter
from typing import Any

from msgspec.structs import astuple

from gproxy.values import Record, Usage

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

MOST_TOKENS = 10**12
"""A count beyond this is an upstream's nonsense; so bounded, millions of rows still sum within 64 bits."""

DETAILS = (
    "input_audio_tokens",
    "input_image_tokens",
    "cache_read_audio_tokens",
    "cache_read_image_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "web_searches",
)
"""The counts of `Usage` that have their columns in the table `usage_details`, behind `usage_id, service_tier`."""

GROUP = (
    "key_id",
    "requested_model",
    "status",
    "user",
    "key_label",
    "provider",
    "credential",
    "model",
    "alias",
    "dialect",
)
"""The columns of `usage_groups`: what tells rows apart most comes first in its index."""

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
"""The counts of `Usage` that have their columns in `usage`, as `total_tokens` has that follows from them."""

COLUMNS = (
    "request_id",
    "started_at",
    *GROUP,
    "outcome",
    "usage_source",
    "cost_usd",
    "extra_attempt_cost_usd",
    *COUNTS,
    "total_tokens",
    "price_source",
    "maybe_billed",
    "route",
    "stream",
    "attempts",
    "latency_ms",
    "ttft_ms",
    "error",
)
"""Those of `usage` without `id`, so that what a roll-up groups by stands together, and what it sums up does."""

Row = tuple[Any, ...]
"""The values of `COLUMNS`, as `INSERT` takes them: `cost_usd` in nano-dollars."""

Line = tuple[Row, Row | None]
"""What is kept of a request: its row, and its `details_of`."""

NULL = -1
"""In the place of None in the columns that are NULL most often, where a statement makes one of it: Python's module
takes longer over a None than over any number."""

OR_NULL = f"nullif(?, {NULL})"

_WRITTEN = {
    "alias": OR_NULL,
    "cost_usd": "? / 1e9",
    "extra_attempt_cost_usd": OR_NULL,
    "cache_read_tokens": OR_NULL,
    "cache_write_tokens": OR_NULL,
    "cache_write_1h_tokens": OR_NULL,
    "reasoning_tokens": OR_NULL,
    "error": OR_NULL,
}
INSERT = (
    f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join(_WRITTEN.get(it, '?') for it in COLUMNS)})"  # noqa: S608 - constants alone
)

_details_of = attrgetter(*DETAILS)

_WELL_WITHIN = 2**38
"""Of counts whose bits together are below this none is beyond `MOST_TOKENS`, nor is the sum of two."""


def line_of(record: Record) -> Line:
    """What is kept of a request that left this record."""
    return line(*astuple(record))


def line(
    request_id: str,
    started_at: str,
    user: str,
    key_label: str,
    key_id: str,
    requested_model: str,
    dialect: str,
    route: str,
    stream: bool,
    status: int,
    outcome: str,
    attempts: int,
    latency_ms: int,
    provider: str | None,
    credential: str | None,
    model: str | None,
    alias: str | None,
    usage: Usage,
    usage_source: str,
    cost_nano: int | None,
    extra_nano: int | None,
    maybe_billed: bool,
    price_source: str | None,
    ttft_ms: int | None,
    error: str | None,
) -> Line:
    """The same, of the values of a record in their order, for who need not make one."""
    told = (
        request_id,
        started_at,
        key_id,
        requested_model,
        status,
        user,
        key_label,
        provider,
        credential,
        model,
        NULL if alias is None else alias,
        dialect,
        outcome,
        usage_source,
        cost_nano,
        NULL if extra_nano is None else extra_nano / NANO,
    )
    beside = (
        price_source,
        1 if maybe_billed else 0,
        route,
        1 if stream else 0,
        attempts,
        latency_ms,
        ttft_ms,
        NULL if error is None else error,
    )
    # Of more than thirty values at once Python makes a list first.
    return told + _counts_of(usage) + beside, details_of(usage)


def _counts_of(usage: Usage) -> Row:
    """From `input_tokens` to `total_tokens`."""
    given, answered = usage.input_tokens, usage.output_tokens
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    written_1h, reasoning = usage.cache_write_1h_tokens, usage.reasoning_tokens
    total = None if given is None and answered is None else (given or 0) + (answered or 0)
    bits = (given or 0) | (answered or 0)
    if read or written or written_1h or reasoning:
        bits |= (read or 0) | (written or 0) | (written_1h or 0) | (reasoning or 0)
    if not 0 <= bits < _WELL_WITHIN:
        given, answered, read, written, written_1h, reasoning, total = _bounded(
            (given, answered, read, written, written_1h, reasoning, total)
        )
    return (
        given,
        answered,
        NULL if read is None else read,
        NULL if written is None else written,
        NULL if written_1h is None else written_1h,
        NULL if reasoning is None else reasoning,
        total,
    )


def details_of(usage: Usage) -> Row | None:
    """The values of a row of `usage_details` in order, without `usage_id`; None if there are none to keep."""
    if usage.service_tier is None and not (
        usage.input_audio_tokens
        or usage.input_image_tokens
        or usage.cache_read_audio_tokens
        or usage.cache_read_image_tokens
        or usage.output_audio_tokens
        or usage.output_image_tokens
        or usage.web_searches
    ):
        return None
    counts = _bounded(_details_of(usage))
    return (usage.service_tier, *counts) if usage.service_tier or any(counts) else None


def _bounded(counts: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return tuple([None if it is None else min(max(it, 0), MOST_TOKENS) for it in counts])
