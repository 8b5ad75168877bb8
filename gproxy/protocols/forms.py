"""What events look like that say nothing but a text: learned from one that was read, and known in later streams.

How many of them are passed on at once is in `template.py`; when this way is taken is `tap.py`'s to say.

That the result is that of reading each event by itself rests on three things. A value that varies has to be the
inside of a JSON string, or a number, so it holds no line break, and what stands around it is fixed: the framer
would cut the same events; an element of an array has its comma in front. Their JSON is the same tree but for
those values. And of a member that a dialect names in `varying` nothing is ever read but how long its text is,
which is tried on an event of the same form.

Streams of one model differ in stamps (an id, a time) of which nothing is read at all. So a form is known without
them, and its events are recognised in the streams to come.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, pairwise, permutations
from typing import NamedTuple

from gproxy.protocols.answers import is_json, is_utf8
from gproxy.protocols.base import Event, Protocol, Span
from gproxy.protocols.possessive import possessive
from gproxy.protocols.template import A_NUMBER, Frame, Run, Said, Template, text_size
from gproxy.values import Usage

_MOST_VARYING = 4
_MOST_COUNTS = 12
_MOST_STAMPS = 8
_MOST_FORMS = 12
_MOST_RARE = 12
"""So many events that are rare in a stream are learned from in vain, in all streams of a model: what they say may be
another each time."""

_LONGEST_EVENT = 4 * 1024
"""No form is learned from a longer one: what stands around its text is kept."""

_LONGEST_KNOWN = 1024
"""No pattern is made for a longer one: it takes ten times as much memory, in all streams."""

_TEXT, _TEXT_BYTES = rb"gproxy\"\u00e9", 9
"""A text whose size is neither that of its JSON nor the number of its letters."""

_NUMBER, _COUNT = b"730811025500173", b"730811025500181"
_STAMP, _STAMP_NUMBER = b"gproxy-730811", b"730811025500179"
_TRIED = (_TEXT, _NUMBER, _COUNT, _STAMP, _STAMP_NUMBER)
_BLANK = (b"", b"0", b"0", _STAMP, b"0")
_SPACE = b" \t\r\n"
_BACKSLASH = ord("\\")
_ESCAPED_ASCII = rb"\u00"
_NONE = Usage()
_SOME = Usage(**dict.fromkeys(set(Usage.__struct_fields__) - {"service_tier"}, 7), service_tier="flex")

_IS_TEXT, _IS_NUMBER, _IS_COUNT, _IS_STAMP, _IS_STAMP_NUMBER = 1, 2, 3, 4, 5
"""What a slot of a form is: the group that `varying` finds its value in."""

_A_TEXT = rb'[^"\\\x00-\x1f]*+' + possessive(rb'\\[^\x00-\x1f][^"\\\x00-\x1f]*+')
_A_STAMP = rb"[0-9A-Za-z_.:-]{1,128}"
_A_STAMP_NUMBER = rb"0|[1-9][0-9]{0,17}"
_VALUES = (_A_TEXT, A_NUMBER, A_NUMBER, b"(?:%b)" % _A_STAMP, b"(?:%b)" % _A_STAMP_NUMBER)
"""What the values of each kind are like in a shape, where a quote, a comma or a brace stands behind them. Each can be
read in one way only, so that an event takes a time by its length."""


def varying(*names: str, counts: Sequence[str] = (), stamps: Sequence[str] = ()) -> re.Pattern[bytes]:
    """Finds members of those names in an event: in group 1 the inside of a string, or in group 2 a whole number.

    Of `counts`, in group 3 a whole number that is read as usage: each event tells it anew. Of `stamps`, in group 4 a
    plain name that stands in quotes, or in group 5 a whole number.
    """
    text, count, stamp = (
        b"|".join(re.escape(name.encode()) for name in each) or b"(?!)" for each in (names, counts, stamps)
    )
    ending = rb"(?=[ \t\r\n]*[,}])"
    number = b"(%b)%b" % (A_NUMBER, ending)
    return re.compile(
        rb'"(?:%b)"[ ]?:[ ]?(?:"(%b)"|%b)' % (text, _A_TEXT, number)
        + rb'|"(?:%b)"[ ]?:[ ]?%b' % (count, number)
        + rb'|"(?:%b)"[ ]?:[ ]?(?:"(%b)"|(%b)%b)' % (stamp, _A_STAMP, _A_STAMP_NUMBER, ending)
    )


class Form(NamedTuple):
    """What was found of all events of one shape.

    `withheld`: nothing of them goes out. `new` goes out in the place of the literal of the number `place`; `leads`:
    that is in front of the values, not behind them.
    """

    shape: "_Shape"
    said: Said
    withheld: bool
    place: int
    new: bytes
    leads: bool

    @property
    def holds_text(self) -> bool:
        return True in self.said.counted

    def template(self, raw: bytes, event: Span, old: Span, values: Sequence[Span]) -> Template:
        """What stands around the values in all events of this form of one stream, of which one is in `raw`; `old` is
        the literal that goes out as `new`."""
        (begin, end), (first, last) = event, (values[0][0], values[-1][1])
        start, stop = raw[begin:first], raw[last:end]
        middles = [raw[before[1] : behind[0]] for before, behind in pairwise(values)]
        if self.leads:
            sent_start = b"%b%b%b" % (raw[begin : old[0]], self.new, raw[old[1] : first])
            return Template(start, middles, stop, sent_start, stop, self.said)
        sent_stop = b"%b%b%b" % (raw[last : old[0]], self.new, raw[old[1] : end])
        return Template(start, middles, stop, start, sent_stop, self.said)


class Known:
    """A form whose events are recognised in any stream, one by one. `match` finds one."""

    __slots__ = (
        "_behind",
        "_changes",
        "_counted",
        "_form",
        "_frame",
        "_new",
        "_strings",
        "_values",
        "holds_text",
        "match",
        "said",
    )

    def __init__(self, form: Form) -> None:
        self.said = form.said
        self.holds_text = form.holds_text
        self.match = form.shape.pattern(form.place, form.leads).match
        self._form = form
        self._new = form.new
        self._changes = form.new != form.shape.literals[form.place] and not form.withheld
        self._frame = form.said.reported
        counted = form.said.counted
        self._behind = 2 if form.leads else 2 + len(counted)
        self._values = range(3, 3 + len(counted)) if form.leads else range(2, 2 + len(counted))
        kinds = [*zip(self._values, counted, strict=True)]
        self._strings = [group for group, counts in kinds if counts is not None]
        self._counted = [group for group, counts in kinds if counts]

    def one(self, found: re.Match[bytes]) -> Run | None:
        """The event that was found; None if one of its texts is none."""
        event = found[0]
        output_bytes = 0
        # Of what may stand in a text only an escape, or a letter beyond ASCII, is not one byte of it.
        if event.isascii() and _BACKSLASH not in event:
            for group in self._counted:
                output_bytes += len(found[group])
        else:
            for group in self._strings:
                size = text_size(found[group])
                if size is None:
                    return None
                if group in self._counted:
                    output_bytes += size
        if self._changes:
            sent = b"%b%b%b" % (found[1], self._new, found[self._behind])
        else:
            sent = b"" if self._form.withheld else event
        frame = self._frame
        if frame is None:
            return Run(sent, found.end(), output_bytes, self.said)
        return Run(sent, found.end(), output_bytes, self.said, frame.event(event))

    def start(self, found: re.Match[bytes]) -> bytes:
        """What is in front of the first value."""
        return found.string[found.start() : found.start(self._values[0])]

    def template(self, found: re.Match[bytes]) -> Template:
        """What all events of this form look like in the stream of the one that was found."""
        old = found.end(1), found.start(self._behind)
        return self._form.template(found.string, found.span(), old, [*map(found.span, self._values)])


class Forms:
    """What is remembered of the streams of one model: the forms of their events, the latest first.

    One that comes in a second stream is recognised in those after it. Forms that come in one stream alone are many,
    and to make each of them known would take longer than it saves. `client_model` is put into what is sent in place
    of the upstream's name, if there is one. `withhold_usage`: events that hold usage alone are not sent. `array`:
    events are elements of one.
    """

    def __init__(
        self, protocol: Protocol, client_model: str | None, withhold_usage: bool, array: bool = False
    ) -> None:
        self._protocol = protocol
        self._client_model = client_model
        self._withhold_usage = withhold_usage
        self._array = array
        self._rare = _MOST_RARE
        self._once: list[Form] = []
        self._known: list[Known] = []
        self._following: dict[
            Known | None, Known
        ] = {}  # the one that came behind another, as far as it is known

    def recognised(self, data: bytes, at: int, last: Known | None) -> tuple[Known, re.Match[bytes]] | None:
        """The form of the event at `at`, of one of the `last` or of none before it, and what was found of it; None if
        its form is not known, or it is not whole."""
        likely = self._following.get(last)
        if likely is not None and (found := likely.match(data, at)) is not None:
            return likely, found
        for known in self._known:
            if (found := known.match(data, at)) is not None:
                self._following[last] = known
                return known, found
        return None

    def learn(self, event: Event, *, rare: bool = False) -> Template | None:
        """What events that differ from this one in their text alone look like in its stream; None if others of its
        form may say more, or hold none. `rare`: few streams have a second one of its form."""
        if rare:
            if self._rare == 0:
                return None
            self._rare -= 1
        cut = _cut_up(self._protocol, event)
        found = self._protocol, self._client_model, self._withhold_usage
        if cut is None or not cut[0].is_safe(self._array):
            return None
        form = _found(cut[0], *found)
        if form is None:
            return None
        if form not in self._once:
            self._once = [form, *self._once[: _MOST_FORMS - 1]]
        elif len(event.raw) <= _LONGEST_KNOWN:
            self._once.remove(form)
            self._known = [Known(form), *self._known[: _MOST_FORMS - 1]]
            self._following.clear()
        if not form.holds_text:
            return None
        ends = [0, *chain.from_iterable(cut[1]), len(event.raw)]
        old = ends[2 * form.place], ends[2 * form.place + 1]
        values = [span for span, slot in zip(cut[1], form.shape.slots, strict=True) if slot < _IS_STAMP]
        return form.template(event.raw, (0, len(event.raw)), old, values)

    def told(self) -> None:
        """An event that is rare in a stream was known: it pays to learn from them."""
        self._rare = _MOST_RARE


@lru_cache(maxsize=64)
def forms(protocol: Protocol, client_model: str | None, withhold_usage: bool, array: bool) -> Forms | None:
    """What is remembered of such streams; None if their events are all read."""
    return None if protocol.varying is None else Forms(protocol, client_model, withhold_usage, array)


def _cut_up(protocol: Protocol, event: Event) -> tuple["_Shape", list[Span]] | None:
    """The shape of an event, and where its values stand; None if it is none to be remembered."""
    raw, data = event.raw, event.data
    if protocol.varying is None or data is None or len(raw) > _LONGEST_EVENT:
        return None
    literals: list[bytes] = []
    slots: list[int] = []
    spans: list[Span] = []
    at = 0
    for match in protocol.varying.finditer(raw):
        slot = match.lastindex or 0
        span = match.span(slot)
        slots.append(slot)
        spans.append(span)
        literals.append(raw[at : span[0]])
        at = span[1]
    literals.append(raw[at:])
    before = raw.find(data)
    frame = Frame(before, len(raw) - before - len(data), event.name)
    return _Shape(tuple(literals), tuple(slots), frame), spans


class _Shape(NamedTuple):
    """An event without the values in its slots."""

    literals: tuple[bytes, ...]
    slots: tuple[int, ...]
    frame: Frame

    def is_safe(self, array: bool) -> bool:
        """Whether an event of this shape is framed by nothing but itself, and read as it is written."""
        first, last = self.literals[0], self.literals[-1]
        if array:  # the first of its elements has a bracket in front
            framed = first[: self.frame.before].strip(_SPACE) == b"," and not self.frame.after
        else:  # one with empty lines in front, or at the very start of a stream, is framed by more than itself
            framed = first[:1] not in (b"\r", b"\n", b"\xef") and last[-1:] == b"\n"
        inside = self.frame.before <= len(first) and 0 <= self.frame.after <= len(last)
        everything = b" ".join(self.literals)
        # A name could be written by escapes, and the dialects look for some as they are before they read an event.
        plain = _ESCAPED_ASCII not in everything and is_utf8(everything)
        return framed and inside and plain and not _holds_tried(everything)

    def filled(self, values: Sequence[bytes]) -> Event:
        pairs = zip(values, self.literals[1:], strict=True)
        return self.frame.event(self.literals[0] + b"".join(value + literal for value, literal in pairs))

    def pattern(self, place: int, leads: bool) -> re.Pattern[bytes]:
        """Matches an event. Its groups are what is in front of the literal at `place`, which `leads` or stands behind
        the values; the values but stamps; and what is behind it. To make it takes some 0.2 ms."""
        found = b"("
        for number, literal in enumerate(self.literals):
            found += b")%b(" % re.escape(literal) if number == place else re.escape(literal)
            if number < len(self.slots):
                slot = self.slots[number]
                found += b"(%b)" % _VALUES[slot - 1] if slot < _IS_STAMP else _VALUES[slot - 1]
        return re.compile(found + b")")


def _holds_tried(text: bytes) -> bool:
    return any(value in text for value in _TRIED)


@lru_cache(maxsize=256)
def _found(shape: _Shape, protocol: Protocol, client_model: str | None, withhold_usage: bool) -> Form | None:
    """What is to be known of any event of this shape; None if it may say more than text and that it is the last."""
    if _holds_tried((client_model or "").encode()):
        return None
    places = [place for place, slot in enumerate(shape.slots) if slot < _IS_STAMP]
    counts, stamps = shape.slots.count(_IS_COUNT), len(shape.slots) - len(places)
    if len(places) - counts > _MOST_VARYING or counts > _MOST_COUNTS or stamps > _MOST_STAMPS:
        return None
    values = [_TRIED[slot - 1] for slot in shape.slots]
    for number, place in enumerate(places):
        if shape.slots[place] == _IS_TEXT:
            values[place] *= 1 << number
    tried = shape.filled(values)
    blank = shape.filled([_BLANK[slot - 1] for slot in shape.slots])
    ends, alone = protocol.is_terminal(tried), protocol.is_usage_only(tried)
    if (
        not (ends or is_json(tried.data or b""))
        or protocol.error_in_event(tried) is not None
        or protocol.is_usage_only(blank) is not alone
        or protocol.output_text(blank)
    ):
        return None
    reports = protocol.usage_in_event(tried, _NONE) is not _NONE
    if reports and not (counts and _is_told_anew(protocol, tried, blank)):
        return None
    size, uneven = divmod(protocol.output_text(tried), _TEXT_BYTES)
    if uneven or size >= 1 << len(places) or (size and ends):
        return None
    counted = tuple(
        bool(size >> number & 1) if shape.slots[place] == _IS_TEXT else None
        for number, place in enumerate(places)
    )
    sent = _around(tried.raw if client_model is None else protocol.restore_event(tried, client_model), values)
    changed = [place for place, literal in enumerate(shape.literals) if sent[place] != literal] or [0]
    place = changed[0]
    if len(changed) > 1 or (places and places[0] < place <= places[-1]):
        return None  # the name stands twice, or between two values
    leads = not places or place <= places[0]
    completes = ends or protocol.is_complete(tried)
    said = Said(counted, completes, ends, shape.frame if reports else None)
    return Form(shape, said, withhold_usage and alone, place, sent[place], leads)


def _around(raw: bytes, values: Sequence[bytes]) -> list[bytes]:
    """What stands before, between and after the values, which follow each other."""
    literals: list[bytes] = []
    for value in values:
        literal, _, raw = raw.partition(value)
        literals.append(literal)
    return [*literals, raw]


def _is_told_anew(protocol: Protocol, *events: Event) -> bool:
    """Whether of the usage in such events that in the last is all that is known after them, whatever was before."""
    told = protocol.usage_in_event
    return all(
        told(last, told(first, before)) == told(last, before)
        for before in (None, _NONE, _SOME)
        for first, last in permutations(events)
    )
