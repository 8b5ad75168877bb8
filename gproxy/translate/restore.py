"""Puts into an answer what its client knows: ids of calls, its own names of tools, text where its tools take text.

It stands between the target's reader and the client's writer, so that neither has to know of the other.
"""

from dataclasses import replace

from gproxy.translate import freeform, ids
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import Added, Answer, AnswerPart, Closed, Delta, Opened, ToolCall


def restored(answer: Answer, client: ClientFacts) -> Answer:
    """The answer as it is to be written for the client."""
    parts: list[AnswerPart] = []
    for at, part in enumerate(answer.parts):
        if isinstance(part, ToolCall):
            call = _call(part, at, client)
            call = replace(call, arguments=call.arguments or _no_arguments(part))
            if call.freeform and not part.freeform:
                call = replace(call, arguments=freeform.text_of(call.arguments))
            parts.append(call)
        else:
            parts.append(part)
    return replace(answer, parts=tuple(parts))


class Restorer:
    """The same for the deltas of one stream."""

    def __init__(self, client: ClientFacts) -> None:
        self._client = client
        self._parts = 0
        self._missing = ""  # the arguments of a call that has said none by its end
        self._held: list[str] | None = (
            None  # arguments that are JSON around a text: it is known when they are whole
        )

    def feed(self, delta: Delta) -> list[Delta]:
        """What the client's writer is to be fed."""
        if isinstance(delta, Opened):
            self._parts += 1
            self._missing = ""
            if isinstance(delta.part, ToolCall):
                self._missing = _no_arguments(delta.part)
                call = _call(delta.part, self._parts - 1, self._client)
                self._held = [] if call.freeform and not delta.part.freeform else None
                return [Opened(call)]
        elif self._held is not None:
            if isinstance(delta, Added):
                self._held.append(delta.text)
                return []
            if isinstance(delta, Closed):
                text = freeform.text_of("".join(self._held))
                self._held = None
                return [Added(text), delta] if text else [delta]
        elif isinstance(delta, Added):
            self._missing = ""
        elif isinstance(delta, Closed) and self._missing:
            return [Added(self._missing), delta]
        return [delta]


def _no_arguments(call: ToolCall) -> str:
    """What stands for no arguments: an empty object, as some servers say it by saying nothing."""
    return "" if call.freeform else "{}"


def _call(call: ToolCall, at: int, client: ClientFacts) -> ToolCall:
    """`at` is its place among the parts, from which an id is made if the target gave none."""
    name = client.names.get(call.name, call.name)
    call_id = ids.shown(call.id) if call.id else f"call_{client.answer_id}{at}"
    # A target that has such tools itself says so of the call, and its arguments are text already.
    return replace(call, id=call_id, name=name, freeform=call.freeform or name in client.freeform)
