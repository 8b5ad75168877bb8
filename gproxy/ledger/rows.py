"""How a `Record` becomes a row of the table `usage`. Owns no connection: `bulk.py` writes it."""

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


def row_of(record: Record) -> tuple[Any, ...]:
    """The values of the columns in order, without `id`."""
    usage = record.usage
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
        _tokens(usage.input_tokens),
        _tokens(usage.output_tokens),
        _tokens(usage.cache_read_tokens),
        _tokens(usage.cache_write_tokens),
        _tokens(usage.cache_write_1h_tokens),
        _tokens(usage.reasoning_tokens),
        _tokens(usage.total_tokens),
        record.usage_source,
        _dollars(record.cost_nano),
        _dollars(record.extra_attempt_cost_nano),
        int(record.maybe_billed),
        record.price_source,
        record.latency_ms,
        record.ttft_ms,
        record.error,
    )


def details_of(usage: Usage) -> tuple[Any, ...] | None:
    """The values of a row of `usage_details` in order, without `usage_id`; None if there are none to keep."""
    counts = [_tokens(getattr(usage, name)) for name in DETAILS]
    return (usage.service_tier, *counts) if usage.service_tier or any(counts) else None


def _tokens(count: int | None) -> int | None:
    return None if count is None else min(max(count, 0), MOST_TOKENS)


def _dollars(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO
