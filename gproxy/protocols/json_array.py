"""A stream that is one growing JSON array: bytes to elements that keep every byte they came in.

This is how Gemini streams without `alt=sse`. What an element means is the dialect's business.
"""

import re

from gproxy.errors import AnswerBroken
from gproxy.protocols.base import Event
from gproxy.protocols.possessive import possessive
from gproxy.protocols.sse import MAX_EVENT_BYTES, refuse_crowded

_OUTSIDE = re.compile(rb'["\[\]{}]')
_INSIDE = re.compile(possessive(rb'[^"\\]++|\\.'), re.DOTALL)
_SPACE = b" \t\r\n"
_AROUND = _SPACE + b",["


class JsonArrayFramer:
    """Cuts a JSON array into its elements. The `raw` of all events, put together, is the input.

    What stands before an element (bracket, comma, white space) belongs to it; the closing bracket is an event
    without data. An object that stands alone, such as an error, is one event. Each byte is looked at once.
    """

    array = True
    marks, most_marks = b'"[]{}', 2048
    """Each of these bytes takes a step, of 1.5 µs at most; so many are looked at at once."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._floor: int | None = None  # depth of an element: 1, or 0 if the input is no array
        self._in_string = False
        self._elements = 0

    def feed(self, data: bytes) -> list[Event]:
        """The elements that are whole with `data`. Raises AnswerBroken on one over MAX_EVENT_BYTES."""
        self._buffer += data
        events: list[Event] = []
        begin = 0
        while (end := self._next_end()) is not None:
            events.append(self._event(bytes(self._buffer[begin:end])))
            begin = end
        del self._buffer[:begin]
        self._scanned -= begin
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise AnswerBroken(f"one element of the stream is larger than {MAX_EVENT_BYTES} bytes")
        return events

    def end(self) -> list[Event]:
        """What is left at the end of the input, if anything: white space, or an element cut short."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return [Event(rest, rest.strip(_SPACE) or None)] if rest else []

    @property
    def idle(self) -> bool:
        """Between two elements, so that whole ones with a comma in front may go by without being fed."""
        return self._depth == self._floor == 1 and not self._buffer

    def passed(self) -> None:
        """Some did."""

    @property
    def pending(self) -> bytes:
        """What came in and belongs to no element yet."""
        return bytes(self._buffer)

    def ending(self, event: bytes, body: bytes, half: bytes) -> bytes:
        """What ends a broken stream with the error `body` as last element.

        `half`: what went out of an unfinished element. Once it began, nothing can make the array whole any more.
        """
        mark = half.strip(_SPACE)
        if mark not in (b"", b",", b"["):
            return b""
        between = b",\n" if self._elements else b"["
        return (b"" if mark else between) + body + b"\n]"

    def _event(self, raw: bytes) -> Event:
        element = raw.lstrip(_AROUND)
        if element == b"]":
            return Event(raw, None)
        self._elements += 1
        refuse_crowded(element)
        return Event(raw, element)

    def _next_end(self) -> int | None:
        """Where the next element, or the array, ends in the buffer; None if not yet."""
        while True:
            if self._in_string:
                while self._buffer[self._scanned : self._scanned + 1] != b'"':
                    inside = _INSIDE.match(self._buffer, self._scanned)
                    if inside is None or inside.end() == self._scanned:
                        return None
                    self._scanned = inside.end()
                self._in_string = False
                self._scanned += 1
            mark = _OUTSIDE.search(self._buffer, self._scanned)
            if mark is None:
                self._scanned = len(self._buffer)
                return None
            self._scanned = mark.end()
            char = mark.group()
            if char == b'"':
                self._in_string = True
            elif char in b"[{":
                if self._floor is None:
                    self._floor = 1 if char == b"[" else 0
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= (self._floor or 0):
                    return self._scanned
