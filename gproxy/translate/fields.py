"""Reads fields of a client's request by their type; what is of another type is a BadRequest that names its place.

An absent field and one that is null are the same. What a field means is the dialects'.
"""

from collections.abc import Mapping
from typing import Any

from gproxy.errors import BadRequest

_SHOWN_CHARS = 60
_NOTHING: Mapping[str, Any] = {}


def text(tree: Mapping[str, Any], name: str, within: str = "") -> str:
    """The string under `name`, "" if absent. `within` is where `tree` stands, such as `messages[2]`."""
    value = tree.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(name, within, "a string")
    return value


def required(tree: Mapping[str, Any], name: str, within: str = "") -> str:
    """The string under `name`, which must be there and not empty."""
    value = tree.get(name)
    if not isinstance(value, str) or not value:
        raise wrong(name, within, "a string that is not empty")
    return value


def flag(tree: Mapping[str, Any], name: str, within: str = "") -> bool | None:
    value = tree.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise wrong(name, within, "true or false")


def number(tree: Mapping[str, Any], name: str, within: str = "") -> float | None:
    value = tree.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, within, "a number")
    return value


def whole(tree: Mapping[str, Any], name: str, within: str = "") -> int | None:
    """The whole number under `name`; `8.0` is one too."""
    value = tree.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise wrong(name, within, "a whole number")


def an_object(tree: Mapping[str, Any], name: str, within: str = "") -> Mapping[str, Any]:
    """The object under `name`, an empty one if absent."""
    value = tree.get(name)
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        raise wrong(name, within, "an object")
    return value


def objects(tree: Mapping[str, Any], name: str, within: str = "") -> list[Mapping[str, Any]]:
    """The array of objects under `name`, an empty one if absent."""
    value = tree.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise wrong(name, within, "an array of objects")
    return value


def some_objects(tree: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The array of objects under `name`, which must be there and not empty."""
    found = objects(tree, name)
    if not found:
        raise wrong(name, "", "an array that is not empty")
    return found


def texts(tree: Mapping[str, Any], name: str, within: str = "") -> tuple[str, ...]:
    """The strings under `name`: one, or an array of them."""
    value = tree.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise wrong(name, within, "a string or an array of strings")
    return tuple(value)


def wrong(name: str, within: str, wanted: str) -> BadRequest:
    """The error that says what must stand under `name`."""
    return BadRequest(f"`{place(name, within)}` must be {wanted}.")


def place(name: str, within: str) -> str:
    return f"{within}.{name}" if within else name


def short(value: object) -> str:
    """What a client sent, as it is shown in an error: quoted, and cut if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def unknown(tree: Mapping[str, Any], known: frozenset[str]) -> set[str]:
    """Names of `tree` that are not among `known` and whose value says something."""
    return {name for name, value in tree.items() if name not in known and value is not None}
