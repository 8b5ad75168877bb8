"""A conversation is written as the model takes it: its limits, its sampling, its reasoning, its tools."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.model import Conversation, Format, Text, Thinking, Tool, ToolChoice, Turn
from gproxy.translate.openai_responses.write import write_request

HELLO = (Turn("user", (Text("Hello"),)),)
PATCH = Tool("patch", freeform=True, grammar={"type": "grammar", "grammar": {"syntax": "lark"}})


def written(model: str = "gpt-4.1", **fields: Any) -> Written:
    return write_request(Conversation(turns=HELLO, **fields), TargetFacts(model=model))


def test_a_request_says_no_more_than_it_must_and_that_nothing_is_stored() -> None:
    found = written()
    assert found.tree == {
        "model": "gpt-4.1",
        "store": False,
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
    }
    assert found.lost == frozenset()
    assert write_request(Conversation(turns=HELLO), TargetFacts(model="m", stream=True)).tree["stream"]


def test_the_system_is_the_instructions() -> None:
    found = written(system=(Text("a", cache="5m"), Text("b")))
    assert found.tree["instructions"] == "a\n\nb"
    assert found.lost == {"cache_control"}


def test_a_system_alone_is_the_input() -> None:
    tree = write_request(Conversation(system=(Text("a"),)), TargetFacts(model="gpt-4.1")).tree
    assert "instructions" not in tree
    assert [(item["role"], item["content"][0]["text"]) for item in tree["input"]] == [("developer", "a")]


def test_the_limit_is_no_less_than_openai_takes_and_no_more_than_the_models_ceiling() -> None:
    assert written(max_output=1).tree["max_output_tokens"] == 16
    assert written("llama", max_output=1).tree["max_output_tokens"] == 1
    facts = TargetFacts(model="gpt-4.1", max_output=100)
    capped = write_request(Conversation(turns=HELLO, max_output=200), facts)
    assert capped.tree["max_output_tokens"] == 100


@pytest.mark.parametrize(
    ("model", "thinking", "reasoning", "lost"),
    [
        ("gpt-5.6", Thinking("max"), {"effort": "xhigh"}, set()),
        ("gpt-5.6", Thinking(budget=31999, shown=True), {"effort": "high", "summary": "auto"}, set()),
        ("gpt-5.6", Thinking("none", shown=True), {"effort": "none"}, set()),
        ("gpt-5.6", Thinking(), None, set()),
        ("gpt-4.1", Thinking("high"), None, {"thinking"}),
        ("gpt-4.1", Thinking("none"), None, set()),
    ],
)
def test_an_effort_is_sent_to_models_that_take_one(
    model: str, thinking: Thinking, reasoning: Any, lost: set[str]
) -> None:
    found = written(model, thinking=thinking, tools=(Tool("f"),))
    assert found.tree.get("reasoning") == reasoning
    assert found.lost == lost


def test_reasoning_is_asked_for_in_a_form_that_can_come_back_where_there_is_any() -> None:
    assert written("gpt-5").tree["include"] == ["reasoning.encrypted_content"]
    assert "include" not in written("gpt-4.1").tree
    assert "include" not in written("openai/gpt-oss-120b").tree


def test_sampling_is_left_out_for_a_model_that_refuses_it_and_what_the_dialect_has_not_is_lost() -> None:
    sampling = {"temperature": 0.5, "top_p": 1}
    assert written(**sampling).tree.items() >= sampling.items()
    assert written("gpt-5", **sampling).lost == {"temperature"}
    assert "top_p" not in written("gpt-5", **sampling).tree
    resting = written("gpt-5.1", thinking=Thinking("none"), temperature=0.5)
    assert resting.tree["temperature"] == 0.5
    others = {"top_k": 1, "stop": ("END",), "seed": 0, "presence_penalty": 0.5, "frequency_penalty": 0}
    assert written(**others).lost == {"top_k", "stop", "seed", "presence_penalty"}


CLOSED = {"type": "object", "additionalProperties": False}


def test_a_tool_is_not_strict_where_openai_would_refuse_it() -> None:
    found = written(tools=(Tool("f", schema={"type": "object"}, strict=True),))
    assert found.tree["tools"][0]["strict"] is False
    assert found.lost == {"tools.strict"}


def test_a_tool_is_not_strict_unless_it_was_said() -> None:
    long = "mcp__" + "x" * 80
    found = written(tools=(Tool("f", "d", CLOSED, strict=True, cache="5m"), Tool(long)))
    first, second = found.tree["tools"]
    assert first == {
        "type": "function",
        "name": "f",
        "description": "d",
        "parameters": CLOSED | {"properties": {}},  # OpenAI refuses an object without
        "strict": True,
    }
    assert (second["parameters"], second["strict"]) == ({"type": "object", "properties": {}}, False)
    assert found.names == {second["name"]: long}
    assert found.lost == {"cache_control"}


def test_tools_that_take_text_are_openais_own() -> None:
    (native,) = written("gpt-5", tools=(PATCH,)).tree["tools"]
    assert native == {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark"}}
    (other,) = written("llama", tools=(PATCH,)).tree["tools"]
    assert other["parameters"]["required"] == ["input"]
    (described,) = written("gpt-5", tools=(Tool("p", "d", freeform=True),)).tree["tools"]
    assert described == {"type": "custom", "name": "p", "description": "d"}


@pytest.mark.parametrize(
    ("model", "choice", "expected"),
    [
        ("llama", ToolChoice("none"), "none"),
        ("llama", ToolChoice("required"), "required"),
        ("llama", ToolChoice("required", ("f",)), {"type": "function", "name": "f"}),
        ("gpt-5", ToolChoice("required", ("patch",)), {"type": "custom", "name": "patch"}),
        (
            "gpt-5",
            ToolChoice("auto", ("f",)),
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        ),
    ],
)
def test_a_choice_is_written(model: str, choice: ToolChoice, expected: Any) -> None:
    found = written(model, tools=(Tool("f"), PATCH), tool_choice=choice, parallel_tools=False)
    assert found.tree["tool_choice"] == expected
    assert found.tree["parallel_tool_calls"] is False
    assert len(found.tree["tools"]) == 2


def test_where_some_tools_cannot_be_allowed_the_others_are_not_sent() -> None:
    found = written("llama", tools=(Tool("f"), Tool("g")), tool_choice=ToolChoice("auto", ("g",)))
    assert [tool["name"] for tool in found.tree["tools"]] == ["g"]
    assert found.tree["tool_choice"] == "auto"


def test_a_choice_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(BadRequest, match="has no tools"):
        written(tool_choice=ToolChoice("required"))
    with pytest.raises(BadRequest, match="'x'"):
        written(tools=(Tool("f"),), tool_choice=ToolChoice("required", ("x",)))
    assert "tool_choice" not in written(tool_choice=ToolChoice("none")).tree


def test_the_form_of_the_answer_is_written() -> None:
    assert written(format=Format()).tree["text"] == {"format": {"type": "json_object"}}
    found = written(format=Format({"type": "object"}, "a name", "d"), verbosity="low")
    assert found.tree["text"] == {
        "format": {
            "type": "json_schema",
            "name": "a_name",
            "schema": {"type": "object"},
            "strict": False,
            "description": "d",
        },
        "verbosity": "low",
    }
    assert found.lost == {"schema.strict"}


def test_hints_go_to_openais_models_alone() -> None:
    hints: dict[str, Any] = {"verbosity": "low", "cache_key": "k", "metadata": {"a": "b"}}
    native = written(**hints)
    assert (native.tree["prompt_cache_key"], native.tree["metadata"]) == ("k", {"a": "b"})
    assert native.lost == frozenset()
    assert written("llama", **hints).lost == {"verbosity", "prompt_cache_key", "metadata"}
    assert len(written(user="user_" + "a" * 150).tree["user"]) == 64
