"""A Responses request is read: what it says, what is lost, and what is refused."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.base import ReadRequest
from gproxy.translate.model import Conversation, Format, Text, Thinking, Tool, ToolChoice, Turn
from gproxy.translate.openai_responses.read import read_request


def read(**fields: Any) -> ReadRequest:
    return read_request({"model": "m", "input": "Hello", **fields})


def conversation(**fields: Any) -> Conversation:
    return read(**fields).conversation


def test_an_input_may_be_a_text() -> None:
    found = read(instructions="Be brief.", stream=True, stream_options={"include_obfuscation": False})
    assert found.conversation == Conversation(
        system=(Text("Be brief."),), turns=(Turn("user", (Text("Hello"),)),)
    )
    assert found.lost == frozenset()


def test_all_that_can_be_said_is_read() -> None:
    found = conversation(
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.25,
        parallel_tool_calls=False,
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low", "format": {"type": "json_object"}},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        metadata={"a": "b"},
    )
    assert (found.max_output, found.temperature, found.top_p) == (9, 0.5, 0.25)
    assert found.parallel_tools is False
    assert found.thinking == Thinking("low", shown=True)
    assert (found.verbosity, found.format) == ("low", Format())
    assert (found.user, found.cache_key, found.metadata) == ("s", "k", {"a": "b"})


def test_instructions_stand_before_those_of_the_input() -> None:
    found = conversation(
        instructions="a", input=[{"role": "developer", "content": "b"}, {"role": "user", "content": "c"}]
    )
    assert found.system == (Text("a"), Text("b"))


def test_tools_are_read_those_in_namespaces_too() -> None:
    schema = {"type": "object", "properties": {}}
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: A"}
    found = read(
        tools=[
            {"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": True},
            {"type": "function", "name": "g", "parameters": schema, "strict": False, "output_schema": schema},
            {"type": "custom", "name": "patch", "description": "p", "format": grammar},
            {
                "type": "namespace",
                "name": "mcp__files",
                "description": "n",
                "tools": [
                    {"type": "function", "name": "read", "parameters": schema, "defer_loading": True},
                ],
            },
            {"type": "web_search", "external_web_access": False},
            {"type": "tool_search"},
        ]
    )
    nested = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}}
    assert found.conversation.tools == (
        Tool("f", "d", schema, strict=True),
        Tool("g", "", schema),
        Tool("patch", "p", freeform=True, grammar=nested),
        Tool("mcp__files.read", "", schema),
    )
    assert found.lost == {"tools.web_search", "tools.tool_search", "tools[].output_schema"}


def test_tools_that_an_item_adds_are_tools_of_the_request() -> None:
    added = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [{"type": "function", "name": "f"}, {"type": "mcp"}],
    }
    found = read(input=[{"role": "user", "content": "a"}, added])
    assert found.conversation.tools == (Tool("f"),)
    assert found.lost == {"tools.mcp"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("required", ("f",))),
        ({"type": "custom", "name": "patch"}, ToolChoice("required", ("patch",))),
        ({"type": "function", "name": "f", "namespace": "ns"}, ToolChoice("required", ("ns.f",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice("required", ("f",)),
        ),
    ],
)
def test_a_choice_is_read(choice: Any, expected: ToolChoice) -> None:
    assert conversation(tool_choice=choice).tool_choice == expected


def test_of_the_tools_that_are_allowed_those_that_openai_runs_are_lost() -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": "f"}]
    found = read(tool_choice={"type": "allowed_tools", "mode": "auto", "tools": tools})
    assert found.conversation.tool_choice == ToolChoice("auto", ("f",))
    assert found.lost == {"tools.web_search"}


def test_the_form_of_the_answer_is_read() -> None:
    schema = {"type": "object"}
    given = {"type": "json_schema", "name": "n", "description": "d", "schema": schema, "strict": True}
    assert conversation(text={"format": given}).format == Format(schema, "n", "d", True)
    assert conversation(text={"format": {"type": "text"}}).format is None


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (None, None),
        ({"effort": None, "summary": None}, None),
        ({"effort": "none"}, Thinking("none")),
        ({"generate_summary": "detailed"}, Thinking(shown=True)),
        ({"effort": "high", "summary": "none"}, Thinking("high", shown=False)),
    ],
)
def test_how_much_to_reason_is_read(reasoning: Any, expected: Thinking | None) -> None:
    assert conversation(reasoning=reasoning).thinking == expected


def test_what_says_nothing_is_not_lost_and_what_does_is() -> None:
    assert (
        read(
            store=False,
            background=False,
            truncation="disabled",
            service_tier="auto",
            include=["reasoning.encrypted_content"],
            previous_response_id=None,
            reasoning={"effort": "low", "context": "auto"},
        ).lost
        == frozenset()
    )
    assert read(
        store=True,
        truncation="auto",
        include=["message.output_text.logprobs"],
        client_metadata={"a": "b"},
        reasoning={"mode": "pro"},
    ).lost == {
        "store",
        "truncation",
        "include.message.output_text.logprobs",
        "client_metadata",
        "reasoning.mode",
    }


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"previous_response_id": "resp_1"}, "`previous_response_id`.*send the whole input"),
        ({"conversation": "conv_1"}, "`conversation`.*send the whole input"),
        ({"prompt": {"id": "pmpt_1"}}, "`prompt`"),
        ({"background": True}, "`background`"),
        ({"tool_choice": {"type": "web_search"}}, "'web_search'"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}}, "allows no tool"),
        ({"tool_choice": 1}, "`tool_choice`"),
        ({"text": {"format": {"type": "xml"}}}, "'xml'"),
        ({"reasoning": {"effort": "much"}}, r"reasoning\.effort"),
        ({"tools": [{"name": "f"}]}, r"tools\[0\]\.type"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{}]}]}, r"tools\[0\]\.tools\[0\]\.name"),
        ({"input": None}, "`input`"),
        ({"metadata": {"a": 1}}, r"metadata\.a"),
    ],
)
def test_what_is_wrong_or_cannot_be_left_out_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        read(**fields)
