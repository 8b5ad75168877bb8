"""Decodes a large JSON text in many short steps, so that a thread which does it holds nobody up for long.

The standard library's decoder, which does each step, keeps the interpreter to itself from its first byte to its last.
What a text must be to be accepted is not decided here (`strict.py`).
"""

import codecs
import re
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any

from gproxy.protocols.jsonwalk import LENIENT, RawDecode, members

STEP_CHARS = 16 * 1024
"""What is decoded at once: less than a millisecond of work, whatever is in it."""

PLAIN_CHARS = 1024 * 1024
"""The same inside a string and without escapes, which goes fast."""

_SHORT_CHARS = 128
"""Most values are no longer, and what is decoded is copied before."""

LARGE_CHARS = 1024 * 1024

TEXT_BYTES = 2 * 1024 * 1024
"""What of a body is made text at once."""

# Of a text, as much as is surely whole: an escape that is cut in two waits for the next step. Not possessive: Python
# before 3.11.5 would keep what the last repetition, which failed, had taken.
_WHOLE = re.compile(r'(?:[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*')
_ESCAPE_CHARS = 6  # of one like \ud83d
_HIGH_HALVES = range(0xD800, 0xDC00)


def text_of(raw: bytes) -> str:
    """The UTF-8 text that `raw` is. Raises UnicodeDecodeError, whose `start` is a position in `raw`."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces: list[str] = []
    for at in range(0, len(raw), TEXT_BYTES):
        piece = raw[at : at + TEXT_BYTES]
        try:
            pieces.append(decoder.decode(piece, at + TEXT_BYTES >= len(raw)))
        except UnicodeDecodeError as error:
            error.start += at + len(piece) - len(error.object)
            raise
    return "".join(pieces)


def again(text: str) -> RawDecode:
    """What reads values anew out of a body's text, which was accepted before: in steps if it is large."""
    return Steps(LENIENT, lambda _piece, _depth: None).value if len(text) > LARGE_CHARS else LENIENT


class Steps:
    """Stands in for a decoder's `raw_decode`. `look` is given each piece that was decoded, and the depth it is at.

    Containers that are longer than a step are taken apart, one level at a time; strings, a piece at a time.
    """

    def __init__(self, raw_decode: RawDecode, look: Callable[[str, int], None]) -> None:
        self._raw_decode = raw_decode
        self._look = look
        self._depth = 1  # within the body itself

    def value(self, text: str, at: int) -> tuple[Any, int]:
        """The value at `at`, and where it ends. Raises what `raw_decode` and `look` raise."""
        mark = text[at : at + 1]
        if mark not in ("{", "[", '"'):
            value, end = self._raw_decode(text, at)
            self._look(mark, self._depth)
            return value, end
        for size in (_SHORT_CHARS, STEP_CHARS):
            piece = text[at : at + size]
            try:
                value, end = self._raw_decode(piece, 0)
            except Exception:  # it may only be cut short; if it is none, its parts will tell
                continue
            self._look(piece[:end], self._depth)
            return value, at + end
        return self._string(text, at) if mark == '"' else self._taken_apart(text, at, mark)

    def _taken_apart(self, text: str, at: int, mark: str) -> tuple[Any, int]:
        self._look(mark, self._depth)
        self._depth += 1
        # A member is let go as soon as its value is taken: many that stay would be looked at by each collection.
        found: Any
        if mark == "[":
            found = []
            _, end = members(text, at, self.value, array=True, take=lambda member: found.append(member.value))
        else:
            found = {}
            _, end = members(
                text, at, self.value, take=lambda member: found.update({member.name: member.value})
            )
        self._depth -= 1
        return found, end

    def _string(self, text: str, at: int) -> tuple[str, int]:
        end = _end_of_piece(text, at + 1)
        if text[end : end + 1] == '"' and end - at > STEP_CHARS:  # whole and without escapes: not copied
            self._look('"', self._depth)
            return self._raw_decode(text, at)
        pieces: list[str] = []
        begin = at
        at += 1
        while (end := _end_of_piece(text, at)) > at:
            piece, _ = self._raw_decode(f'"{text[at:end]}"', 0)
            if ord(piece[-1]) in _HIGH_HALVES and end - at > _ESCAPE_CHARS:
                # The other half of a pair may follow.
                end -= _ESCAPE_CHARS
                piece = piece[:-1]
            self._look(f'"{text[at:end]}"', self._depth)
            pieces.append(piece)
            at = end
        if text[at : at + 1] != '"':
            raise JSONDecodeError("Unterminated string, or what no string may hold", text, begin)
        return "".join(pieces), at + 1


def _end_of_piece(text: str, at: int) -> int:
    """Where a piece of a string ends that is decoded at once; `at` if there is none."""
    end = text.find("\\", at, at + PLAIN_CHARS)
    if end < 0 or end > at + STEP_CHARS:
        end = min(at + PLAIN_CHARS, len(text)) if end < 0 else end
        quote = text.find('"', at, end)
        return end if quote < 0 else quote
    whole = _WHOLE.match(text, at, at + STEP_CHARS)
    return at if whole is None else whole.end()
