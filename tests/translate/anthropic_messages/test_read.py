"""A Messages request is understood, refused where it must be, and honest about the rest."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.anthropic_messages.read import read_request
from gproxy.translate.model import Conversation, Format, Text, Thinking, Tool, ToolChoice, Turn

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"name": "weather", "description": "d", "input_schema": {"type": "object"}}
BILLING = "x-anthropic-billing-header:"
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def conversation(**fields: Any) -> Conversation:
    return read_request({"model": "m", "max_tokens": 9, "messages": HELLO, **fields}).conversation


def test_a_request_is_a_conversation() -> None:
    read = read_request(
        {
            "model": "m",
            "max_tokens": 9,
            "messages": HELLO,
            "system": [
                {"type": "text", "text": "a"},
                {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
            "metadata": {"user_id": "u"},
            "stop_sequences": ["END"],
            "stream": True,
            "temperature": 1,
            "top_p": 0.5,
            "top_k": 3,
            "service_tier": "auto",
        }
    )
    assert read.lost == frozenset()
    assert read.conversation == Conversation(
        system=(Text("a"), Text("b", cache="1h")),
        turns=(Turn("user", (Text("Hello"),)),),
        max_output=9,
        temperature=1,
        top_p=0.5,
        top_k=3,
        stop=("END",),
        user="u",
    )


def test_what_has_no_place_is_named() -> None:
    read = read_request(
        {
            "messages": HELLO,
            "context_management": {"edits": []},
            "service_tier": "standard_only",
            "output_config": {"effort": "low", "task_budget": {}},
            "tools": [SEARCH, WEATHER],
        }
    )
    assert read.lost == {
        "context_management",
        "service_tier",
        "output_config.task_budget",
        "tools.web_search_20250305",
    }
    assert [tool.name for tool in read.conversation.tools] == ["weather"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": []}, "`messages`"),
        ({"container": "c"}, "`container`"),
        ({"inference_geo": "us"}, "`inference_geo`"),
        ({"system": 1}, "`system`"),
        ({"system": [{"type": "image"}]}, r"`system\[0\]`"),
        ({"max_tokens": "many"}, "`max_tokens`"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, r"`tools\[0\]` is the tool 'bash_20250124'"),
        ({"tools": [{"input_schema": {}}]}, r"`tools\[0\]\.name`"),
        ({"tools": [{"name": "f", "input_schema": []}]}, r"`tools\[0\]\.input_schema`"),
        ({"tool_choice": {"type": "always"}}, r"`tool_choice\.type`"),
        ({"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}, "'web_search'"),
        ({"output_config": {"format": {"type": "grammar"}}}, "'grammar'"),
        ({"output_config": {"effort": "lots"}}, r"`output_config\.effort`"),
        ({"thinking": {"type": "on"}}, r"`thinking\.type`"),
        ({"metadata": {"user_id": 1}}, r"`metadata\.user_id`"),
    ],
)
def test_what_cannot_be_left_out_or_is_malformed_is_refused_by_its_name(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadRequest, match=named):
        conversation(**fields)


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(), None),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False),
        ({"type": "any", "disable_parallel_tool_use": False}, ToolChoice("required"), True),
        ({"type": "none"}, ToolChoice("none"), None),
        ({"type": "tool", "name": "weather"}, ToolChoice("required", ("weather",)), None),
    ],
)
def test_a_choice_of_tools_is_read(
    choice: dict[str, Any], expected: ToolChoice, parallel: bool | None
) -> None:
    found = conversation(tools=[WEATHER], tool_choice=choice)
    assert (found.tool_choice, found.parallel_tools) == (expected, parallel)


def test_a_tool_is_read_with_what_is_said_of_it() -> None:
    found = conversation(
        tools=[WEATHER | {"type": "custom", "strict": True, "cache_control": {"type": "ephemeral"}}]
    )
    assert found.tools == (Tool("weather", "d", {"type": "object"}, strict=True, cache="5m"),)


def test_what_is_said_of_a_tool_and_has_no_place_is_named() -> None:
    hints = {"defer_loading": True, "eager_input_streaming": True, "allowed_callers": ["direct"]}
    told = {"model": "m", "max_tokens": 9, "messages": HELLO, "tools": [WEATHER | hints]}
    assert read_request(told).lost == frozenset()
    told["tools"] = [WEATHER | {"input_examples": [{}], "allowed_callers": ["code_execution_20250825"]}]
    assert read_request(told).lost == {"tools.input_examples", "tools.allowed_callers"}


@pytest.mark.parametrize(
    ("system", "kept"),
    [
        ([{"type": "text", "text": f"{BILLING} cc_version=2.1; cch=1;"}, {"type": "text", "text": "a"}], "a"),
        (f"{BILLING} cc_version=2.1; cch=1;\n\nYou are", "You are"),
        ([{"type": "text", "text": f"a {BILLING}"}], f"a {BILLING}"),
    ],
)
def test_instructions_are_the_same_in_every_request_of_claude_code(system: Any, kept: str) -> None:
    read = read_request({"model": "m", "max_tokens": 9, "messages": HELLO, "system": system})
    assert read.conversation.system == (Text(kept),)
    assert read.lost == (set() if BILLING in kept else {"x-anthropic-billing-header"})


def test_the_beginning_of_an_answer_is_named_since_others_do_not_go_on_with_it() -> None:
    begun = [*HELLO, {"role": "assistant", "content": "{"}]
    assert read_request({"model": "m", "max_tokens": 9, "messages": begun}).lost == {"prefill"}
    ended = [*begun, {"role": "user", "content": "Go on"}]
    assert read_request({"model": "m", "max_tokens": 9, "messages": ended}).lost == frozenset()


@pytest.mark.parametrize("where", [{"output_config": "format"}, {"output_format": ""}])
def test_the_form_of_the_answer_is_read_from_its_new_and_its_old_place(where: dict[str, str]) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    (name, inner), *_ = where.items()
    assert conversation(**{name: {inner: form} if inner else form}).format == Format({"type": "object"})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Thinking(budget=2000)),
        ({"thinking": {"type": "disabled"}}, Thinking("none")),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Thinking(shown=False)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, Thinking("max")),
        ({"output_config": {"effort": "low"}}, Thinking("low")),
    ],
)
def test_reasoning_is_read(fields: dict[str, Any], expected: Thinking | None) -> None:
    assert conversation(**fields).thinking == expected
