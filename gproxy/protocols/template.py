"""Events of one stream that differ in nothing but their text: passed on many at once, without being read.

What such events look like, and that their text is all they say, is found in `forms.py`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gproxy.protocols.base import Event

_MARK_BYTES = 8

_NUMBERS = re.compile(rb"(?:0|[1-9][0-9]{0,14})(?: (?:0|[1-9][0-9]{0,14}))*+")
_text = msgspec.json.Decoder(str).decode


class Run(Struct, frozen=True, gc=False):
    """Some events that stand together: what is sent of them, where they end, and the bytes of their text.

    `completes`: they show the answer to be whole. `reported`: the last of them, if they report usage. `ends`: it is
    the terminal event. `teller` is what those that report have in common: an event tells all anew that others with
    the same one have told, and of what others with another one have told it may leave something out.
    """

    events: int
    sent: bytes
    end: int
    output_bytes: int
    completes: bool = False
    reported: Event | None = None
    ends: bool = False
    teller: object = None


class Template(NamedTuple):
    """What stands around the values that vary: `start`, between each two of them a middle, `stop`.

    `sent_start` and `sent_stop` go out in place of `start` and `stop`. `counted`: of each value, whether it is text
    that counts as output, another string (False), or a number (None). No event has fewer than `least_bytes`.
    `reported` makes an event of its bytes, where they report usage. `one`, where there is one, is quicker for an
    event that stands alone.
    """

    start: bytes
    middles: tuple[bytes, ...]
    stop: bytes
    sent_start: bytes
    sent_stop: bytes
    counted: tuple[bool | None, ...]
    completes: bool
    least_bytes: int
    reported: Callable[[bytes], Event] | None = None
    one: Callable[[bytes, int], Run | None] | None = None

    def run(self, data: bytes, at: int, within: int) -> Run | None:
        """The whole events of this form from `at` on, where one of them starts, in about so many bytes; None if there
        is none that is whole, or one of the values is not of its kind."""
        if self.one is not None and min(len(data) - at, within) < 2 * self.least_bytes:
            return self.one(data, at)
        parts = self._parts(data, at, within)
        while parts:
            whole = b"%b%b%b" % (self.start, (self.stop + self.start).join(parts), self.stop)
            if data.startswith(whole, at) and (output_bytes := self._output_bytes(parts)) is not None:
                between = (self.sent_stop + self.sent_start).join(parts)
                sent = b"%b%b%b" % (self.sent_start, between, self.sent_stop)
                last = self.reported and self.reported(b"%b%b%b" % (self.start, parts[-1], self.stop))
                end = at + len(whole)
                return Run(len(parts), sent, end, output_bytes, self.completes, last, teller=self.reported)
            parts = parts[: len(parts) // 2]  # another event stands between them, or a value is none
        return None

    def _parts(self, data: bytes, at: int, within: int) -> list[bytes]:
        """What would stand between `start` and `stop`, if all from `at` on were events of this form: those behind the
        last that is one are left out."""
        start, stop = self.start, self.stop
        before, after = len(start) - start.rfind(b"\n") - 1, stop.find(b"\n") + 1
        first, each = start.count(b"\n"), (stop + start).count(b"\n")
        rest = BytesIO(data)
        rest.seek(at)
        lines = rest.readlines(within)  # some four times as quick as `split`
        whole = (len(lines) if lines[-1].endswith(b"\n") else len(lines) - 1) // each
        lines = lines[first : whole * each : each]
        head = start[-before:]
        while lines and not lines[-1].startswith(head):
            lines.pop()
        return [*map(itemgetter(slice(before, -after)), lines)]

    def _output_bytes(self, parts: list[bytes]) -> int | None:
        """The bytes of text in the events of which `parts` are the insides; None if one is not of this form."""
        total = 0
        for place, counted in enumerate(self.counted):
            values: Sequence[bytes] = parts
            if place < len(self.middles):
                values, parts = _parted(parts, self.middles[place])
                if not parts:
                    return None
            joined = b" ".join(values)
            if counted is None:
                if joined.count(b" ") != len(values) - 1 or _NUMBERS.fullmatch(joined) is None:
                    return None
                continue
            # A space ends whatever a value might leave open, so that they are good together if each of them is.
            size = text_size(joined)
            if size is None:
                return None
            if counted:
                total += size - len(values) + 1
        return total


def _parted(parts: Iterable[bytes], middle: bytes) -> tuple[Sequence[bytes], list[bytes]]:
    """What stands before and behind the first `middle` in each; nothing if one of them holds it nowhere.

    Its first bytes alone are searched for, which takes a third of the time: no value can hold them.
    """
    mark = middle[:_MARK_BYTES]
    rest = middle[_MARK_BYTES:]
    values, found, behind = zip(*map(bytes.partition, parts, repeat(mark)), strict=True)
    if not rest:
        return values, [] if b"" in found else list(behind)
    following = [*map(itemgetter(slice(len(rest), None)), behind)]
    # As long together, so that each of them begins where it should.
    return values, following if b"".join(behind) == rest + rest.join(following) else []


def text_size(text: bytes) -> int | None:
    """The bytes of a text of which this is the inside of a JSON string; None if it is none."""
    try:
        found = _text(b'"%b"' % text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return len(found) if found.isascii() else len(found.encode())
