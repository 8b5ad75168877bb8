"""Gemini's own schemas say the same as JSON Schema."""

from typing import Any

import pytest

from gproxy.translate.gemini.openapi import json_schema


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "TYPE_UNSPECIFIED"}, {}),
        ({"type": ["STRING", "NULL", 1]}, {"type": ["string", "null", 1]}),
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "STRING", "format": "enum", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"any_of": [{"type": "STRING"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        (
            {"min_items": "1", "maxLength": 2, "minProperties": "x"},
            {"minItems": 1, "maxLength": 2, "minProperties": "x"},
        ),
        ({"example": 1, "propertyOrdering": ["a"], "title": None}, {"examples": [1]}),
        (
            {"ref": "#/$defs/a", "defs": {"a": {"type": "NUMBER"}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "number"}}},
        ),
        ({"type": "ARRAY", "items": {"type": "INTEGER"}}, {"type": "array", "items": {"type": "integer"}}),
        ({"additionalProperties": False}, {"additionalProperties": False}),
    ],
)
def test_a_schema_becomes_json_schema(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json_schema(given) == expected


def test_names_of_properties_are_no_keywords() -> None:
    given = {"type": "OBJECT", "properties": {"any_of": {"type": "STRING"}, "nullable": {"type": "BOOLEAN"}}}
    assert json_schema(given) == {
        "type": "object",
        "properties": {"any_of": {"type": "string"}, "nullable": {"type": "boolean"}},
    }
