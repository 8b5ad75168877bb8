"""The whole shape of an error of ours, in each dialect."""

from typing import Any

import httpx

from tests.kit.gateway import KEY, NARROW_KEY, UPSTREAM_KEY

WORDS = {
    400: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    401: ("authentication_error", "authentication_error", "UNAUTHENTICATED"),
    402: ("quota_exceeded", "billing_error", "RESOURCE_EXHAUSTED"),
    403: ("permission_error", "permission_error", "PERMISSION_DENIED"),
    404: ("not_found_error", "not_found_error", "NOT_FOUND"),
    405: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    413: ("invalid_request_error", "request_too_large", "INVALID_ARGUMENT"),
    415: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    421: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    429: ("rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
}


def message_of(answer: httpx.Response, family: str, status: int) -> str:
    """Asserts the whole shape of an error of ours in one dialect; its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    request_id = answer.headers["x-gproxy-request-id"]
    assert request_id
    openai, anthropic, gemini = WORDS[status]
    body = answer.json()
    message: str = body["error"]["message"]
    shapes: dict[str, Any] = {
        "openai": {"error": {"message": message, "type": openai, "code": status, "param": None}},
        "anthropic": {
            "type": "error",
            "error": {"type": anthropic, "message": message},
            "request_id": request_id,
        },
        "gemini": {"error": {"code": status, "message": message, "status": gemini}},
    }
    assert body == shapes[family]
    assert message
    for secret in (KEY, NARROW_KEY, UPSTREAM_KEY, "Traceback"):
        assert secret not in answer.text
    return message
