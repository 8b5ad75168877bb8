"""Every place by which an upstream is told of another model than `model`, and none that is the client's affair."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.routing.named import MOST, others

SCHEMA = {"type": "object", "properties": {"model": {"type": "string"}}, "examples": [{"model": "no"}]}

NAMED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "models": ({"models": ["a", {"model": "b"}]}, ["a", "b"]),
    "fallbacks": ({"fallbacks": "a"}, ["a"]),
    "preset": ({"preset": "cheap"}, ["@preset/cheap"]),
    "a plugin's": ({"plugins": [{"id": "auto-router", "allowed_models": ["a/*"]}]}, ["a/*"]),
    "a panel's": (
        {"plugins": [{"id": "fusion", "model": "a", "analysis_models": ["b", "c"]}]},
        ["a", "b", "c"],
    ),
    "of a plugin's own choice": ({"plugins": [{"id": "fusion"}]}, ["fusion"]),
    "a plugin that is off": ({"plugins": [{"id": "fusion", "enabled": False}]}, []),
    "a plugin that asks none": ({"plugins": [{"id": "web", "max_results": 3}]}, []),
    "a plugin with a type": ({"plugins": [{"id": "fusion", "type": "function"}]}, ["fusion"]),
    "a panel's, with a judge of its own choice": (
        {"plugins": [{"id": "fusion", "analysis_models": ["a"]}]},
        ["fusion", "a"],
    ),
    "a judge's, with a panel of its own choice": (
        {"tools": [{"type": "openrouter:fusion", "parameters": {"model": "a", "analysis_models": []}}]},
        ["openrouter/fusion", "a"],
    ),
    "where nobody reads it": (
        {"tools": [{"type": "openrouter:advisor", "model": "a", "parameters": {"my_model": "a"}}]},
        ["openrouter/advisor", "a", "a"],
    ),
    "a tool, none of which can be off": (
        {"tools": [{"type": "x:y", "enabled": False, "parameters": {"model": "a"}}]},
        ["a"],
    ),
    "settings that call themselves off": (
        {"tools": [{"type": "x:y", "parameters": {"enabled": False, "model": "a"}}]},
        ["a"],
    ),
    "settings that call themselves a client's": (
        {"tools": [{"type": "x:y", "parameters": {"type": "custom", "model": "a"}}]},
        ["a"],
    ),
    "a routing that calls itself a client's": (
        {"generationConfig": {"routingConfig": {"type": "function", "manualMode": {"modelName": "a"}}}},
        ["a"],
    ),
    "a compound that calls itself off": (
        {"compound_custom": {"enabled": False, "models": {"answering_model": "a"}}},
        ["a"],
    ),
    "an advisor": ({"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "a"}]}, ["a"]),
    "an image's": ({"tools": [{"type": "image_generation", "model": "a"}]}, ["a"]),
    "a hosted tool's": ({"tools": [{"type": "openrouter:advisor", "parameters": {"model": "a"}}]}, ["a"]),
    "of a tool's own choice": ({"tools": [{"type": "openrouter:fusion"}]}, ["openrouter/fusion"]),
    "an image's own": ({"tools": [{"type": "image_generation"}]}, []),
    "a tool of a hosted tool": (
        {
            "tools": [
                {"type": "x:subagent", "parameters": {"model": "a", "tools": [{"type": "x:y", "model": "b"}]}}
            ]
        },
        ["a", "b"],
    ),
    "of a compound": (
        {"compound_custom": {"models": {"answering_model": "a", "reasoning_model": "b"}}},
        ["a", "b"],
    ),
    "a deployment": (
        {"data_sources": [{"parameters": {"embedding_dependency": {"deployment_name": "a"}}}]},
        ["a"],
    ),
    "a draft": ({"draft_model": "a"}, ["a"]),
    "a guard": ({"safety_model": "a"}, ["a"]),
    "routed by hand": (
        {"generationConfig": {"routingConfig": {"manualMode": {"modelName": "a"}}, "model": "no"}},
        ["a"],
    ),
    "a function": ({"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]}, []),
    "a flat function": ({"tools": [{"type": "function", "model": "no", "parameters": SCHEMA}]}, []),
    "a tool of no type": ({"tools": [{"name": "f", "model": "no", "input_schema": SCHEMA}]}, []),
    "a custom tool": ({"tools": [{"type": "custom", "name": "f", "input_schema": SCHEMA}]}, []),
    "Gemini's tools": ({"tools": [{"functionDeclarations": [{"name": "f", "parameters": SCHEMA}]}]}, []),
    "a namespace of functions": (
        {"tools": [{"type": "namespace", "tools": [{"type": "function", "parameters": SCHEMA}]}]},
        [],
    ),
    "content": (
        {"messages": [{"role": "user", "content": "models", "model": "no"}], "metadata": {"model": "no"}},
        [],
    ),
    "nothing": ({"models": None, "tools": None, "plugins": 3, "preset": None, "generationConfig": 1}, []),
}


@pytest.mark.parametrize("where", NAMED)
def test_what_is_named_beside_the_model_is_found(where: str) -> None:
    tree, names = NAMED[where]
    assert others("m", {"model": "m", **tree}) == names


def test_a_preset_behind_a_models_name_is_one_too() -> None:
    assert others("openai/gpt-4.1@preset/cheap", {}) == ["@preset/cheap"]
    assert others("@preset/cheap", {"models": ["a"]}) == ["@preset/cheap", "a"]


@pytest.mark.parametrize("field", ["models", "fallbacks"])
@pytest.mark.parametrize("value", [[1], [None], 1, {"a": "b"}, [["y"]], ["y"] * (MOST + 1)])
def test_what_is_no_list_of_names_is_refused(field: str, value: Any) -> None:
    with pytest.raises(BadRequest):
        others("m", {field: value})


def test_no_more_are_looked_for_than_a_request_may_name() -> None:
    with pytest.raises(BadRequest, match="more than 32 models"):
        others("m", {"tools": [{"type": "x", "model": str(n)} for n in range(100_000)]})


def test_no_more_is_looked_through_than_takes_a_moment() -> None:
    with pytest.raises(BadRequest, match="more than 20000 values"):
        others("m", {"tools": [{"type": "x", "rest": [[]] * 100_000}]})
    assert others("m", {"tools": [{"type": "function", "parameters": [[]] * 100_000}]}) == []
