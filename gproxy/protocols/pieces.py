"""A JSON object as its names and the bytes of its values, where these and the way it is written are all of it.

What an object must be to be accepted is not decided here (`strict.py`), nor what is changed in it (`requests.py`).
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw, Struct

Values = Mapping[str, Raw]

_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def _spaced(values: Values) -> bytes:
    """With a blank behind each colon and comma, as Python's own encoder writes."""
    return b"{%b}" % b", ".join([b'"%b": %b' % (name.encode(), value) for name, value in values.items()])


class Pieces(Struct, frozen=True, gc=False):
    """`raw` is the object, and its `values` are parts of it. `join` puts them together again; `blank` is 1 if it
    writes a blank behind colons and commas, else 0."""

    raw: bytes
    values: Values
    join: Callable[[Values], bytes]
    blank: int = 0

    def changed(self, changes: Values) -> bytes:
        """The object with other values for some of its names."""
        return self.join({**self.values, **changes}) if changes else self.raw

    def spans(self) -> dict[str, tuple[int, int]]:
        """The (start, end) of each value in the object's text."""
        spans: dict[str, tuple[int, int]] = {}
        at, blank = 1, self.blank
        for name, value in self.values.items():
            start = at + len(str(_encode(name), "utf-8")) + 1 + blank
            at = start + len(str(value, "utf-8"))
            spans[name] = start, at
            at += 1 + blank
        return spans


def pieces_of(raw: bytes) -> Pieces | None:
    """The pieces of which `raw`, which is JSON, can be put together again byte for byte; None if it cannot.

    Then each name is in it once: of one that is repeated, the last value alone is a piece. Raises ValueError or
    RecursionError for what is no object.
    """
    values = _decode(raw)
    if _encode(values) == raw:
        return Pieces(raw, values, _encode)
    if _spaced(values) == raw:
        return Pieces(raw, values, _spaced, 1)
    return None
