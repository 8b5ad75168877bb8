"""The JSON Schema of an answer, in the part of it that Anthropic's structured outputs take.

Schemas of tools are not bound so: they are sent as they are.
"""

from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import schemas
from gproxy.translate.model import Format

# https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
_REFUSED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"}
    | {"maxItems", "uniqueItems", "minProperties", "maxProperties", "contains", "minContains", "maxContains"}
)
_SMALLEST_ARRAYS = (0, 1)


def written_format(wanted: Format, lost: set[str]) -> dict[str, Any]:
    """`output_config.format`. A keyword that is refused is told in the description instead, and named in `lost`.

    Raises BadRequest for JSON without a schema, which this dialect does not have.
    """
    if wanted.schema is None:
        raise BadRequest(
            "JSON without a schema cannot be asked of this model's provider: give a JSON schema."
        )

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

    return {"type": "json_schema", "schema": schemas.changed(wanted.schema, fitted)}
