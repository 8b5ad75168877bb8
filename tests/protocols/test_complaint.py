"""What is read out of the errors of upstreams, in the shapes that they document."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.protocols.complaint import complaint_of
from gproxy.values import NO_COMPLAINT, Complaint

NOW = 1_795_612_800.0  # Wed, 25 Nov 2026 13:20:00 GMT


def read(body: object = b"", **headers: str) -> Complaint:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return complaint_of(lambda name: named.get(name, ""), raw, NOW)


OPENAI = {
    "error": {"message": "no", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
}
GEMINI: dict[str, Any] = {
    "error": {
        "code": 429,
        "message": "no",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13.5s"},
        ],
    }
}
ANTHROPIC = {
    "type": "error",
    "error": {"type": "rate_limit_error", "message": "no", "details": {"error_code": "some_code"}},
}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (OPENAI, "insufficient_quota"),
        (GEMINI, "API_KEY_INVALID"),
        (GEMINI, "RESOURCE_EXHAUSTED"),
        ([GEMINI], "API_KEY_INVALID"),
        ({"type": "response.failed", "response": {"id": "r", **OPENAI}}, "insufficient_quota"),
        (ANTHROPIC, "some_code"),
        ({"code": "bad", "error": "no"}, "bad"),
        ({"code": "bad", "message": "no"}, "bad"),
    ],
)
def test_codes_and_text_are_found_in_each_shape(body: object, code: str) -> None:
    complaint = read(body)
    assert code in complaint.codes
    assert complaint.message == "no"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"7", b'{"error": 7}', b'{"error": {"code": 7, "details": "x"}}', b"[" * 9999],
)
def test_what_says_nothing_complains_of_nothing(body: bytes) -> None:
    assert read(body) == NO_COMPLAINT


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(body: bytes) -> None:
    read(body, retry_after=body.decode("latin-1"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": "Wed, 25 Nov 2026 13:20:09 GMT"}, 9),
        ({"retry_after": "Wed, 25 Nov 2026 12:20:00 GMT"}, 0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-7"}, None),
        ({"retry_after": "1e400"}, None),
        ({"retry_after": "9" * 40}, None),
        ({"retry_after": "10000000000"}, 1e10),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "7200000ms"}, 7200),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after_ms": "x", "retry_after": "7"}, 7),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m30.5s"}, 90.5),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "250ms"}, 0.25),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "2h3m"}, 7380),
        ({"x_ratelimit_remaining_tokens": "5", "x_ratelimit_reset_tokens": "6m0s"}, None),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "never"}, None),
    ],
)
def test_when_to_come_back_is_read_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert read(**headers).retry_s == seconds


def test_or_from_geminis_details_after_the_headers() -> None:
    assert read(GEMINI).retry_s == 13.5
    assert read([GEMINI]).retry_s == 13.5
    assert read(GEMINI, retry_after="3").retry_s == 3
    assert read({"error": {"details": [{"retryDelay": 7}, {"retryDelay": ""}, 7]}}).retry_s is None
