"""The head of an upstream's answer: what it may be, and what in it says where the body ends.

What bytes are a head is llhttp's, what follows from a head for its connection `h1exchange.py`'s.
"""

import re
from collections.abc import Sequence

MAX_HEADERS = 128
MAX_FIELD_BYTES = 8190
"""Of one header's name and value, and of a status line's text: as other clients have it."""
MAX_HEAD_BYTES = 64 * 1024
"""Of all heads of one answer, those of status 1xx too: of their names and values, and of what has come in of one that
is not whole."""

MAX_UNREAD_BYTES = 128 * 1024
"""Of an answer that nobody takes, as it came in; then its connection is not read."""
MAX_EMPTY_BYTES = 1024 * 1024
"""Of what may come in a row behind the head and is no body: extensions of chunks, trailers."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_PRINTED = re.compile(rb"[\t\x20-\x7e]*")


class Refused(Exception):
    """Raised through llhttp: an answer is beyond a limit, or holds what no header may."""


def read(headers: Sequence[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], bool, int]:
    """Of the headers of one head: the first of each name, in lower case; whether the body ends by a length or by
    chunks, and not with its connection; and how many bytes names and values are. Raises Refused."""
    if len(headers) > MAX_HEADERS:
        raise Refused
    first: dict[bytes, bytes] = {}
    delimited = False
    fields: list[bytes] = []
    for field in headers:
        fields += field
        name = field[0].lower()
        if name not in first:
            first[name] = field[1]
        if name in _FRAMING:
            delimited = name == b"content-length" or _is_in_chunks(field[1])
    # What holds for each is seen of all at once: an upstream sends twenty and more.
    all_of_it = b"".join(fields)
    size = len(all_of_it)
    if b"\0" in all_of_it or (size > MAX_FIELD_BYTES and max(map(_size, headers)) > MAX_FIELD_BYTES):
        raise Refused
    return first, delimited, size


def _size(field: tuple[bytes, bytes]) -> int:
    return len(field[0]) + len(field[1])


def _is_in_chunks(coding: bytes) -> bool:
    """Raises Refused where llhttp and others would not agree."""
    if _PRINTED.fullmatch(coding) is None:
        raise Refused
    return coding.lower().rpartition(b",")[2].strip(b" \t") == b"chunked"
