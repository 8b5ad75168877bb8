"""An upstream's own error on its way to a client: in the caller's dialect, and without a secret of ours."""

import json
from urllib.parse import quote

import pytest

from gproxy.config.snapshot import Snapshot
from gproxy.errors import ContextTooLong, GatewayError
from gproxy.protocols.registry import match
from gproxy.server.request import refusal
from gproxy.server.request.edge import Call
from tests.server.parts import ALICE, call, snapshot

KEY = "sk-upstream/secret-one"
FILE = f"""{ALICE}
[[providers]]
name = "up"
channel = "custom"
settings = {{ base_url = "http://127.0.0.1:1", headers = {{ x-account = "account-77-secret" }} }}
credentials = [{{ api_key = "{KEY}" }}]
"""
OPENAI = {"error": {"message": "no", "type": "t", "code": "c", "param": None}}
ANTHROPIC = {"type": "error", "error": {"type": "t", "message": "no"}}
GEMINI = {"error": {"code": 400, "message": "no", "status": "S"}}
PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:generateContent",
}


def asked(dialect: str) -> Call:
    found = match(PATHS[dialect])
    assert found is not None
    protocol, model = found
    body = b'{"model": "m", "messages": [], "max_tokens": 1, "contents": []}'
    return call(snapshot(FILE), body, protocol, model=model)


def body_of(call: Call, status: int, raw: bytes, request_id: str) -> bytes:
    return refusal.body_of(call, status, raw, request_id, refusal.scrubber(call.snapshot, ()))


def error_of(status: int, raw: bytes, snapshot: Snapshot) -> GatewayError:
    return refusal.error_of(status, raw, refusal.scrubber(snapshot, ()))


@pytest.mark.parametrize(
    ("theirs", "body"), [("openai", OPENAI), ("anthropic", ANTHROPIC), ("gemini", GEMINI)]
)
@pytest.mark.parametrize("caller", PATHS)
def test_the_callers_shape_is_passed_byte_for_byte_and_any_other_is_put_into_it(
    theirs: str, body: dict[str, object], caller: str
) -> None:
    raw = json.dumps(body).encode()
    passed = body_of(asked(caller), 400, raw, "req_1")
    assert (passed == raw) == (theirs == caller)
    tree = json.loads(passed)
    assert tree["error"]["message"] == "no"
    assert ("type" in tree) == (caller == "anthropic")


def test_a_response_that_has_failed_is_told_as_an_error() -> None:
    failed = {"model": "theirs", "status": "failed", "output": [], "error": {"code": "c", "message": "no"}}
    tree = json.loads(body_of(asked("openai"), 400, json.dumps(failed).encode(), "r"))
    assert tree == {"error": {"message": "no", "type": "invalid_request_error", "code": 400, "param": None}}


def test_a_status_has_its_own_type_when_the_text_is_put_into_the_dialect() -> None:
    assert json.loads(body_of(asked("openai"), 404, b"gone", "r"))["error"]["type"] == "not_found_error"
    assert json.loads(body_of(asked("gemini"), 404, b"gone", "r"))["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        KEY.replace("/", "\\/"),
        f"{KEY[:10]}****",
        quote(KEY, safe=""),
        "account-77-secret",
    ],
)
def test_no_secret_is_told_whole_or_cut_short(echo: str) -> None:
    raw = f'{{"error": {{"message": "bad key {echo} here", "type": "t", "code": 1, "param": null}}}}'.encode()
    told = json.loads(body_of(asked("openai"), 400, raw, "r"))["error"]["message"]
    assert told == "bad key [redacted] here"


def test_a_secret_is_not_told_in_a_value_that_another_hides() -> None:
    raw = (
        b'{"error": {"message": "%s", "message": "no", "type": "t", "code": 1, "param": null}}' % KEY.encode()
    )
    told = body_of(asked("openai"), 400, raw, "r")
    assert KEY.encode() not in told
    assert json.loads(told)["error"]["message"] == "no"


def test_a_token_that_was_made_for_the_request_is_not_told() -> None:
    raw = b'{"error": {"message": "bad ya29.made-for-this", "type": "t", "code": 1, "param": null}}'
    scrubber = refusal.scrubber(snapshot(FILE), [(b"authorization", b"Bearer ya29.made-for-this")])
    assert refusal.error_of(400, raw, scrubber).message == "bad [redacted]"


@pytest.mark.parametrize("status", [401, 403])
def test_what_is_said_of_our_own_key_is_not_repeated(status: int) -> None:
    error = error_of(status, b'{"error": {"message": "Your account 12 is closed"}}', snapshot(FILE))
    assert "12" not in error.message
    assert error.status == 502


def test_an_error_in_an_event_of_the_responses_api_is_told_by_its_text_alone() -> None:
    raw = json.dumps({"type": "response.failed", "response": {"instructions": "be brief", **OPENAI}}).encode()
    assert json.loads(body_of(asked("openai"), 400, raw, "r"))["error"]["message"] == "no"
    assert error_of(500, raw, snapshot(FILE)).message == "no"


def test_an_error_in_an_array_is_taken_out_of_it() -> None:
    raw = json.dumps([GEMINI]).encode()
    assert json.loads(body_of(asked("gemini"), 400, raw, "r")) == GEMINI


@pytest.mark.parametrize(
    "body",
    [
        b'"\\ud800"',
        b'{"error":{"message":"\\ud800"}}',
        b"[" * 100_000,
        b'{"error":{"message":"\xff"}}',
        b"1e999",
    ],
    ids=["half", "half in an error", "deep", "no UTF-8", "beyond a double"],
)
@pytest.mark.parametrize("caller", PATHS)
def test_what_no_json_can_hold_is_told_as_text_or_not_at_all(body: bytes, caller: str) -> None:
    assert json.loads(body_of(asked(caller), 400, body, "r"))["error"]["message"]


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 186433 + 20000 > 200000",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).",
        "The input (345516 tokens) is longer than the model's context length (262144 tokens).",
    ],
)
def test_that_a_context_is_too_long_is_told_in_the_callers_words(said: str) -> None:
    raw = json.dumps({"detail": said}).encode()
    openai = json.loads(body_of(asked("openai"), 400, raw, "r"))["error"]
    assert (openai["code"], openai["message"]) == ("context_length_exceeded", said)
    assert "prompt is too long" in json.loads(body_of(asked("anthropic"), 400, raw, "r"))["error"]["message"]
    other = json.dumps({"detail": "temperature is too high"}).encode()
    failed = {"response": {"error": {"code": "context_length_exceeded", "message": "Too much."}}}
    assert isinstance(error_of(400, json.dumps(failed).encode(), snapshot(FILE)), ContextTooLong)
    assert json.loads(body_of(asked("openai"), 400, other, "r"))["error"]["code"] == 400
