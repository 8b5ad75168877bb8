"""The one form that a conversation, an answer and a stream have between two dialects.

How a dialect writes them on the wire is its own package's; here is no rule of any provider.

    Conversation   what a request asks, without the model's name and without whether it is to be streamed
    Answer         what a model said
    Delta          one step of an answer that is streamed

A stream of deltas keeps this order: Started; for each part Opened, then Added, Signed and Cited in any number,
then Closed; Finished once, last. Parts follow one another: one is closed before the next is opened. UsageSeen may
come at any time; before Started, where the input is known by then, so that the client's first event can tell it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gproxy.values import Usage

Role = Literal["user", "assistant", "tool", "system"]
Finish = Literal["stop", "stop_sequence", "length", "tools", "refused"]
"""Why an answer ended. `refused`: by the model's or the provider's safety rules."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Signature:
    """An opaque text by which a provider knows its own reasoning again; of use to `dialect` alone."""

    value: str
    dialect: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A source on the web of the characters from `start` up to `end` of the text it belongs to."""

    url: str
    title: str = ""
    start: int = 0
    end: int = 0
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """`cache`: the prompt up to here may be cached, for "5m" or "1h"; "" if nothing was said of it."""

    text: str
    citations: tuple[Citation, ...] = ()
    cache: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """Either `data` (base64, of `media_type`) or `url`. `detail`: low, high, … where a dialect has it."""

    data: str = ""
    media_type: str = ""
    url: str = ""
    detail: str = ""
    cache: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A document: either `data` (base64, of `media_type`; `text/plain` too) or `url`."""

    data: str = ""
    media_type: str = ""
    url: str = ""
    name: str = ""
    cache: str = ""


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound as base64; `format` is `wav`, `mp3`, …"""

    data: str
    format: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool. `id` is "" only where the dialect it was read from has none.

    `arguments` is the text of a JSON object; with `freeform`, for tools that take text, that text itself.
    """

    id: str
    name: str
    arguments: str
    signature: Signature | None = None
    freeform: bool = False
    cache: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    parts: "tuple[Text | Image | File, ...]" = ()
    is_error: bool = False
    cache: str = ""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thought before an answer, as far as it is shown. `redacted`: only its signature is left."""

    text: str
    signature: Signature | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a model says in place of an answer that it will not give."""

    text: str


AnswerPart = Text | Reasoning | ToolCall | Refusal
Part = AnswerPart | Image | File | Audio | ToolResult


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says. A `tool` turn holds results alone; a `system` turn, text: instructions given later on."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the client runs.

    `schema` is JSON Schema, None if the client gave none. `freeform`: its input is text, of the `grammar` (the
    `format` of a custom tool in chat completions) if there is one. `strict` is None if nothing was said, which is
    not strict.
    """

    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    freeform: bool = False
    grammar: Mapping[str, Any] | None = None
    cache: str = ""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools may, must or must not be called, and which: all of them if `names` is empty.

    A forced tool is `required` with one name.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """The form of the answer: JSON of this `schema`, or any JSON if that is None."""

    schema: Mapping[str, Any] | None = None
    name: str = ""
    description: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """How much to reason: an effort, a budget in tokens, both, or neither (as the model sees fit).

    `effort` "none" is no reasoning. `shown`: whether the client wants to see it, None if it did not say.
    """

    effort: Effort | None = None
    budget: int | None = None
    shown: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a request asks. None and "" mean that the client said nothing of it.

    `system` are the instructions before the first turn; where one part ends and the next begins has no meaning.
    `max_output` counts reasoning too. `parallel_tools`: whether several calls may come at once. `user` is an
    opaque id of the end user, `cache_key` of what shares a prompt cache; `verbosity` is low, medium or high.
    """

    system: tuple[Text, ...] = ()
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tools: bool | None = None
    max_output: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    format: Format | None = None
    thinking: Thinking | None = None
    verbosity: str = ""
    user: str = ""
    cache_key: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. `stop_sequence` is the one that ended it, "" if it is not known."""

    parts: tuple[AnswerPart, ...]
    finish: Finish
    usage: Usage | None = None
    stop_sequence: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """The model has begun to answer."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A part begins: `part` is it with its text, arguments and citations still empty."""

    part: AnswerPart


@dataclass(frozen=True, slots=True)
class Added:
    """More of the open part's text or arguments; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature of the open part, which is reasoning."""

    signature: Signature


@dataclass(frozen=True, slots=True)
class Cited:
    """A source of the open part, which is text."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Closed:
    """The open part is whole."""


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """What is known of the usage by now; it replaces what was seen before."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole; the last delta."""

    reason: Finish
    stop_sequence: str = ""


Delta = Started | Opened | Added | Signed | Cited | Closed | UsageSeen | Finished
