"""What Gemini does not take of JSON Schema is rewritten, or told in words and named."""

from typing import Any

import pytest

from gproxy.translate.gemini.subset import fitted


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"type": "integer", "exclusiveMaximum": 9}, {"type": "integer", "maximum": 8}),
        ({"$schema": "https://json-schema.org/", "$comment": "c", "type": "string"}, {"type": "string"}),
        (
            {"definitions": {"a": {"type": "string"}}, "properties": {"b": {"$ref": "#/definitions/a"}}},
            {"$defs": {"a": {"type": "string"}}, "properties": {"b": {"$ref": "#/$defs/a"}}},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "number"}}, "required": ["a", "b"]},
                ],
                "type": "object",
            },
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
                "required": ["a", "b"],
            },
        ),
    ],
)
def test_a_keyword_is_rewritten_where_another_says_the_same(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    lost: set[str] = set()
    assert fitted(given, lost) == expected
    assert not lost


@pytest.mark.parametrize(
    ("given", "expected", "lost"),
    [
        (
            {"type": "string", "description": "A.", "pattern": "^ä+$"},
            {"type": "string", "description": 'A. (pattern: "^ä+$")'},
            {"schema.pattern"},
        ),
        (
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "number", "description": "(exclusiveMinimum: 0)"},
            {"schema.exclusiveMinimum"},
        ),
        (
            {"properties": {"a": {"minLength": 2}}},
            {"properties": {"a": {"description": "(minLength: 2)"}}},
            {"schema.minLength"},
        ),
        (
            {"allOf": [{"type": "string"}, {"type": "number"}]},
            {"description": '(allOf: [{"type": "string"}, {"type": "number"}])'},
            {"schema.allOf"},
        ),
        (
            {"allOf": [{"properties": {"a": {"type": "string"}}}], "properties": {"a": {}}},
            {
                "properties": {"a": {}},
                "description": '(allOf: [{"properties": {"a": {"type": "string"}}}])',
            },
            {"schema.allOf"},
        ),
        (
            {"$ref": "#/$defs/a", "description": "beside"},
            {"$ref": "#/$defs/a"},
            {"schema.description"},
        ),
        (
            {"type": "string", "format": "uri"},
            {"type": "string", "description": '(format: "uri")'},
            {"schema.format"},
        ),
        ({"const": 1}, {"description": "(const: 1)"}, {"schema.const"}),
    ],
)
def test_other_keywords_are_told_in_words_and_named(
    given: dict[str, Any], expected: dict[str, Any], lost: set[str]
) -> None:
    found: set[str] = set()
    assert fitted(given, found) == expected
    assert found == lost


def test_what_came_in_stays_as_it_is() -> None:
    given = {"type": "integer", "exclusiveMinimum": 0, "allOf": [{"required": ["a"]}], "required": ["b"]}
    assert fitted(given, set())["required"] == ["b", "a"]
    assert given["required"] == ["b"]
    assert given["exclusiveMinimum"] == 0
