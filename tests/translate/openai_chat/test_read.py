"""A chat completion request is understood, refused where it must be, and honest about the rest."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.model import Conversation, Format, Text, Thinking, Tool, ToolChoice, Turn
from gproxy.translate.openai_chat.read import read_request

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def conversation(**fields: Any) -> Conversation:
    return read_request({"model": "m", "messages": HELLO, **fields}).conversation


def test_a_request_is_a_conversation() -> None:
    read = read_request(
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": 5,
            "max_tokens": 9,
            "temperature": 0.5,
            "stop": "END",
            "n": 1,
            "user": "u",
            "verbosity": "low",
            "prompt_cache_key": "k",
            "metadata": {"a": "b"},
            "parallel_tool_calls": None,
            "logprobs": False,
            "service_tier": "auto",
        }
    )
    assert read.lost == frozenset()
    assert read.conversation == Conversation(
        system=(Text("Be brief."),),
        turns=(Turn("user", (Text("Hello"),)),),
        max_output=5,
        temperature=0.5,
        stop=("END",),
        user="u",
        verbosity="low",
        cache_key="k",
        metadata={"a": "b"},
    )


def test_what_has_no_place_is_named() -> None:
    read = read_request(
        {
            "messages": HELLO,
            "logit_bias": {"50256": -100},
            "logprobs": True,
            "store": True,
            "x\r\ny": 1,
            "z": None,
        }
    )
    assert read.lost == {"logit_bias", "logprobs", "store", "x\r\ny"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "`n` above 1"),
        ({"modalities": ["text", "audio"]}, "`modalities`"),
        ({"audio": {"voice": "alloy"}}, "`audio`"),
        ({"functions": []}, "`functions`"),
        ({"function_call": "auto"}, "`function_call`"),
        ({"messages": []}, "`messages`"),
        ({"messages": "hello"}, "`messages`"),
        ({"temperature": "hot"}, "`temperature`"),
        ({"tools": [{"type": "computer_use_preview"}]}, r"`tools\[0\]` is the tool 'computer_use_preview'"),
        ({"tools": [{"type": 1}]}, r"`tools\[0\]\.type`"),
        ({"tools": [{"type": "function", "function": {}}]}, r"`tools\[0\]\.function\.name`"),
        ({"tool_choice": "always"}, "`tool_choice`"),
        ({"tool_choice": {"type": "function"}}, r"`tool_choice\.function\.name`"),
        ({"response_format": {"type": "grammar"}}, "`response_format`"),
        ({"reasoning_effort": "lots"}, "`reasoning_effort`"),
        ({"metadata": {"a": 1}}, r"`metadata\.a`"),
    ],
)
def test_what_cannot_be_left_out_or_is_malformed_is_refused_by_its_name(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadRequest, match=named):
        conversation(**fields)


def test_a_long_word_of_the_clients_is_cut_in_an_error() -> None:
    with pytest.raises(BadRequest) as refused:
        conversation(response_format={"type": "x" * 10_000})
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "weather"}}, ToolChoice("required", ("weather",))),
        ({"type": "custom", "custom": {"name": "patch"}}, ToolChoice("required", ("patch",))),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WEATHER]}},
            ToolChoice("auto", ("weather",)),
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [WEATHER]}},
            ToolChoice("required", ("weather",)),
        ),
    ],
)
def test_a_choice_of_tools_is_read(choice: Any, expected: ToolChoice) -> None:
    assert conversation(tools=[WEATHER], tool_choice=choice).tool_choice == expected


def test_tools_are_read_with_what_is_said_of_them() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /.+/"}}
    found = conversation(
        tools=[
            WEATHER | {"cache_control": {"type": "ephemeral"}},
            {"type": "function", "function": {"name": "plain", "description": "d", "strict": True}},
            {"type": "custom", "custom": {"name": "patch", "format": grammar}},
            {"type": "custom", "custom": {"name": "note", "format": {"type": "text"}}},
        ]
    )
    assert found.tools == (
        Tool("weather", schema={"type": "object"}, cache="5m"),
        Tool("plain", "d", strict=True),
        Tool("patch", freeform=True, grammar=grammar),
        Tool("note", freeform=True),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Format()),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
            Format({"type": "object"}, "n", "", True),
        ),
    ],
)
def test_the_form_of_the_answer_is_read(given: dict[str, Any], expected: Format | None) -> None:
    assert conversation(response_format=given).format == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"reasoning_effort": "xhigh"}, Thinking("xhigh")),
        ({"reasoning": {"effort": "low", "exclude": True}}, Thinking("low", shown=False)),
        ({"reasoning": {"max_tokens": 2000}}, Thinking(budget=2000)),
        ({"reasoning": {"enabled": True}}, Thinking()),
        ({"reasoning": {"enabled": False}}, Thinking("none")),
    ],
)
def test_reasoning_is_read_in_both_forms(fields: dict[str, Any], expected: Thinking | None) -> None:
    assert conversation(**fields).thinking == expected


def test_no_limit_is_no_limit_however_it_is_said() -> None:
    assert conversation(max_tokens=-1).max_output is None
    assert conversation(max_tokens=7).max_output == 7


def test_what_a_provider_runs_is_lost() -> None:
    function = {"type": "function", "function": {"name": "f"}}
    tree = {"messages": HELLO, "tools": [{"type": "web_search"}, function], "web_search_options": {}}
    found = read_request(tree)
    assert found.lost == {"tools.web_search", "web_search_options"}
    assert [tool.name for tool in found.conversation.tools] == ["f"]
