"""Counts of tokens are asked for and told in another dialect, or estimated."""

import json
from pathlib import Path
from typing import Any

import pytest

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.translate import counting
from gproxy.translate.base import TargetFacts
from gproxy.translate.counting import COUNTERS

ANTHROPIC, GEMINI = COUNTERS["anthropic_messages"], COUNTERS["gemini"]
MESSAGES = {"model": "m", "system": "s", "messages": [{"role": "user", "content": "a"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}


def test_a_claudes_client_counts_by_gemini() -> None:
    found = counting.request(
        ANTHROPIC, GEMINI, {**MESSAGES, "speed": "fast"}, TargetFacts(model="gemini-2.5-pro")
    )
    assert found.tree == {
        "generateContentRequest": {
            "model": "models/gemini-2.5-pro",
            "systemInstruction": {"parts": [{"text": "s"}]},
            **CONTENTS,
        }
    }
    assert found.lost == {"speed"}
    assert counting.answer(GEMINI, ANTHROPIC, {"totalTokens": 31}) == {"input_tokens": 31}


def test_contents_alone_are_sent_alone() -> None:
    bare = {name: value for name, value in MESSAGES.items() if name != "system"}
    assert counting.request(ANTHROPIC, GEMINI, bare, TargetFacts(model="gemini-2.5-pro")).tree == CONTENTS


@pytest.mark.parametrize(
    "tree",
    [
        {**CONTENTS, "systemInstruction": {"parts": [{"text": "s"}]}, "generationConfig": {"temperature": 1}},
        {
            "generate_content_request": {
                "model": "models/m",
                **CONTENTS,
                "system_instruction": {"parts": [{"text": "s"}]},
            }
        },
    ],
)
def test_geminis_client_counts_by_a_claude(tree: dict[str, Any]) -> None:
    found = counting.request(GEMINI, ANTHROPIC, tree, TargetFacts(model="claude-sonnet-4-5", stream=True))
    assert found.tree == {"model": "claude-sonnet-4-5", "system": "s", "messages": MESSAGES["messages"]}
    assert counting.answer(ANTHROPIC, GEMINI, {"input_tokens": 31}) == {"totalTokens": 31}


def test_the_response_of_a_function_is_counted_without_its_call() -> None:
    """As Gemini CLI 0.61 asks, once a tool of its has read an image."""
    tree = json.loads(Path("tests/fixtures/translate/gemini_cli_count.json").read_text("utf-8"))
    found = counting.request(GEMINI, ANTHROPIC, tree, TargetFacts(model="claude-sonnet-4-5")).tree
    (message,) = found["messages"]
    assert [block["type"] for block in message["content"]] == ["text", "image"]
    assert "Binary content provided" in message["content"][0]["text"]
    called = {"role": "model", "parts": [{"functionCall": {"name": "read_file", "args": {}}}]}
    asked = {"role": "user", "parts": [{"text": "Read it."}]}
    whole = {"contents": [asked, called, *tree["contents"]]}
    found = counting.request(GEMINI, ANTHROPIC, whole, TargetFacts(model="claude-sonnet-4-5")).tree
    assert found["messages"][-1]["content"][0]["type"] == "tool_result"


@pytest.mark.parametrize("tree", [{}, {"totalTokens": "3"}, {"totalTokens": -1}, {"totalTokens": True}])
def test_an_answer_without_a_count_is_broken(tree: dict[str, Any]) -> None:
    with pytest.raises(AnswerBroken):
        counting.answer(GEMINI, ANTHROPIC, tree)


def test_a_malformed_request_is_refused() -> None:
    with pytest.raises(BadRequest, match="generateContentRequest"):
        counting.request(GEMINI, ANTHROPIC, {"generateContentRequest": 1}, TargetFacts(model="m"))


def test_what_nobody_counts_is_estimated() -> None:
    assert counting.estimated(GEMINI, {"contents": [{"parts": [{"text": "a" * 400}]}]}) == {
        "totalTokens": 100
    }
    assert counting.estimated(ANTHROPIC, {"messages": [{"content": "a" * 400}]}) == {"input_tokens": 100}
