"""Entries of the request logs for tests."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gproxy.ledger.logs import Content, Downstream, Upstream, insert
from gproxy.ledger.store import open_store

_CONTENT = Content(
    request_headers=[("host", "localhost:8787"), ("authorization", "[redacted]")],
    response_headers=[("content-type", "application/json")],
)

_REQUEST = Downstream(
    request_id="req_1",
    started_at="2026-11-25T12:00:00.000Z",
    user="alice",
    key_label="laptop",
    key_id="k1",
    method="POST",
    path="/v1/chat/completions",
    query="",
    requested_model="main/large",
    provider="main",
    model="large",
    attempts=1,
    status=200,
    first_byte_ms=15,
    total_ms=20,
    error=None,
    content=_CONTENT,
)

_ATTEMPT = Upstream(
    request_id="req_1",
    started_at="2026-11-25T12:00:00.001Z",
    attempt=1,
    provider="main",
    credential="main#1",
    model="large",
    method="POST",
    url="https://upstream.example/v1/chat/completions",
    status=200,
    first_byte_ms=12,
    total_ms=18,
    error=None,
    content=_CONTENT,
)


def request(request_id: str, **changes: Any) -> Downstream:
    """A plain request with this id and these fields changed."""
    return replace(_REQUEST, request_id=request_id, **changes)


def attempt(request_id: str, number: int, **changes: Any) -> Upstream:
    """The attempt of that number, with these fields changed."""
    return replace(_ATTEMPT, request_id=request_id, attempt=number, **changes)


def write(path: Path, *entries: Downstream | Upstream) -> None:
    """Into the store at `path`, made if need be."""
    store = open_store(path)
    outcomes = store.run([partial(insert, entry=entry) for entry in entries])
    store.close()
    assert outcomes == [None] * len(entries)
