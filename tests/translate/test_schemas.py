"""Every schema within a schema is changed, and nothing that only looks like one."""

from typing import Any

import pytest

from gproxy.translate.schemas import changed, is_strict


def without_title(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "title"}


def test_schemas_are_changed_at_any_depth() -> None:
    leaf = {"type": "string", "title": "t"}
    bare = {"type": "string"}
    nested: dict[str, Any] = {
        "title": "t",
        "properties": {"title": leaf, "b": {"items": leaf, "title": "t"}},
        "anyOf": [leaf, True],
        "items": [leaf],
        "additionalProperties": False,
        "not": leaf,
        "$defs": {"d": leaf},
    }
    assert changed(nested, without_title) == {
        "properties": {"title": bare, "b": {"items": bare}},
        "anyOf": [bare, True],
        "items": [bare],
        "additionalProperties": False,
        "not": bare,
        "$defs": {"d": bare},
    }
    assert nested["title"] == "t"
    assert leaf == {"type": "string", "title": "t"}


@pytest.mark.parametrize(
    "keyword",
    [
        *("additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "items"),
        *("unevaluatedProperties", "unevaluatedItems", "additionalItems"),
    ],
)
def test_a_keyword_may_hold_one_schema(keyword: str) -> None:
    assert changed({keyword: {"title": "t", "type": "string"}}, without_title) == {
        keyword: {"type": "string"}
    }


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf", "prefixItems", "items"])
def test_a_keyword_may_hold_a_list_of_schemas(keyword: str) -> None:
    assert changed({keyword: [{"title": "t"}, False]}, without_title) == {keyword: [{}, False]}


@pytest.mark.parametrize(
    "keyword", ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"]
)
def test_a_keyword_may_hold_schemas_by_name(keyword: str) -> None:
    assert changed({keyword: {"title": {"title": "t"}}}, without_title) == {keyword: {"title": {}}}


def test_data_in_a_schema_is_left_alone() -> None:
    data = {"title": "not a keyword"}
    schema = {"enum": [data], "const": data, "default": data, "examples": [data], "properties": "odd"}
    assert changed(schema, without_title) == schema


STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def test_strictness_is_of_every_object_in_a_schema() -> None:
    assert is_strict({"type": "array", "items": STRICT})
    assert not is_strict({"type": "array", "items": STRICT | {"required": []}})
    assert not is_strict({"anyOf": [STRICT, STRICT | {"additionalProperties": True}]})
    assert not is_strict(STRICT | {"required": [{}]})
    assert is_strict(STRICT | {"properties": True})
