"""One answer as it is read from what comes in: its head, and its body by length, in chunks or up to the end.

Whoever waits for it, and what becomes of its connection, is `h1exchange.py`'s; what a head may be, `h1head.py`'s.
"""

from types import SimpleNamespace
from typing import Any

import httptools

from gproxy.server.transport import h1head
from gproxy.server.transport.h1head import IN_CHUNKS, NOTHING, Heads

_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
"""The head of what llhttp is to read where our own has been read already."""


class Reading:
    """An answer: `status` and what it `told` in headers once its head has come, then `pieces` of its body.

    `complete`: all of it has come, and if `keep`, another may follow on the connection. `fault`: why it never will.
    `bodiless`: it is a head alone, whatever it says. A head in one of the forms that `heads` knows is read by that;
    any other, and all chunks, by llhttp.
    """

    # As it begins: what of it changes is the reading's own from then on.
    keep = False
    delimited = True  # by a length or by chunks; otherwise the connection's end is the body's
    _left = 0  # of a body that llhttp does not read
    _head_bytes = 0
    _status_bytes = 0
    _most_pieces = 0  # those of the answer, once it is complete: what follows was not asked for
    _empty = 0  # of what has come since the last of the body: extensions of chunks, trailers
    _parser: httptools.HttpResponseParser | None = None

    def __init__(self, heads: Heads, bodiless: bool) -> None:
        # What every answer is asked for: to find it in the class takes ten times as long as to set it.
        self.status, self.told = 0, NOTHING
        self.begun = self.complete = False
        self.fault: str | None = None
        self.pieces: list[bytes] = []
        self._heads = heads
        self._bodiless = bodiless

    def take_in(self, data: bytes) -> None:
        """Some of it has come in, and it is neither complete nor broken yet."""
        if self.begun:
            if self._parser is not None:
                self._parse(self._parser, data)
                return
            left = self._left
        else:
            self.begun = True
            found = None if self._bodiless else self._heads.find(data)
            if found is None:
                self._parse_from(data)
                return
            self.status, self.told, left, end = found
            data = data[end:]
            if left == IN_CHUNKS:
                self._parse_chunks(data)
                return
        self._left = left = left - len(data)
        if left <= 0:
            self.complete = self.keep = True
            if left:  # what follows was not asked for; llhttp takes line ends alone for nothing
                self.keep = not data[left:].strip(b"\r\n")
                data = data[:left]
        if data:
            self.pieces.append(data)

    # By llhttp.

    def _parse_from(self, data: bytes) -> None:
        self.on_body = self.pieces.append
        self._names: list[bytes] = []
        self._values: list[bytes] = []
        self._parser = parser = _llhttp(self)
        self._parse(parser, data)
        if self.status and not self._bodiless:
            self._heads.learn(data, self.told)

    def _parse_chunks(self, data: bytes) -> None:
        of_the_body = SimpleNamespace(
            on_body=self.pieces.append,
            on_message_begin=self.on_message_begin,
            on_message_complete=self.on_message_complete,
        )
        self._parser = parser = _llhttp(of_the_body)
        parser.feed_data(_CHUNKED)
        self._parse(parser, data)

    def _parse(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        pieces = self.pieces
        before = len(pieces)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.keep = False
            if not self.complete:
                self.fault = f"malformed: {error}"
                self._parser = None
                return
        if self.complete:
            self._parser = None
            if len(pieces) > self._most_pieces:
                del pieces[self._most_pieces :]
                self.keep = False
        elif len(pieces) > before:
            self._empty = 0
        else:
            self._empty += len(data)
            if self._empty > (h1head.MAX_EMPTY_BYTES if self.status else h1head.MAX_HEAD_BYTES):
                self.fault = "it goes on without a body" if self.status else "the head is too large"
                self._parser = None

    # What llhttp finds.

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep = False  # what follows an answer was not asked for

    def on_status(self, text: bytes) -> None:
        self._status_bytes += len(text)
        if self._status_bytes > h1head.MAX_FIELD_BYTES:
            raise h1head.Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is a trailer
            self._names.append(name)
            self._values.append(value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self.complete:
            return
        told, delimited, size = h1head.read(self._names, self._values)
        self._head_bytes += size
        if self._head_bytes > h1head.MAX_HEAD_BYTES:
            raise h1head.Refused
        if status < 200:
            if status < 100 or status == 101:
                raise h1head.Refused  # it is none, or changes to what nobody asked for
            self._names, self._values = [], []
            self._status_bytes = 0
            return
        self.told = told
        self.delimited = delimited
        self.status = status
        if self._bodiless:
            self.complete = True
            self.keep = delimited and self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            assert self._parser is not None
            self.complete = True
            self.keep = self._parser.should_keep_alive()
            self._most_pieces = len(self.pieces)


def _llhttp(callbacks: Any) -> httptools.HttpResponseParser:
    parser = httptools.HttpResponseParser(callbacks)
    # As other clients read answers: not all upstreams write their heads to the letter.
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_optional_cr_before_lf=True,
        lenient_spaces_after_chunk_size=True,
    )
    return parser
