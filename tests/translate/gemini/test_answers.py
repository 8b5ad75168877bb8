"""Whole answers: what they say, why they ended, their usage and sources, read and written."""

from typing import Any

import pytest

from gproxy.errors import AnswerBroken
from gproxy.translate.base import ClientFacts
from gproxy.translate.gemini.answers import read_answer, write_answer
from gproxy.translate.model import (
    Answer,
    AnswerPart,
    Citation,
    Finish,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from gproxy.values import Usage

OF_NOBODY = "Z3Byb3h5Lm5vbmUu"  # gproxy.none.
CLIENT = ClientFacts(model="my-alias", answer_id="7f", created=0)


def answer(*parts: Any, reason: Any = "STOP", **more: Any) -> dict[str, Any]:
    candidate = {
        "content": {"role": "model", "parts": list(parts)},
        "finishReason": reason,
        "index": 0,
        **more,
    }
    return {"candidates": [candidate]}


def test_an_answer_is_read_with_its_usage() -> None:
    tree = answer(
        {"text": "hm", "thought": True},
        {"text": "Hi", "thoughtSignature": "s1"},
        {"functionCall": {"id": "x", "name": "f", "args": {"a": 1}}, "thoughtSignature": "s2"},
        {"functionCall": {"name": "g"}},
    )
    usage = {
        "promptTokenCount": 9,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 2,
    }
    assert read_answer({**tree, "usageMetadata": usage}) == Answer(
        (
            Reasoning("hm"),
            Text("Hi"),
            Reasoning("", Signature("s1", "gemini"), redacted=True),
            ToolCall("x", "f", '{"a":1}', Signature("s2", "gemini")),
            ToolCall("", "g", "{}"),
        ),
        "tools",
        Usage(9, 5, 4, reasoning_tokens=2),
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "refused"),
        ("RECITATION", "refused"),
        ("PROHIBITED_CONTENT", "refused"),
        ("OTHER", "stop"),
        ("MALFORMED_FUNCTION_CALL", "stop"),
        (None, "stop"),
        ([], "stop"),
    ],
)
def test_the_reason_of_the_end_is_read(reason: Any, finish: Finish) -> None:
    assert read_answer(answer({"text": "a"}, reason=reason)).finish == finish


def test_a_prompt_that_was_blocked_is_refused() -> None:
    tree = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    assert read_answer(tree) == Answer((), "refused", Usage(3))


@pytest.mark.parametrize(
    "tree", [{}, {"candidates": []}, {"candidates": "x"}, {"candidates": [{"index": 1}]}]
)
def test_an_answer_without_a_candidate_is_none(tree: dict[str, Any]) -> None:
    with pytest.raises(AnswerBroken):
        read_answer(tree)


def test_a_call_that_the_model_could_not_write_is_no_answer() -> None:
    with pytest.raises(AnswerBroken, match="MALFORMED_FUNCTION_CALL"):
        read_answer(answer(reason="MALFORMED_FUNCTION_CALL"))


def test_an_image_is_a_text_that_shows_it() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "aaaa"}}
    assert read_answer(answer(image)).parts == (Text("![](data:image/png;base64,aaaa)"),)


def test_sources_are_read_by_bytes_of_the_text() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}, {"retrievedContext": {}}],
        "groundingSupports": [
            {"segment": {"startIndex": 3, "endIndex": 5}, "groundingChunkIndices": [0, 1, 7, "x"]},
            {"groundingChunkIndices": None},
        ],
    }
    cited = {"citationSources": [{"uri": "https://b", "endIndex": 99}, {"license": "MIT"}]}
    found = read_answer(answer({"text": "äbcd"}, groundingMetadata=grounding, citationMetadata=cited))
    assert found.parts == (Text("äbcd", (Citation("https://a", "A", 2, 4), Citation("https://b", "", 0, 4))),)


def test_an_answer_is_written() -> None:
    parts: tuple[AnswerPart, ...] = (
        Reasoning("hm", Signature("s", "gemini")),
        Text("ä", (Citation("https://a", "A", 0, 1, "quoted"),)),
        Text(""),
        ToolCall("x", "f", '{"a":1}'),
    )
    assert write_answer(
        Answer(parts, "tools", Usage(9, 5, 4, reasoning_tokens=2, tool_tokens=1)), CLIENT
    ) == {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "hm", "thought": True, "thoughtSignature": "s"},
                        {"text": "ä"},
                        {
                            "functionCall": {"id": "x", "name": "f", "args": {"a": 1}},
                            "thoughtSignature": OF_NOBODY,
                        },
                    ],
                },
                "groundingMetadata": {
                    "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}],
                    "groundingSupports": [
                        {
                            "segment": {"startIndex": 0, "endIndex": 2, "text": "ä"},
                            "groundingChunkIndices": [0],
                        }
                    ],
                },
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 8,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 3,
            "thoughtsTokenCount": 2,
            "toolUsePromptTokenCount": 1,
            "totalTokenCount": 14,
        },
        "modelVersion": "my-alias",
        "responseId": "7f",
    }


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "STOP"), ("stop_sequence", "STOP"), ("length", "MAX_TOKENS"), ("refused", "SAFETY")],
)
def test_the_reason_of_the_end_is_written(finish: Finish, reason: str) -> None:
    (candidate,) = write_answer(Answer((Refusal("no"),), finish), CLIENT)["candidates"]
    assert candidate["finishReason"] == reason
    assert candidate["content"]["parts"] == [{"text": "no"}]
