"""The JSON Schema of an answer or a strict tool, in the part of it that Anthropic's structured outputs take.

Schemas of other tools are not bound so: they are sent as they are.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import schemas, traits
from gproxy.translate.model import Format, Tool

# https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
_REFUSED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"}
    | {"maxItems", "uniqueItems", "minProperties", "maxProperties", "contains", "minContains", "maxContains"}
)
_SMALLEST_ARRAYS = (0, 1)
_STRICT_SINCE = (4, 5)
_MOST_STRICT_TOOLS = 20
_MOST_UNIONS = 16


def written_format(wanted: Format, lost: set[str]) -> dict[str, Any]:
    """`output_config.format`. A keyword that is refused is told in the description instead, and named in `lost`.

    Raises BadRequest for JSON without a schema, which this dialect does not have.
    """
    if wanted.schema is None:
        raise BadRequest(
            "JSON without a schema cannot be asked of this model's provider: give a JSON schema."
        )
    return {"type": "json_schema", "schema": written_schema(wanted.schema, lost)}


def written_schema(schema: Mapping[str, Any], lost: set[str]) -> dict[str, Any]:
    """The schema without keywords that are refused, which are told in the description and named in `lost`."""

    def fitted(schema: schemas.Schema) -> schemas.Schema:
        refused = {
            name: value
            for name, value in schema.items()
            if name in _REFUSED or (name == "minItems" and value not in _SMALLEST_ARRAYS)
        }
        kept = {name: value for name, value in schema.items() if name not in refused}
        if refused:
            lost.update(f"schema.{name}" for name in refused)
            told = ", ".join(f"{name}: {value}" for name, value in refused.items())
            kept["description"] = f"{kept.get('description', '')} ({told})".strip()
        if "oneOf" in kept and "anyOf" not in kept:
            kept["anyOf"] = kept.pop("oneOf")
        if kept.get("type") == "object" or "properties" in kept:
            kept.setdefault("additionalProperties", False)
        return kept

    return schemas.changed(schema, fitted)


def may_be_strict(tools: Iterable[Tool], model: str) -> bool:
    """Whether Anthropic takes the strict ones of the tools as such: it refuses the whole request otherwise.

    Of closed objects alone, without recursion, and few: 20 tools, and 16 values of several types in all.
    https://platform.claude.com/docs/en/build-with-claude/structured-outputs#schema-complexity-limits
    """
    version = traits.claude_version(model)
    given = [tool.schema or {} for tool in tools if tool.strict]
    unions: list[bool] = []
    references: list[bool] = []

    def look(inner: schemas.Schema) -> schemas.Schema:
        unions.append("anyOf" in inner or "oneOf" in inner or isinstance(inner.get("type"), list))
        references.append("$ref" in inner)  # which may be recursive
        return inner

    for schema in given:
        schemas.changed(schema, look)
    return (
        version is not None
        and version >= _STRICT_SINCE
        and len(given) <= _MOST_STRICT_TOOLS
        and sum(unions) <= _MOST_UNIONS
        and not any(references)
        and all(map(schemas.is_strict, given))
    )
