"""A closed set of paths, each to its one operation."""

import pytest

from gproxy.config import schema
from gproxy.protocols.registry import ANTHROPIC, GEMINI, OPENAI, PROTOCOLS, Shape, match, shape_of


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", "chat_completions"),
        ("/v1/completions", "completions"),
        ("/v1/responses", "responses"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/images/generations", "images_generations"),
        ("/v1/moderations", "moderations"),
        ("/v1/audio/speech", "audio_speech"),
        ("/v1/rerank", "rerank"),
        ("/v1/messages", "messages"),
        ("/v1/messages/count_tokens", "count_tokens"),
        ("/v1/messages/count-tokens", "count_tokens"),
    ],
)
def test_a_fixed_path_has_its_operation(path: str, operation: str) -> None:
    found = match(path)
    assert found is not None
    assert (found[0].operation, found[1]) == (operation, None)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize(
    "action",
    ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"],
)
@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("gemini-2.5-flash", "gemini-2.5-flash"),
        ("main/gemini", "main/gemini"),
        ("main%2Fgemini", "main/gemini"),
        ("models/gemini", "models/gemini"),
        ("llama3:8b", "llama3:8b"),
        ("a%252Fb", "a%2Fb"),
    ],
)
def test_a_gemini_path_holds_the_model_decoded_once(
    version: str, action: str, written: str, model: str
) -> None:
    found = match(f"/{version}/models/{written}:{action}")
    assert found is not None
    assert (found[0].operation, found[1]) == (action, model)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1/chat/completions/", "/v1//chat/completions", "/V1/chat/completions", "/v1/chat/completions/x",
        "/v1/models", "/v1/models/x", "/v1beta/models/x:deleteModel", "/v1beta/models/x", "/v1/files",
        "/v1beta/models/x:generateContent/y", "/v2/models/x:generateContent", "/v1/models/x:generatecontent",
    ],
)  # fmt: skip
def test_nothing_else_is_an_operation(path: str) -> None:
    assert match(path) is None


def test_operations_are_unique_and_carried_by_protocols_that_a_provider_can_speak() -> None:
    assert len({(p.name, p.operation) for p in PROTOCOLS}) == len(PROTOCOLS)
    assert all(p.carried_by and p.carried_by <= set(schema.PROTOCOLS) for p in PROTOCOLS)


@pytest.mark.parametrize(
    ("path", "headers", "query", "shape"),
    [
        ("/v1/models", [], "", OPENAI),
        ("/v1/models/a/b", [(b"anthropic-version", b"2023-06-01")], "", ANTHROPIC),
        ("/v1/models", [(b"x-goog-api-key", b"k"), (b"anthropic-version", b"x")], "", GEMINI),
        ("/v1/models", [], "key=k", GEMINI),
        ("/v1beta/models", [], "", GEMINI),
        ("/v1beta", [(b"anthropic-version", b"x")], "", GEMINI),
        ("/v1/messages", [], "", ANTHROPIC),
        ("/v1/messages/batches", [], "key=k", ANTHROPIC),
        ("/v1/messagesx", [], "", OPENAI),
        ("/v1/chat/completions", [(b"x-goog-api-key", b"k")], "", OPENAI),
        ("/nothing", [(b"anthropic-version", b"x")], "", ANTHROPIC),
        ("/", [], "", OPENAI),
    ],
)
def test_a_path_is_answered_in_its_callers_dialect(
    path: str, headers: list[tuple[bytes, bytes]], query: str, shape: Shape
) -> None:
    assert shape_of(path, headers, query) is shape
