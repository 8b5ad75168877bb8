"""Strategies for answers and conversations such as dialects can say, for properties over all of them."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from gproxy.translate.model import (
    Answer,
    AnswerPart,
    Audio,
    Citation,
    Conversation,
    File,
    Finish,
    Format,
    Image,
    Part,
    Reasoning,
    Refusal,
    Signature,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from gproxy.values import Usage

words = st.text('abc äß\n"\\{}👍', min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
tool_names = st.sampled_from(["get_weather", "search", "mcp__files__read-file"])
arguments = st.sampled_from(["{}", '{"city":"Paris"}', '{"a":[1,2.5,null],"ä":"\\"👍"}'])
counts = st.integers(0, 10**6)


def calls(prefix: str = "call") -> st.SearchStrategy[ToolCall]:
    return st.builds(ToolCall, st.integers(0, 10**6).map(lambda n: f"{prefix}_{n}"), tool_names, arguments)


def reasonings(dialect: str) -> st.SearchStrategy[Reasoning]:
    def signature(value: str) -> Signature:
        # Gemini's are base64, and to its SDKs have to be.
        return Signature(b64encode(value.encode().hex().encode()).decode(), dialect)

    return st.builds(Reasoning, words, st.just(None) | words.map(signature))


@st.composite
def usages(draw: st.DrawFn, dialect: str) -> Usage:
    """Usage with every count that a dialect reports, the cache's and the reasoning's within the totals."""
    cached, fresh, reasoned, said = draw(counts), draw(counts), draw(counts), draw(counts)
    return Usage(
        input_tokens=cached + fresh,
        output_tokens=reasoned + said,
        cache_read_tokens=cached,
        cache_write_tokens=0 if dialect in ("anthropic_messages", "openai_responses") else None,
        reasoning_tokens=reasoned,
    )


@st.composite
def answers(draw: st.DrawFn, dialect: str = "openai_chat") -> Answer:
    """An answer as the dialect can say it: a thought, then text or a refusal, then calls, each perhaps."""
    parts: list[AnswerPart] = draw(st.lists(reasonings(dialect), max_size=1))
    refusals = dialect not in ("anthropic_messages", "gemini")
    signed = st.sampled_from([None, Signature("b2YtYS1jYWxs", "gemini")])
    said = draw(st.sampled_from(["text", "refusal", "nothing"] if refusals else ["text", "nothing"]))
    called = draw(st.lists(calls(), max_size=3, unique_by=lambda call: call.id))
    if dialect == "gemini":  # which signs calls, and texts too
        called = [replace(call, signature=draw(signed)) for call in called]
    finish: Finish = "tools" if called else draw(st.sampled_from(["stop", "length", "refused"]))
    if said == "text":
        text = draw(words)
        quote = "quoted" if dialect == "anthropic_messages" else ""
        cited = st.builds(
            Citation, st.just("https://a.example/b"), words, st.just(0), st.just(len(text)), st.just(quote)
        )
        parts.append(Text(text, tuple(draw(st.lists(cited, max_size=2)))))
        if dialect == "gemini" and draw(st.booleans()):
            parts.append(Reasoning("", Signature("b2YtdGV4dA==", dialect), redacted=True))
    elif said == "refusal":
        parts.append(Refusal(draw(words)))
        finish = "refused"
    return Answer((*parts, *called), finish, draw(usages(dialect)))


@dataclass(frozen=True)
class Speech:
    """What a dialect can say as it is, and so must come back unchanged: what generated conversations are made of.

    `texts` is the most texts in a system prompt and in one turn of the assistant; `media` are the parts that a user
    may send beside text, `result_media` those in a tool's result. `reasoning`: signed by the dialect. `parallel`: it
    can be said whether several tools may be called at once.
    """

    dialect: str
    texts: int
    media: tuple[Part, ...]
    result_media: tuple[Image | File, ...] = ()
    errors: bool = False
    caches: bool = False
    reasoning: bool = True
    parallel: bool = True
    fields: Mapping[str, st.SearchStrategy[Any]] = field(default_factory=dict)


PNG = Image("iVBORw0KGgo=", "image/png")
PDF = File("JVBERi0xLjQ=", "application/pdf", name="a.pdf")
NOTE = File("SMOkbGxv", "text/plain", name="note")
NUMBERS = st.sampled_from([0.0, 0.25, 0.5, 1.0])
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "ä"}, "n": {"type": ["integer", "null"]}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
STOPS = st.lists(st.sampled_from(["END", "\n\nHuman:", "👍"]), unique=True, max_size=2).map(tuple)

CHAT = Speech(
    dialect="openai_chat",
    texts=1,
    media=(PNG, Image(url="https://a.example/b.png", detail="low"), PDF, Audio("UklGRg==", "wav")),
    fields={
        "temperature": st.none() | NUMBERS,
        "top_p": st.none() | NUMBERS,
        "top_k": st.none() | st.integers(1, 100),
        "seed": st.none() | st.integers(0, 100),
        "presence_penalty": st.none() | NUMBERS,
        "frequency_penalty": st.none() | NUMBERS,
        "max_output": st.none() | st.integers(1, 1000),
        "stop": STOPS,
        "user": st.sampled_from(["", "u-1"]),
        "format": st.sampled_from([None, Format(), Format(SCHEMA, "weather", "As JSON", True)]),
    },
)
OPENAI = replace(
    CHAT,
    reasoning=False,
    fields={name: strategy for name, strategy in CHAT.fields.items() if name != "top_k"}
    | {
        "verbosity": st.sampled_from(["", "low"]),
        "cache_key": st.sampled_from(["", "k"]),
        "metadata": st.sampled_from([{}, {"a": "b"}]),
    },
)
ANTHROPIC = Speech(
    dialect="anthropic_messages",
    texts=2,
    media=(
        PNG,
        Image(url="https://a.example/b.png"),
        PDF,
        NOTE,
        File(url="https://a.example/c.pdf", name="c"),
    ),
    result_media=(PNG, NOTE),
    errors=True,
    caches=True,
    fields={
        "temperature": st.none() | NUMBERS,
        "top_p": st.none() | NUMBERS,
        "top_k": st.none() | st.integers(1, 100),
        "max_output": st.integers(1, 1000),
        "stop": STOPS,
        "user": st.sampled_from(["", "u-1"]),
        "format": st.sampled_from([None, Format(SCHEMA)]),
    },
)
GEMINI = Speech(
    dialect="gemini",
    texts=1,
    media=(
        PNG,
        Image(url="https://a.example/b.png"),
        replace(PDF, name=""),
        replace(NOTE, name=""),
        Audio("UklGRg==", "wav"),
    ),
    errors=True,
    parallel=False,
    fields={
        "temperature": st.none() | NUMBERS,
        "top_p": st.none() | NUMBERS,
        "top_k": st.none() | st.integers(1, 100),
        "seed": st.none() | st.integers(0, 100),
        "max_output": st.none() | st.integers(1, 1000),
        "stop": STOPS,
        "format": st.sampled_from([None, Format(), Format(SCHEMA)]),
    },
)
RESPONSES = Speech(
    dialect="openai_responses",
    texts=1,
    media=(PNG, Image(url="https://a.example/b.png", detail="low"), PDF, File(url="https://a.example/c.pdf")),
    result_media=(PNG, PDF),
    fields={
        "temperature": st.none() | NUMBERS,
        "top_p": st.none() | NUMBERS,
        "max_output": st.none() | st.integers(16, 1000),
        "user": st.sampled_from(["", "u-1"]),
        "format": st.sampled_from([None, Format(), Format(SCHEMA, "weather", "As JSON", True)]),
        "verbosity": st.sampled_from(["", "low"]),
        "cache_key": st.sampled_from(["", "k"]),
        "metadata": st.sampled_from([{}, {"a": "b"}]),
    },
)

spoken = words.map(str.strip)


@st.composite
def conversations(draw: st.DrawFn, speech: Speech) -> Conversation:
    """A conversation as `speech` can say it: the user begins, and calls have their results behind them."""
    caches = st.sampled_from(["", "5m", "1h"]) if speech.caches else st.just("")
    said = st.builds(Text, spoken, st.just(()), caches)
    tools = draw(
        st.lists(
            st.builds(Tool, tool_names, st.just("What it does."), st.just(SCHEMA), cache=caches),
            max_size=3,
            unique_by=lambda tool: tool.name,
        )
    )
    choice, parallel = ToolChoice(), None
    if tools:
        choices = [
            ToolChoice(),
            ToolChoice("none"),
            ToolChoice("required"),
            ToolChoice("required", (tools[0].name,)),
        ]
        choice = draw(st.sampled_from(choices))
        parallel = None if choice.mode == "none" or not speech.parallel else draw(st.none() | st.booleans())
    return Conversation(
        system=tuple(draw(st.lists(said, max_size=speech.texts))),
        turns=tuple(
            turn for number in range(draw(st.integers(1, 3))) for turn in draw(rounds(speech, number))
        ),
        tools=tuple(tools),
        tool_choice=choice,
        parallel_tools=parallel,
        **{name: draw(strategy) for name, strategy in speech.fields.items()},
    )


@st.composite
def rounds(draw: st.DrawFn, speech: Speech, number: int) -> list[Turn]:
    """A question and its answer, by way of tools perhaps; the ids of calls are unique by `number`."""
    said = st.builds(Text, spoken)
    asked: list[Part] = draw(st.lists(said | st.sampled_from(speech.media), min_size=1, max_size=3))
    turns = [Turn("user", tuple(asked))]
    for step in range(draw(st.integers(0, 2))):
        called = draw(
            st.lists(calls(f"call_{number}{step}"), min_size=1, max_size=2, unique_by=lambda c: c.id)
        )
        turns.append(Turn("assistant", (*draw(beginnings(speech)), *called)))
        results = [
            ToolResult(
                call.id,
                tuple(draw(st.lists(said | st.sampled_from(speech.result_media), min_size=1, max_size=2)))
                if speech.result_media
                else (draw(said),),
                draw(st.booleans()) if speech.errors else False,
            )
            for call in called
        ]
        turns.append(Turn("tool", tuple(results)))
    ending: list[Part] = draw(st.lists(said, min_size=1, max_size=speech.texts))
    return [*turns, Turn("assistant", tuple(ending))]


@st.composite
def beginnings(draw: st.DrawFn, speech: Speech) -> list[Part]:
    """What an assistant says before it calls tools: thoughts, and texts."""
    signed = st.builds(Reasoning, spoken, spoken.map(lambda value: Signature(value, speech.dialect)))
    thoughts: list[Part] = draw(st.lists(signed, max_size=1)) if speech.reasoning else []
    texts: list[Part] = draw(st.lists(st.builds(Text, spoken), max_size=speech.texts))
    return thoughts + texts


def plainer(conversation: Conversation) -> Conversation:
    """The conversation with a text for each part, and no form of the answer, that some dialect refuses or tells
    as text: sound, files by URL, files of text, and JSON without a schema."""

    def part_of(part: Part) -> Part:
        if isinstance(part, ToolResult):
            return replace(part, parts=tuple(map(part_of, part.parts)))
        other = isinstance(part, Audio) or (isinstance(part, File) and part.media_type != PDF.media_type)
        return Text("a") if other else part

    turns = tuple(Turn(turn.role, tuple(map(part_of, turn.parts))) for turn in conversation.turns)
    wanted = conversation.format
    return replace(conversation, turns=turns, format=wanted if wanted and wanted.schema else None)
