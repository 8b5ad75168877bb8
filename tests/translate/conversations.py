"""Strategies for answers and conversations such as dialects can say, for properties over all of them."""

from hypothesis import strategies as st

from gproxy.translate.model import (
    Answer,
    AnswerPart,
    Citation,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from gproxy.values import Usage

words = st.text('abc äß\n"\\{}👍', min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
tool_names = st.sampled_from(["get_weather", "search", "mcp__files__read-file"])
arguments = st.sampled_from(["{}", '{"city":"Paris"}', '{"a":[1,2.5,null],"ä":"\\"👍"}'])
counts = st.integers(0, 10**6)


def texts(*, cited: bool = False) -> st.SearchStrategy[Text]:
    citation = st.builds(Citation, st.just("https://a.example/b"), words)
    return st.builds(Text, words, st.lists(citation, max_size=2).map(tuple) if cited else st.just(()))


def calls(prefix: str = "call") -> st.SearchStrategy[ToolCall]:
    return st.builds(ToolCall, st.integers(0, 10**6).map(lambda n: f"{prefix}_{n}"), tool_names, arguments)


def reasonings(dialect: str) -> st.SearchStrategy[Reasoning]:
    return st.builds(Reasoning, words, st.just(None) | words.map(lambda value: Signature(value, dialect)))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usage with every count that all dialects have, the cache's and the reasoning's within the totals."""
    cached, fresh, reasoned, said = draw(counts), draw(counts), draw(counts), draw(counts)
    return Usage(
        input_tokens=cached + fresh,
        output_tokens=reasoned + said,
        cache_read_tokens=cached,
        reasoning_tokens=reasoned,
    )


@st.composite
def answers(draw: st.DrawFn, dialect: str = "anthropic_messages", cited: bool = True) -> Answer:
    """An answer: reasoning, then text or a refusal, then calls, each perhaps."""
    parts: list[AnswerPart] = draw(st.lists(reasonings(dialect), max_size=1))
    said = draw(st.sampled_from(["text", "refusal", "nothing"]))
    called = draw(st.lists(calls(), max_size=3, unique_by=lambda call: call.id))
    if said == "text":
        parts.append(draw(texts(cited=cited)))
    elif said == "refusal":
        parts.append(Refusal(draw(words)))
    parts += called
    finish = "tools" if called else draw(st.sampled_from(["stop", "length"]))
    return Answer(tuple(parts), finish, draw(st.none() | usages()))
