"""Records for tests of the ledger."""

from typing import Any

from msgspec import structs

from gproxy.values import Record, Usage

_PLAIN = Record(
    request_id="req-1",
    started_at="2026-11-25T12:00:00.000Z",
    user="alice",
    key_label="laptop",
    key_id="k1",
    provider="main",
    credential="main#1",
    model="large",
    requested_model="main/large",
    alias=None,
    dialect="openai_chat",
    route="aggregated",
    stream=False,
    status=200,
    outcome="ok",
    attempts=1,
    usage=Usage(input_tokens=12, output_tokens=3),
    usage_source="upstream",
    cost_nano=1500,
    price_source="config",
    latency_ms=20,
)


def record(request_id: str, **changes: Any) -> Record:
    """A plain record with this id and these fields changed."""
    return structs.replace(_PLAIN, request_id=request_id, **changes)
