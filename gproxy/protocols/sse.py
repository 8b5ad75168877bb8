"""Server-sent events: bytes to events that keep every byte they came in, for any split of the input.

What an event means is the dialects' business.
"""

import re

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import MOST_CONTAINERS, is_crowded
from gproxy.protocols.base import Event
from gproxy.protocols.strict import LARGE_BYTES

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The largest single event of a stream; a larger one is AnswerBroken."""

_BOM = b"\xef\xbb\xbf"
# A line end and an empty line. CR after LF may be half of a CRLF, so it waits for the byte after it; an LF
# that follows CR CR is one more empty line to the next event, which means the same.
_END = re.compile(rb"\n(?:\r?\n|\r(?=[^\n]))|\r\r")
_LINE_ENDS = re.compile(rb"[\r\n]*")
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|\Z)")
_LONGEST_END = 3
_SHORT_BYTES = 4 * 1024
_DATA = b"data: "
_RETURN = ord("\r")


class SseFramer:
    """Cuts a stream into events. The `raw` of all events, put together, is the input.

    Empty lines before an event belong to it. Each byte is looked at once, however small the reads are.
    """

    array = False
    marks, most_marks = b"\r\n", 512
    """Each of these bytes may take a step, and end an event; so many are looked at at once."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # of the buffer
        self._empty = True  # only line ends so far in this event
        self._first = True

    def feed(self, data: bytes) -> list[Event]:
        """The events that are whole with `data`. Raises AnswerBroken on an event over MAX_EVENT_BYTES."""
        source: bytes | bytearray = data
        if not self._buffer and _is_single(data):
            return [self._event(data)]
        if self._buffer:
            self._buffer += data
            source = self._buffer
        events: list[Event] = []
        begin, scan = 0, self._scanned
        while True:
            if self._empty:
                scan = _after(_LINE_ENDS.match(source, scan))
                self._empty = scan == len(source)
            end = _END.search(source, scan)
            if end is None:
                break
            events.append(self._event(bytes(source[begin : end.end()])))
            begin = scan = end.end()
            self._empty = True
        if source is data:
            self._buffer += data[begin:]
        else:
            del self._buffer[:begin]
        # `scan` is past the empty lines in front, and an end may have begun in the last two bytes.
        self._scanned = max(scan - begin, len(self._buffer) - _LONGEST_END + 1)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise _too_large()
        return events

    def end(self) -> list[Event]:
        """What is left at the end of the input: an event without its empty line, if anything."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned, self._empty = 0, True
        return [self._event(rest)] if rest else []

    @property
    def pending(self) -> bytes:
        """What came in and belongs to no event yet."""
        return bytes(self._buffer)

    @property
    def idle(self) -> bool:
        """Between two events, so that whole ones that begin with a field may go by without being fed."""
        return not self._buffer

    def passed(self) -> None:
        """Some did."""
        self._first = False

    def ending(self, event: bytes, body: bytes, half: bytes) -> bytes:
        """What ends a broken stream with the error `event`. `half`: what went out of an unfinished one."""
        return b"\n\n" + event if half.strip(b"\r\n") else event

    def _event(self, raw: bytes) -> Event:
        if len(raw) > LARGE_BYTES:
            if len(raw) > MAX_EVENT_BYTES:
                raise _too_large()
            refuse_crowded(raw)
        block = raw
        if self._first:
            block = raw.removeprefix(_BOM)
            self._first = False
        if block.startswith(_DATA) and block.find(b"\n") == len(block) - 2 and _RETURN not in block:
            return Event(raw, block[len(_DATA) : -2])
        name, lines = b"", []
        for line in block.splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                lines.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        return Event(raw, b"\n".join(lines) if lines else None, name)


def is_begun(data: bytes, at: int) -> bool:
    """Whether what stands from `at` on is a short part of one event, without its end."""
    return len(data) - at < _SHORT_BYTES and _END.search(data, at) is None


def with_data(event: Event, data: bytes) -> bytes:
    """The event's raw bytes with `data` in place of its own, which must have as many lines."""
    old = event.data or b""
    if len(event.raw) == len(old) + len(_DATA) + 2 and event.raw.startswith(_DATA):  # nothing but its data
        return b"%b%b%b" % (_DATA, data, event.raw[-2:])
    if event.raw.count(old) == 1:
        return event.raw.replace(old, data)
    new_lines = iter(data.split(b"\n"))

    def line(found: re.Match[bytes]) -> bytes:
        field, colon, value = found.group(1).partition(b":")
        # A byte order mark belongs to the stream's start alone; elsewhere it is part of a field's name.
        name = field.removeprefix(_BOM) if found.start() == 0 else field
        if name != b"data":
            return found.group()
        space = b" " if value.startswith(b" ") else b""
        return field + colon + space + next(new_lines, b"") + found.group(2)

    return _LINE.sub(line, event.raw)


def _is_single(data: bytes) -> bool:
    """Whether `data` surely is one event and no more, as what comes of a paced stream is."""
    return data.endswith(b"\n\n") and data.find(b"\n\n") == len(data) - 2 > 0 and _RETURN not in data


def _after(found: re.Match[bytes] | None) -> int:
    return 0 if found is None else found.end()


def refuse_crowded(event: bytes) -> None:
    """Raises AnswerBroken on an event that holds more than anyone would wait for."""
    if is_crowded(event):
        raise AnswerBroken(f"one event of the stream holds more than {MOST_CONTAINERS} objects and arrays")


def _too_large() -> AnswerBroken:
    return AnswerBroken(f"one event of the stream is larger than {MAX_EVENT_BYTES} bytes")
