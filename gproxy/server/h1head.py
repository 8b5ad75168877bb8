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

_PRINTED = re.compile(rb"[\t\x20-\x7e]*")


class Refused(Exception):
    """Raised through llhttp: an answer is beyond a limit, or holds what no header may."""


class Head:
    """The headers of one head, found one by one. `first` has the first of each name, in lower case.

    `delimited`: the body ends by a length or by chunks; otherwise the connection's end is its end. `size`: bytes of
    all names and values.
    """

    __slots__ = ("delimited", "first", "size")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises Refused."""
        self.first: dict[bytes, bytes] = {}
        self.delimited = False
        self.size = 0
        if len(headers) > MAX_HEADERS:
            raise Refused
        for name, value in headers:
            size = len(name) + len(value)
            self.size += size
            if size > MAX_FIELD_BYTES or b"\0" in value:
                raise Refused
            lowered = name.lower()
            if lowered not in self.first:
                self.first[lowered] = value
            if lowered == b"content-length":
                self.delimited = True
            elif lowered == b"transfer-encoding":
                if _PRINTED.fullmatch(value) is None:
                    raise Refused  # where llhttp and others would not agree
                self.delimited = value.lower().rpartition(b",")[2].strip(b" \t") == b"chunked"
