"""The two spellings of Gemini's fields: `functionCall` and `function_call` are the same, an array of one may be its
element alone.

What the fields mean is read elsewhere. https://protobuf.dev/programming-guides/json/
"""

import re
from collections.abc import Mapping
from typing import Any

from gproxy.translate import fields

_HUMP = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")


def camel(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object with its own names in camel case; what is inside it stays as it is."""
    if not any("_" in name for name in tree):
        return tree
    return {_HUMP.sub(lambda found: found[1].upper(), name): value for name, value in tree.items()}


def one(tree: Mapping[str, Any], name: str, within: str = "") -> Mapping[str, Any]:
    """The object under `name`, an empty one if absent."""
    return camel(fields.an_object(tree, name, within))


def several(tree: Mapping[str, Any], name: str, within: str = "") -> list[Mapping[str, Any]]:
    """The objects under `name`: an array of them, or one alone."""
    value = tree.get(name)
    found = [value] if isinstance(value, dict) else fields.objects(tree, name, within)
    return [camel(item) for item in found]
