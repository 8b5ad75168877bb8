"""How a `Record` becomes a row of the table `usage`. Owns no connection: `bulk.py` writes it."""

from operator import attrgetter
from typing import Any

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


Row = tuple[Any, ...]
"""The values of the columns of `usage` in order, without `id`, as `INSERT` takes them."""

NULL = -1
"""In the place of None in the columns that are NULL most often, where a statement makes one of it: Python's module
takes longer over a None than over any number."""

OR_NULL = f"nullif(?, {NULL})"

_OFTEN_NULL = (9, 18, 19, 20, 21, 25, 30)
"""The places of `alias`, of the counts that not every dialect has, of `extra_attempt_cost_usd` and of `error`."""

_VALUES = [OR_NULL if place in _OFTEN_NULL else "?" for place in range(31)]
INSERT = f"INSERT INTO usage VALUES (NULL, {', '.join(_VALUES)})"  # noqa: S608 - constants alone

_details_of = attrgetter(*DETAILS)

_WELL_WITHIN = 2**38
"""Of counts whose bits together are below this none is beyond `MOST_TOKENS`, nor is the sum of two."""


def row_of(record: Record) -> Row:
    """What stands in the table of a record."""
    usage, cost, extra = record.usage, record.cost_nano, record.extra_attempt_cost_nano
    given, answered = usage.input_tokens, usage.output_tokens
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    written_1h, reasoning = usage.cache_write_1h_tokens, usage.reasoning_tokens
    total = None if given is None and answered is None else (given or 0) + (answered or 0)
    bits = (
        (given or 0) | (answered or 0) | (read or 0) | (written or 0) | (written_1h or 0) | (reasoning or 0)
    )
    if not 0 <= bits < _WELL_WITHIN:
        given, answered, read, written, written_1h, reasoning, total = _bounded(
            (given, answered, read, written, written_1h, reasoning, total)
        )
    return (
        record.request_id,
        record.started_at,
        record.user,
        record.key_label,
        record.key_id,
        record.provider,
        record.credential,
        record.model,
        record.requested_model,
        NULL if record.alias is None else record.alias,
        record.dialect,
        record.route,
        1 if record.stream else 0,
        record.status,
        record.outcome,
        record.attempts,
        given,
        answered,
        NULL if read is None else read,
        NULL if written is None else written,
        NULL if written_1h is None else written_1h,
        NULL if reasoning is None else reasoning,
        total,
        record.usage_source,
        None if cost is None else cost / NANO,
        NULL if extra is None else extra / NANO,
        1 if record.maybe_billed else 0,
        record.price_source,
        record.latency_ms,
        record.ttft_ms,
        NULL if record.error is None else record.error,
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
