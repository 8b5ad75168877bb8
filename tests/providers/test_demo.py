"""Whatever JSON object is sent, the demo answers, in the dialect of the route, and always the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.protocols.registry import PROTOCOLS
from gproxy.providers.demo import MODELS, OPERATIONS, DemoAnswer, respond

MESSAGES = [{"role": "user", "content": "Hello there"}]
CONTENTS = [{"parts": [{"text": "Hello there"}]}]
GOOD = {
    "chat_completions": {"messages": MESSAGES},
    "completions": {"prompt": "Hello there"},
    "responses": {"input": "Hello there"},
    "embeddings": {"input": "Hello there"},
    "images_generations": {"prompt": "Hello there"},
    "moderations": {"input": "Hello there"},
    "audio_speech": {"input": "Hello there"},
    "rerank": {"query": "Hello", "documents": ["Hello there"]},
    "messages": {"messages": MESSAGES, "max_tokens": 100},
    "count_tokens": {"messages": MESSAGES},
    "generateContent": {"contents": CONTENTS},
    "streamGenerateContent": {"contents": CONTENTS},
    "countTokens": {"contents": CONTENTS},
    "embedContent": {"content": CONTENTS[0]},
    "batchEmbedContents": {"requests": [{"content": CONTENTS[0]}]},
}

# Objects made of the names that the demo reads, at every depth, with values of every kind.
NAMES = st.sampled_from(
    [
        *("messages", "role", "user", "content", "input", "prompt", "text", "max_tokens"),
        *("tools", "tool_choice", "function", "name", "parameters", "tool_result", "required"),
        *("contents", "parts", "functionResponse", "functionCallingConfig", "toolConfig", "mode"),
        *("response_format", "type", "json_schema", "schema", "properties", "items", "enum", "$ref"),
        *("documents", "query", "requests", "dimensions", "n", "top_n", "minimum", "anyOf", "system"),
        *("generationConfig", "output", "function_call_output", "stream_options", "include_usage"),
    ]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12) | NAMES
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def call(operation: str, tree: dict, *, stream: bool = False, sse: bool = True) -> DemoAnswer:
    return respond(operation, "echo-1", tree, stream=stream, sse=sse)


def test_it_answers_every_operation_of_every_dialect() -> None:
    assert set(OPERATIONS) == {protocol.operation for protocol in PROTOCOLS}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_answers_a_plain_request(operation) -> None:
    answer = call(operation, GOOD[operation])
    assert answer.status == 200
    assert answer.body


@given(
    operation=st.sampled_from(sorted(OPERATIONS)),
    tree=st.dictionaries(NAMES, VALUES, max_size=6),
    good=st.booleans(),
    stream=st.booleans(),
    sse=st.booleans(),
)
def test_no_json_object_makes_it_raise(operation, tree, good, stream, sse) -> None:
    tree = GOOD[operation] | tree if good else tree
    answer = call(operation, tree, stream=stream, sse=sse)
    assert answer.status in (200, 400)
    assert all(delay >= 0 for delay, _ in answer.chunks)
    if answer.content_type.startswith("application/json"):
        json.loads(answer.body)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_has_the_same_answer(operation, stream) -> None:
    tree = GOOD[operation]
    assert call(operation, tree, stream=stream) == call(operation, dict(tree), stream=stream)


def test_another_request_has_another_id() -> None:
    ids = {
        json.loads(call("chat_completions", {"messages": [{"role": "user", "content": text}]}).body)["id"]
        for text in ("one", "two")
    }
    assert len(ids) == 2


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nonsense_is_400_in_the_dialect_of_the_route(operation) -> None:
    answer = call(operation, {}, stream=True)
    assert answer.status == 400
    body = json.loads(answer.body)
    if operation in ("messages", "count_tokens"):
        assert body["type"] == "error"
        assert body["error"]["type"] == "invalid_request_error"
    elif operation == "countTokens" or "Content" in operation:
        assert body["error"]["status"] == "INVALID_ARGUMENT"
        assert body["error"]["code"] == 400
    else:
        assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"]


def test_the_listed_models_are_bare_upstream_ids() -> None:
    assert MODELS
    assert all(model and "/" not in model for model in MODELS)


def test_an_unknown_operation_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        call("files", {})
