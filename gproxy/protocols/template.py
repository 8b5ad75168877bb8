"""Events of one stream that differ in nothing but their text: passed on many at once, without being read.

What such events look like, and that their text is all they say, is found in `forms.py`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from gproxy.protocols.base import Event
from gproxy.protocols.possessive import possessive

_MOST_BYTES = 32 * 1024
"""A longer event is none of a run."""

A_NUMBER = rb"0|[1-9][0-9]{0,14}+"
_ESCAPING = rb"(?:(?<=[^\\]\\)|(?<=[^\\]\\\\\\))"  # one backslash, or three as in the arguments of a tool
_UP_TO_ANY_QUOTE = rb'[^"]*+'
_UP_TO_QUOTE = _UP_TO_ANY_QUOTE + possessive(_ESCAPING + b'"[^"]*+')
_text = msgspec.json.Decoder(str).decode


class Frame(Struct, frozen=True, gc=False):
    """Where the data of events of one form begin and end, in bytes from either side, and what their name is."""

    before: int
    after: int
    name: bytes

    def event(self, raw: bytes) -> Event:
        return Event(raw, raw[self.before : len(raw) - self.after], self.name)


class Said(Struct, frozen=True):
    """What all events of one form say.

    `counted`: of each value, whether it is text that counts as output, another string (False), or a number (None).
    `completes`: they show the answer to be whole. `ends`: they are terminal. `reported` is set where they report
    usage: each tells all anew that those before it have told, and may leave out what those of another form told.
    """

    counted: tuple[bool | None, ...]
    completes: bool = False
    ends: bool = False
    reported: Frame | None = None


class Run(Struct, frozen=True, gc=False):
    """Some events of one form that stand together: what is sent of them, where they end, and the bytes of their text.

    `reported`: the last of them, if they report usage.
    """

    sent: bytes
    end: int
    output_bytes: int
    said: Said
    reported: Event | None = None
    events: int = 1


class Template:
    """What stands around the values that vary: `start`, between each two of them a middle, `stop`.

    `sent_start` and `sent_stop` go out in place of `start` and `stop`.
    """

    __slots__ = (
        "_between",
        "_escaped",
        "_found",
        "_inside",
        "_sent_between",
        "_sent_start",
        "_sent_stop",
        "_stop",
        "said",
        "start",
    )

    def __init__(
        self,
        start: bytes,
        middles: Sequence[bytes],
        stop: bytes,
        sent_start: bytes,
        sent_stop: bytes,
        said: Said,
    ) -> None:
        self.start = start
        self.said = said
        self._stop = stop
        self._between = stop + start
        self._sent_start, self._sent_between, self._sent_stop = sent_start, sent_stop + sent_start, sent_stop
        self._inside = _inside(middles)
        self._found, self._escaped = _finders((len(start), *map(len, middles), len(stop)), said.counted)

    def run(self, data: bytes, at: int, within: int) -> Run | None:
        """The whole events of this form from `at` on, where one of them starts, in about so many bytes; None if there
        is none that is whole, or one of the values is not of its kind."""
        start, stop, said = self.start, self._stop, self.said
        last = max(data.rfind(start, at, at + within), at)
        whole = data.find(stop, last + len(start), last + _MOST_BYTES)
        until = last if whole < 0 else whole + len(stop)
        found = (self._found if data.find(b"\\", at, until) < 0 else self._escaped)(data, at, until)
        while found:
            insides = found if self._inside is None else [*map(self._inside, found)]
            inner = self._between.join(insides)
            end = at + len(start) + len(inner)
            if (
                data.startswith(inner, at + len(start))
                and data.startswith(stop, end)
                and (output_bytes := _output_bytes(found, said.counted)) is not None
            ):
                sent = b"%b%b%b" % (self._sent_start, self._sent_between.join(insides), self._sent_stop)
                frame = said.reported
                reported = None if frame is None else frame.event(b"%b%b%b" % (start, insides[-1], stop))
                return Run(sent, end + len(stop), output_bytes, said, reported, len(insides))
            found = found[: len(found) // 2]  # another event stands between them, or a value is none
        return None


def _inside(middles: Sequence[bytes]) -> Callable[[Any], bytes] | None:
    """Makes of an event's values what stands between its start and its stop; None if that is its one value."""
    if len(middles) < 2:
        return middles[0].join if middles else None
    return b"%%b%b%%b".__mod__(b"%b".join(middle.replace(b"%", b"%%") for middle in middles)).__mod__


@lru_cache(maxsize=256)
def _finders(
    around: Sequence[int], counted: Sequence[bool | None]
) -> tuple[Callable[[bytes, int, int], list[Any]], Callable[[bytes, int, int], list[Any]]]:
    """Find the values of all events in a part of a stream, if it holds no others: of each a tuple, or its one value.
    The first where there is no backslash, in half the time of the second.

    `around` is how many bytes stand before, between and after them, which are not looked at; nor is more than three
    backslashes in front of a quote. So they guess, in a third of the time that it takes to match the events. What
    fits nothing is found as one with empty values, so that they take a time by its length.
    """
    first, *others = around

    def finder(text: bytes) -> Callable[[bytes, int, int], list[Any]]:
        event = b".{%d}+" % first
        for behind, kind in zip(others, counted, strict=True):
            event += b"(%b).{%d}+" % (A_NUMBER if kind is None else text, behind)
        return re.compile(event + b"|.++", re.DOTALL).findall

    return finder(_UP_TO_ANY_QUOTE), finder(_UP_TO_QUOTE)


def _output_bytes(found: Sequence[Any], counted: Sequence[bool | None]) -> int | None:
    """The bytes of text in events of those values; None if one is not of its kind."""
    total = 0
    columns: Iterable[Sequence[bytes]] = (found,) if len(counted) == 1 else zip(*found, strict=True)
    for values, counts in zip(columns, counted, strict=True):
        if counts is None:
            if b"" in values:  # what follows the last event that was found
                return None
            continue
        # A space ends whatever a value might leave open, so that they are good together if each of them is.
        size = text_size(b" ".join(values))
        if size is None:
            return None
        if counts:
            total += size - len(found) + 1
    return total


def text_size(text: bytes) -> int | None:
    """The bytes of a text of which this is the inside of a JSON string; None if it is none."""
    try:
        found = _text(b'"%b"' % text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return len(found) if found.isascii() else len(found.encode())
