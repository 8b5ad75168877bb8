"""JSON Schema in the part of it that Gemini takes, for tools and for answers.

https://ai.google.dev/api/generate-content#FIELDS.response_json_schema
"""

import json
from collections.abc import Mapping
from typing import Any

from gproxy.translate import schemas

_TAKEN = frozenset(
    {"$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items"}
    | {"prefixItems", "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties"}
    | {"additionalProperties", "required", "propertyOrdering"}
)
_FORMATS = ("date-time", "date", "time", "float", "double", "int32", "int64", "enum")
_SAYS_NOTHING = frozenset({"$schema", "$comment"})
_OLD_PLACE, _PLACE = "#/definitions/", "#/$defs/"
_BOUNDS = (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1))


def fitted(schema: Mapping[str, Any], lost: set[str]) -> schemas.Schema:
    """The schema with what is not taken told in the descriptions instead, and named in `lost`.

    Rewritten without loss: `const`, `allOf`, `definitions`, and bounds of whole numbers that exclude themselves.
    Beside a `$ref` nothing may stand.
    """

    def change(inner: schemas.Schema) -> schemas.Schema:
        if inner.keys() <= _TAKEN and "$ref" not in inner and "format" not in inner:
            return inner
        kept = _rewritten(inner)
        refused = {name: value for name, value in kept.items() if not _is_taken(name, value)}
        kept = {name: value for name, value in kept.items() if name in _TAKEN and name not in refused}
        if "$ref" in kept:
            refused |= {name: value for name, value in kept.items() if not name.startswith("$")}
            kept = {name: value for name, value in kept.items() if name not in refused}
        lost.update(f"schema.{name}" for name in refused)
        if refused and "$ref" not in kept:
            told = ", ".join(f"{n}: {json.dumps(v, ensure_ascii=False)}" for n, v in refused.items())
            kept["description"] = f"{kept.get('description', '')} ({told})".strip()
        return kept

    return schemas.changed(schema, change)


def _is_taken(name: str, value: Any) -> bool:
    return name in _SAYS_NOTHING or (value in _FORMATS if name == "format" else name in _TAKEN)


def _rewritten(schema: schemas.Schema) -> schemas.Schema:
    schema = _merged(schema)
    if isinstance(schema.get("const"), str) and "enum" not in schema:
        schema["enum"] = [schema.pop("const")]
    if "definitions" in schema and "$defs" not in schema:
        schema["$defs"] = schema.pop("definitions")
    if isinstance(schema.get("$ref"), str):
        schema["$ref"] = schema["$ref"].replace(_OLD_PLACE, _PLACE, 1)
    for name, bound, step in _BOUNDS:
        value = schema.get(name)
        if schema.get("type") == "integer" and type(value) is int and bound not in schema:
            schema[bound] = schema.pop(name) + step
    return schema


def _merged(schema: schemas.Schema) -> schemas.Schema:
    """`allOf` made part of the schema, where no two say something else of the same keyword."""
    parts = schema.get("allOf")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return dict(schema)
    whole = {name: value for name, value in schema.items() if name != "allOf"}
    for part in parts:
        for name, value in part.items():
            if name == "properties" and isinstance(whole.get(name, {}), dict) and isinstance(value, dict):
                found = whole.get(name, {})
                if any(found.get(key, inner) != inner for key, inner in value.items()):
                    return dict(schema)
                whole[name] = found | value
            elif name == "required" and isinstance(whole.get(name, []), list) and isinstance(value, list):
                whole[name] = [
                    *whole.get(name, []),
                    *(key for key in value if key not in whole.get(name, [])),
                ]
            elif whole.setdefault(name, value) != value:
                return dict(schema)
    return whole
