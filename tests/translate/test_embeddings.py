"""Embeddings between OpenAI's and Gemini's dialects: texts, sizes, both forms of vectors, usage."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.translate import embeddings
from gproxy.translate.embeddings import Asked

PACKED = "AAAAPwAAgL4="  # 0.5 and -0.25
VECTOR = [0.5, -0.25]


def test_texts_are_asked_of_gemini_in_one_batch() -> None:
    tree = {"model": "m", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64", "user": "u"}
    asked = embeddings.for_gemini(tree, "gemini-embedding-001")
    assert asked.tree == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 2,
            }
            for text in ("a", "b")
        ]
    }
    assert (asked.texts, asked.base64, asked.lost) == (2, True, {"user"})


def test_one_text_is_a_batch_of_one() -> None:
    asked = embeddings.for_gemini({"input": "a"}, "models/e")
    assert asked.tree == {"requests": [{"model": "models/e", "content": {"parts": [{"text": "a"}]}}]}
    assert not asked.base64


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 1}, "input"),
        ({"input": [1, 2]}, "tokens"),
        ({"input": [[1, 2]]}, "tokens"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": "two"}, "dimensions"),
    ],
)
def test_what_gemini_cannot_embed_is_refused(tree: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        embeddings.for_gemini(tree, "e")


def test_geminis_vectors_are_told_in_the_form_that_was_asked_for() -> None:
    given = {"embeddings": [{"values": VECTOR}]}
    assert embeddings.from_gemini(given, Asked({}, 1), "my-alias", 7) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}],
        "model": "my-alias",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    counted = {**given, "usageMetadata": {"promptTokenCount": 3}}
    found = embeddings.from_gemini(counted, Asked({}, 1, base64=True), "my-alias", 7)
    assert found["data"][0]["embedding"] == PACKED
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"embeddings": []},
        {"embeddings": [{"values": VECTOR}] * 2},
        {"embeddings": [{"values": ["a"]}]},
        {"embeddings": [{"values": [True]}]},
        {"embeddings": [{}]},
        {"embeddings": [{"values": [1e300]}]},
        {"embeddings": [{"values": [10**400]}]},
    ],
)
def test_an_answer_of_geminis_without_the_vectors_is_broken(tree: dict[str, Any]) -> None:
    with pytest.raises(AnswerBroken):
        embeddings.from_gemini(tree, Asked({}, 1, base64=True), "m", 0)


@pytest.mark.parametrize(
    ("tree", "alone"),
    [
        (
            {
                "content": {"parts": [{"text": "a"}, {"text": "b"}]},
                "output_dimensionality": 2,
                "taskType": "X",
            },
            True,
        ),
        (
            {
                "requests": [
                    {
                        "model": "models/m",
                        "content": {"parts": {"text": "ab"}},
                        "embedContentConfig": {"outputDimensionality": 2, "taskType": "X"},
                    }
                ]
            },
            False,
        ),
    ],
)
def test_texts_of_geminis_client_are_asked_of_openai(tree: dict[str, Any], alone: bool) -> None:
    asked = embeddings.for_openai(tree, "text-embedding-3-small")
    assert asked.tree == {
        "model": "text-embedding-3-small",
        "input": ["ab"],
        "encoding_format": "float",
        "dimensions": 2,
    }
    assert (asked.alone, asked.lost) == (alone, {"taskType"})


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({}, "content"),
        ({"requests": []}, "requests"),
        ({"content": {"parts": [{"inlineData": {}}]}}, "text"),
        ({"requests": [{"content": {"parts": []}}]}, r"requests\[0\].content"),
        (
            {
                "requests": [
                    {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 2},
                    {"content": {"parts": [{"text": "a"}]}},
                ]
            },
            "outputDimensionality",
        ),
    ],
)
def test_what_openai_cannot_embed_is_refused(tree: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        embeddings.for_openai(tree, "e")


def test_openais_vectors_are_told_in_order_and_in_the_form_that_was_asked_for() -> None:
    tree = {
        "data": [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": PACKED}],
        "usage": {"prompt_tokens": 3},
    }
    assert embeddings.from_openai(tree, Asked({}, 2)) == {
        "embeddings": [{"values": VECTOR}, {"values": [1.0]}],
        "usageMetadata": {"promptTokenCount": 3},
    }
    one = {"data": [{"embedding": VECTOR}]}
    assert embeddings.from_openai(one, Asked({}, 1, alone=True)) == {"embedding": {"values": VECTOR}}


@pytest.mark.parametrize("embedding", [None, "!", "AAAA", ["a"], {}])
def test_an_answer_of_openais_without_the_vectors_is_broken(embedding: object) -> None:
    with pytest.raises(AnswerBroken):
        embeddings.from_openai({"data": [{"embedding": embedding}]}, Asked({}, 1))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_vectors_pass_through_base64(vector: list[float]) -> None:
    packed = embeddings.from_gemini({"embeddings": [{"values": vector}]}, Asked({}, 1, base64=True), "m", 0)
    assert embeddings.from_openai(packed, Asked({}, 1, alone=True))["embedding"]["values"] == vector
