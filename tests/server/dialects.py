"""The dialects as data: how to ask in each, what a good answer looks like, and how an error is told apart.

Who answers is the test's.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.server.parts import Front, Visit


@dataclass(frozen=True)
class Dialect:
    """How to ask in it, one good event of it, and how its errors are told apart."""

    name: str
    path: str
    body: dict[str, Any]
    event: bytes
    whole: dict[str, Any]
    kind: Callable[[Any], str]
    upstream_failed: str
    too_slow: str

    async def ask(self, front: Front, *, stream: bool, visit: Visit | None = None) -> Visit:
        """The answer; `visit` is a client that has yet to be given its request."""
        path, _, query = self.path.partition("?")
        body = dict(self.body)
        if self.name == "gemini":
            path = path if stream else path.replace("streamGenerateContent", "generateContent")
            query = query if stream else ""
        else:
            body["stream"] = stream
        visit = visit or Visit()
        visit.give(json.dumps(body).encode())
        return await front.ask(path, visit=visit, query=query)


def openai_kind(tree: Any) -> str:
    kind: str = tree.get("error", tree.get("response", {}).get("error", tree)).get("type", "")
    return kind


def event(tree: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(tree).encode() + b"\n\n"


_CHOICE = {"index": 0, "delta": {"content": "hel"}, "finish_reason": None}
_CREATED = {"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress"}}
_START = {
    "type": "message_start",
    "message": {"id": "x", "model": "m", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}},
}
_PART = {"candidates": [{"content": {"parts": [{"text": "hel"}]}}], "modelVersion": "m"}

DIALECTS = {
    each.name: each
    for each in (
        Dialect(
            "chat",
            "/v1/chat/completions",
            {"model": "up/m", "messages": []},
            event({"id": "c", "model": "m", "choices": [_CHOICE]}),
            {"id": "c", "model": "m", "choices": []},
            openai_kind,
            "upstream_error",
            "timeout_error",
        ),
        Dialect(
            "responses",
            "/v1/responses",
            {"model": "up/m", "input": "hi"},
            event(_CREATED, "response.created"),
            {"id": "r", "model": "m", "status": "completed", "output": []},
            openai_kind,
            "upstream_error",
            "timeout_error",
        ),
        Dialect(
            "messages",
            "/v1/messages",
            {"model": "up/m", "max_tokens": 9, "messages": []},
            event(_START, "message_start"),
            {"id": "x", "type": "message", "model": "m", "content": []},
            lambda tree: str(tree["error"]["type"]),
            "api_error",
            "timeout_error",
        ),
        Dialect(
            "gemini",
            "/v1beta/models/up/m:streamGenerateContent?alt=sse",
            {"contents": []},
            event(_PART),
            _PART,
            lambda tree: str(tree["error"]["status"]),
            "UNAVAILABLE",
            "DEADLINE_EXCEEDED",
        ),
    )
}
EACH = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


def ends_in_an_error(visit: Visit, dialect: Dialect, kind: str) -> None:
    """200, one error event last, none of a good end, and a message that ends well."""
    assert visit.status == 200, visit.body
    assert visit.ended
    for good in (b"[DONE]", b"message_stop", b"response.completed"):
        assert good not in visit.body
    events = [part for part in visit.body.replace(b"\r\n", b"\n").split(b"\n\n") if b"data:" in part]
    last = json.loads(events[-1].rpartition(b"data:")[2])
    assert dialect.kind(last) == kind, last
    if dialect.name == "messages":
        assert events[-1].startswith(b"event: error\n")
    if dialect.name == "responses":
        assert last["type"] in ("error", "response.failed")
