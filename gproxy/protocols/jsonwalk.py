"""Where each value of a JSON text stands: one level at a time, values decoded by the standard library.

What a text must be to be accepted is not decided here (`strict.py`), nor what is changed in it (`splice.py`).
"""

import re
from collections.abc import Callable, Sequence
from json import JSONDecodeError, JSONDecoder
from typing import Any, NamedTuple

RawDecode = Callable[[str, int], tuple[Any, int]]
Edit = tuple[int, int, str]
"""(start, end, new text) of one piece of a text."""

_SPACE = re.compile(r"[ \t\n\r]*")
# A name without escapes with what stands behind it, and what stands behind a value: nearly all are read in one step.
_PLAIN_NAME = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')
_AFTER = re.compile(r"[ \t\n\r]*([,\]}])[ \t\n\r]*")
LENIENT: RawDecode = JSONDecoder().raw_decode
"""Takes what the standard library does."""


class TooMany(Exception):
    """An object or array has more members than were allowed."""


class Member(NamedTuple):
    """One member of an object, or element of an array (its `name` is ""); `text[start:end]` is the value."""

    name: str
    value: Any
    start: int
    end: int


def skip_space(text: str, at: int) -> int:
    """The first position from `at` on that is no JSON white space."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def members(
    text: str,
    at: int,
    raw_decode: RawDecode = LENIENT,
    *,
    array: bool = False,
    most: int | None = None,
    take: Callable[[Member], object] | None = None,
) -> tuple[list[Member], int]:
    """The members of the object (or `array`) that opens at `at`, repeated names too, and where it ends.

    `take`: is given each of them, instead of all being returned.
    Raises TooMany beyond `most` members, JSONDecodeError, and what `raw_decode` raises (RecursionError,
    ValueError for very long numbers).
    """
    opening, closing = ("[", "]") if array else ("{", "}")
    if text[at : at + 1] != opening:
        raise JSONDecodeError(f"Expecting '{opening}'", text, at)
    found: list[Member] = []
    take = take or found.append
    at = skip_space(text, at + 1)
    if text[at : at + 1] == closing:
        return found, at + 1
    while True:
        if len(found) == most:
            raise TooMany
        name = ""
        if not array:
            plain = _PLAIN_NAME.match(text, at)
            name, at = (plain[1], plain.end()) if plain is not None else _escaped_name(text, at, raw_decode)
        value, end = raw_decode(text, at)
        take(Member(name, value, at, end))
        after = _AFTER.match(text, end)
        if after is None or after[1] not in (",", closing):
            raise JSONDecodeError(f"Expecting ',' or '{closing}'", text, skip_space(text, end))
        if after[1] == closing:
            return found, after.end(1)
        at = after.end()


def _escaped_name(text: str, at: int, raw_decode: RawDecode) -> tuple[str, int]:
    """The name at `at`, and where its value begins. Raises JSONDecodeError."""
    if text[at : at + 1] != '"':
        raise JSONDecodeError("Expecting a name in double quotes", text, at)
    name, at = raw_decode(text, at)
    at = skip_space(text, at)
    if text[at : at + 1] != ":":
        raise JSONDecodeError("Expecting ':'", text, at)
    return name, skip_space(text, at + 1)


def edited(text: str, edits: Sequence[Edit]) -> str:
    """`text` with each piece replaced; the pieces do not overlap and may come in any order."""
    if len(edits) == 1:
        ((start, end, new),) = edits
        return f"{text[:start]}{new}{text[end:]}"
    pieces: list[str] = []
    last = 0
    for start, end, new in sorted(edits):
        pieces += (text[last:start], new)
        last = end
    return "".join(pieces) + text[last:]
