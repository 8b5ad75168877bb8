"""JSON Schema: changes every schema within a schema, and nothing that is data in it (`enum`, `default`, names).

Which keywords a provider takes is its dialect's.
"""

from collections.abc import Callable, Mapping
from typing import Any

Schema = dict[str, Any]

_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset(
    {"additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "items"}
    | {"unevaluatedProperties", "unevaluatedItems", "additionalItems"}
)


def changed(schema: Mapping[str, Any], change: Callable[[Schema], Schema]) -> Schema:
    """`schema` with `change` made to it and to all within it, from the inside out; what came in stays as it is."""
    fields: Schema = {}
    for name, value in schema.items():
        if name in _BY_NAME and isinstance(value, dict):
            fields[name] = {key: _inner(inner, change) for key, inner in value.items()}
        elif (name in _LISTS or name == "items") and isinstance(value, list):
            fields[name] = [_inner(inner, change) for inner in value]
        elif name in _SINGLE:
            fields[name] = _inner(value, change)
        else:
            fields[name] = value
    return change(fields)


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether OpenAI takes it as strict: every object names all of its properties as required, and no others.

    https://developers.openai.com/api/docs/guides/structured-outputs
    """
    found: list[bool] = []

    def look(inner: Schema) -> Schema:
        properties = inner.get("properties")
        if isinstance(properties, dict) or inner.get("type") == "object":
            required = inner.get("required")
            named = required if isinstance(required, list) else []
            all_named = all(name in named for name in properties) if isinstance(properties, dict) else True
            found.append(inner.get("additionalProperties") is False and all_named)
        return inner

    changed(schema, look)
    return all(found)


def _inner(schema: object, change: Callable[[Schema], Schema]) -> object:
    return changed(schema, change) if isinstance(schema, dict) else schema
