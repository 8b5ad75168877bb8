"""A schema is made into one that structured outputs take, and what that takes from it is told."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.anthropic_messages.formats import may_be_strict, written_format
from gproxy.translate.model import Format, Tool


def schema_of(schema: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    lost: set[str] = set()
    written = written_format(Format(schema), lost)
    assert written["type"] == "json_schema"
    return written["schema"], lost


def test_refused_keywords_are_told_in_words() -> None:
    found, lost = schema_of(
        {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": 1, "maximum": 9},
                "minimum": {"type": "string", "description": "d", "maxLength": 3, "pattern": "a"},
                "list": {"type": "array", "items": {}, "minItems": 1},
                "long": {"type": "array", "items": {}, "minItems": 2},
            },
        }
    )
    assert found["additionalProperties"] is False
    assert found["properties"] == {
        "n": {"type": "integer", "description": "(minimum: 1, maximum: 9)"},
        "minimum": {"type": "string", "description": "d (maxLength: 3)", "pattern": "a"},
        "list": {"type": "array", "items": {}, "minItems": 1},
        "long": {"type": "array", "items": {}, "description": "(minItems: 2)"},
    }
    assert lost == {"schema.minimum", "schema.maximum", "schema.maxLength", "schema.minItems"}


def test_one_of_is_any_of_and_other_names_are_let_be() -> None:
    found, lost = schema_of({"oneOf": [{"type": "object", "additionalProperties": {"type": "string"}}]})
    assert found == {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}]}
    assert lost == set()


def test_json_without_a_schema_is_refused() -> None:
    with pytest.raises(BadRequest, match="give a JSON schema"):
        written_format(Format(), set())


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


UNION = {"type": ["string", "null"]}


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([closed()] * 20, True),
        ([closed()] * 21, False),
        ([closed(**{f"p{n}": UNION for n in range(16)})], True),
        ([closed(**{f"p{n}": UNION for n in range(9)})] * 2, False),
        ([closed(a={"$ref": "#"})], False),
        ([closed() | {"additionalProperties": True}], False),
    ],
    ids=["20 tools", "21 tools", "16 unions", "18 unions", "a reference", "an open object"],
)
def test_what_anthropic_refuses_as_strict_is_not(tools: list[dict[str, Any]], expected: bool) -> None:
    given = [Tool(f"t{at}", schema=schema, strict=True) for at, schema in enumerate(tools)]
    assert may_be_strict(given, "claude-sonnet-4-5") is expected
    assert not may_be_strict(given, "claude-opus-4-0")
