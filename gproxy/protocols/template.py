"""Events of one stream that differ in nothing but their text: learned from one, then passed on many at once.

What an event says is read by the dialects; when this way is taken is `tap.py`'s to say.

That the result is that of reading each event by itself rests on three things. A value that varies has to be the
inside of a JSON string, or a number, so it holds no line break, and what stands around it is fixed: the framer would
cut the same events. Their JSON is the same tree but for those values. And of a member that a dialect names in
`varying` nothing is ever read but how long its text is, which is tried on the event that is learned from.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gproxy.protocols.answers import is_utf8
from gproxy.protocols.base import Event, Protocol
from gproxy.values import Usage

_MOST_VARYING = 4
_STRETCH_BYTES = 32 * 1024
"""About so much is looked at for one run. All that came in would be looked at again for each of many short runs."""

_TEXT, _TEXT_BYTES = rb"gproxy\"\u00e9", 9
"""A text whose size is neither that of its JSON nor the number of its letters."""

_NUMBER = b"730811025500173"
_NUMBERS = re.compile(rb"(?:0|[1-9][0-9]{0,17})(?: (?:0|[1-9][0-9]{0,17}))*+")
_ESCAPED_ASCII = rb"\u00"
_KNOWN = Usage()
_text = msgspec.json.Decoder(str).decode


def varying(*names: str) -> re.Pattern[bytes]:
    """Finds members of those names in an event: in group 1 the inside of a string, or in group 2 a whole number."""
    any_name = "|".join(map(re.escape, names)).encode()
    return re.compile(
        rb'"(?:%b)"[ ]?:[ ]?(?:"((?:[^"\\\r\n]|\\.)*+)"|(0|[1-9][0-9]{0,17})(?=[,}]))' % any_name
    )


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
                values, found, parts = zip(*(part.partition(middle) for part in parts), strict=True)
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
    form = _form(protocol.varying, event) if protocol.varying else None
    if form is None:
        return None
    blank = form.filled([b"0" if number else b"" for number in form.numbers])
    values = [_NUMBER if n else _TEXT * (1 << place) for place, n in enumerate(form.numbers)]
    tried = form.filled(values)
    if not _is_plain(protocol, tried) or protocol.output_text(blank):
        return None
    counted, uneven = divmod(protocol.output_text(tried), _TEXT_BYTES)
    if uneven or not 0 < counted < 1 << len(form.numbers):
        return None
    kinds = tuple(None if n else bool(counted >> place & 1) for place, n in enumerate(form.numbers))
    sent = tried.raw if client_model is None else protocol.restore_event(tried, client_model)
    start, *middles, stop = form.literals
    sent_start, *sent_middles, sent_stop = _around(sent, values)
    if sent_middles != middles:
        return None
    return Template(start, tuple(middles), stop, sent_start, sent_stop, kinds)


class _Form(NamedTuple):
    """An event without the values that vary. Its data begin and end so many bytes within it."""

    literals: list[bytes]
    numbers: list[bool]
    before: int
    after: int
    name: bytes

    def filled(self, values: Sequence[bytes]) -> Event:
        pairs = zip(values, self.literals[1:], strict=True)
        raw = self.literals[0] + b"".join(value + literal for value, literal in pairs)
        return Event(raw, raw[self.before : len(raw) - self.after], self.name)


def _form(names: re.Pattern[bytes], event: Event) -> _Form | None:
    raw, data = event.raw, event.data
    found = list(names.finditer(raw))
    # An event with empty lines in front, or at the very start of a stream, is framed by more than itself.
    if not 1 <= len(found) <= _MOST_VARYING or raw[:1] in (b"\r", b"\n", b"\xef") or raw[-1:] != b"\n":
        return None
    if data is None or raw.count(data) != 1 or _TEXT in raw or _NUMBER in raw:
        return None
    literals: list[bytes] = []
    numbers: list[bool] = []
    at = 0
    for match in found:
        numbers.append(match.group(1) is None)
        start, end = match.span(2 if numbers[-1] else 1)
        literals.append(raw[at:start])
        at = end
    literals.append(raw[at:])
    before = raw.find(data)
    after = len(raw) - before - len(data)
    if len(literals[0]) < before or len(literals[-1]) < after:
        return None
    # A name could be written by escapes, and the dialects look for some as they are before they read an event.
    if _ESCAPED_ASCII in b"".join(literals) or not is_utf8(raw):
        return None
    return _Form(literals, numbers, before, after, event.name)


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
