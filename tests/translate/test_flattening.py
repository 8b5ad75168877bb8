"""Tools whose schema is a choice at its top are objects of all that may be given, and say what was left open."""

import json
from typing import Any

import pytest

from gproxy.translate import exchange
from gproxy.translate.base import TargetFacts
from gproxy.translate.flattening import as_one_object
from gproxy.translate.registry import DIALECTS

PATH, CODE = {"path": {"type": "string"}}, {"code": {"type": "string"}}
ANY = [{"required": ["route"]}, {"required": ["file"]}]


def flat(schema: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    lost: set[str] = set()
    before = json.dumps(schema)
    found = dict(as_one_object(schema, lost))
    assert json.dumps(schema) == before
    return found, lost


def test_a_schema_without_a_choice_stays_as_it_is() -> None:
    inner = {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    assert flat(inner) == (inner, set())


def test_properties_of_all_branches_may_be_given_and_those_of_each_must() -> None:
    common = {"type": "string", "description": "of the object itself"}
    found, lost = flat(
        {
            "properties": {"a": common},
            "required": ["a"],
            "oneOf": [
                {"properties": {**PATH, "a": {}}, "required": ["a", "path", "x"]},
                {"$ref": "#/$defs/code"},
            ],
            "$defs": {"code": {"type": "object", "properties": CODE, "required": ["x", "code"]}},
        }
    )
    assert found["type"] == "object"
    assert found["properties"] == {"a": common, **PATH, **CODE}
    assert found["required"] == ["a", "x"]
    assert "oneOf" not in found
    assert "oneOf: [" in found["description"]
    assert lost == {"schema.oneOf"}


def test_all_parts_of_a_whole_must_be_given() -> None:
    parts = [{"properties": PATH, "required": ["path"]}, {"properties": CODE, "required": ["code"]}]
    found, _ = flat({"type": "object", "description": "d", "allOf": parts})
    assert found["required"] == ["code", "path"]
    assert found["description"].startswith("d (allOf: ")


@pytest.mark.parametrize("odd", [None, 7, "x", {}, [], [True], [{"$ref": "#/$defs/none"}], [{"$ref": 7}]])
def test_what_makes_no_sense_breaks_nothing(odd: Any) -> None:
    found, lost = flat({"anyOf": odd, "required": [7], "properties": odd, "$defs": odd})
    assert found["properties"] == {}
    assert lost == {"schema.anyOf"}


@pytest.mark.parametrize(
    ("target", "model", "where"),
    [
        ("anthropic_messages", "claude-sonnet-4-5", ("input_schema",)),
        ("openai_chat", "gpt-4.1", ("function", "parameters")),
        ("openai_responses", "gpt-5.1", ("parameters",)),
    ],
)
def test_such_a_tool_does_not_have_the_request_refused(
    target: str, model: str, where: tuple[str, ...]
) -> None:
    schema = {"type": "object", "properties": {"route": {}, "file": {}}, "anyOf": ANY}
    function = {"name": "f", "parametersJsonSchema": schema}
    request = {
        "contents": [{"parts": [{"text": "a"}]}],
        "tools": [{"functionDeclarations": [function]}],
    }
    found = exchange.request(DIALECTS["gemini"], DIALECTS[target], request, TargetFacts(model=model))
    written = found.tree["tools"][0]
    for name in where:
        written = written[name]
    assert "anyOf" not in written
    assert "required" not in written
    assert found.lost == {"schema.anyOf"}
