"""A conversation is written as the model takes it: its limits, its sampling, its tools."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.model import Conversation, Effort, Format, Text, Thinking, Tool, ToolChoice, Turn
from gproxy.translate.openai_chat.write import write_request

HELLO = (Turn("user", (Text("Hello"),)),)
STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
PATCH = Tool("patch", freeform=True, grammar={"type": "grammar"})


def written(model: str = "llama-3.3-70b", **fields: Any) -> Written:
    return write_request(Conversation(turns=HELLO, **fields), TargetFacts(model=model))


def test_a_request_says_no_more_than_it_must() -> None:
    assert written().tree == {"model": "llama-3.3-70b", "messages": [{"role": "user", "content": "Hello"}]}
    assert written().lost == frozenset()


def test_who_does_not_know_top_k_is_not_sent_it() -> None:
    found = write_request(Conversation(turns=HELLO, top_k=3), TargetFacts(model="llama", top_k=False))
    assert ("top_k" in found.tree, found.lost) == (False, {"top_k"})


def test_a_stream_asks_for_usage_where_it_may() -> None:
    conversation = Conversation(turns=HELLO)
    asked = write_request(conversation, TargetFacts(model="m", stream=True)).tree
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})
    unasked = write_request(conversation, TargetFacts(model="m", stream=True, ask_usage=False)).tree
    assert "stream_options" not in unasked


def test_the_limit_has_the_name_that_the_model_knows_and_stays_below_its_ceiling() -> None:
    assert written("gpt-5", max_output=9).tree["max_completion_tokens"] == 9
    assert written("llama", max_output=9).tree["max_tokens"] == 9
    capped = write_request(Conversation(turns=HELLO, max_output=9), TargetFacts(model="llama", max_output=5))
    assert capped.tree["max_tokens"] == 5


def test_a_limit_that_a_known_model_would_refuse_is_its_ceiling() -> None:
    assert written("gpt-4o-mini", max_output=32000).tree["max_completion_tokens"] == 16_384
    assert written("gpt-5", max_output=32000).tree["max_completion_tokens"] == 32000


def test_a_stop_sequence_is_named_where_the_model_refuses_it() -> None:
    assert written("gpt-4.1", stop=("END",)).tree["stop"] == ["END"]
    refused = written("gpt-5.1", thinking=Thinking("none"), stop=("END",))
    assert "stop" not in refused.tree
    assert refused.lost == {"stop"}


def test_mistral_is_sent_no_field_that_it_does_not_know() -> None:
    found = written("mistral-large-latest", user="u", top_k=3, seed=7)
    assert found.tree.keys() == {"model", "messages", "random_seed"}
    assert found.lost == {"user", "top_k"}
    elsewhere = written("mistralai/mistral-large", user="u", top_k=3, seed=7)
    assert elsewhere.tree.items() >= {"user": "u", "top_k": 3, "seed": 7}.items()


def test_sampling_is_left_out_for_a_model_that_refuses_it() -> None:
    sampling = {"temperature": 0.5, "top_p": 1, "presence_penalty": 0.5, "frequency_penalty": 0, "top_k": 3}
    assert written("llama", **sampling).tree.items() >= sampling.items()
    refused = written("gpt-5.1", **sampling)
    assert not refused.tree.keys() & sampling.keys()
    assert refused.lost == {"temperature", "presence_penalty", "top_k"}
    resting = written("gpt-5.1", thinking=Thinking("none"), temperature=0.5)
    assert (resting.tree["temperature"], resting.tree["reasoning_effort"]) == (0.5, "none")


@pytest.mark.parametrize(
    ("model", "thinking", "effort", "lost"),
    [
        ("gpt-5", Thinking("max"), "high", set()),
        ("gpt-5.4", Thinking(budget=31999), "high", set()),
        ("gpt-5", Thinking(), None, set()),
        ("o3", Thinking("none"), "low", set()),
        ("llama", Thinking("high"), None, {"thinking"}),
        ("llama", Thinking("none"), None, set()),
        ("gpt-4.1", Thinking(budget=2000), None, {"thinking"}),
    ],
)
def test_an_effort_is_sent_to_models_that_take_one(
    model: str, thinking: Thinking, effort: Effort | None, lost: set[str]
) -> None:
    found = written(model, thinking=thinking)
    assert found.tree.get("reasoning_effort") == effort
    assert found.lost == lost


def test_a_model_that_does_not_reason_beside_tools_is_told_so() -> None:
    asked = written("gpt-5.6", tools=(Tool("f"),), thinking=Thinking("high"), temperature=0.5)
    assert (asked.tree["reasoning_effort"], asked.tree["temperature"]) == ("none", 0.5)
    assert asked.lost == {"thinking"}
    assert written("gpt-5.6", tools=(Tool("f"),)).tree["reasoning_effort"] == "none"
    assert written("gpt-5.6", tools=(Tool("f"),)).lost == frozenset()
    assert "reasoning_effort" not in written("gpt-5.6").tree


def test_tools_are_written_and_names_that_do_not_fit_are_remembered() -> None:
    long = "mcp__" + "x" * 80
    found = written(tools=(Tool("f", "d", STRICT, strict=True, cache="5m"), Tool(long)))
    first, second = found.tree["tools"]
    assert first == {
        "type": "function",
        "function": {
            "name": "f",
            "description": "d",
            "parameters": STRICT,
            "strict": True,
        },
    }
    assert len(second["function"]["name"]) == 64
    assert found.names == {second["function"]["name"]: long}
    assert found.lost == {"cache_control"}


def test_tools_that_take_text_are_openais_own() -> None:
    (native,) = written("gpt-5", tools=(PATCH,)).tree["tools"]
    assert native == {
        "type": "custom",
        "custom": {"name": "patch", "description": "", "format": {"type": "grammar"}},
    }
    (other,) = written("llama", tools=(PATCH,)).tree["tools"]
    assert other["function"]["parameters"]["required"] == ["input"]


@pytest.mark.parametrize(
    ("model", "choice", "expected"),
    [
        ("llama", ToolChoice("none"), "none"),
        ("llama", ToolChoice("required"), "required"),
        ("llama", ToolChoice("required", ("f",)), {"type": "function", "function": {"name": "f"}}),
        ("gpt-5", ToolChoice("required", ("patch",)), {"type": "custom", "custom": {"name": "patch"}}),
        (
            "gpt-5",
            ToolChoice("auto", ("f",)),
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
    ],
)
def test_a_choice_is_written(model: str, choice: ToolChoice, expected: Any) -> None:
    found = written(model, tools=(Tool("f"), PATCH), tool_choice=choice, parallel_tools=False)
    assert found.tree["tool_choice"] == expected
    assert found.tree["parallel_tool_calls"] is False
    assert len(found.tree["tools"]) == 2


def test_where_some_tools_cannot_be_allowed_the_others_are_not_sent() -> None:
    found = written(tools=(Tool("f"), Tool("g"), PATCH), tool_choice=ToolChoice("auto", ("g", "patch")))
    assert [tool["function"]["name"] for tool in found.tree["tools"]] == ["g", "patch"]
    assert found.tree["tool_choice"] == "auto"


def test_a_choice_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(BadRequest, match="has no tools"):
        written(tool_choice=ToolChoice("required"))
    with pytest.raises(BadRequest, match="'x'"):
        written(tools=(Tool("f"),), tool_choice=ToolChoice("required", ("x",)))
    assert "tool_choice" not in written(tool_choice=ToolChoice("none")).tree


def test_a_schema_is_strict_where_openai_takes_it_so() -> None:
    assert written(format=Format()).tree["response_format"] == {"type": "json_object"}
    strict = written(format=Format(STRICT, name="a name!"))
    assert strict.tree["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "a_name_", "schema": STRICT, "strict": True},
    }
    loose = written(format=Format({"type": "object"}, description="d"))
    assert loose.tree["response_format"]["json_schema"]["strict"] is False
    assert loose.tree["response_format"]["json_schema"]["description"] == "d"
    assert loose.lost == {"schema.strict"}


def test_hints_go_to_openais_models_alone() -> None:
    hints: dict[str, Any] = {"verbosity": "low", "cache_key": "k", "metadata": {"a": "b"}}
    native = written("gpt-5", **hints)
    assert native.tree["prompt_cache_key"] == "k"
    assert native.lost == frozenset()
    assert written("llama", **hints).lost == {"verbosity", "prompt_cache_key", "metadata"}


def test_a_long_id_of_a_user_is_hashed() -> None:
    assert written(user="u").tree["user"] == "u"
    user = written(user="user_" + "a" * 150).tree["user"]
    assert len(user) == 64
    assert user == written(user="user_" + "a" * 150).tree["user"]


def test_a_tool_is_strict_where_openai_takes_it_so() -> None:
    loose = {"type": "object", "properties": {"a": {"type": "string"}}, "required": []}
    for model in ("gpt-4.1", "llama"):
        found = written(
            model, tools=(Tool("f", schema=loose, strict=True), Tool("g", schema=STRICT, strict=True))
        )
        assert [tool["function"]["strict"] for tool in found.tree["tools"]] == [False, True]
        assert found.lost == {"tools.strict"}
    # OpenAI refuses an object without its properties.
    (empty,) = written(tools=(Tool("f", schema={"type": "object"}, strict=False),)).tree["tools"]
    assert empty["function"] == {
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }


def test_openai_is_sent_no_more_stop_sequences_than_it_takes() -> None:
    found = written("gpt-4.1", stop=("a", "b", "c", "d", "e"))
    assert (found.tree["stop"], found.lost) == (["a", "b", "c", "d"], {"stop"})
    others = written("llama", stop=("a", "b", "c", "d", "e"))
    assert (len(others.tree["stop"]), others.lost) == (5, frozenset())
