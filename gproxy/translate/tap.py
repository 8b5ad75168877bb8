"""Watches a target's stream go by as `protocols/tap.py` does, and gives on what it is in the client's dialect.

What an event says of itself is read by the target's protocol, what the client is told by `exchange.py`.
"""

from collections import deque

from gproxy.errors import AnswerBroken, GatewayError
from gproxy.protocols.answers import is_json
from gproxy.protocols.base import Event, Protocol
from gproxy.protocols.portions import portions
from gproxy.protocols.tap import Framer
from gproxy.translate.base import Tree
from gproxy.translate.exchange import StreamTranslation
from gproxy.values import Usage


class TranslatingTap:
    """One stream of the target's on its way to the client.

    Its attributes are those of `StreamTap`; `protocol` and `framer` are the target's. What goes out is whole events
    of the client's dialect, all but the terminal one, which is the `tail`.
    """

    def __init__(self, protocol: Protocol, framer: Framer, translation: StreamTranslation) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.terminal = False
        self.failed: int | None = None
        self.failure = b""
        self.first_seen = False
        self.output_bytes = 0
        self._protocol = protocol
        self._framer = framer
        self._translation = translation
        self._left: deque[bytes] = deque()
        self._unsent = b""  # of events that came with one that made no sense

    @property
    def behind(self) -> bool:
        """Some of what came has not been looked at."""
        return bool(self._left)

    @property
    def waits(self) -> bool:
        """For more to come: it is not behind, and has seen neither an end nor a failure."""
        return not (self._left or self.terminal or self.failed is not None)

    @property
    def tail(self) -> bytes:
        """The terminal event; to be asked for once, when the answer is `complete`."""
        return self._translation.tail()

    def feed(self, data: bytes) -> bytes:
        """What to send on now, of a flood only some: `feed(b"")` goes on where it is `behind`. Raises AnswerBroken on
        what makes no sense; what came before it, `abort` sends."""
        if data:
            self._left.extend(portions(data, self._framer.marks, self._framer.most_marks))
        out: list[bytes] = []
        try:
            for event in self._framer.feed(self._left.popleft() if self._left else b""):
                out.append(self._passed(event))
        except AnswerBroken:
            self._unsent = b"".join(out)
            raise
        return b"".join(out)

    def end(self) -> bytes:
        """What to send on at the end of the input; half an event at its end says nothing. Raises AnswerBroken."""
        rest = [e for e in self._framer.end() if e.data is not None and self._is_whole(e)]
        out = b"".join(map(self._passed, rest))
        if self.failed is None:
            out += self._translation.end()
            self.complete = self._translation.finished
        return out

    def whole(self, body: bytes, tree: Tree) -> bytes:
        """The same for an answer that is no stream: it is fed at once, and is the end."""
        self.usage = self._protocol.usage_in_body(body)
        self.output_bytes = self._protocol.output_text(Event(body, body))
        out = self._translation.whole(tree)
        self.first_seen = self.terminal = self.complete = True
        return out

    def abort(self, error: GatewayError, request_id: str) -> bytes:
        """What to send in place of the rest of a broken stream."""
        return self._unsent + self._translation.abort(error, request_id)

    def _passed(self, event: Event) -> bytes:
        if self.terminal or self.failed is not None:
            return b""
        protocol = self._protocol
        self.first_seen = self.first_seen or event.data is not None
        self.usage = protocol.usage_in_event(event, self.usage)
        self.terminal = protocol.is_terminal(event)
        self.complete = self.complete or self.terminal or protocol.is_complete(event)
        self.output_bytes += protocol.output_text(event)
        self.failed = protocol.error_in_event(event)
        if self.failed is not None:
            self.failure = event.data or b""
            return b""
        return self._translation.feed(event)

    def _is_whole(self, event: Event) -> bool:
        return self._protocol.is_terminal(event) or is_json(event.data or b"")
