"""What a dialect is to the translation: one frozen dataclass of functions, and what those are told and give.

The functions live in one package per dialect; `exchange.py` puts two of them together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Interface

from gproxy.errors import GatewayError
from gproxy.protocols.base import Event
from gproxy.translate import traits
from gproxy.translate.model import Answer, Conversation, Delta

Tree = Mapping[str, Any]
"""A JSON object, parsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """Whom a request is written for.

    `model` is the upstream's name of it, `known_as` the name that tells what it takes, where that is another; and
    `max_output` its ceiling in tokens, None to go by its name. `ask_usage`: its streams report usage only if they
    are asked to (OpenAI chat). `top_k`: it takes that parameter, which OpenAI has not, while many do who speak as it
    does.
    """

    model: str
    known_as: str = ""
    stream: bool = False
    ask_usage: bool = True
    max_output: int | None = None
    top_k: bool = True

    @property
    def known(self) -> str:
        """The name by which rules for models go."""
        return self.known_as or self.model

    @property
    def ceiling(self) -> int | None:
        """The most output tokens that may be asked for, None if it is not known."""
        return self.max_output or traits.ceiling(self.known)

    def limited(self, limit: int) -> int:
        """A client's limit, within what may be asked for."""
        return limit if self.ceiling is None else min(limit, self.ceiling)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """Whom an answer is written for.

    model         the name that the client sent
    answer_id     unique to this answer, of letters and digits: what ids are made of that the answer has to have
    created       seconds since the epoch
    asked_usage   False: a stream is not to hold usage (OpenAI chat without `stream_options.include_usage`)
    sse           False: a stream is a JSON array (Gemini without `alt=sse`)
    names         the target's name of a tool -> the client's, where they differ (`Written.names`)
    freeform      the client's names of its tools that take text
    """

    model: str
    answer_id: str
    created: int
    asked_usage: bool = True
    sse: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    freeform: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request understood. `lost` names, in the client's words, what the model does not hold."""

    conversation: Conversation
    lost: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Written:
    """A request for the target. `lost` names what the target's dialect cannot say; `names` as in ClientFacts."""

    tree: dict[str, Any]
    lost: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)


class Reader(Interface):
    """Reads a stream of the target's, event by event. It holds what one stream needs and is used for one alone."""

    def feed(self, event: Event) -> list[Delta]:
        """What the event says. Error events are not given to it. Raises AnswerBroken on what makes no sense."""

    def end(self) -> list[Delta]:
        """What is left to say when the target says no more: Finished, if the answer is whole and it was not said.

        An answer that is not whole has no Finished.
        """


class Writer(Interface):
    """Writes a stream for the client. It may rely on the order of deltas that `model.py` promises."""

    def feed(self, delta: Delta) -> bytes:
        """What goes out now; after Finished nothing is missing but what `end` gives."""

    def end(self) -> bytes:
        """The terminal event, which may go out once the ledger holds the row."""

    def abort(self, error: GatewayError, request_id: str) -> bytes:
        """What ends a broken stream in place of all else: the client's error event, in its framing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One dialect, in both directions.

    name            of the protocol: `openai_chat`, …
    read_request    a client's body -> ReadRequest. Raises BadRequest: for what is malformed, and for what would
                    make the answer wrong if it were left out
    write_request   (conversation, target) -> Written. Raises BadRequest for the latter
    read_answer     the target's whole answer -> Answer. Raises AnswerBroken if it is none
    write_answer    (answer, client) -> body for the client
    reader          a new Reader
    writer          client -> a new Writer

    A tool call that is written for a client has its id and the client's name of the tool (`restore.py`).
    """

    name: str
    read_request: Callable[[Tree], ReadRequest]
    write_request: Callable[[Conversation, TargetFacts], Written]
    read_answer: Callable[[Tree], Answer]
    write_answer: Callable[[Answer, ClientFacts], dict[str, Any]]
    reader: Callable[[], Reader]
    writer: Callable[[ClientFacts], Writer]
