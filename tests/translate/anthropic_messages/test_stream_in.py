"""Events are read as servers really send them."""

import json
from typing import Any

import pytest

from gproxy.errors import AnswerBroken
from gproxy.protocols.base import Event
from gproxy.translate.anthropic_messages.stream_in import MessagesReader
from gproxy.translate.assembly import answer_of
from gproxy.translate.model import (
    Answer,
    Citation,
    Delta,
    Finished,
    Reasoning,
    Signature,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.values import Usage
from tests.translate.grammar import check_deltas

OWN = Signature("s", "anthropic_messages")


def event(kind: str, **fields: Any) -> Event:
    return Event(b"", json.dumps({"type": kind, **fields}).encode(), kind.encode())


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[Event]:
    return [
        event("content_block_start", index=index, content_block=start),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


START = event("message_start", message={"usage": {"input_tokens": 3, "output_tokens": 1}})
STOP = event("message_stop")
EMPTY = {"type": "text", "text": ""}


def ending(reason: str = "end_turn", **delta: Any) -> list[Event]:
    return [event("message_delta", delta={"stop_reason": reason, **delta}, usage={"output_tokens": 7}), STOP]


def deltas(*events: Event) -> list[Delta]:
    reader = MessagesReader()
    found = [delta for given in events for delta in reader.feed(given)] + reader.end()
    check_deltas(found, whole=False)
    return found


def read(*events: Event) -> Answer:
    return answer_of(deltas(*events))


def text(value: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": value}


def test_a_stream_is_its_text_its_end_and_its_usage() -> None:
    answer = read(
        START,
        event("ping"),
        Event(b": c\n\n", None),
        *block(0, EMPTY, text("Hel"), text(""), text("lo")),
        *ending(),
    )
    assert answer == Answer((Text("Hello"),), "stop", Usage(3, 7))


def test_usage_is_told_as_it_becomes_known() -> None:
    found = deltas(START, *block(0, EMPTY, text("a")), *ending())
    assert found[:2] == [UsageSeen(Usage(3, 1)), Started()]
    assert found[-2:] == [UsageSeen(Usage(3, 7)), Finished("stop")]


@pytest.mark.parametrize(
    ("start", "given", "expected"),
    [
        (
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            [
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": '{"a":'},
                {"type": "input_json_delta", "partial_json": "1}"},
            ],
            ToolCall("t", "f", '{"a":1}'),
        ),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {}}, [], ToolCall("t", "f", "{}")),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}, [], ToolCall("t", "f", '{"a":1}')),
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s"}],
            Reasoning("hm", OWN),
        ),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, [], Reasoning("hm", OWN)),
        ({"type": "redacted_thinking", "data": "s"}, [], Reasoning("", OWN, True)),
        ({"type": "text", "text": "a"}, [text("b")], Text("ab")),
        (
            EMPTY,
            [
                {"type": "citations_delta", "citation": {"url": "u", "title": "t", "cited_text": "q"}},
                text("abc"),
            ],
            Text("abc", (Citation("u", "t", 0, 3, "q"),)),
        ),
    ],
)
def test_a_block_is_read(start: dict[str, Any], given: list[dict[str, Any]], expected: Any) -> None:
    assert read(START, *block(0, start, *given), *ending()).parts == (expected,)


def test_blocks_of_anthropics_own_tools_are_passed_over() -> None:
    search = {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}}
    own = block(0, search, {"type": "input_json_delta", "partial_json": '{"q"'})
    answer = read(START, *own, *block(1, EMPTY, text("a")), *ending())
    assert answer.parts == (Text("a"),)


def test_why_it_ended_is_read() -> None:
    answer = read(START, *ending("stop_sequence", stop_sequence="END"))
    assert (answer.finish, answer.stop_sequence) == ("stop_sequence", "END")


def test_a_block_that_was_left_open_is_closed() -> None:
    events = [*block(0, EMPTY, text("a"))[:-1], *block(1, EMPTY, text("b"))[:-1], *ending()]
    assert read(START, *events).parts == (Text("a"), Text("b"))


def test_a_stream_may_lack_its_last_event_but_not_its_reason() -> None:
    assert Finished("stop") in deltas(START, *ending()[:-1])
    assert not any(isinstance(delta, Finished) for delta in deltas(START, *block(0, EMPTY, text("a"))))
    assert [type(d) for d in deltas(START, START, *ending(), STOP)].count(Finished) == 1


def test_a_stream_may_begin_without_its_first_event() -> None:
    assert read(*block(0, EMPTY, text("a")), *ending()).parts == (Text("a"),)
    assert read(STOP) == Answer((), "stop")


def test_what_is_no_object_breaks_the_stream() -> None:
    with pytest.raises(AnswerBroken):
        deltas(Event(b"", b"[1]"))
