"""How a failure of ours looks in each dialect: the answer, or the event that ends a stream.

Which status a failure has is `errors.py`'s; headers are the server's.
"""

import json
from typing import Any

from gproxy.errors import ContextTooLong, GatewayError

_ANTHROPIC_TYPES = {"quota_exceeded": "billing_error", "upstream_error": "api_error"}
_ANTHROPIC_TYPES_BY_STATUS = {413: "request_too_large"}
# By these clients know that they have to shorten what was said: https://github.com/openai/codex and Claude Code do.
_OPENAI_TOO_LONG = "context_length_exceeded"
_ANTHROPIC_TOO_LONG = "prompt is too long"
_GEMINI_STATUSES = {
    "invalid_request_error": "INVALID_ARGUMENT",
    "authentication_error": "UNAUTHENTICATED",
    "quota_exceeded": "RESOURCE_EXHAUSTED",
    "permission_error": "PERMISSION_DENIED",
    "not_found_error": "NOT_FOUND",
    "rate_limit_error": "RESOURCE_EXHAUSTED",
    "api_error": "INTERNAL",
    "upstream_error": "UNAVAILABLE",
    "overloaded_error": "UNAVAILABLE",
    "timeout_error": "DEADLINE_EXCEEDED",
}
_GEMINI_STATUSES_BY_STATUS = {508: "FAILED_PRECONDITION"}


def openai_body(error: GatewayError, _request_id: str) -> bytes:
    """`{"error": {"message", "type", "code", "param"}}`, the code being the HTTP status in most."""
    return _dump({"error": _openai_error(error)})


def openai_event(error: GatewayError, request_id: str) -> bytes:
    """The same as a data line. No `[DONE]` follows it."""
    return b"data: " + openai_body(error, request_id) + b"\n\n"


def responses_event(error: GatewayError, _request_id: str) -> bytes:
    """An `error` event of the Responses API, without the number that the upstream's next event would have had.

    `code`, `message` and `param` at the top are what the API documents; the object under `error` is what makes
    the official SDK raise instead of ending quietly.
    """
    return _responses_event(error, {})


def numbered_responses_event(error: GatewayError, sequence_number: int) -> bytes:
    """The same, behind events that were numbered here."""
    return _responses_event(error, {"sequence_number": sequence_number})


def _responses_event(error: GatewayError, number: dict[str, int]) -> bytes:
    code = _OPENAI_TOO_LONG if isinstance(error, ContextTooLong) else error.kind
    fields = {"type": "error", "code": code, "message": error.message, "param": None} | number
    return b"event: error\ndata: " + _dump(fields | {"error": _openai_error(error)}) + b"\n\n"


def anthropic_body(error: GatewayError, request_id: str) -> bytes:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""
    kind = _ANTHROPIC_TYPES_BY_STATUS.get(error.status) or _ANTHROPIC_TYPES.get(error.kind, error.kind)
    message = error.message
    if isinstance(error, ContextTooLong) and _ANTHROPIC_TOO_LONG not in message:
        message = f"{_ANTHROPIC_TOO_LONG}: {message}"
    return _dump({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def anthropic_event(error: GatewayError, request_id: str) -> bytes:
    """The same as an `error` event. No `message_stop` follows it."""
    return b"event: error\ndata: " + anthropic_body(error, request_id) + b"\n\n"


def gemini_body(error: GatewayError, _request_id: str) -> bytes:
    """`{"error": {"code", "message", "status"}}`, the code being the HTTP status."""
    status = _GEMINI_STATUSES_BY_STATUS.get(error.status) or _GEMINI_STATUSES.get(error.kind, "UNKNOWN")
    return _dump({"error": {"code": error.status, "message": error.message, "status": status}})


def gemini_event(error: GatewayError, request_id: str) -> bytes:
    """The same as a data line, for `alt=sse`. In a JSON array the body itself is the last element."""
    return b"data: " + gemini_body(error, request_id) + b"\n\n"


def _openai_error(error: GatewayError) -> dict[str, Any]:
    code = _OPENAI_TOO_LONG if isinstance(error, ContextTooLong) else error.status
    return {"message": error.message, "type": error.kind, "code": code, "param": None}


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
