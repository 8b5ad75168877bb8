"""Changes one JSON string in place, at a known path, and leaves every other byte as it was.

Which path holds a model's name is the dialects' business.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from gproxy.protocols.answers import is_crowded, is_utf8
from gproxy.protocols.base import Event
from gproxy.protocols.jsonwalk import TooMany, edited, members, skip_space
from gproxy.protocols.sse import with_data

Path = tuple[str, ...]

_SPACE = b" \t\n\r"
_LONGEST_SPACE = 64  # that is looked back over for what stands before a name
_MOST_IN_FRONT = 64  # members that are looked through for what stands before all that is nested
_MOST_MEMBERS = 10_000  # of an object on the path; one with more is left as it is
_ESCAPED_ASCII = rb"\u00"
"""How a name could be written that is then not found as it is."""

_LONGEST_FRONT = 1024
_FLAT = bytes.maketrans(b"{[\\", b"???")
"""Changes what begins something nested or escaped, and nothing else."""

_PLAIN_STRING_MEMBER = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*("[^"\\\x00-\x1f]*")')


def replace_value(data: bytes, path: Path, value: str) -> bytes:
    """`data`, one JSON object, with the string at `path` (names from the top) made `value`.

    The same bytes come back if nothing is there, if it is no string, or if `data` is not JSON. A name that is
    repeated at the path is changed each time.
    """
    key, in_front = _sought(path)
    found = None if in_front is None else in_front.match(data)
    if found is not None:
        if data.find(key, found.end()) >= 0:
            return _replace_exactly(data, path, value)
    else:
        at = data.find(key)
        if at < 0 and data.find(_ESCAPED_ASCII) < 0:
            return data
        if at > 0 and data.find(key, at + 1) < 0 and _stands_at(data, path, at):
            found = _PLAIN_STRING_MEMBER.match(data, at + len(key))
        if found is None:
            return _replace_exactly(data, path, value)
    start, end = found.span(1)
    view = memoryview(data)  # an answer may be large: it is copied once
    return b"".join((view[:start], _quoted(value), view[end:]))


def replace_in_answer(answer: bytes, name: str, value: str) -> bytes:
    """As `replace_value` of a path of one name, in less time, for what has been read as JSON.

    There a name is one, and what follows it its value, where nothing is nested or escaped before the end of both.
    """
    named, begun = _written(name)
    at = answer.find(named)
    end = answer.find(b'"', at + len(begun)) if answer.startswith(begun, at) else -1
    front = answer[1:end] if 0 < end < _LONGEST_FRONT else b"{"
    if front.translate(_FLAT) != front or answer.find(named, end) >= 0:
        return replace_value(answer, (name,), value)
    return b"".join((answer[:at], named, b":", _quoted(value), memoryview(answer)[end + 1 :]))


def replace_in_event(event: Event, path: Path, value: str) -> bytes:
    """The event's raw bytes with `replace_value` done to its data."""
    if event.data is None:
        return event.raw
    data = replace_value(event.data, path, value)
    return event.raw if data is event.data else with_data(event, data)


@lru_cache(maxsize=256)
def _quoted(value: str) -> bytes:
    return json.dumps(value).encode()


@lru_cache(maxsize=16)
def _written(name: str) -> tuple[bytes, bytes]:
    """A name as it is written, and with the beginning of a string behind it, as most write that."""
    return b'"%b"' % name.encode(), b'"%b":"' % name.encode()


@lru_cache(maxsize=16)
def _sought(path: Path) -> tuple[bytes, re.Pattern[bytes] | None]:
    """The name at the end of a path as it is written, and what finds it at the outermost object, if it is there."""
    return b'"%b"' % path[-1].encode(), _in_front(path[0]) if len(path) == 1 else None


def _in_front(name: str) -> re.Pattern[bytes]:
    """Finds a string that is a member of the outermost object, where nothing that is nested or escaped is before it.

    Each piece takes all that it can and gives nothing back, so the time is that of one pass.
    """
    space, string = rb"[ \t\n\r]*+", rb'"[^"\\\x00-\x1f]*+"'
    flat = space + string + space + rb":" + space + rb"(?:" + string + rb"|[-+.0-9A-Za-z]++)" + space + rb","
    named = space + b'"%b"' % re.escape(name.encode()) + space + rb":" + space
    return re.compile(
        space + rb"\{(?:" + flat + rb"){0,%d}?" % _MOST_IN_FRONT + named + rb"(" + string + rb")"
    )


def _stands_at(data: bytes, path: Path, at: int) -> bool:
    """Whether the name at `at`, which stands nowhere else, surely is the last of `path`.

    `data` is JSON, and before the name there is no escape, but a comma or the opening brace: so it is no end of a
    string, and no part of one. And there is a member at the path that has this name.
    """
    return (
        data[max(0, at - _LONGEST_SPACE) : at].rstrip(_SPACE)[-1:] in (b",", b"{")
        and data.find(_ESCAPED_ASCII) < 0
        and _has_string(path, data)
        and is_utf8(data)
    )


def _has_string(path: Path, data: bytes) -> bool:
    try:
        _decoder(path).decode(data)
    except (ValueError, RecursionError):
        return False
    return True


@lru_cache(maxsize=16)
def _decoder(path: Path) -> msgspec.json.Decoder[Any]:
    """Of objects that have a string at `path`."""
    found: type = str
    for name in reversed(path):
        found = msgspec.defstruct("Holder", [("held", found)], rename={"held": name})
    return msgspec.json.Decoder(found)


def _replace_exactly(data: bytes, path: Path, value: str) -> bytes:
    if is_crowded(data):
        return data  # all of it would be made, to find what no honest answer hides so
    try:
        text = data.decode()
        start = skip_space(text, 0)
        spans = list(_spans(text, start, path))
        if not spans or skip_space(text, members(text, start, most=_MOST_MEMBERS)[1]) != len(text):
            return data
    except (ValueError, RecursionError, TooMany):
        return data
    new = json.dumps(value)
    return edited(text, [(start, end, new) for start, end in spans]).encode()


def _spans(text: str, at: int, path: Path) -> Iterator[tuple[int, int]]:
    for member in members(text, at, most=_MOST_MEMBERS)[0]:
        if member.name != path[0]:
            continue
        if len(path) > 1:
            if isinstance(member.value, dict):
                yield from _spans(text, member.start, path[1:])
        elif isinstance(member.value, str):
            yield member.start, member.end
