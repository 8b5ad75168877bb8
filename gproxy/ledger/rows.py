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
"""The values of the columns of `usage` in order, without `id`."""

_counts_of = attrgetter(
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
_details_of = attrgetter(*DETAILS)


def row_of(record: Record) -> Row:
    """What stands in the table of a record."""
    usage, cost, extra = record.usage, record.cost_nano, record.extra_attempt_cost_nano
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
        record.alias,
        record.dialect,
        record.route,
        int(record.stream),
        record.status,
        record.outcome,
        record.attempts,
        *_bounded((*_counts_of(usage), usage.total_tokens)),
        record.usage_source,
        None if cost is None else cost / NANO,
        None if extra is None else extra / NANO,
        int(record.maybe_billed),
        record.price_source,
        record.latency_ms,
        record.ttft_ms,
        record.error,
    )


def details_of(usage: Usage) -> Row | None:
    """The values of a row of `usage_details` in order, without `usage_id`; None if there are none to keep."""
    counts = _details_of(usage)
    if usage.service_tier is None and not any(counts):
        return None
    counts = _bounded(counts)
    return (usage.service_tier, *counts) if usage.service_tier or any(counts) else None


def _bounded(counts: tuple[int | None, ...]) -> tuple[int | None, ...]:
    for count in counts:
        if count is not None and not 0 <= count <= MOST_TOKENS:
            return tuple([None if it is None else min(max(it, 0), MOST_TOKENS) for it in counts])
    return counts
