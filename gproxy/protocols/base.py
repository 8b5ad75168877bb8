"""What a wire dialect is to the rest of gproxy: one frozen dataclass of functions per operation.

There is no base class and so no stub method. The functions themselves live in one module per dialect.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from gproxy.errors import GatewayError
from gproxy.protocols.estimate import Weight
from gproxy.protocols.jsonwalk import Member
from gproxy.protocols.pieces import Pieces
from gproxy.values import Usage

Span = tuple[int, int]
"""(start, end) of a value in a text."""


class Body(Struct, eq=False, gc=False):
    """A request body that passed the strict decoder.

    `text` is the body decoded; `text.encode()` is the bytes that came. `tree` is the parsed object. `pieces` are what
    the bytes are made of, by which one value is changed at once, or None; then `places` are where all values stand.
    `tools` is the weight of its tools, where that is known. Other bodies hold the same: nobody may change them.
    """

    text: str
    tree: Mapping[str, Any]
    places: Mapping[str, Span] | None = None
    pieces: Pieces | None = None
    tools: Weight | None = None

    @property
    def spans(self) -> Mapping[str, Span]:
        """Where the value of each top-level name stands in the text; found when first asked for."""
        if self.places is None:
            assert self.pieces is not None
            self.places = self.pieces.spans()
        return self.places

    def __repr__(self) -> str:
        return f"Body({len(self.text)} characters)"  # which are the client's own


class Facts(Struct, frozen=True, gc=False):
    """What gproxy must know of a request: read once, by the dialect.

    `model` is the name the client sent. `asked_usage`: it asked itself for usage in the stream.
    `sse`: its stream is framed as SSE (False: Gemini without `alt=sse`, one growing JSON array).
    `max_output_tokens` is the output limit it set, if any, for each of the `answers` that it asks for.
    `service_tier` is the class of service it asks for, None for the ordinary one. `named` are the places in the
    body that name the model, where the path does too (Gemini).
    """

    body: Body
    model: str
    stream: bool = False
    sse: bool = True
    asked_usage: bool = True
    max_output_tokens: int | None = None
    answers: int = 1
    service_tier: str | None = None
    named: tuple[Member, ...] = ()


class Event(Struct, frozen=True, gc=False):
    """One event of a stream. `raw` is every byte of it as received, framing included.

    `data` is the payload (SSE: the data lines joined by LF; JSON array: the element), None for an event without
    one, such as a comment. `name` is SSE's event name, empty if it has none. What `data` holds is sought by `find`:
    `in` tries first whether what is sought is a number, and drops an error, at more than the search costs.
    """

    raw: bytes
    data: bytes | None
    name: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Protocol:
    """One operation of one dialect.

    name            the ledger's `dialect` (`openai_chat`, …); operations of one dialect share it
    operation       unique id of the operation, such as `chat_completions`
    paths           the paths, below `/` or `/{provider}`, that a client may POST to; Gemini's hold `{model}`
    carried_by      the protocols of `schema.PROTOCOLS` of which a provider must speak one to be asked this
    metered         False: a count or a check that costs nothing, so its answer holds no usage
    binary          the answer may be anything (audio): it is passed through unread
    generates       False: the answer holds no tokens of its own (vectors, ranks)
    estimable       False: not billed by its text, so that usage which was not reported cannot be estimated

    read            (body, model in the path or None, query) -> Facts; raises BadRequest
    with_model      (facts, upstream's model, ask for usage) -> request bytes: those of the client if nothing must
                    change, else with one value changed in place
    upstream_path   (upstream's model, query) -> path and query below the upstream's root, `/v1/…`
    usage_in_body   whole answer -> Usage, or None if unreported
    usage_in_event  (event, usage so far) -> usage now: cumulative values replace, absent ones stay
    restore_body    (answer, client's name) -> answer with that name at its known position only
    restore_event   (event, client's name) -> the event's raw bytes, likewise
    is_usage_only   an event that exists only since usage was asked for, and holds nothing else
    is_terminal     an event after which a well-behaved upstream says nothing more (`[DONE]`, `message_stop`)
    is_complete     an event that shows the answer to be whole, though not yet its end (a finish reason)
    error_in_event  what kind of failure an event inside a 200 stands for: an HTTP status, else None
    output_text     bytes of text, reasoning and tool arguments in an event, or in a whole answer given as one:
                    for estimates
    varying         finds the members of which nothing is ever read but the length of their text, and the stamps, of
                    which nothing is (`forms.py`); None: events are read one by one
    error_body      (error, request id) -> answer body, before the first byte
    error_event     (error, request id) -> bytes that end a broken stream
    """

    name: str
    operation: str
    paths: tuple[str, ...]
    carried_by: frozenset[str]
    metered: bool = True
    binary: bool = False
    estimable: bool = True
    generates: bool = True
    read: Callable[[Body, str | None, str], Facts]
    with_model: Callable[[Facts, str, bool], bytes]
    upstream_path: Callable[[str, str], str]
    usage_in_body: Callable[[bytes], Usage | None]
    usage_in_event: Callable[[Event, Usage | None], Usage | None]
    restore_body: Callable[[bytes, str], bytes]
    restore_event: Callable[[Event, str], bytes]
    is_usage_only: Callable[[Event], bool]
    is_terminal: Callable[[Event], bool]
    is_complete: Callable[[Event], bool]
    error_in_event: Callable[[Event], int | None]
    output_text: Callable[[Event], int]
    varying: re.Pattern[bytes] | None = None
    error_body: Callable[[GatewayError, str], bytes]
    error_event: Callable[[GatewayError, str], bytes]
