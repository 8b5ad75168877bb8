"""Everything of a request but its contents: both spellings, what is lost, and what is refused."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.gemini.read import read_request
from gproxy.translate.model import Conversation, Format, Text, Thinking, Tool, ToolChoice

CONTENTS = [{"parts": [{"text": "a"}]}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}


def read(**fields: Any) -> Conversation:
    return read_request({"contents": CONTENTS, **fields}).conversation


def test_sampling_and_limits_are_read_in_both_spellings() -> None:
    config = {
        "temperature": 0.5,
        "topP": 0.9,
        "top_k": 40.0,
        "max_output_tokens": 100,
        "stopSequences": ["END"],
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "candidateCount": 1,
    }
    found = read(generation_config=config, system_instruction={"parts": {"text": "s"}}, labels={"a": "b"})
    assert found == Conversation(
        system=(Text("s"),),
        turns=found.turns,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        max_output=100,
        stop=("END",),
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        metadata={"a": "b"},
    )


@pytest.mark.parametrize(
    "function",
    [
        FUNCTION,
        {"name": "f", "description": "d", "parameters_json_schema": SCHEMA},
        {
            "name": "f",
            "description": "d",
            "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        },
    ],
)
def test_functions_are_read_with_either_kind_of_schema(function: dict[str, Any]) -> None:
    assert read(tools=[{"functionDeclarations": [function]}]).tools == (Tool("f", "d", SCHEMA),)
    assert read(tools={"function_declarations": function}).tools == (Tool("f", "d", SCHEMA),)


def test_a_function_may_take_nothing() -> None:
    assert read(tools=[{"functionDeclarations": [{"name": "f"}]}]).tools == (Tool("f"),)


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({}, ToolChoice()),
        ({"mode": "AUTO"}, ToolChoice()),
        ({"mode": "any"}, ToolChoice("required")),
        ({"mode": "ANY", "allowed_function_names": ["f"]}, ToolChoice("required", ("f",))),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice("auto", ("f",))),
        ({"mode": "NONE"}, ToolChoice("none")),
    ],
)
def test_modes_of_calling_are_read(config: dict[str, Any], choice: ToolChoice) -> None:
    assert read(toolConfig={"functionCallingConfig": config}).tool_choice == choice


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"responseMimeType": "text/plain"}, None),
        ({"responseMimeType": "application/json"}, Format()),
        ({"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}, Format(SCHEMA)),
        (
            {"response_mime_type": "application/json", "response_schema": {"type": "STRING"}},
            Format({"type": "string"}),
        ),
        ({"_responseJsonSchema": SCHEMA}, Format(SCHEMA)),
    ],
)
def test_the_form_of_the_answer_is_read(config: dict[str, Any], expected: Format | None) -> None:
    assert read(generationConfig=config).format == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"thinkingBudget": 1024, "includeThoughts": True}, Thinking(None, 1024, True)),
        ({"thinkingBudget": -1}, Thinking()),
        ({"thinkingBudget": 0}, Thinking(None, 0)),
        ({"thinking_level": "HIGH"}, Thinking("high")),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, Thinking()),
    ],
)
def test_thinking_is_read(config: dict[str, Any], expected: Thinking) -> None:
    assert read(generationConfig={"thinkingConfig": config}).thinking == expected


def test_what_the_model_does_not_hold_is_named() -> None:
    function = {**FUNCTION, "response": {}, "behavior": "BLOCKING"}
    found = read_request(
        {
            "contents": CONTENTS,
            "model": "models/m",
            "safetySettings": [{}],
            "store": False,
            "generationConfig": {
                "responseLogprobs": False,
                "logprobs": 3,
                "mediaResolution": "MEDIA_RESOLUTION_LOW",
            },
            "tools": [{"functionDeclarations": [function], "googleSearch": None}, {"google_search": {}}],
            "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}, "retrievalConfig": {}},
        }
    )
    assert found.lost == {
        "safetySettings",
        "generationConfig.logprobs",
        "generationConfig.mediaResolution",
        "functionDeclarations.response",
        "functionDeclarations.behavior",
        "toolConfig.functionCallingConfig.mode",
        "toolConfig.retrievalConfig",
        "tools.googleSearch",
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cachedContent": "cachedContents/1"}, "cachedContent"),
        ({"contents": []}, "contents"),
        ({"generationConfig": {"candidateCount": 2}}, "candidateCount"),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, "responseModalities"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "responseMimeType"),
        ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "HUGE"}}}, "thinkingLevel"),
        ({"generationConfig": {"maxOutputTokens": "many"}}, "generationConfig.maxOutputTokens"),
        ({"tools": [{"computer_use": {}}]}, "computerUse"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "name"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "mode"),
    ],
)
def test_what_cannot_be_left_out_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        read(**fields)
