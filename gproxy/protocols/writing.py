"""Writes large texts and trees as JSON in many short steps, so that a thread which does it holds nobody up for long.

What they are read by is `steps.py`. What is written is what the encoders write at once: only the work is cut.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gproxy.protocols.jsonwalk import Edit

STEP_CHARS = 64 * 1024
"""Of a text, as much as is copied or encoded at once."""

_encode = msgspec.json.Encoder().encode


def edited(text: str, edits: Iterable[Edit]) -> bytes:
    """`text` in UTF-8 with each piece replaced; the pieces do not overlap and may come in any order."""
    written: list[bytes] = []
    last = 0
    for start, end, new in (*sorted(edits), (len(text), len(text), "")):
        written += map(str.encode, _pieces(text, last, start))
        written.append(new.encode())
        last = end
    return b"".join(written)  # which lets others go on meanwhile


def of_tree(tree: Any) -> bytes:
    """A tree as `msgspec.json.encode` has it; whole numbers beyond 64 bits, which that refuses, as `json` does."""
    written: list[bytes] = []
    _put(tree, written)
    return b"".join(written)


def _put(value: Any, written: list[bytes]) -> None:
    if isinstance(value, dict) and value:
        mark = b"{"
        for name, inner in value.items():
            written.append(mark)
            _put(name, written)
            written.append(b":")
            _put(inner, written)
            mark = b","
        written.append(b"}")
    elif isinstance(value, list | tuple) and value:
        mark = b"["
        for inner in value:
            written.append(mark)
            _put(inner, written)
            mark = b","
        written.append(b"]")
    elif isinstance(value, str) and len(value) > STEP_CHARS:
        written.append(b'"')
        written += (_encode(piece)[1:-1] for piece in _pieces(value, 0, len(value)))
        written.append(b'"')
    else:
        try:
            written.append(_encode(value))
        except OverflowError:
            written.append(json.dumps(value).encode())


def _pieces(text: str, start: int, end: int) -> Iterator[str]:
    return (text[at : min(at + STEP_CHARS, end)] for at in range(start, end, STEP_CHARS))
