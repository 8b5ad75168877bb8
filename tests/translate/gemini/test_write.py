"""Everything of a written request but its contents."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.gemini.write import write_request
from gproxy.translate.model import Conversation, Format, Text, Thinking, Tool, ToolChoice, Turn

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOLS = (Tool("f", "d", SCHEMA), Tool("g", strict=True, cache="5m"))


def write(model: str = "gemini-2.5-flash", most: int | None = None, **fields: Any) -> Written:
    turns = (Turn("user", (Text("a"),)),)
    return write_request(Conversation(turns=turns, **fields), TargetFacts(model=model, max_output=most))


def test_a_plain_request_holds_its_contents_alone() -> None:
    assert write().tree == {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}


def test_instructions_sampling_and_limits_are_written() -> None:
    found = write(
        system=(Text("s"), Text(""), Text("t", cache="5m")),
        temperature=1.5,
        top_p=0.9,
        top_k=40,
        max_output=1000,
        most=500,
        stop=("END",),
        seed=7,
        presence_penalty=0.0,
    )
    assert found.tree["systemInstruction"] == {"parts": [{"text": "s"}, {"text": "t"}]}
    assert found.tree["generationConfig"] == {
        "temperature": 1.5,
        "topP": 0.9,
        "topK": 40,
        "maxOutputTokens": 500,
        "stopSequences": ["END"],
        "seed": 7,
    }
    assert found.lost == {"cache_control"}


def test_penalties_go_to_models_that_take_them() -> None:
    given: dict[str, Any] = {"presence_penalty": 0.5, "frequency_penalty": 0.5}
    assert write(**given).lost == {"presence_penalty", "frequency_penalty"}
    assert write("gemini-2.0-flash", **given).tree["generationConfig"] == {
        "presencePenalty": 0.5,
        "frequencyPenalty": 0.5,
    }


def test_functions_are_written_with_json_schema() -> None:
    found = write(tools=TOOLS)
    assert found.tree["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "d", "parametersJsonSchema": SCHEMA},
                {"name": "g"},
            ]
        }
    ]
    assert "toolConfig" not in found.tree
    assert found.lost == {"tools.strict", "cache_control"}


@pytest.mark.parametrize(
    "schema",
    [{}, {"type": "object"}, {"type": "object", "properties": {}, "required": []}, {"$schema": "x"}, None],
)
def test_a_function_without_parameters_has_none(schema: dict[str, Any] | None) -> None:
    assert write(tools=(Tool("f", schema=schema),)).tree["tools"] == [
        {"functionDeclarations": [{"name": "f"}]}
    ]


def test_a_tool_that_takes_text_is_a_function() -> None:
    (tools,) = write(tools=(Tool("patch", freeform=True),)).tree["tools"]
    assert tools["functionDeclarations"][0]["parametersJsonSchema"]["required"] == ["input"]


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("required", ("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_the_choice_is_written(choice: ToolChoice, calling: dict[str, Any]) -> None:
    found = write(tools=TOOLS, tool_choice=choice).tree
    assert found["toolConfig"] == {"functionCallingConfig": calling}
    assert len(found["tools"][0]["functionDeclarations"]) == 2


def test_of_some_tools_that_may_be_called_the_others_are_left_out() -> None:
    found = write(tools=TOOLS, tool_choice=ToolChoice("auto", ("f",))).tree
    assert [function["name"] for function in found["tools"][0]["functionDeclarations"]] == ["f"]
    assert "toolConfig" not in found


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": ToolChoice("required")},
        {"tools": TOOLS, "tool_choice": ToolChoice("required", ("h",))},
        {"tools": TOOLS, "tool_choice": ToolChoice("auto", ("h",))},
    ],
)
def test_a_tool_that_is_not_there_cannot_be_chosen(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="tools"):
        write(**fields)


@pytest.mark.parametrize(
    ("wanted", "config"),
    [
        (Format(), {}),
        (Format(SCHEMA), {"responseJsonSchema": SCHEMA}),
        (Format(SCHEMA, "n", "D."), {"responseJsonSchema": {**SCHEMA, "description": "D."}}),
    ],
)
def test_the_form_of_the_answer_is_written(wanted: Format, config: dict[str, Any]) -> None:
    found = write(format=wanted).tree["generationConfig"]
    assert found == {"responseMimeType": "application/json", **config}


def test_thinking_is_written_or_named() -> None:
    found = write(thinking=Thinking("low")).tree["generationConfig"]
    assert found == {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2048}}
    assert write("gemini-2.0-flash", thinking=Thinking("low")).lost == {"thinking"}
    assert not write("gemini-2.0-flash", thinking=Thinking("none")).lost


def test_what_has_no_place_is_named() -> None:
    found = write(
        tools=(Tool("a b"),),
        parallel_tools=False,
        verbosity="low",
        cache_key="k",
        metadata={"a": "b"},
        user="u",
    )
    assert found.lost == {"parallel_tool_calls", "verbosity", "prompt_cache_key", "metadata", "user"}
    assert list(found.names.values()) == ["a b"]
    assert not write(parallel_tools=False).lost


def test_older_models_do_not_answer_in_json_beside_tools() -> None:
    wanted = Format(SCHEMA)
    with pytest.raises(BadRequest, match="JSON while it has tools"):
        write("gemini-2.5-pro", tools=TOOLS, format=wanted)
    assert "tools" in write("gemini-3-pro-preview", tools=TOOLS, format=wanted).tree
    idle = write("gemini-2.5-pro", tools=TOOLS, format=wanted, tool_choice=ToolChoice("none")).tree
    assert not idle.keys() & {"tools", "toolConfig"}


def test_no_more_stop_sequences_are_sent_than_it_takes() -> None:
    found = write(stop=tuple("abcdef"))
    assert found.tree["generationConfig"] == {"stopSequences": list("abcde")}
    assert found.lost == {"stop"}
