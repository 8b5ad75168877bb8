"""Events of one stream that differ in nothing but their text: learned from one, then passed on many at once.

What an event says is read by the dialects; when this way is taken is `tap.py`'s to say.

That the result is that of reading each event by itself rests on three things. A value that varies has to be the
inside of a JSON string, or a number, so it holds no line break, and what stands around it is fixed: the framer would
cut the same events. Their JSON is the same tree but for those values. And of a member that a dialect names in
`varying` nothing is ever read but how long its text is, which is tried on an event of the same form.

Streams of one model differ in stamps (an id, a time) of which nothing is read at all: what a form was found to mean
is remembered without them, and without the text.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from gproxy.protocols.answers import is_utf8
from gproxy.protocols.base import Event, Protocol
from gproxy.values import Usage

_MOST_VARYING = 4
_STRETCH_BYTES = 32 * 1024
"""About so much is looked at for one run. All that came in would be looked at again for each of many short runs."""

_MOST_STAMPS = 8
_LONGEST_EVENT = 4 * 1024
"""No form is learned from a longer one: what stands around its text is kept."""

_TEXT, _TEXT_BYTES = rb"gproxy\"\u00e9", 9
"""A text whose size is neither that of its JSON nor the number of its letters."""

_NUMBER = b"730811025500173"
_STAMP, _STAMP_NUMBER = b"gproxy-730811", b"730811025500179"
_NUMBERS = re.compile(rb"(?:0|[1-9][0-9]{0,17})(?: (?:0|[1-9][0-9]{0,17}))*+")
_ESCAPED_ASCII = rb"\u00"
_KNOWN = Usage()
_text = msgspec.json.Decoder(str).decode


_IS_TEXT, _IS_NUMBER, _IS_STAMP, _IS_STAMP_NUMBER = 1, 2, 3, 4
"""What a slot of a form is: the group that `varying` finds its value in."""


def varying(*names: str, stamps: Sequence[str] = ()) -> re.Pattern[bytes]:
    """Finds members of those names in an event: in group 1 the inside of a string, or in group 2 a whole number.

    Of `stamps`, in group 3 a plain name that stands in quotes, or in group 4 a whole number.
    """
    any_name, any_stamp = ("|".join(map(re.escape, each)).encode() for each in (names, stamps))
    number = rb"(0|[1-9][0-9]{0,17})(?=[,}])"
    found = rb'"(?:%b)"[ ]?:[ ]?(?:"((?:[^"\\\r\n]|\\.)*+)"|%b)' % (any_name, number)
    if stamps:
        found += rb'|"(?:%b)"[ ]?:[ ]?(?:"([0-9A-Za-z_-]{1,128})"|%b)' % (any_stamp, number)
    return re.compile(found)


class Run(NamedTuple):
    """Some events that stand together: what is sent of them, where they end, and the bytes of their text."""

    events: int
    sent: bytes
    end: int
    output_bytes: int


class Template(NamedTuple):
    """What stands around the values that vary: `start`, before each but the first of `kinds` a middle, `stop`.

    `kinds`: of each value, whether it is text that counts as output, another string (False), or a number (None).
    `sent_start` and `sent_stop` go out in place of `start` and `stop`.
    """

    start: bytes
    middles: tuple[bytes, ...]
    stop: bytes
    sent_start: bytes
    sent_stop: bytes
    kinds: tuple[bool | None, ...]

    def run(self, data: bytes, at: int) -> Run | None:
        """The whole events of this form from `at` on, where one of them starts; None if there is none that is whole,
        or one of the values is not of its kind."""
        parts = self._parts(data, at)
        output_bytes = self._output_bytes(parts) if parts else None
        while output_bytes is None:
            parts = parts[: len(parts) // 2]  # one of the values is none: those before it may be good
            if not parts:
                return None
            output_bytes = self._output_bytes(parts)
        around = len(self.start) + len(self.stop)
        end = at + len(parts) * around + sum(map(len, parts))
        between = (self.sent_stop + self.sent_start).join(parts)
        return Run(len(parts), b"%b%b%b" % (self.sent_start, between, self.sent_stop), end, output_bytes)

    def _parts(self, data: bytes, at: int) -> list[bytes]:
        """What stands between `start` and `stop` in each event from `at` on."""
        start, stop = self.start, self.stop
        before, after = len(start), len(stop)
        beyond = after - stop.find(b"\n")  # the first line end behind the values is the first of `stop`
        far = at + _STRETCH_BYTES
        parts: list[bytes] = []
        while at < far and data.startswith(start, at):
            begin = at + before
            line_end = data.find(b"\n", begin)
            end = line_end + beyond
            if line_end < 0 or end - after < begin or not data.startswith(stop, end - after):
                break
            parts.append(data[begin : end - after])
            at = end
        return parts

    def _output_bytes(self, parts: Sequence[bytes]) -> int | None:
        """The bytes of text in the events of which `parts` are the insides; None if one is not of this form."""
        total = 0
        for place, kind in enumerate(self.kinds):
            values = parts
            if place < len(self.middles):
                middle = self.middles[place]
                values, found, parts = zip(*[part.partition(middle) for part in parts], strict=True)
                if b"" in found:
                    return None
            joined = b" ".join(values)
            if kind is None:
                if joined.count(b" ") != len(values) - 1 or _NUMBERS.fullmatch(joined) is None:
                    return None
                continue
            # A space ends whatever a value might leave open, so that they are good together if each of them is.
            try:
                text = _text(b'"%b"' % joined)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
            if kind:
                total += (len(text) if text.isascii() else len(text.encode())) - len(values) + 1
        return total


def learn(protocol: Protocol, event: Event, client_model: str | None) -> Template | None:
    """The form of an event that has been read; None if others of its form may say more than text, or none.

    `client_model` is put into what is sent in place of the upstream's name, if there is one.
    """
    raw, data = event.raw, event.data
    if protocol.varying is None or data is None or len(raw) > _LONGEST_EVENT:
        return None
    literals: list[bytes] = []
    slots: list[int] = []
    stamps: list[bytes] = []
    at = 0
    for match in protocol.varying.finditer(raw):
        slot = match.lastindex or 0
        if slot >= _IS_STAMP:
            stamps.append(match[slot])
        start, end = match.span(slot)
        slots.append(slot)
        literals.append(raw[at:start])
        at = end
    if len(stamps) > _MOST_STAMPS or not 0 < len(slots) - len(stamps) <= _MOST_VARYING:
        return None
    literals.append(raw[at:])
    before = raw.find(data)
    form = _Form(tuple(literals), tuple(slots), before, len(raw) - before - len(data), event.name)
    found = _found(protocol, form, client_model)
    return None if found is None else found.stamped(stamps)


class _Form(NamedTuple):
    """An event without the values in its slots. Its data begin and end so many bytes within it."""

    literals: tuple[bytes, ...]
    slots: tuple[int, ...]
    before: int
    after: int
    name: bytes

    @property
    def is_safe(self) -> bool:
        """Whether an event of this form is framed by nothing but itself, and read as it is written."""
        first, last = self.literals[0], self.literals[-1]
        # One with empty lines in front, or at the very start of a stream, is framed by more than itself.
        framed = first[:1] not in (b"\r", b"\n", b"\xef") and last[-1:] == b"\n"
        inside = self.before <= len(first) and 0 <= self.after <= len(last)
        everything = b" ".join(self.literals)
        # A name could be written by escapes, and the dialects look for some as they are before they read an event.
        plain = _ESCAPED_ASCII not in everything and is_utf8(everything)
        return framed and inside and plain and not any(value in everything for value in _TRIED)

    def filled(self, values: Sequence[bytes]) -> Event:
        pairs = zip(values, self.literals[1:], strict=True)
        raw = self.literals[0] + b"".join(value + literal for value, literal in pairs)
        return Event(raw, raw[self.before : len(raw) - self.after], self.name)


_TRIED = (_TEXT, _NUMBER, _STAMP, _STAMP_NUMBER)
_BLANK = (b"", b"0", _STAMP, b"0")


class _Found(NamedTuple):
    """What was found of a form: what goes out in place of its literals, and the kinds of its values."""

    form: _Form
    sent: list[bytes]
    kinds: tuple[bool | None, ...]

    def stamped(self, stamps: Sequence[bytes]) -> Template:
        """What events of this form look like in a stream that has these stamps."""
        literals, sent = [self.form.literals[0]], [self.sent[0]]
        stamp = iter(stamps)
        for slot, literal, new in zip(self.form.slots, self.form.literals[1:], self.sent[1:], strict=True):
            if slot < _IS_STAMP:
                literals.append(literal)
                sent.append(new)
            else:
                value = next(stamp)
                literals[-1] += value + literal
                sent[-1] += value + new
        start, *middles, stop = literals
        return Template(start, tuple(middles), stop, sent[0], sent[-1], self.kinds)


@lru_cache(maxsize=256)
def _found(protocol: Protocol, form: _Form, client_model: str | None) -> _Found | None:
    """What `learn` says of any event of this form, whatever its stamps are."""
    if not form.is_safe:
        return None
    values = [_TRIED[slot - 1] for slot in form.slots]
    places = [place for place, slot in enumerate(form.slots) if slot < _IS_STAMP]
    for number, place in enumerate(places):
        if form.slots[place] == _IS_TEXT:
            values[place] *= 1 << number
    tried = form.filled(values)
    blank = form.filled([_BLANK[slot - 1] for slot in form.slots])
    if not _is_plain(protocol, tried) or protocol.output_text(blank):
        return None
    counted, uneven = divmod(protocol.output_text(tried), _TEXT_BYTES)
    if uneven or not 0 < counted < 1 << len(places):
        return None
    kinds = tuple(
        bool(counted >> number & 1) if form.slots[place] == _IS_TEXT else None
        for number, place in enumerate(places)
    )
    sent = _around(tried.raw if client_model is None else protocol.restore_event(tried, client_model), values)
    first, last = places[0] + 1, places[-1] + 1
    if sent[first:last] != list(form.literals[first:last]):
        return None  # the name stands between two values
    return _Found(form, sent, kinds)


def _around(raw: bytes, values: Sequence[bytes]) -> list[bytes]:
    """What stands before, between and after the values, which follow each other."""
    literals: list[bytes] = []
    for value in values:
        literal, _, raw = raw.partition(value)
        literals.append(literal)
    return [*literals, raw]


def _is_plain(protocol: Protocol, event: Event) -> bool:
    """Whether nothing in an event is to be read but its text."""
    return (
        protocol.usage_in_event(event, _KNOWN) is _KNOWN
        and not protocol.is_terminal(event)
        and not protocol.is_complete(event)
        and not protocol.is_usage_only(event)
        and protocol.error_in_event(event) is None
    )
