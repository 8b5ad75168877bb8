"""Watches a stream go by: what to send on and when, and what the stream said of itself.

Reading from the upstream, writing to the client and the ledger are the server's.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol as Interface

from gproxy.errors import AnswerBroken, GatewayError
from gproxy.protocols.answers import is_json
from gproxy.protocols.base import Event, Protocol
from gproxy.protocols.forms import Forms, Known, forms
from gproxy.protocols.portions import portions
from gproxy.protocols.sse import MAX_EVENT_BYTES, is_begun
from gproxy.protocols.template import Run, Said, Template
from gproxy.values import Usage

_MOST_VAIN = 16
"""So many steps in a row into what came at once that lead to no known event; the rest of it is read in one."""

_MOST_STEPS = 64
"""So many steps at once, each of which takes some microseconds."""

_MOST_WITHIN = 32 * 1024
"""About so many bytes are looked at for a run of events. Less where other events stand between those of one form: all
of them would be looked at again for each."""

_LEAST_RUN = 3
"""Fewer events than would find place take longer together than each by itself, where that is known."""

_MOST_TRIES = 6
"""So many events in a row are learned from in vain; then a stream's events are read one by one."""


class Framer(Interface):
    """How a stream is cut into events: `SseFramer` or `JsonArrayFramer`, where they are elements of one `array`."""

    @property
    def array(self) -> bool: ...

    @property
    def marks(self) -> bytes: ...

    @property
    def most_marks(self) -> int: ...

    @property
    def idle(self) -> bool: ...

    @property
    def pending(self) -> bytes: ...

    def passed(self) -> None: ...

    def feed(self, data: bytes) -> list[Event]: ...

    def end(self) -> list[Event]: ...

    def ending(self, event: bytes, body: bytes, half: bytes) -> bytes: ...


class StreamTap:
    """One stream on its way to the client.

    `client_model` is the name to put back, None if the upstream knows the model by the same name.
    `withhold_usage`: the client did not ask for the events that hold usage alone. With neither, bytes go out
    exactly as they come; else whole events do, as soon as they are whole. The terminal event and all after it
    stay in `tail`, for the caller to send when the ledger holds the row.

    usage          what the events have reported so far
    complete       the answer is known to be whole: a terminal or a completing event was seen
    terminal       the terminal event was seen
    behind         some of what came has not been looked at
    waits          for more to come: it is not behind, and has seen neither the end nor a failure
    failed         HTTP status of an error event that was seen; `failure` is its data. It, and what follows
                   it, is not sent on: `abort` ends the stream in its place
    first_seen     an event with data was seen
    output_bytes   text, reasoning and tool arguments so far, for estimates
    """

    # As they are in most streams to the end.
    failure = b""
    _unframed = 0  # bytes that came in and belong to no event yet
    _half = b""  # what went out of an event that will not be sent whole

    def __init__(
        self, protocol: Protocol, framer: Framer, *, client_model: str | None, withhold_usage: bool
    ) -> None:
        self._usage: Usage | None = None
        self._reported: Event | None = None  # the last that reported usage, if that is not read yet
        self._reporter: Said | None = None  # its form
        self._reporting = False  # the event before did
        self.behind = False
        self.waits = True
        self.complete = False
        self.terminal = False
        self.failed: int | None = None
        self.first_seen = False
        self.output_bytes = 0
        self._protocol = protocol
        self._framer = framer
        self._client_model = client_model
        self._withhold_usage = withhold_usage
        self._as_received = client_model is None and not withhold_usage
        self._idle = framer.idle
        self._left: deque[bytes] = deque()  # came in and is not looked at yet
        self._begun = b""  # the beginning of an event that may be known when it is whole
        self._tail = bytearray()
        self._template: Template | None = None  # of the events with text that were seen last
        self._forms = forms(protocol, client_model, withhold_usage, framer.array)
        self._last: Known | None = None  # recognised, and nothing was read since
        self._alone: Known | None = None  # the same, where nothing else is to be looked at
        self._said: Said | None = None  # by the events before, and nothing was read since
        self._within = _MOST_WITHIN  # about so many bytes are looked at for the next run
        self._tries = _MOST_TRIES
        self._vain = 0

    @property
    def usage(self) -> Usage | None:
        if self._reported is not None:
            self._usage = self._protocol.usage_in_event(self._reported, self._usage)
            self._reported = None
        return self._usage

    @property
    def tail(self) -> bytes:
        """The terminal event and everything after it, as it is to be sent: nothing, if an error was seen."""
        return b"" if self.failed is not None else bytes(self._tail)

    def feed(self, data: bytes) -> bytes:
        """What to send on now, of a flood only some: `feed(b"")` goes on where it is `behind`. Raises AnswerBroken if
        one event is too large, or the first one broken JSON."""
        known = self._alone
        if known is None or len(data) > MAX_EVENT_BYTES:
            return self._fed(data, 0, [])
        # Of a model at work they come alone, each of the form of the one before it.
        found = known.match(data)
        run = None if found is None else known.one(found)
        if run is None:
            return self._fed(data, 0, [])
        self.output_bytes += run.output_bytes
        if run.reported is not None:
            self._reported = run.reported
        return run.sent if run.end == len(data) else self._fed(data, run.end, [run.sent])

    def _fed(self, data: bytes, at: int, sent: list[bytes]) -> bytes:
        """The same from `at` on, behind what is `sent`."""
        self._alone = None
        if data:
            self._vain = 0
        if self._left:
            if data:
                self._left.append(data)
            data = self._left.popleft()
        if self._begun:
            data, self._begun = self._begun + data, b""
        forms = self._forms
        if forms is None or self._ended or len(data) > MAX_EVENT_BYTES:
            sent.append(self._read_some(data[at:]))
        else:
            self._step(forms, data, at, sent)
        self.behind = bool(self._left)
        self.waits = not (self.behind or self._ended)
        return sent[0] if len(sent) == 1 else b"".join(sent)

    def _step(self, forms: Forms, data: bytes, at: int, sent: list[bytes]) -> None:
        """From `at` on step by step, and event by event where that leads to nothing."""
        for _ in range(_MOST_STEPS + 1):
            run = self._known(forms, data, at) if self._idle else None
            if run is None:
                out, at = self._learned(forms, data, at)
                over = self._ended or self._vain >= _MOST_VAIN
            else:
                out, at, said = run.sent, run.end, run.said
                if said is not self._said:
                    self._met(said)
                if run.reported is not None:
                    self._reported = run.reported
                self.output_bytes += run.output_bytes
                over = said.ends
                if over:
                    self._tail += out
                    out = b""
            sent.append(out)
            if at == len(data):
                if not (run is None or over or self._left):
                    self._alone = self._last
                break
            if over:
                sent.append(self._read_some(data[at:]))
                break
        else:
            self._left.appendleft(data[at:])

    def end(self) -> bytes:
        """What to send on at the end of the input. Where events are rewritten, half a one is dropped."""
        if self._begun:
            self._framer.feed(self._begun)
        elif self._idle:
            return b""
        events = self._framer.end()
        if self._as_received:
            self.first_seen = self.first_seen or any(
                event.data for event in events
            )  # what was cut off is not broken
            self._pass_on(b"", events)
            if not self._ended:
                self._half = b"".join(event.raw for event in events)
            return b""
        self._half = self._rewrite(
            [e for e in events if e.data is None or is_json(e.data) or self._protocol.is_terminal(e)]
        )
        return self._half

    def abort(self, error: GatewayError, request_id: str) -> bytes:
        """What to send in place of the rest of a broken stream: the dialect's error, in its framing."""
        half = self._half
        if self._as_received and not self._ended:
            half = half or self._framer.pending
        return self._framer.ending(
            self._protocol.error_event(error, request_id),
            self._protocol.error_body(error, request_id),
            half,
        )

    def _pass_on(self, data: bytes, events: list[Event]) -> bytes:
        cut = 0 if self._ended else len(data)
        start = -self._unframed  # of the next event, in `data`
        self._unframed += len(data)
        for event in events:
            before = self._ended
            self._observe(event)
            if self._ended and not before:
                cut = max(0, start)
                self._half = event.raw[: max(0, -start)]
            start += len(event.raw)
            self._unframed -= len(event.raw)
        self._tail += data[cut:]
        return data[:cut]

    def _met(self, said: Said) -> None:
        """Events of another form than those before, or the first behind some that were read."""
        self._said = said
        self._tries = _MOST_TRIES
        self._vain = 0
        if not self.first_seen:
            self._framer.passed()
            self.first_seen = True
        if said.completes:
            self.complete = True
            self.terminal = said.ends
        self._reporting = said.reported is not None
        if self._reporting and said is not self._reporter:
            if self._reported is not None:
                self._usage = self.usage  # of which these may leave something out
            self._reporter = said

    def _known(self, forms: Forms, data: bytes, at: int) -> Run | None:
        """The events from `at` on that need not be read."""
        template, last = self._template, self._last
        recognised = forms.recognised(data, at, last)
        if recognised is None:
            self._last = None
            if template is None or not data.startswith(template.start, at):
                return None
            return self._run(template, data, at)
        known, found = recognised
        self._last = known
        if known.holds_text:
            if min(len(data) - at, self._within) >= _LEAST_RUN * (found.end() - at):
                start = known.start(found)
                if data.startswith(start, found.end()):
                    if template is None or template.start != start or template.said is not known.said:
                        template = self._template = known.template(found)
                    if (run := self._run(template, data, at)) is not None:
                        return run
            elif known is last:
                self._within = min(2 * self._within, _MOST_WITHIN)
        return known.one(found)

    def _run(self, template: Template, data: bytes, at: int) -> Run | None:
        run = template.run(data, at, self._within)
        if run is not None and run.end < len(data):
            self._within = min(2 * (run.end - at), _MOST_WITHIN)
        return run

    def _learned(self, forms: Forms, data: bytes, at: int) -> tuple[bytes, int]:
        """Some of `data` from `at` on is read, and its like may be known from now on: what to send, and where the
        rest begins."""
        self._vain += 1
        if not self._tries:
            return self._read_some(data[at:]), len(data)
        end = len(data)
        held = self._framer.array and not self._as_received
        if held:  # white space at the end, which belongs to the next element
            end = max(at, len(data.rstrip(b" \t\r\n")))
        elif not self._framer.array:
            line_ends = b"\n\r\n" if b"\r" in data else b"\n\n"
            found = data.find(line_ends, at)
            if found >= 0:
                end = found + len(line_ends)
            elif not self._as_received and self._idle and is_begun(data, at):
                self._begun = data[at:]
                return b"", end
        if len(self._portions(data[at:end])) > 1:  # events that end in other ways
            return self._read_some(data[at:]), len(data)
        reporting = self._reporting
        events, out = self._read(data[at:end])
        if len(events) == 1 and self.first_seen and self.failed is None:
            rare = self._reporting > reporting  # of most streams one event alone reports usage
            self._tries -= not rare
            self._template = forms.learn(events[0], rare=rare) or self._template
        if held:
            self._begun = data[end:]
        return out, len(data) if held else end

    def _read_some(self, data: bytes) -> bytes:
        """Some of `data` read one by one, for as long as nobody minds: what to send. What follows is left."""
        found = self._portions(data)
        if len(found) > 1:
            self._left.extendleft(reversed(found[1:]))
        return self._read(found[0])[1]

    def _portions(self, data: bytes) -> Sequence[bytes]:
        return portions(data, self._framer.marks, self._framer.most_marks)

    def _read(self, data: bytes) -> tuple[list[Event], bytes]:
        """The events that are whole with `data`, which were read one by one, and what to send."""
        self._said = None
        events = self._framer.feed(data)
        self._idle = self._framer.idle
        return events, self._pass_on(data, events) if self._as_received else self._rewrite(events)

    def _rewrite(self, events: list[Event]) -> bytes:
        sent: list[bytes] = []
        for event in events:
            if self.failed is None:
                self._observe(event)
            if self.failed is not None:
                break
            if self._withhold_usage and self._protocol.is_usage_only(event):
                continue
            raw = event.raw
            if self._client_model is not None:
                raw = self._protocol.restore_event(event, self._client_model)
            if self.terminal:
                self._tail += raw
            else:
                sent.append(raw)
        return b"".join(sent)

    @property
    def _ended(self) -> bool:
        return self.terminal or self.failed is not None

    def _observe(self, event: Event) -> None:
        protocol = self._protocol
        if not self.first_seen and event.data:
            if not (is_json(event.data) or protocol.is_terminal(event)):
                raise AnswerBroken("the stream began with broken JSON")
            self.first_seen = True
        before = self.usage
        self._usage = protocol.usage_in_event(event, before)
        self._reporting = self._usage is not before
        self.terminal = self.terminal or protocol.is_terminal(event)
        self.complete = self.complete or self.terminal or protocol.is_complete(event)
        if self.failed is None:
            self.failed = protocol.error_in_event(event)
            self.failure = event.data or b"" if self.failed is not None else b""
        if not self.terminal:
            self.output_bytes += protocol.output_text(event)
