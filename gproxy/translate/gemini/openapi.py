"""Gemini's own form of a schema, after OpenAPI 3.0, as JSON Schema.

The other way there is nothing to do: its API takes JSON Schema too (`subset.py`).
https://ai.google.dev/api/caching#Schema
"""

from collections.abc import Mapping
from typing import Any

from gproxy.translate.gemini.spelling import camel

_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_BY_NAME = {"properties": "properties", "defs": "$defs", "$defs": "$defs"}
_SINGLE = frozenset({"items", "additionalProperties"})
_NOT_OF_JSON_SCHEMA = frozenset({"nullable", "propertyOrdering"})


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON Schema; what is odd in it stays as it is."""
    found = camel(schema)
    tree: dict[str, Any] = {}
    for name, value in found.items():
        if value is None or name in _NOT_OF_JSON_SCHEMA:
            continue
        if name in _BY_NAME and isinstance(value, dict):
            tree[_BY_NAME[name]] = {key: _inner(inner) for key, inner in value.items()}
        elif name in _LISTS and isinstance(value, list):
            tree[name] = [_inner(inner) for inner in value]
        elif name in _SINGLE:
            tree[name] = _inner(value)
        elif name == "type":
            _add_type(tree, value)
        elif name in _COUNTS and isinstance(value, str) and value.isdecimal():
            tree[name] = int(value)  # they are 64 bits wide, and so are written as strings
        elif name == "ref":
            tree["$ref"] = value
        elif name == "example":
            tree["examples"] = [value]
        elif (name, value) != ("format", "enum"):
            tree[name] = value
    return _nullable(tree) if found.get("nullable") is True else tree


def _inner(schema: Any) -> Any:
    return json_schema(schema) if isinstance(schema, dict) else schema


def _add_type(tree: dict[str, Any], value: Any) -> None:
    if isinstance(value, str) and value != "TYPE_UNSPECIFIED":
        tree["type"] = value.lower()
    elif isinstance(value, list):
        tree["type"] = [inner.lower() if isinstance(inner, str) else inner for inner in value]


def _nullable(tree: dict[str, Any]) -> dict[str, Any]:
    if isinstance(tree.get("enum"), list):
        tree["enum"] = [*tree["enum"], None]
    if isinstance(tree.get("type"), str):
        tree["type"] = [tree["type"], "null"]
    elif isinstance(tree.get("anyOf"), list):
        tree["anyOf"] = [*tree["anyOf"], {"type": "null"}]
    return tree
