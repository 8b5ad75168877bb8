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
from gproxy.protocols.template import Run, Template
from gproxy.values import Usage

_MOST_VAIN = 16
"""So many steps in a row into what came at once that lead to no known event; the rest of it is read in one."""

_MOST_STEPS = 64
"""So many steps at once, each of which takes some microseconds."""

_MOST_WITHIN = 32 * 1024
_LEAST_WITHIN = 64
"""About so many bytes are looked at for a run of events. Less where other events stand between those of one form: all
of them would be looked at again for each."""

_MOST_TRIES = 6
"""So many events in a row are learned from in vain; then a stream's events are read one by one."""


class Framer(Interface):
    """How a stream is cut into events: `SseFramer` or `JsonArrayFramer`."""

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
    failed         HTTP status of an error event that was seen; `failure` is its data. It, and what follows
                   it, is not sent on: `abort` ends the stream in its place
    first_seen     an event with data was seen
    output_bytes   text, reasoning and tool arguments so far, for estimates
    """

    def __init__(
        self, protocol: Protocol, framer: Framer, *, client_model: str | None, withhold_usage: bool
    ) -> None:
        self._usage: Usage | None = None
        self._reported: Event | None = None  # the last that reported usage, if that is not read yet
        self._teller: object = None  # what it has in common with others that report the same
        self._reporting = False  # the event before did
        self.complete = False
        self.terminal = False
        self.failed: int | None = None
        self.failure = b""
        self.first_seen = False
        self.output_bytes = 0
        self._protocol = protocol
        self._framer = framer
        self._client_model = client_model
        self._withhold_usage = withhold_usage
        self._as_received = client_model is None and not withhold_usage
        self._unframed = 0  # bytes that came in and belong to no event yet
        self._left: deque[bytes] = deque()  # came in and is not looked at yet
        self._begun = b""  # the beginning of an event that may be known when it is whole
        self._half = b""  # what went out of an event that will not be sent whole
        self._tail = bytearray()
        self._template: Template | None = None  # of the events with text that were seen last
        self._forms = forms(protocol, client_model, withhold_usage)
        self._last: Known | None = None  # recognised, and nothing went by the template since
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

    @property
    def behind(self) -> bool:
        """Some of what came has not been looked at."""
        return bool(self._left)

    def feed(self, data: bytes) -> bytes:
        """What to send on now, of a flood only some: `feed(b"")` goes on where it is `behind`. Raises AnswerBroken if
        one event is too large, or the first one broken JSON."""
        if data:
            self._vain = 0
        if self._left:
            if data:
                self._left.append(data)
            data = self._left.popleft()
        if self._begun:
            data, self._begun = self._begun + data, b""
        out, at = self._step(data, 0)
        if at == len(data):
            return out
        sent = [out]
        for _ in range(_MOST_STEPS):
            if at == len(data) or self._vain >= _MOST_VAIN:
                break
            out, at = self._step(data, at)
            sent.append(out)
        if self._vain >= _MOST_VAIN:
            sent.append(self._read_some(data[at:]))
        elif at < len(data):
            self._left.appendleft(data[at:])
        return b"".join(sent)

    def end(self) -> bytes:
        """What to send on at the end of the input. Where events are rewritten, half a one is dropped."""
        if self._begun:
            self._framer.feed(self._begun)
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

    def _step(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Some of `data` from `at` on: what to send, and where the rest begins."""
        if self._forms is None or self._ended or len(data) > MAX_EVENT_BYTES:
            return self._read_some(data[at:]), len(data)
        if self._framer.idle and (run := self._known(self._forms, data, at)) is not None:
            self._vain = 0
            return self._passed(run), run.end
        self._vain += 1
        if not self._tries:
            return self._read_some(data[at:]), len(data)
        line_ends = b"\n\r\n" if b"\r" in data else b"\n\n"
        found = data.find(line_ends, at)
        end = len(data) if found < 0 else found + len(line_ends)
        if found < 0 and not self._as_received and self._framer.idle and is_begun(data, at):
            self._begun = data[at:]
            return b"", end
        if len(self._portions(data[at:end])) > 1:  # events that end in other ways
            return self._read_some(data[at:]), len(data)
        reporting = self._reporting
        events, out = self._read(data[at:end])
        if len(events) == 1 and self.first_seen and self.failed is None:
            rare = self._reporting > reporting  # of most streams one event alone reports usage
            self._tries -= not rare
            self._template = self._forms.learn(events[0], rare=rare) or self._template
        return out, end

    def _passed(self, run: Run) -> bytes:
        """What is to be sent on of events that were not read."""
        if not self.first_seen:
            self._framer.passed()
            self.first_seen = True
        if run.completes:
            self.complete = True
        if run.reported is not None:
            if self._reported is not None and run.teller != self._teller:
                self._usage = self.usage  # of which this one may leave something out
            self._reported, self._teller = run.reported, run.teller
        self._reporting = run.reported is not None
        self.output_bytes += run.output_bytes
        self._tries = _MOST_TRIES
        if not run.ends:
            return run.sent
        self.terminal = True
        self._tail += run.sent
        return b""

    def _known(self, forms: Forms, data: bytes, at: int) -> Run | None:
        """The events from `at` on that need not be read."""
        template = self._template
        if (
            template is not None
            and data.startswith(template.start, at)
            and (run := template.run(data, at, self._within)) is not None
        ):
            self._last = None
        else:
            found = forms.recognised(data, at, self._within, self._last)
            if found is None:
                return None
            run, template, self._last = found
            self._template = template or self._template
            if not self._last.holds_text:
                return run
            if run.events == 1 and run.end < len(data):
                self._within = max(self._within // 8, _LEAST_WITHIN)
                return run
        if run.end < len(data):
            self._within = max(min(2 * (run.end - at), _MOST_WITHIN), _LEAST_WITHIN)
        return run

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
        events = self._framer.feed(data)
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
