"""The one decoder of request bodies: what passes here is one JSON object that every upstream reads alike.

What the names in it mean is the dialects' business, `model` and `stream` apart, which all of them share.
"""

import json
import math
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NoReturn

from gproxy.errors import BadRequest
from gproxy.protocols.base import Body
from gproxy.protocols.jsonwalk import TooMany, members, skip_space

MAX_MODEL_CHARS = 512
"""A longer name is no model's, and would stand in the ledger and the log."""

MAX_DEPTH = 128
"""Nesting of objects and arrays, the body itself counted."""

MAX_NAMES = 1000
"""Names at the top level: no dialect has a hundred, and each costs time that other requests wait for."""

_LONGEST_INTEGER = 309  # digits of the largest finite double
_SHOWN_CHARS = 40  # of a name out of the body in a message
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_STEP = {ord(mark): 1 if mark in "[{" else -1 for mark in "[]{}"}
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_PAIR_OR_HALF = re.compile(r"\\u[dD](?:[89abAB]..\\u[dD][c-fC-F]..|([89a-fA-F]..))")


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"The body is not valid JSON: {name} is not a JSON number.")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER + 1 or (
        len(digits) >= _LONGEST_INTEGER and not math.isfinite(float(digits))
    ):
        raise BadRequest("A number in the body is beyond a finite double.")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadRequest("A number in the body is beyond a finite double.")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer, parse_float=_float)


def decode(raw: bytes) -> Body:
    """The body as text, tree and spans of its top-level values.

    Raises BadRequest unless `raw` is one JSON object (RFC 8259) in UTF-8, without a byte order mark, repeated
    names at the top level, lone surrogates, numbers beyond a finite double, nesting over MAX_DEPTH, more
    than MAX_NAMES names at the top level or anything after it.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: invalid byte at position {error.start}.") from None
    if text.startswith("\ufeff"):
        raise BadRequest("The body starts with a byte order mark; send UTF-8 without one.")
    start = skip_space(text, 0)
    if text[start : start + 1] != "{":
        raise BadRequest("The body must be one JSON object.")
    try:
        found, end = members(text, start, _DECODER.raw_decode, most=MAX_NAMES)
    except TooMany:
        raise BadRequest(f"The body has more than {MAX_NAMES} names at its top level.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise _too_deep() from None
    end = skip_space(text, end)
    if end != len(text):
        raise BadRequest(f"The body must be one JSON object: something follows it at character {end}.")
    tree = {member.name: member.value for member in found}
    if len(tree) != len(found):
        raise BadRequest(f"The body has the name {_repeated([m.name for m in found])} more than once.")
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise _too_deep()
    if "\\u" in text:
        _refuse_lone_surrogates(text)
    return Body(text, tree, {member.name: (member.start, member.end) for member in found})


def model_name(tree: Mapping[str, Any]) -> str:
    """The `model` of a body. Raises BadRequest unless it is a non-empty string without control characters."""
    if "model" not in tree:
        raise BadRequest("The body has no `model`.")
    return checked_model(tree["model"])


def checked_model(value: object) -> str:
    """`value`, if it can be a model's name. Raises BadRequest otherwise."""
    if not isinstance(value, str) or not value:
        raise BadRequest("`model` must be a non-empty string.")
    if len(value) > MAX_MODEL_CHARS:
        raise BadRequest(f"`model` must not be longer than {MAX_MODEL_CHARS} characters.")
    if _CONTROL.search(value):
        raise BadRequest("`model` must not contain control characters.")
    return value


def stream_flag(tree: Mapping[str, Any]) -> bool:
    """Whether the body asks for a stream. Raises BadRequest if `stream` is there and no boolean."""
    flag = tree.get("stream", False)
    if not isinstance(flag, bool):
        raise BadRequest("`stream` must be true or false.")
    return flag


def _too_deep() -> BadRequest:
    return BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _repeated(names: list[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            break
        seen.add(name)
    return json.dumps(name[:_SHOWN_CHARS])


def _depth(raw: bytes) -> int:
    """The deepest nesting of a valid JSON text; counted there, since a tree hides what repeated names held."""
    structure = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    return max(accumulate(_STEP[mark] for mark in b"".join(structure.split(b'"')[::2])))


def _refuse_lone_surrogates(text: str) -> None:
    # With escaped backslashes out of the way (as many characters, so that nothing moves together), each that is
    # left starts an escape.
    for found in _PAIR_OR_HALF.finditer(text.replace("\\\\", "  ")):
        if found.group(1):
            raise BadRequest(f"The body has half a surrogate pair at character {found.start()}.")
