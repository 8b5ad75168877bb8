"""Two dialects put together: a request for the target, and its answer, whole or streamed, for the client.

This is what the server calls. Errors inside a stream are not translated here: they are read by the target's
protocol and written by the client's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gproxy.errors import GatewayError
from gproxy.protocols.base import Event
from gproxy.translate.assembly import answer_of, deltas_of
from gproxy.translate.base import ClientFacts, Dialect, TargetFacts, Tree
from gproxy.translate.model import Delta, Finished
from gproxy.translate.restore import Restorer, restored

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\[\]-]")
_MOST_NAMED = 32
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Translated:
    """A request for the target. `names` and `freeform` are to be told to the client's writer (ClientFacts)."""

    tree: dict[str, Any]
    lost: frozenset[str]
    names: Mapping[str, str]
    freeform: frozenset[str]


def request(client: Dialect, target: Dialect, tree: Tree, facts: TargetFacts) -> Translated:
    """A client's request in the target's dialect. Raises BadRequest where the answer would be wrong."""
    read = client.read_request(tree)
    written = target.write_request(read.conversation, facts)
    freeform = frozenset(tool.name for tool in read.conversation.tools if tool.freeform)
    return Translated(written.tree, read.lost | written.lost, written.names, freeform)


def untranslated(lost: frozenset[str]) -> str:
    """The value of the header `x-gproxy-untranslated`: names in order, at most 32; "" if nothing was lost.

    Some are the client's own, so that they are cut and cleaned.
    """
    names = sorted({_UNSAFE.sub("_", name[:_LONGEST_NAME]) for name in lost})
    more = [f"and_{len(names) - _MOST_NAMED}_more"] if len(names) > _MOST_NAMED else []
    return ", ".join(names[:_MOST_NAMED] + more)


def answer(target: Dialect, client: Dialect, tree: Tree, facts: ClientFacts) -> dict[str, Any]:
    """The target's whole answer in the client's dialect. Raises AnswerBroken if it is none."""
    return client.write_answer(restored(target.read_answer(tree), facts), facts)


def collected(
    target: Dialect, client: Dialect, events: Iterable[Event], facts: ClientFacts
) -> dict[str, Any]:
    """The target's stream as a whole answer for the client: for a target that streamed unasked.

    Raises AnswerBroken if it has no end.
    """
    reader = target.reader()
    deltas = [delta for event in events for delta in reader.feed(event)] + reader.end()
    return client.write_answer(restored(answer_of(deltas), facts), facts)


class StreamTranslation:
    """One stream on its way from the target to the client.

    `finished`: the answer is known to be whole, and all of it is out but the terminal event.
    """

    def __init__(self, target: Dialect, client: Dialect, facts: ClientFacts) -> None:
        self.finished = False
        self._target = target
        self._reader = target.reader()
        self._restorer = Restorer(facts)
        self._writer = client.writer(facts)

    def feed(self, event: Event) -> bytes:
        """What to send on now. Not to be fed with error events. Raises AnswerBroken on what makes no sense."""
        if self.finished:
            return b""
        return self._written(self._reader.feed(event))

    def whole(self, tree: Tree) -> bytes:
        """What to send on of an answer that is whole: for a target that did not stream. Raises AnswerBroken."""
        return self._written(list(deltas_of(self._target.read_answer(tree))))

    def end(self) -> bytes:
        """What to send on when the target says no more, before the terminal event."""
        return b"" if self.finished else self._written(self._reader.end())

    def tail(self) -> bytes:
        """The terminal event, once it is `finished`."""
        return self._writer.end()

    def abort(self, error: GatewayError, request_id: str) -> bytes:
        """What ends a stream that broke, in place of its tail."""
        return self._writer.abort(error, request_id)

    def _written(self, deltas: list[Delta]) -> bytes:
        out: list[bytes] = []
        for delta in deltas:
            for known in self._restorer.feed(delta):
                out.append(self._writer.feed(known))
            self.finished = self.finished or isinstance(delta, Finished)
        return b"".join(out)
