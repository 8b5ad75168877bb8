"""The schema of a tool as one object, for providers that take no `anyOf`, `oneOf` and `allOf` at its top.

Such a tool has the whole request refused, at Anthropic and at OpenAI. Further inside they may stand.
https://github.com/anthropics/claude-code/issues/27337
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.protocols.answers import mapping, objects

_COMBINING = ("anyOf", "oneOf", "allOf")
_LOCAL = ("#/$defs/", "#/definitions/")


def as_one_object(schema: Mapping[str, Any], lost: set[str]) -> Mapping[str, Any]:
    """The schema with the properties of all its branches; of those are required which every branch requires.

    What that leaves open is told in the description, and named in `lost`.
    """
    combining = [name for name in _COMBINING if name in schema]
    if not combining:
        return schema
    whole = {name: value for name, value in schema.items() if name not in _COMBINING}
    properties = dict(mapping(whole.get("properties")))
    required = dict.fromkeys(_required(whole))
    for name in combining:
        branches = list(_branches(schema, name))
        for branch in branches:
            properties = {**mapping(branch.get("properties")), **properties}
        named = [set(_required(branch)) for branch in branches] or [set()]
        common = set.union(*named) if name == "allOf" else set.intersection(*named)
        required |= dict.fromkeys(sorted(common))
    whole |= {"type": "object", "properties": properties}
    if required:
        whole["required"] = list(required)
    told = ", ".join(f"{name}: {json.dumps(schema[name], ensure_ascii=False)}" for name in combining)
    whole["description"] = f"{whole.get('description', '')} ({told})".strip()
    lost.update(f"schema.{name}" for name in combining)
    return whole


def _required(schema: Mapping[str, Any]) -> list[str]:
    names = schema.get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _branches(schema: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """The branches under `name`; one that is defined elsewhere in the schema by what stands there."""
    for branch in objects(schema.get(name)):
        place = branch.get("$ref")
        if isinstance(place, str) and place.startswith(_LOCAL):
            _, within, defined = place.split("/", 2)
            yield mapping(mapping(schema.get(within)).get(defined))
        else:
            yield branch
