"""The one decoder of request bodies: what passes here is one JSON object that every upstream reads alike.

What the names in it mean is the dialects' business, `model` and `stream` apart, which all of them share.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from gproxy.errors import BadRequest
from gproxy.protocols.base import Body
from gproxy.protocols.estimate import Weight, weight_of
from gproxy.protocols.jsonwalk import TooMany, members, skip_space
from gproxy.protocols.pieces import pieces_of
from gproxy.protocols.steps import Steps, text_of

MAX_MODEL_CHARS = 512
"""A longer name is no model's, and would stand in the ledger and the log."""

MAX_DEPTH = 128
"""Nesting of objects and arrays, the body itself counted."""

MAX_NAMES = 1000
"""Names at the top level: no dialect has a hundred, and each costs time that other requests wait for."""

MAX_VALUES = 500_000
"""Values of a large body, nested ones too: no conversation has so many, and each costs a hundred bytes and more."""

MAX_CONTAINERS = 100_000
"""The same of objects and arrays alone, which each collection of garbage looks at."""

LARGE_BYTES = 1024 * 1024
_LARGE_COMMAS = 20_000
SMALL_BYTES = 2 * _LARGE_COMMAS
"""What is no larger than that holds no more values, and needs no look to be no work for a thread."""

_GUARDED = frozenset({"model", "models", "fallbacks", "stream", "stream_options"})
"""Decide who may ask, and what is counted. Servers in Go and .NET take names in any case, the last of them."""

_SHORT_BYTES = 32 * 1024
_LONGEST_INTEGER = 309  # digits of the largest finite double
_SHOWN_CHARS = 40  # of a name out of the body in a message
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPED_QUOTE = re.compile(rb'\\[\\"]')  # or backslash, behind which a quote is none that is escaped
_BESIDE_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
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


_quick = msgspec.json.Decoder(dict[str, Any]).decode
_STEP = _LONGEST_INTEGER // 6
_AS_NINES = bytes.maketrans(b"012345678", b"9" * 9)
_ROW = re.compile(b"999999+")
"""Among every `_STEP`th character, digits as nines: a long number has six of them in a row, and little else does."""

_LONG_NUMBER = re.compile(b"(?<![0-9])[0-9]{%d}" % _LONGEST_INTEGER)

_NULL = msgspec.Raw(b"null")
_LEAST_TOOLS, _MOST_TOOLS = 1024, 128 * 1024
"""Bytes of the tools that are remembered."""
_BY_MCP = b'"mcp"'
"""A type of tools that come with what opens their server: a client's own secret, which is not to stay here."""


def is_large(raw: bytes) -> bool:
    """Whether decoding `raw` takes longer than others should wait for, so that it is a thread's work."""
    return len(raw) > LARGE_BYTES or (len(raw) > SMALL_BYTES and raw.count(b",") > _LARGE_COMMAS)


def decode(raw: bytes, large: bool | None = None) -> Body:
    """The body as text, tree and places of its top-level values. `large`: whether it is, where that is known.

    Raises BadRequest unless `raw` is one JSON object (RFC 8259) in UTF-8, without a byte order mark, repeated
    names at the top level or such that some read as `model` or the like, lone surrogates, numbers beyond a finite
    double, nesting over MAX_DEPTH, more than MAX_NAMES names at the top level or anything after it; or if it is
    large and holds more than MAX_VALUES or MAX_CONTAINERS.
    """
    if large is None:
        large = is_large(raw)
    try:
        text = text_of(raw) if large else raw.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: invalid byte at position {error.start}.") from None
    if not large and (body := _plain_body(raw, text)) is not None:
        return body
    if text.startswith("\ufeff"):
        raise BadRequest("The body starts with a byte order mark; send UTF-8 without one.")
    start = skip_space(text, 0)
    if text[start : start + 1] != "{":
        raise BadRequest("The body must be one JSON object.")
    try:
        raw_decode = Steps(_DECODER.raw_decode, _Census().look).value if large else _DECODER.raw_decode
        found, end = members(text, start, raw_decode, most=MAX_NAMES)
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
    _refuse_lookalikes(tree)
    if not large:  # else it was done on the way
        if _is_too_deep(raw):
            raise _too_deep()
        _refuse_lone_surrogates(text)
    return Body(text, tree, {member.name: (member.start, member.end) for member in found})


def _plain_body(raw: bytes, text: str) -> Body | None:
    """The body that `raw` is, if it surely is one to be taken; None if it has to be looked at more closely.

    Nearly every body is plain, and is read so in a third of the time.
    """
    try:
        pieces = pieces_of(raw)
    except (ValueError, RecursionError):
        return None
    if pieces is None or len(pieces.values) > MAX_NAMES:
        return None
    for name in pieces.values:
        if name not in _GUARDED and name.casefold() in _GUARDED:
            return None
    if (
        "tools" in pieces.values
        and _LEAST_TOOLS <= len(tools := bytes(pieces.values["tools"])) <= _MOST_TOOLS
    ):
        try:
            known = _tools(tools)
        except _Secretive:
            pass
        else:
            tree = _plain_tree(pieces.changed({"tools": _NULL}))
            if known is None or tree is None:
                return None
            tree["tools"], weight = known
            return Body(text, tree, None, pieces, weight)
    tree = _plain_tree(raw)
    return None if tree is None else Body(text, tree, None, pieces)


def _plain_tree(raw: bytes) -> dict[str, Any] | None:
    """The object that `raw` is, which may have repeated names; None if it has to be looked at more closely.

    msgspec refuses what is no JSON, constants, lone surrogates and floats beyond a finite double; it lets repeated
    names pass, and integers of any length.
    """
    try:
        tree = _quick(raw)
    except (ValueError, RecursionError):
        return None
    return None if _is_too_deep(raw) or _holds_long_number(raw) else tree


class _Secretive(Exception):
    """Tools that may hold a secret are not remembered."""


@lru_cache(maxsize=16)
def _tools(given: bytes) -> tuple[Any, Weight] | None:
    """The tools of a request, if they are plain, with what they weigh. An agent sends the same with each turn, and
    they may be most of what it sends. Raises _Secretive."""
    if _BY_MCP in given:
        raise _Secretive
    tree = _plain_tree(b'{"tools":%b}' % given)
    return None if tree is None else (tree["tools"], weight_of(tree))


def _holds_long_number(raw: bytes) -> bool:
    """Whether so many digits stand in a row that it may be beyond a finite double."""
    sample = raw[_STEP - 1 :: _STEP].translate(_AS_NINES)
    if _ROW.search(sample) is None:
        return False
    for row in _ROW.finditer(sample):
        if _LONG_NUMBER.search(raw, row.start() * _STEP, (row.end() + 1) * _STEP):
            return True
    return False


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
    if not value.isprintable() and _CONTROL.search(value):
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


def _refuse_lookalikes(tree: Mapping[str, Any]) -> None:
    for name in tree:
        if name not in _GUARDED and (meant := name.casefold()) in _GUARDED:
            raise BadRequest(f"The body has the name {json.dumps(name)}, which may be read as `{meant}`.")


def _repeated(names: list[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            break
        seen.add(name)
    return json.dumps(name[:_SHOWN_CHARS])


class _Census:
    """What is counted of a large body while it is decoded piece by piece."""

    def __init__(self) -> None:
        self._values = self._containers = 0

    def look(self, piece: str, depth: int) -> None:
        """Raises BadRequest at the first piece that goes beyond a limit, or holds half a surrogate pair."""
        _refuse_lone_surrogates(piece)
        structure = b"" if piece.startswith('"') else _structure(piece.encode())
        self._values += 1 + structure.count(b",")
        self._containers += structure.count(b"{") + structure.count(b"[")
        if self._values > MAX_VALUES or self._containers > MAX_CONTAINERS:
            raise BadRequest(
                f"The body holds more than {MAX_VALUES} values, or {MAX_CONTAINERS} that hold others."
            )
        if depth + _depth(structure) > MAX_DEPTH:
            raise _too_deep()


def _is_too_deep(raw: bytes) -> bool:
    """Whether a valid JSON text is nested deeper than may be."""
    if len(raw) < _SHORT_BYTES:  # a mark is taken out of so few faster than it is counted
        opened = len(raw) - len(raw.replace(b"{", b"").replace(b"[", b""))
    else:
        opened = _opened(raw, MAX_DEPTH + 1)
    return opened > MAX_DEPTH and _depth(_structure(raw)) > MAX_DEPTH


def _structure(raw: bytes) -> bytes:
    """The brackets and commas of a valid JSON text, without those inside strings."""
    raw = _ESCAPED_QUOTE.sub(b"", raw)
    # Two quotes side by side hold nothing, or nothing is between two strings: either way the rest stays as it is.
    return b"".join(raw.translate(None, _BESIDE_STRUCTURE).replace(b'""', b"").split(b'"')[::2])


def _opened(raw: bytes, most: int) -> int:
    """How many brackets open in a text, those inside strings too; looked for up to so many."""
    found = 0
    for mark in b"{", b"[":  # a mark that is looked for is found many times faster than all are counted
        at = raw.find(mark)
        while at >= 0 and found < most:
            found += 1
            at = raw.find(mark, at + 1)
    return found


def _depth(structure: bytes) -> int:
    """The deepest nesting in what `_structure` leaves; counted there, since a tree hides what repeated names held."""
    brackets = structure.translate(_ONE_KIND, b",")
    depth = 0
    while len(less := brackets.replace(b"[]", b"")) < len(brackets):  # without those that hold no others
        brackets = less
        depth += 1
    return depth + brackets.count(b"[")


def _refuse_lone_surrogates(text: str) -> None:
    if "\\" not in text or "\\u" not in text:  # to look for the first alone is many times faster
        return
    # With escaped backslashes out of the way (as many characters, so that nothing moves together), each that is
    # left starts an escape.
    for found in _PAIR_OR_HALF.finditer(text.replace("\\\\", "  ")):
        if found.group(1):
            raise BadRequest(f"The body has half a surrogate pair at character {found.start()}.")
