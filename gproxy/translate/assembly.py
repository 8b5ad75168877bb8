"""A whole answer as the deltas of a stream, and a stream's deltas as a whole answer.

For upstreams that answer in the other form than they were asked for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gproxy.errors import AnswerBroken
from gproxy.translate.model import (
    Added,
    Answer,
    AnswerPart,
    Citation,
    Cited,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Signature,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.values import Usage


def deltas_of(answer: Answer) -> Iterator[Delta]:
    """The answer as a stream that has all of a part at once."""
    yield Started()
    for part in answer.parts:
        yield from deltas_of_part(part)
    if answer.usage is not None:
        yield UsageSeen(answer.usage)
    yield Finished(answer.finish, answer.stop_sequence)


def deltas_of_part(part: AnswerPart) -> Iterator[Delta]:
    """One part, from its Opened to its Closed."""
    text = part.arguments if isinstance(part, ToolCall) else part.text
    yield Opened(_emptied(part))
    if text:
        yield Added(text)
    if isinstance(part, Text):
        yield from map(Cited, part.citations)
    if isinstance(part, Reasoning) and part.signature is not None and not part.redacted:
        yield Signed(part.signature)
    yield Closed()


def _emptied(part: AnswerPart) -> AnswerPart:
    if isinstance(part, ToolCall):
        return replace(part, arguments="")
    if isinstance(part, Text):
        return Text("")
    if isinstance(part, Reasoning):
        return part if part.redacted else Reasoning("")
    return replace(part, text="")


def answer_of(deltas: Iterable[Delta]) -> Answer:
    """The whole answer. Raises AnswerBroken if the stream has no end."""
    parts: list[AnswerPart] = []
    usage: Usage | None = None
    opened: AnswerPart = Text("")
    texts: list[str] = []
    citations: list[Citation] = []
    signature: Signature | None = None
    for delta in deltas:
        match delta:
            case Opened(part):
                opened, texts, citations, signature = part, [], [], None
            case Added(text):
                texts.append(text)
            case Cited(citation):
                citations.append(citation)
            case Signed(signed):
                signature = signed
            case Closed():
                parts.append(_filled(opened, "".join(texts), tuple(citations), signature))
            case UsageSeen(seen):
                usage = seen
            case Finished(reason, stop_sequence):
                return Answer(tuple(parts), reason, usage, stop_sequence)
            case Started():
                pass
    raise AnswerBroken("the stream ended before its end")


def _filled(
    part: AnswerPart, text: str, citations: tuple[Citation, ...], signature: Signature | None
) -> AnswerPart:
    if isinstance(part, ToolCall):
        return replace(part, arguments=text)
    if isinstance(part, Text):
        return Text(text, citations)
    if isinstance(part, Reasoning):
        return replace(part, text=text, signature=signature or part.signature)
    return replace(part, text=text)
