"""Chunks are read as servers really send them."""

import json
from typing import Any

import pytest

from gproxy.errors import AnswerBroken
from gproxy.protocols.base import Event
from gproxy.translate.assembly import answer_of
from gproxy.translate.model import (
    Added,
    Answer,
    Citation,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.translate.openai_chat.stream_in import ChatReader
from gproxy.values import Usage
from tests.translate.grammar import check_deltas

DONE = Event(b"", b"[DONE]")


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **fields: Any) -> Event:
    choices = (
        []
        if delta is None and reason is None
        else [{"index": 0, "delta": delta or {}, "finish_reason": reason}]
    )
    return Event(b"", json.dumps({"choices": choices, **fields}).encode())


def call(
    index: int | None = None, call_id: str | None = None, name: str | None = None, text: str = ""
) -> Event:
    item: dict[str, Any] = {"function": {"arguments": text} | ({"name": name} if name else {})}
    item |= {} if index is None else {"index": index}
    return chunk({"tool_calls": [item | ({"id": call_id, "type": "function"} if call_id else {})]})


def deltas(*events: Event) -> list[Delta]:
    reader = ChatReader()
    found = [delta for event in events for delta in reader.feed(event)] + reader.end()
    check_deltas(found, whole=False)
    return found


def read(*events: Event) -> Answer:
    return answer_of(deltas(*events))


def test_a_stream_is_its_text_its_end_and_its_usage() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    answer = read(
        Event(b": ping\n\n", None),
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        chunk(usage=usage),
        DONE,
    )
    assert answer == Answer((Text("Hello"),), "stop", Usage(3, 2))


@pytest.mark.parametrize(
    "events",
    [
        [call(0, "a", "f", "{"), call(0, text="}"), call(1, "b", "g", "{}")],
        [call(0, "a", "f", "{"), call(0, "a", "f", "}"), call(1, "b", "g", "{}")],
        [call(None, "a", "f", "{}"), call(None, "b", "g", "{}")],
        [call(0, "a", "f", "{}"), call(0, "b", "g", "{}")],
        [
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
                        {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
                    ]
                }
            )
        ],
    ],
    ids=["in pieces", "id and name in each", "without index", "all of index 0", "in one chunk"],
)
def test_parallel_calls_are_told_apart(events: list[Event]) -> None:
    answer = read(*events, chunk({}, "tool_calls"), DONE)
    assert answer == Answer((ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")), "tools")


@pytest.mark.parametrize(
    "late",
    [
        [call(0, text='"p":'), call(1, text="2}"), call(0, text="1}")],
        [call(1, "b", "g", "2}"), call(0, "a", "f", '"p":1}')],
        [call(1, text="2}"), call(0, text='"p":1}')],
    ],
    ids=["in pieces", "id and name in each", "the later one whole first"],
)
@pytest.mark.parametrize("end", [chunk({}, "tool_calls"), DONE])
def test_calls_that_are_told_in_turns_are_put_in_order(late: list[Event], end: Event) -> None:
    events = [call(0, "a", "f", ""), call(1, "b", "g", '{"q":'), call(0, text="{"), *late]
    found = deltas(*events, end, DONE)
    assert Added('{"q":2}') in found, "the later one is told when it is whole"
    assert answer_of(found).parts == (ToolCall("a", "f", '{"p":1}'), ToolCall("b", "g", '{"q":2}'))


def test_a_call_that_begins_behind_a_whole_one_is_told_as_it_comes() -> None:
    reader = ChatReader()
    reader.feed(call(0, "a", "f", "{}"))
    assert reader.feed(call(1, "b", "g", "{")) == [Closed(), Opened(ToolCall("b", "g", "")), Added("{")]


def test_a_call_without_arguments_is_told_before_the_next() -> None:
    answer = read(
        call(0, "a", "f"), call(1, "b", "g", "{}"), chunk({"content": "so"}), chunk({}, "stop"), DONE
    )
    assert answer.parts == (ToolCall("a", "f", ""), ToolCall("b", "g", "{}"), Text("so"))


@pytest.mark.parametrize("late", [call(0, text="}"), call(0, "a", "f", "}")])
def test_more_of_a_call_that_was_whole_breaks_the_stream(late: Event) -> None:
    with pytest.raises(AnswerBroken, match="was whole"):
        deltas(call(0, "a", "f", "{}"), call(1, "b", "g", "{}"), late)


def test_a_call_of_text_and_one_that_google_signed() -> None:
    google = {"extra_content": {"google": {"thought_signature": "s"}}}
    answer = read(
        chunk(
            {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "p", "input": "x"}}]}
        ),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": "y"}}]}),
        chunk(
            {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "f", "arguments": "{}"}} | google]}
        ),
        chunk({}, "stop"),
        DONE,
    )
    assert answer.parts == (
        ToolCall("a", "p", "xy", freeform=True),
        ToolCall("b", "f", "{}", Signature("s", "gemini")),
    )
    assert answer.finish == "tools"


OWN = Signature("s", "openai_chat")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"reasoning_content": "a"}, {"reasoning_content": "b"}], Reasoning("ab")),
        ([{"reasoning": "a"}, {"reasoning": "b", "content": ""}], Reasoning("ab")),
        (
            [
                {"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]},
                {"reasoning_details": [{"type": "reasoning.text", "signature": "s"}]},
            ],
            Reasoning("a", OWN),
        ),
        (
            [
                {"reasoning_content": "a"},
                {"reasoning_content": "b"},
                {"reasoning_details": [{"type": "reasoning.text", "text": "ab", "signature": "s"}]},
            ],
            Reasoning("ab", OWN),
        ),
        ([{"reasoning_details": [{"type": "reasoning.summary", "summary": "a"}]}], Reasoning("a")),
        ([{"reasoning_details": [{"type": "reasoning.encrypted", "data": "s"}]}], Reasoning("", OWN, True)),
        ([{"reasoning_details": [{"type": "reasoning.text", "signature": "s"}]}], Reasoning("", OWN)),
        ([{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}], Reasoning("a")),
    ],
)
def test_reasoning_is_read_in_all_its_forms(given: list[dict[str, Any]], expected: Reasoning) -> None:
    answer = read(
        *map(chunk, given), chunk({"content": [{"type": "text", "text": "c"}]}), chunk({}, "stop"), DONE
    )
    assert answer.parts == (expected, Text("c"))


def test_a_refusal_and_citations() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "u", "start_index": 0, "end_index": 1}}
    assert read(chunk({"refusal": "no"}), chunk({}, "stop"), DONE) == Answer((Refusal("no"),), "refused")
    answer = read(chunk({"content": "a"}), chunk({"annotations": [cited]}), chunk({}, "stop"), DONE)
    assert answer.parts == (Text("a", (Citation("u", "", 0, 1),)),)
    assert read(chunk({"annotations": [cited]}), DONE).parts == (Text("", (Citation("u", "", 0, 1),)),)


def test_other_choices_and_what_follows_the_end_are_not_read() -> None:
    second = Event(b"", b'{"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":"length"}]}')
    answer = read(chunk({"content": "a"}), second, chunk({}, "stop"), chunk({"content": "b"}), DONE)
    assert answer == Answer((Text("a"),), "stop")


def test_a_stream_may_lack_its_last_line_but_not_its_reason() -> None:
    assert Finished("stop") in deltas(chunk({"content": "a"}), chunk({}, "stop"))
    assert not any(isinstance(delta, Finished) for delta in deltas(chunk({"content": "a"})))
    assert read(chunk({"content": "a"}), DONE).finish == "stop"
    assert read(DONE) == Answer((), "stop")


def test_nothing_is_said_twice_at_the_end() -> None:
    found = deltas(chunk({"content": "a"}, "stop", usage={"prompt_tokens": 1}), DONE, DONE)
    assert [type(delta) for delta in found].count(Finished) == 1
    assert UsageSeen(Usage(1)) in found


def test_what_is_no_chunk_breaks_the_stream() -> None:
    with pytest.raises(AnswerBroken):
        deltas(Event(b"", b"not json"))
