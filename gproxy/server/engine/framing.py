"""Where a request begins and ends in the bytes of a connection: its head, and its body by length or in chunks.

RFC 9112. What can be read in two ways is refused, since whoever stands before us may read it the other way. llhttp
(by httptools) reads heads, its lenient flags off; what it still lets through is refused here. Sockets and time are
`http1.py`'s; what a request means, and which headers it may hold, is `edge.py`'s.
"""

import re
from collections.abc import Hashable
from typing import Any

import httptools
from msgspec import Struct, structs

from gproxy.errors import BadRequest, HeadersTooLarge
from gproxy.server.request.edge import LONG_TARGET, MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET_BYTES

MAX_HEAD_BYTES = MAX_HEADER_BYTES + 16 * 1024
"""The request line, and what stands between names and values, come on top of what `edge.py` counts."""

MAX_CHUNK_LINE_BYTES = 1024
MAX_CHUNK_SPARE_BYTES = 16 * 1024
"""Of extensions and trailers together, all of which are read over, in one body."""

MAX_LINES_AT_ONCE = 4096
"""Of chunks, in one step: some 5 ms, in which nobody else is served. A body may come in chunks of a byte each."""

# llhttp takes several spaces, other protocols and versions, and bytes that no URL may hold.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_LONE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
EMPTY_LINES = re.compile(rb"\A(?:\r\n)*")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_MOST_DIGITS = 15
_ZERO = ord("0")
_MOST_KEPT_BYTES = 4 * 1024
_MOST_YOUNG = 128
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"expect"))

MALFORMED = "The request is malformed."
_MALFORMED_CHUNK = "The body's chunks are not well-formed."


class Sized:
    """A body of a known length. `more`: `take` has to be called again for what it was given already."""

    more = False

    def __init__(self, length: int) -> None:
        self.length = self._left = length

    def take(self, data: bytes) -> tuple[bytes, bytes | None]:
        """What of `data` is the body's, and what follows the body's end; None: that has not come yet."""
        if len(data) < self._left:
            self._left -= len(data)
            return data, None
        return data[: self._left], data[self._left :]


class Chunked:
    """A body in chunks. Extensions and trailers are read over, within bounds. `more` as of `Sized`."""

    length = None

    def __init__(self) -> None:
        self.more = False
        self._left = 0
        self._held = b""
        self._spare = 0
        self._read_line = self._read_size

    def take(self, data: bytes) -> tuple[bytes, bytes | None]:
        """As `Sized.take`. Raises BadRequest."""
        data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at = 0
        self.more = False
        for _ in range(MAX_LINES_AT_ONCE):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return b"".join(pieces), None
                self._read_line = self._read_end_of_chunk
            end = data.find(b"\n", at)
            if (len(data) if end < 0 else end) - at > MAX_CHUNK_LINE_BYTES:
                raise BadRequest(_MALFORMED_CHUNK)
            if end < 0:
                self._held = data[at:]
                return b"".join(pieces), None
            if data[end - 1 : end] != b"\r" or end == at:
                raise BadRequest(_MALFORMED_CHUNK)
            over = self._read_line(data[at : end - 1])
            at = end + 1
            if over:
                return b"".join(pieces), data[at:]
        self.more = True
        self._held = data[at:]
        return b"".join(pieces), None

    def _read_size(self, line: bytes) -> bool:
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise BadRequest(_MALFORMED_CHUNK)
        self._left = int(found[1], 16)
        self._pass_over(len(line) - len(found[1]))
        if not self._left:
            self._read_line = self._read_trailer
        return False

    def _read_end_of_chunk(self, line: bytes) -> bool:
        if line:
            raise BadRequest(_MALFORMED_CHUNK)
        self._read_line = self._read_size
        return False

    def _read_trailer(self, line: bytes) -> bool:
        if line and _TRAILER.fullmatch(line) is None:
            raise BadRequest(_MALFORMED_CHUNK)
        self._pass_over(len(line))
        return not line

    def _pass_over(self, size: int) -> None:
        self._spare += size
        if self._spare > MAX_CHUNK_SPARE_BYTES:
            raise BadRequest("The body's chunks come with too much beside them.")


Body = Sized | Chunked

_Around = tuple[Hashable, bytes, bytes]
"""Where a head came to, and what of it stands around the length of its body."""


class Head(Struct, frozen=True):
    """The head of a request, but for the length of its body. Names of headers are lower case, values without white
    space around them.

    `place` is where among the headers that length stands, which may be an earlier request's, None if it is this one's
    or none. `persistent`: another request may follow on the connection. `expects`: the client waits for 100 before it
    sends the body. `kept` is what is made of it all, for the requests that begin so.
    """

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    persistent: bool
    expects: bool
    place: int | None = None
    kept: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Head({self.method})"  # its headers hold a key

    def headers_with(self, length: int | None) -> list[tuple[bytes, bytes]]:
        """The headers of the request whose body is so long."""
        if self.place is None:
            return self.headers
        headers = self.headers.copy()
        headers[self.place] = (b"content-length", b"%d" % (length or 0))
        return headers


class _Collector:
    """What llhttp finds; `framing` are those of the headers that say how the request is framed."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.framing: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        header = name.lower(), value.rstrip(b" \t")
        self.headers.append(header)
        if header[0] in _FRAMING:
            self.framing.append(header)


def read_head(raw: bytes) -> tuple[Head, Body | None]:
    """The head that `raw` is, with the empty line that ends it, and what frames the body, None if there is none.

    Raises BadRequest or HeadersTooLarge.
    """
    if raw.count(b"\n") > MAX_HEADERS + 2:
        raise HeadersTooLarge(f"More than {MAX_HEADERS} headers.")
    line = _REQUEST_LINE.match(raw)
    if line is None:
        raise BadRequest(MALFORMED)
    method, target, minor = line.groups()
    if len(target) > MAX_TARGET_BYTES:
        raise HeadersTooLarge(LONG_TARGET)
    try:
        found = _parsed(raw)
    except httptools.HttpParserInvalidMethodError:
        # One that llhttp does not know is a method all the same, for the route to refuse.
        found = _parsed(b"POST" + raw[len(method) :])
    is_1_1 = minor == b"1"
    body, persistent, expects = _framing(found.framing, is_1_1)
    version = "1.1" if is_1_1 else "1.0"
    return Head(method.decode(), target, version, found.headers, persistent, expects), body


class Known:
    """Heads that connections of one process have sent, each with the local address that it came to: what is made of
    a head may depend on both. Bounded; to be told `turn` now and then, so that none stays that nobody sends again.
    """

    def __init__(self) -> None:
        self._young: dict[_Around, Head] = {}
        self._old: dict[_Around, Head] = {}

    def find(self, around: _Around) -> Head | None:
        """The head that is so around its length."""
        head = self._young.get(around)
        if head is None and (head := self._old.pop(around, None)) is not None:
            self.keep(around, head)
        return head

    def keep(self, around: _Around, head: Head) -> None:
        if len(self._young) >= _MOST_YOUNG:
            self.turn()
        self._young[around] = head

    def turn(self) -> None:
        """Forget those that were not asked for since the last time."""
        self._old, self._young = self._young, {}

    def clear(self) -> None:
        """Forget all of them."""
        self._old, self._young = {}, {}


class Heads:
    """Reads the heads of one connection, which comes to the address `local`. One that `known` has, byte for byte but
    for the length of its body, is not parsed again; nearly always it is the one before, which `again` tells at once.

    It adds to `known` what it begins with alone: where each of its heads is another, they would push out all others.
    """

    def __init__(self, known: Known, local: Hashable = None) -> None:
        self._known = known
        self._local = local
        self._added = False
        self._last: tuple[Head, bytes, int, bytes, int] | None = None

    def again(self, data: bytes) -> tuple[Head, int, int] | None:
        """The last head, if `data` begins with it once more, but for its length, which is none of 0; where the body
        begins and ends."""
        if self._last is None:
            return None
        head, before, start, after, most = self._last
        if not data.startswith(before):
            return None
        end = data.find(after, start, most)
        length = data[start:end]
        if end < 0 or not length.isdigit() or length[0] == _ZERO:
            return None
        at = end + len(after)
        return head, at, at + int(length)

    def read(self, raw: bytes) -> tuple[Head, Body | None]:
        """As `read_head`."""
        self._last = None
        found = _LENGTH.search(raw) if len(raw) <= _MOST_KEPT_BYTES else None
        if found is None or not _is_plain(found[1]):
            return read_head(raw)
        before, after = raw[: found.start(1)], raw[found.end(1) :]
        around = self._local, before, after
        head = self._known.find(around)
        if head is None:
            head, body = read_head(raw)
            if body is None or head.expects:
                return head, body
            names = [name for name, _ in head.headers]
            head = structs.replace(head, place=names.index(b"content-length"))
            if not self._added:
                self._known.keep(around, head)
        else:
            body = _sized(found[1])
        self._added = True
        start = len(before)
        self._last = head, before, start, after, start + _MOST_DIGITS + len(after)
        return head, body


def _is_plain(length: bytes) -> bool:
    """Whether it is a length, written as we would."""
    return length.isdigit() and len(length) <= _MOST_DIGITS and (length[0] != _ZERO or length == b"0")


def _parsed(raw: bytes) -> _Collector:
    """What llhttp finds in a head. Raises HttpParserInvalidMethodError or BadRequest."""
    found = _Collector()
    try:
        httptools.HttpRequestParser(found).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # no protocol is changed to: the request is answered as any other
    except httptools.HttpParserInvalidMethodError:
        raise
    except httptools.HttpParserError:
        raise BadRequest(MALFORMED) from None
    return found


def _framing(headers: list[tuple[bytes, bytes]], is_1_1: bool) -> tuple[Body | None, bool, bool]:
    """`body`, `persistent` and `expects` of a head, by those of its headers that say so. Raises BadRequest."""
    body: Body | None = None
    framed = closing = expects = False
    for name, value in headers:
        if name == b"connection":
            closing = closing or b"close" in (token.strip() for token in value.lower().split(b","))
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
        elif framed:
            raise BadRequest("The length of the body is stated more than once.")
        else:
            framed = True
            body = _body(name, value, is_1_1)
    return body, is_1_1 and not closing, expects and is_1_1 and body is not None


def _body(name: bytes, value: bytes, is_1_1: bool) -> Body | None:
    if name == b"content-length":
        if not value.isdigit() or len(value) > _MOST_DIGITS:
            raise BadRequest("The Content-Length is no length.")
        return _sized(value)
    if value.lower() != b"chunked" or not is_1_1:
        raise BadRequest("The only Transfer-Encoding is chunked, and not in version 1.0.")
    return Chunked()


def _sized(length: bytes) -> Sized | None:
    return Sized(int(length)) if int(length) else None


def is_hopeless(raw: bytes, start: int) -> bool:
    """Whether no head will come of `raw`, however it goes on: what stands before `start` was looked at before.

    No method begins so (TLS does), or it holds a CR or LF without the other.
    """
    return not (raw[:1].isalpha() or raw[:1] in b"\r") or _LONE.search(raw, max(0, start - 1)) is not None
