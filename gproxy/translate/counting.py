"""Counts of tokens across dialects: the request to count for the target, and its count for the client.

Where the target's dialect cannot count, or the target does not answer, the count is estimated. To tell the client so
is the server's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken
from gproxy.protocols import estimate
from gproxy.translate import anthropic_messages, gemini
from gproxy.translate.base import ReadRequest, TargetFacts, Tree, Written
from gproxy.translate.gemini.spelling import camel, one, several
from gproxy.translate.model import Conversation

# https://platform.claude.com/docs/en/api/messages/count_tokens
_COUNTED = frozenset({"model", "system", "messages", "tools", "tool_choice", "thinking", "output_config"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """How one dialect counts.

    read_request    a client's body -> ReadRequest. Raises BadRequest
    write_request   (conversation, target) -> Written. Raises BadRequest
    count           where an answer has its count
    """

    read_request: Callable[[Tree], ReadRequest]
    write_request: Callable[[Conversation, TargetFacts], Written]
    count: str


def request(client: Counter, target: Counter, tree: Tree, facts: TargetFacts) -> Written:
    """A client's request to count in the target's dialect. Raises BadRequest."""
    read = client.read_request(tree)
    written = target.write_request(read.conversation, facts)
    return replace(written, lost=read.lost | written.lost)


def answer(target: Counter, client: Counter, tree: Tree) -> dict[str, Any]:
    """The target's count for the client. Raises AnswerBroken if there is none."""
    count = tree.get(target.count)
    if type(count) is not int or count < 0:
        raise AnswerBroken("the answer holds no count of tokens")
    return {client.count: count}


def estimated(client: Counter, tree: Tree) -> dict[str, Any]:
    """An answer for the client to the request `tree` that nobody counted."""
    return {client.count: estimate.input_tokens(tree)}


def _write_anthropic(conversation: Conversation, target: TargetFacts) -> Written:
    written = anthropic_messages.DIALECT.write_request(conversation, replace(target, stream=False))
    return replace(written, tree={name: value for name, value in written.tree.items() if name in _COUNTED})


def _read_gemini(tree: Tree) -> ReadRequest:
    """The request to count, which stands alone or under `generateContentRequest`."""
    inner = one(camel(tree), "generateContentRequest") or camel(tree)
    return gemini.DIALECT.read_request(
        {**inner, "contents": list(_by_themselves(several(inner, "contents")))}
    )


def _by_themselves(contents: list[Tree]) -> Iterator[Tree]:
    """The contents, with the responses of functions that nothing in them called as text.

    Gemini CLI (0.61, seen) counts what it is about to send, an image that a tool read, without what came before.
    """
    called: set[object] = set()
    for at, content in enumerate(contents):
        parts: list[Tree] = []
        for part in several(content, "parts", f"contents[{at}]"):
            called.add(one(part, "functionCall").get("name"))
            told = one(part, "functionResponse")
            if told and told.get("name") not in called:
                part = {"text": msgspec.json.encode(told.get("response")).decode()}
            parts.append(part)
        yield {**content, "parts": parts}


def _write_gemini(conversation: Conversation, target: TargetFacts) -> Written:
    """Contents alone are taken by Vertex AI too, all else only by Google AI, in a request of its own."""
    written = gemini.DIALECT.write_request(conversation, target)
    if written.tree.keys() == {"contents"}:
        return written
    model = f"models/{target.model.removeprefix('models/')}"
    return replace(written, tree={"generateContentRequest": {"model": model, **written.tree}})


COUNTERS: Mapping[str, Counter] = MappingProxyType(
    {
        "anthropic_messages": Counter(
            read_request=anthropic_messages.DIALECT.read_request,
            write_request=_write_anthropic,
            count="input_tokens",
        ),
        "gemini": Counter(read_request=_read_gemini, write_request=_write_gemini, count="totalTokens"),
    }
)
"""The dialects that count, by name."""
