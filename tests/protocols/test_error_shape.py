"""One shape per dialect for every failure: the whole table of dialect and error, and what the SDKs make of it."""

import json
from typing import Any

import httpx
import openai
import pytest
from google.genai import errors as gemini_errors

from gproxy import errors
from gproxy.errors import GatewayError
from gproxy.protocols.anthropic_messages import MESSAGES
from gproxy.protocols.base import Event, Protocol
from gproxy.protocols.gemini import GENERATE
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.protocols.registry import ANTHROPIC, GEMINI, OPENAI, PROTOCOLS
from gproxy.protocols.sse import SseFramer

# class -> status, OpenAI type, Anthropic type, Gemini status
TABLE = {
    "BadRequest": (400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    "Unauthenticated": (401, "authentication_error", "authentication_error", "UNAUTHENTICATED"),
    "QuotaExceeded": (402, "quota_exceeded", "billing_error", "RESOURCE_EXHAUSTED"),
    "Forbidden": (403, "permission_error", "permission_error", "PERMISSION_DENIED"),
    "NotFound": (404, "not_found_error", "not_found_error", "NOT_FOUND"),
    "MethodNotAllowed": (405, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    "BodyTimeout": (408, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    "BodyTooLarge": (413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT"),
    "UnsupportedEncoding": (415, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    "MisdirectedRequest": (421, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    "HeadersTooLarge": (431, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    "RateLimited": (429, "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    "InternalFault": (500, "api_error", "api_error", "INTERNAL"),
    "UpstreamFailed": (502, "upstream_error", "api_error", "UNAVAILABLE"),
    "Unavailable": (503, "overloaded_error", "overloaded_error", "UNAVAILABLE"),
    "UpstreamTimeout": (504, "timeout_error", "timeout_error", "DEADLINE_EXCEEDED"),
    "LoopDetected": (508, "invalid_request_error", "invalid_request_error", "FAILED_PRECONDITION"),
    "UpstreamOverloaded": (529, "overloaded_error", "overloaded_error", "UNAVAILABLE"),
}
MESSAGE = 'It failed: "so"\nä'
each_error = pytest.mark.parametrize("name", TABLE)


def _error(name: str) -> GatewayError:
    made: GatewayError = getattr(errors, name)(MESSAGE)
    return made


def _shape(protocol_name: str, name: str) -> dict[str, Any]:
    status, openai_type, anthropic_type, gemini_status = TABLE[name]
    if protocol_name.startswith("anthropic"):
        inner = {"type": anthropic_type, "message": MESSAGE}
        return {"type": "error", "error": inner, "request_id": "req_1"}
    if protocol_name == "gemini":
        return {"error": {"code": status, "message": MESSAGE, "status": gemini_status}}
    return {"error": {"message": MESSAGE, "type": openai_type, "code": status, "param": None}}


def test_the_table_holds_every_error_that_a_client_can_see() -> None:
    assert {error.__name__ for error in GatewayError.__subclasses__()} == set(TABLE)


@each_error
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.name}-{p.operation}")
def test_an_error_has_the_shape_of_its_dialect(protocol: Any, name: str) -> None:
    error = _error(name)
    assert error.status == TABLE[name][0]
    assert json.loads(protocol.error_body(error, "req_1")) == _shape(protocol.name, name)


@each_error
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.name}-{p.operation}")
def test_an_error_inside_a_stream_is_one_event_and_is_read_as_a_failure(protocol: Any, name: str) -> None:
    sent = protocol.error_event(_error(name), "req_1")
    (event,) = SseFramer().feed(sent)
    assert b"[DONE]" not in sent
    assert b"message_stop" not in sent
    assert _shape(protocol.name, name).items() <= json.loads(event.data or b"").items()
    assert protocol.error_in_event(event) is not None
    assert not protocol.is_terminal(event)


@pytest.mark.parametrize("protocol", [CHAT, RESPONSES, MESSAGES, GENERATE], ids=lambda p: p.name)
def test_an_errors_body_is_read_as_a_failure_whoever_wrote_it(protocol: Protocol) -> None:
    def status(**tree: Any) -> int | None:
        return protocol.error_in_event(Event(b"", json.dumps(tree).encode()))

    assert status(error={"message": "no", "code": 401}) == 401
    assert status(error={"message": "no"}) == 500
    assert status(error=None) is status(error={}) is status(model="m") is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": "server_error"}, 500),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"code": "invalid_prompt"}, 400),
    ],
)
def test_a_response_that_has_failed_is_a_failure_as_its_event_is(error: dict[str, str], status: int) -> None:
    failed = {"object": "response", "status": "failed", "output": [], "error": error}
    for tree in (failed, {"type": "response.failed", "response": failed}):
        assert RESPONSES.error_in_event(Event(b"", json.dumps(tree).encode())) == status
    done = failed | {"status": "completed", "error": None}
    assert RESPONSES.error_in_event(Event(b"", json.dumps(done).encode())) is None


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.operation)
def test_an_errors_body_is_a_failure_of_every_operation(protocol: Protocol) -> None:
    event = Event(b"", b'{"error": {"message": "no", "code": 401}}')
    assert protocol.error_in_event(event) == 401


@pytest.mark.parametrize(
    ("shape", "dialect"), [(OPENAI, "openai_chat"), (ANTHROPIC, "anthropic_messages"), (GEMINI, "gemini")]
)
def test_a_path_without_an_operation_is_answered_alike(shape: Any, dialect: str) -> None:
    assert json.loads(shape.error_body(_error("NotFound"), "req_1")) == _shape(dialect, "NotFound")


def test_a_spent_quota_keeps_its_type_under_another_status() -> None:
    error = _error("QuotaExceeded")
    error.status = 429
    assert json.loads(ANTHROPIC.error_body(error, "r"))["error"]["type"] == "billing_error"
    assert json.loads(OPENAI.error_body(error, "r"))["error"] == {
        "message": MESSAGE,
        "type": "quota_exceeded",
        "code": 429,
        "param": None,
    }


def test_openais_sdk_raises_on_the_error_event_of_a_response_stream() -> None:
    event = RESPONSES.error_event(_error("UpstreamFailed"), "req_1")

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=event)

    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as http,
        openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http) as client,
        pytest.raises(openai.APIError, match="It failed"),
    ):
        list(client.responses.create(model="m", input="x", stream=True))


def test_geminis_sdk_reads_the_error_that_ends_an_array() -> None:
    framer = JsonArrayFramer()
    framer.feed(b'[{"candidates":[]}')
    body = GEMINI.error_body(_error("UpstreamFailed"), "req_1")
    last = json.loads(b'[{"candidates":[]}' + framer.ending(b"", body, b""))[-1]
    assert gemini_errors.APIError(502, last).status == "UNAVAILABLE"
