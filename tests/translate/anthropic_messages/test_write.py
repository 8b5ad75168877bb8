"""A conversation is written as the model takes it: its limits, its sampling, its thinking, its tools."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.anthropic_messages.write import DEFAULT_MAX_TOKENS, write_request
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.model import (
    Conversation,
    Format,
    Reasoning,
    Signature,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

HELLO = (Turn("user", (Text("Hello"),)),)
OLD, NEW = "claude-sonnet-4-5-20250929", "claude-opus-4-7"


def written(model: str = OLD, turns: tuple[Turn, ...] = HELLO, **fields: Any) -> Written:
    return write_request(Conversation(turns=turns, **fields), TargetFacts(model=model))


def test_a_request_says_no_more_than_it_must() -> None:
    assert written(max_output=9).tree == {
        "model": OLD,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    assert written().lost == frozenset()


@pytest.mark.parametrize(
    ("target", "asked", "limit"),
    [
        (TargetFacts(model="deepseek-chat"), None, DEFAULT_MAX_TOKENS),
        (TargetFacts(model="deepseek-chat"), 100_000, 100_000),
        (TargetFacts(model=OLD), None, 64_000),
        (TargetFacts(model=OLD), 100_000, 64_000),
        (TargetFacts(model=OLD, max_output=5000), None, 5000),
        (TargetFacts(model=OLD, max_output=5000), 10, 10),
    ],
)
def test_the_limit_that_must_be_there_is_the_ceiling_if_nothing_was_said(
    target: TargetFacts, asked: int | None, limit: int
) -> None:
    assert write_request(Conversation(turns=HELLO, max_output=asked), target).tree["max_tokens"] == limit


def test_what_this_dialect_cannot_say_is_named() -> None:
    found = written(seed=1, presence_penalty=0.5, frequency_penalty=0, verbosity="low", metadata={"a": "b"})
    assert found.lost == {"seed", "presence_penalty", "verbosity", "metadata"}


@pytest.mark.parametrize(
    ("model", "fields", "asked"),
    [
        (OLD, {}, True),
        ("deepseek-chat", {}, False),
        (OLD, {"system": (Text("a", cache="5m"),)}, False),
        (OLD, {"tools": (Tool("f", cache="1h"),)}, False),
        (OLD, {"turns": (Turn("user", (Text("a", cache="5m"),)),)}, False),
    ],
)
def test_a_client_that_counts_on_a_cache_gets_one(model: str, fields: dict[str, Any], asked: bool) -> None:
    found = written(model, cache_key="k", **fields)
    assert found.tree.get("cache_control") == ({"type": "ephemeral"} if asked else None)
    assert found.lost == (set() if asked else {"prompt_cache_key"})
    assert "cache_control" not in written(model).tree


def test_plain_fields_are_written() -> None:
    conversation = Conversation(
        system=(Text("a"), Text(" "), Text("b", cache="1h")), turns=HELLO, stop=("END",), user="u"
    )
    tree = write_request(conversation, TargetFacts(model=OLD, stream=True)).tree
    assert tree["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert (tree["stream"], tree["stop_sequences"], tree["metadata"]) == (True, ["END"], {"user_id": "u"})
    assert "system" not in written(system=(Text(""),)).tree
    with pytest.raises(BadRequest, match="white space"):
        written(stop=("\n",))


@pytest.mark.parametrize(
    ("model", "given", "sent", "lost"),
    [
        (OLD, {"temperature": 1.5}, {"temperature": 1.0}, {"temperature"}),
        (OLD, {"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_k": 3}, {"top_p"}),
        (NEW, {"temperature": 0.5, "top_p": 1, "top_k": 3}, {}, {"temperature", "top_k"}),
        ("deepseek-chat", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, set()),
        (OLD, {"temperature": 1, "top_k": 3, "thinking": Thinking("high")}, {}, {"top_k"}),
    ],
)
def test_sampling_is_as_the_model_takes_it(
    model: str, given: dict[str, Any], sent: dict[str, Any], lost: set[str]
) -> None:
    found = written(model, **given)
    assert {
        name: found.tree[name] for name in ("temperature", "top_p", "top_k") if name in found.tree
    } == sent
    assert found.lost == lost


@pytest.mark.parametrize(
    ("model", "thinking", "expected", "effort"),
    [
        (OLD, Thinking("low"), {"type": "enabled", "budget_tokens": 2048}, None),
        (OLD, Thinking(budget=5000), {"type": "enabled", "budget_tokens": 5000}, None),
        (OLD, Thinking(budget=100), {"type": "enabled", "budget_tokens": 1024}, None),
        (OLD, Thinking("none"), {"type": "disabled"}, None),
        ("deepseek-chat", Thinking("high"), {"type": "enabled", "budget_tokens": 7168}, None),
        (NEW, Thinking("xhigh"), {"type": "adaptive"}, "xhigh"),
        (NEW, Thinking(budget=31999, shown=True), {"type": "adaptive", "display": "summarized"}, "high"),
        (NEW, Thinking(shown=False), {"type": "adaptive", "display": "omitted"}, None),
        (NEW, Thinking("none"), None, None),
        ("claude-opus-5", Thinking("none"), {"type": "disabled"}, None),
        ("claude-fable-5", Thinking(budget=0), None, None),
        ("claude-sonnet-4-6", Thinking("max"), {"type": "adaptive"}, "high"),
    ],
)
def test_thinking_is_as_the_model_takes_it(
    model: str, thinking: Thinking, expected: dict[str, Any] | None, effort: str | None
) -> None:
    tree = written(model, thinking=thinking).tree
    assert tree.get("thinking") == expected
    assert tree.get("output_config", {}).get("effort") == effort


def test_a_forced_tool_is_called_without_a_thought() -> None:
    forced = ToolChoice("required", ("f",))
    found = written(NEW, tools=(Tool("f"),), tool_choice=forced, thinking=Thinking("high"))
    assert "thinking" not in found.tree
    assert found.lost == {"thinking"}


CALL = ToolCall("a", "f", "{}")
RESULT = Turn("tool", (ToolResult("a", (Text("ok"),)),))
THOUGHT = Reasoning("hm", Signature("s", "anthropic_messages"))


@pytest.mark.parametrize(
    ("fields", "thinks"),
    [
        ({"max_output": 1024}, False),
        ({"max_output": 1025}, True),
        ({"tools": (Tool("f"),), "tool_choice": ToolChoice("required")}, False),
        ({"turns": (*HELLO, Turn("assistant", (CALL,)), RESULT)}, False),
        ({"turns": (*HELLO, Turn("assistant", (THOUGHT, CALL)), RESULT)}, True),
        (
            {"turns": (*HELLO, Turn("assistant", (CALL,)), RESULT, Turn("assistant", (Text("a"),)), *HELLO)},
            True,
        ),
        ({"turns": (*HELLO, Turn("assistant", (Text("{"),)))}, False),
    ],
)
def test_a_budget_is_given_only_where_thinking_is_allowed(fields: dict[str, Any], thinks: bool) -> None:
    found = written(thinking=Thinking("high"), **fields)
    assert ("thinking" in found.tree) is thinks
    assert ("thinking" in found.lost) is not thinks


def test_calls_of_tools_that_are_no_longer_there_are_told_with_tools_that_may_not_be_called() -> None:
    turns = (*HELLO, Turn("assistant", (CALL, ToolCall("b", "g.h", "{}"), ToolCall("c", "f", "{}"))))
    results = Turn("tool", tuple(ToolResult(call, (Text("ok"),)) for call in "abc"))
    found = written(turns=(*turns, results))
    empty = {"type": "object", "properties": {}}
    assert [tool["input_schema"] for tool in found.tree["tools"]] == [empty, empty]
    called = [block["name"] for block in found.tree["messages"][1]["content"]]
    assert [tool["name"] for tool in found.tree["tools"]] == called[:2]
    assert found.tree["tool_choice"] == {"type": "none"}
    assert "tools" not in written(turns=HELLO).tree


def test_tools_are_written_and_names_that_do_not_fit_are_remembered() -> None:
    long = "server.tool"
    patch = Tool("patch", freeform=True)
    found = written(tools=(Tool("f", "d", {"properties": {}}, strict=True, cache="5m"), Tool(long), patch))
    first, second, third = found.tree["tools"]
    assert first == {
        "name": "f",
        "description": "d",
        "input_schema": {"type": "object", "properties": {}},
        "cache_control": {"type": "ephemeral"},
    }
    assert second["input_schema"] == {"type": "object", "properties": {}}
    assert third["input_schema"]["required"] == ["input"]
    assert found.names == {second["name"]: long}
    assert found.lost == {"tools.strict"}


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-5-0"])
def test_a_model_that_takes_no_beginning_of_an_answer_is_asked_to_go_on(model: str) -> None:
    turns = (*HELLO, Turn("assistant", (Text("Once"),)))
    found = written(model, turns)
    assert found.tree["messages"][-2:] == [
        {"role": "assistant", "content": "Once"},
        {"role": "user", "content": "Continue."},
    ]
    assert found.lost == {"prefill"}
    assert written("claude-sonnet-4-5", turns).tree["messages"][-1]["role"] == "assistant"
    assert written("claude-sonnet-4-5", turns).lost == frozenset()


def test_a_strict_tool_is_strict_where_the_model_takes_it_so() -> None:
    number = {"type": "integer", "minimum": 1}
    closed = {"type": "object", "properties": {"n": number}, "required": ["n"], "additionalProperties": False}
    tools = (Tool("f", schema=closed, strict=True), Tool("g", schema=closed))
    found = written("claude-sonnet-4-5", tools=tools)
    first, second = found.tree["tools"]
    assert first["strict"] is True
    assert first["input_schema"]["properties"]["n"] == {"type": "integer", "description": "(minimum: 1)"}
    assert second == {"name": "g", "input_schema": closed}
    assert found.lost == {"schema.minimum"}
    old = written("claude-3-7-sonnet-latest", tools=tools)
    assert "strict" not in old.tree["tools"][0]
    assert old.lost == {"tools.strict"}


@pytest.mark.parametrize(
    ("choice", "parallel", "expected", "tools"),
    [
        (ToolChoice(), None, None, ["f", "g"]),
        (ToolChoice(), False, {"type": "auto", "disable_parallel_tool_use": True}, ["f", "g"]),
        (ToolChoice("none"), True, {"type": "none"}, ["f", "g"]),
        (ToolChoice("required"), True, {"type": "any", "disable_parallel_tool_use": False}, ["f", "g"]),
        (ToolChoice("required", ("g",)), None, {"type": "tool", "name": "g"}, ["f", "g"]),
        (ToolChoice("auto", ("g",)), None, None, ["g"]),
        (ToolChoice("required", ("g", "f")), None, {"type": "any"}, ["f", "g"]),
    ],
)
def test_a_choice_is_written(
    choice: ToolChoice, parallel: bool | None, expected: dict[str, Any] | None, tools: list[str]
) -> None:
    tree = written(tools=(Tool("f"), Tool("g")), tool_choice=choice, parallel_tools=parallel).tree
    assert tree.get("tool_choice") == expected
    assert [tool["name"] for tool in tree["tools"]] == tools


def test_a_choice_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(BadRequest, match="has no tools"):
        written(tool_choice=ToolChoice("required"))
    with pytest.raises(BadRequest, match="'x'"):
        written(tools=(Tool("f"),), tool_choice=ToolChoice("required", ("x",)))
    assert "tool_choice" not in written(tool_choice=ToolChoice("none"), parallel_tools=False).tree


def test_a_schema_and_an_effort_stand_side_by_side() -> None:
    tree = written(NEW, format=Format({"type": "object"}), thinking=Thinking("low")).tree
    assert tree["output_config"] == {
        "format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}},
        "effort": "low",
    }
