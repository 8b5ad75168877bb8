"""A tool that takes text is one of JSON for a target without such tools, and its text comes back out of that."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.translate import freeform
from gproxy.translate.base import TargetFacts
from gproxy.translate.model import Conversation, Text, Tool, ToolCall, ToolResult, Turn
from gproxy.translate.registry import DIALECTS


@given(st.text())
def test_the_text_comes_back_out_of_the_arguments(text: str) -> None:
    call = ToolCall("id", "apply_patch", text, freeform=True)
    assert freeform.text_of(freeform.arguments_of(call)) == text


@pytest.mark.parametrize("arguments", ["", "plain", '{"other": 1}', '{"input": 3}', "[1]", '{"input": "cut'])
def test_arguments_that_are_not_as_asked_for_are_the_text(arguments: str) -> None:
    assert freeform.text_of(arguments) == arguments


def test_a_grammar_is_told_in_words() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
    made = freeform.as_function(Tool("patch", "Patches.", freeform=True, grammar=grammar))
    assert made.schema is not None
    assert made.schema["required"] == ["input"]
    assert made.description.startswith("Patches.\n\n")
    assert json.dumps(grammar) in made.description
    assert not made.freeform


def test_a_tool_that_takes_json_stays_as_it_is() -> None:
    tool = Tool("weather", schema={"type": "object"})
    assert freeform.as_function(tool) is tool
    assert freeform.arguments_of(ToolCall("id", "weather", '{"a": 1}')) == '{"a": 1}'


@pytest.mark.parametrize(
    ("dialect", "model", "kind"),
    [
        ("openai_chat", "gpt-5.5", "custom"),
        ("openai_chat", "gpt-4.1", "function"),
        ("openai_chat", "llama-3.3-70b", "function"),
        ("openai_responses", "gpt-5.5", "custom"),
        ("openai_responses", "o4-mini", "function"),
    ],
)
def test_text_goes_as_json_to_models_that_are_older_than_such_tools(
    dialect: str, model: str, kind: str
) -> None:
    conversation = Conversation(
        turns=(
            Turn("user", (Text("Go."),)),
            Turn("assistant", (ToolCall("call_1", "apply_patch", "*** Begin", freeform=True),)),
            Turn("tool", (ToolResult("call_1", (Text("done"),)),)),
        ),
        tools=(Tool("apply_patch", "Patches.", freeform=True),),
    )
    tree = DIALECTS[dialect].write_request(conversation, TargetFacts(model=model)).tree
    assert [tool["type"] for tool in tree["tools"]] == [kind]
    calls = [call for message in tree.get("messages", []) for call in message.get("tool_calls", [])]
    calls = calls or [
        item for item in tree["input"] if "call" in item["type"] and "output" not in item["type"]
    ]
    assert [call["type"].removesuffix("_tool_call").removesuffix("_call") for call in calls] == [kind]
    assert "*** Begin" in json.dumps(calls)
