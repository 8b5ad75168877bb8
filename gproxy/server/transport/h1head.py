"""The head of an upstream's answer: what it may be, what in it says where the body ends, and how it looks mostly.

What bytes are a head is llhttp's, what follows from a head for its body `h1answer.py`'s.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from msgspec import Struct

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

IN_CHUNKS = -1
"""How long a body is, where it has no length."""

_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_PRINTED = re.compile(rb"[\t\x20-\x7e]*")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [ -~]*)?")
_BODILESS = (204, 304)
_NUL, _LF = b"\0\n"
# What all agree on: where the value of a header begins and ends, a length, chunks, a connection that goes on. What no
# value holds but CR is seen of all at once: a set of bytes is looked up for each of them.
_VALUE = rb"([^\t\r\n ][^\r]*+)(?<![\t ])"
_PLAIN = {_LENGTH: rb"([0-9]{1,15})", _CODING: rb"((?i:chunked))", b"connection": rb"((?i:keep-alive))"}
_OTHERS_OF_CONNECTION = frozenset((b"proxy-connection", b"upgrade"))

_MOST_FORMS = 3
_MOST_SEEN = 16
_LONGEST_LINE = 64


class Refused(Exception):
    """Raised through llhttp: an answer is beyond a limit, or holds what no header may."""


class Picked(Struct, frozen=True):
    """Some of a head's headers: their names in lower case, where they are, and what makes lines of their values."""

    names: tuple[bytes, ...]
    places: tuple[int, ...]
    form: bytes


class Shape(Struct, frozen=True):
    """The names of a head, in their order. `at` is where the first of each is, by the name in lower case; `framing`
    where those are that say where the body ends; `asked` what was looked for."""

    names: tuple[bytes, ...]
    lower: tuple[bytes, ...]
    at: dict[bytes, int]
    framing: tuple[int, ...]
    asked: dict[frozenset[bytes], Picked]

    def of(self, names: frozenset[bytes]) -> Picked:
        """Those of some names. To be asked for few sets of names."""
        picked = self.asked.get(names)
        if picked is None:
            places = tuple([place for place, name in enumerate(self.lower) if name in names])
            found = tuple([self.lower[place] for place in places])
            form = b"".join([b"%b: %%b\r\n" % name for name in found])
            picked = self.asked[names] = Picked(found, places, form)
        return picked


class Told(Struct, frozen=True):
    """The headers of one head."""

    shape: Shape
    values: Sequence[bytes]

    def get(self, name: bytes) -> bytes | None:
        """The first of a name, which is lower case."""
        place = self.shape.at.get(name)
        return None if place is None else self.values[place]

    def all(self) -> list[tuple[bytes, bytes]]:
        return list(zip(self.shape.names, self.values, strict=True))

    def of(self, names: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
        """Those of some names, in lower case. To be asked for few sets of names."""
        picked = self.shape.of(names)
        return list(zip(picked.names, self.under(picked), strict=True))

    def under(self, picked: Picked) -> tuple[bytes, ...]:
        """The values of those."""
        return tuple(map(self.values.__getitem__, picked.places))


@lru_cache(maxsize=64)
def shape_of(names: tuple[bytes, ...]) -> Shape:
    """Made once for all heads that have these names."""
    lower = tuple([name.lower() for name in names])
    at = {name: place for place, name in reversed(tuple(enumerate(lower)))}
    framing = [place for place, name in enumerate(lower) if name in (_LENGTH, _CODING)]
    return Shape(names, lower, at, tuple(framing), {})


NOTHING = Told(shape_of(()), ())


def read(names: Sequence[bytes], values: Sequence[bytes]) -> tuple[Told, bool, int]:
    """The headers of one head; whether the body ends by a length or by chunks, and not with its connection; and how
    many bytes names and values are. Raises Refused."""
    # What holds for each is seen of all at once: an upstream sends twenty and more.
    all_of_it = b"".join((*names, *values))
    size = len(all_of_it)
    if len(names) > MAX_HEADERS or size > MAX_HEAD_BYTES or b"\0" in all_of_it:
        raise Refused
    if size > MAX_FIELD_BYTES and max(map(_size, names, values)) > MAX_FIELD_BYTES:
        raise Refused
    shape = shape_of(tuple(names))
    delimited = False
    for place in shape.framing:
        delimited = shape.lower[place] == _LENGTH or _is_in_chunks(values[place])
    return Told(shape, values), delimited, size


def _size(name: bytes, value: bytes) -> int:
    return len(name) + len(value)


def _is_in_chunks(coding: bytes) -> bool:
    """Raises Refused where llhttp and others would not agree."""
    if _PRINTED.fullmatch(coding) is None:
        raise Refused
    return coding.lower().rpartition(b",")[2].strip(b" \t") == b"chunked"


class _Form(Struct, frozen=True):
    """How heads look that differ in values alone. `length` is where the body's stands, None if it comes in chunks.
    `match` takes what holds NUL or LF for a value too."""

    match: Callable[[bytes, int, int], re.Match[bytes] | None]
    status: int
    shape: Shape
    length: int | None


class Heads:
    """How the heads of one upstream's answers look: in nearly all of them it sends the same names in the same order.

    Heads that look so are read by what was made of the first ones, and not by llhttp, to the same end.
    """

    def __init__(self) -> None:
        self._forms: list[_Form] = []
        self._seen: set[tuple[bytes, tuple[bytes, ...]]] = set()

    def find(self, data: bytes) -> tuple[int, Told, int, int] | None:
        """The status and the headers of the head that `data` begins with, how long the body is, or IN_CHUNKS, and
        where it begins. None if the head does not end in `data`, or looks like none that was learned."""
        forms = self._forms
        for form in forms:
            match = form.match(data, 0, MAX_FIELD_BYTES)  # so that it is within all limits
            if match is None:
                continue
            values = match.groups()
            together = b"".join(values)
            if _NUL in together or _LF in together:
                return None
            if form is not forms[0]:
                forms.remove(form)
                forms.insert(0, form)
            length = IN_CHUNKS if form.length is None else int(values[form.length])
            return form.status, Told(form.shape, values), length, match.end()
        return None

    def learn(self, data: bytes, told: Told) -> None:
        """`data` began with a head which `told` is of, unless others were before it. What comes for the second time
        may come more often."""
        line = data.partition(b"\r\n")[0]
        look = line, told.shape.names
        if len(line) > _LONGEST_LINE:
            return
        if look not in self._seen:
            if len(self._seen) == _MOST_SEEN:
                self._seen.clear()
            self._seen.add(look)
        elif (form := _form(*look)) is not None:
            self._forms = [form, *self._forms[: _MOST_FORMS - 1]]


@lru_cache(maxsize=64)
def _form(line: bytes, names: tuple[bytes, ...]) -> _Form | None:
    """None where it does not follow from how heads look how their bodies end, and that the connection goes on."""
    shape = shape_of(names)
    status = _STATUS_LINE.fullmatch(line)
    if status is None or int(status[1]) in _BODILESS or len(shape.framing) != 1:
        return None
    if shape.lower.count(b"connection") > 1 or not _OTHERS_OF_CONNECTION.isdisjoint(shape.at):
        return None
    fields = [re.escape(name) + b": " + _PLAIN.get(name.lower(), _VALUE) for name in names]
    pattern = re.compile(rb"\r\n".join([re.escape(line), *fields]) + rb"\r\n\r\n")
    return _Form(pattern.match, int(status[1]), shape, shape.at.get(_LENGTH))
