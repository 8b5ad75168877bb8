"""A target's events are read as deltas, however its server tells them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken
from gproxy.protocols.base import Event
from gproxy.protocols.sse import SseFramer
from gproxy.translate.assembly import answer_of, deltas_of
from gproxy.translate.base import ClientFacts
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
    Started,
    Text,
    ToolCall,
)
from gproxy.translate.openai_responses.stream_in import ResponsesReader
from gproxy.translate.openai_responses.stream_out import ResponsesWriter
from gproxy.values import Usage
from tests.translate.conversations import answers
from tests.translate.grammar import check_deltas

OWN = Signature("gAAA", "openai_responses")
CITED = {
    "type": "url_citation",
    "url": "https://a.example/b",
    "title": "A",
    "start_index": 0,
    "end_index": 2,
}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def read(*events: dict[str, Any]) -> list[Delta]:
    reader = ResponsesReader()
    deltas = [d for tree in events for d in reader.feed(Event(b"", json.dumps(tree).encode()))] + reader.end()
    check_deltas(deltas, whole=False)
    return deltas


def answer(*events: dict[str, Any], status: str = "completed", **fields: Any) -> Answer:
    deltas = read(event("created", response={}), *events, event(status, response=fields))
    check_deltas(deltas)
    return answer_of(deltas)


def added(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return event("output_item.added", output_index=index, item={"type": kind, **fields})


def done(index: int | None, kind: str, **fields: Any) -> dict[str, Any]:
    return event("output_item.done", output_index=index, item={"type": kind, **fields})


def delta(kind: str, index: int | None, text: str, **fields: Any) -> dict[str, Any]:
    return event(f"{kind}.delta", output_index=index, delta=text, **fields)


def test_an_answer_is_read_piece_by_piece() -> None:
    deltas = read(
        event("created", response={"status": "in_progress"}),
        event("in_progress", response={"status": "in_progress"}),
        added(0, "message", content=[]),
        event("content_part.added", output_index=0, content_index=0, part={"type": "output_text"}),
        delta("output_text", 0, "H", content_index=0),
        delta("output_text", 0, "i", content_index=0),
        event("output_text.done", output_index=0, content_index=0, text="Hi"),
        event("content_part.done", output_index=0, content_index=0, part={"type": "output_text"}),
        done(0, "message", content=[{"type": "output_text", "text": "Hi"}]),
        event("completed", response={"status": "completed", "output": []}),
    )
    assert deltas == [Started(), Opened(Text("")), Added("H"), Added("i"), Closed(), Finished("stop")]


def test_calls_are_told_as_they_grow() -> None:
    found = answer(
        added(0, "function_call", call_id="call_1", name="f", arguments=""),
        delta("function_call_arguments", 0, '{"a":'),
        delta("function_call_arguments", 0, "1}"),
        done(0, "function_call", call_id="call_1", name="f", arguments='{"a":1}'),
        added(1, "custom_tool_call", call_id="call_2", name="patch", input=""),
        delta("custom_tool_call_input", 1, "*** Begin"),
        done(1, "custom_tool_call", call_id="call_2", name="patch", input="*** Begin"),
    )
    assert found.parts == (
        ToolCall("call_1", "f", '{"a":1}'),
        ToolCall("call_2", "patch", "*** Begin", freeform=True),
    )
    assert found.finish == "tools"


def test_calls_that_are_told_in_turns_are_told_one_after_the_other() -> None:
    found = answer(
        added(0, "function_call", call_id="a", name="f"),
        added(1, "function_call", call_id="b", name="g"),
        delta("function_call_arguments", 0, "{"),
        delta("function_call_arguments", 1, "[]"),
        done(1, "function_call", call_id="b", name="g", arguments="[]"),
        delta("function_call_arguments", 0, "}"),
        done(0, "function_call", call_id="a", name="f", arguments="{}"),
    )
    assert found.parts == (ToolCall("a", "f", "{}"), ToolCall("b", "g", "[]"))


def test_reasoning_has_its_summaries_and_its_signature() -> None:
    found = answer(
        added(0, "reasoning", summary=[]),
        delta("reasoning_summary_text", 0, "a", summary_index=0),
        delta("reasoning_summary_text", 0, "b", summary_index=0),
        delta("reasoning_summary_text", 0, "c", summary_index=1),
        done(
            0,
            "reasoning",
            summary=[{"type": "summary_text", "text": "ab"}, {"type": "summary_text", "text": "c"}],
            encrypted_content="gAAA",
        ),
    )
    assert found.parts == (Reasoning("ab\n\nc", OWN),)


def test_reasoning_that_is_told_twice_is_read_once() -> None:
    found = answer(
        added(0, "reasoning", summary=[]),
        delta("reasoning_text", 0, "a", content_index=0),
        delta("reasoning_summary_text", 0, "b", summary_index=0),
        done(0, "reasoning", summary=[{"type": "summary_text", "text": "b"}]),
    )
    assert found.parts == (Reasoning("a"),)


def test_reasoning_without_a_summary_is_its_signature_alone() -> None:
    found = answer(
        added(0, "reasoning", summary=[], encrypted_content="gA"),
        done(0, "reasoning", summary=[], encrypted_content="gAAA"),
        added(1, "reasoning", summary=[]),
        done(1, "reasoning", summary=[]),
    )
    assert found.parts == (Reasoning("", OWN, redacted=True),)


@pytest.mark.parametrize("in_event", [True, False], ids=["as an event", "with its text"])
def test_sources_are_read(in_event: bool) -> None:
    annotation = event("output_text.annotation.added", output_index=0, content_index=0, annotation=CITED)
    part = {"type": "output_text", "text": "Hi", "annotations": [CITED]}
    found = answer(
        added(0, "message"),
        delta("output_text", 0, "Hi", content_index=0),
        *([annotation] if in_event else []),
        event("content_part.done", output_index=0, content_index=0, part=part),
        done(0, "message", content=[part]),
    )
    assert found.parts == (Text("Hi", (Citation("https://a.example/b", "A", 0, 2),)),)


def test_parts_of_one_message_are_parts_of_the_answer() -> None:
    found = answer(
        added(0, "message"),
        delta("output_text", 0, "a", content_index=0),
        delta("output_text", 0, "b", content_index=1),
        delta("refusal", 0, "No", content_index=2),
        done(0, "message"),
    )
    assert found.parts == (Text("a"), Text("b"), Refusal("No"))
    assert found.finish == "refused"


def test_items_that_are_told_whole_are_read_whole() -> None:
    message = {"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    call = {"call_id": "c", "name": "f", "arguments": "{}"}
    expected = (Text("Hi"), ToolCall("c", "f", "{}"))
    assert answer(done(0, "message", **message), done(1, "function_call", **call)).parts == expected
    assert (
        answer(added(1, "function_call", **call, status="x"), done(1, "function_call", **call)).parts
        == expected[1:]
    )
    whole = [{"type": "message", **message}, {"type": "function_call", **call}]
    assert answer(output=whole).parts == expected


def test_a_call_whose_arguments_come_at_the_end_has_them() -> None:
    found = answer(
        added(0, "function_call", call_id="c", name="f", arguments=""),
        event("function_call_arguments.done", output_index=0, arguments="{}"),
        done(0, "function_call", call_id="c", name="f", arguments="{}"),
    )
    assert found.parts == (ToolCall("c", "f", "{}"),)


def test_a_server_that_leaves_indexes_and_beginnings_out_is_understood() -> None:
    found = answer(
        delta("output_text", None, "Hi"),
        done(None, "function_call", call_id="c", name="f", arguments="{}"),
        delta("reasoning_text", None, "hm"),
        done(None, "reasoning", content=[{"type": "reasoning_text", "text": "hm"}]),
    )
    assert found.parts == (Text("Hi"), ToolCall("c", "f", "{}"), Reasoning("hm"))


def test_what_openais_own_tools_do_is_passed_over() -> None:
    found = answer(
        added(0, "web_search_call", status="in_progress"),
        event("web_search_call.searching", output_index=0),
        done(0, "web_search_call", status="completed"),
        added(1, "message"),
        delta("output_text", 1, "Hi", content_index=0),
    )
    assert found.parts == (Text("Hi"),)


def test_usage_and_the_reason_are_in_the_last_event() -> None:
    usage = {"input_tokens": 9, "output_tokens": 7}
    found = answer(
        status="incomplete", usage=usage, incomplete_details={"reason": "max_output_tokens"}, output=[]
    )
    assert (found.usage, found.finish) == (Usage(9, 7), "length")
    assert answer(status="incomplete").finish == "length"


def test_a_stream_without_its_last_event_has_no_end() -> None:
    deltas = read(
        added(0, "message"),
        delta("output_text", 0, "Hi", content_index=0),
        done(0, "message", content=[{"type": "output_text", "text": "Hi"}]),
    )
    assert deltas == [Started(), Opened(Text("")), Added("Hi"), Closed()]


def test_nothing_is_read_after_the_end() -> None:
    deltas = read(event("completed", response={}), delta("output_text", 0, "Hi"))
    assert deltas == [Started(), Finished("stop")]


def test_what_is_no_event_is_broken_or_passed_over() -> None:
    reader = ResponsesReader()
    assert reader.feed(Event(b": ping\n\n", None)) == []
    assert reader.feed(Event(b"", b"[DONE]")) == []
    assert reader.feed(Event(b"", b"{}")) == []
    with pytest.raises(AnswerBroken):
        reader.feed(Event(b"", b"[]"))


def written(told: Answer) -> list[dict[str, Any]]:
    writer = ResponsesWriter(ClientFacts(model="m", answer_id="1", created=0))
    stream = b"".join(map(writer.feed, deltas_of(told))) + writer.end()
    return [json.loads(found.data or b"") for found in SseFramer().feed(stream)]


@settings(deadline=None)
@given(answers("openai_responses"), st.randoms(use_true_random=False))
def test_items_in_any_mixture_are_all_told_once(told: Answer, chance: Any) -> None:
    first, second, *middle, last = written(told)
    queues = [
        [tree for tree in middle if tree["output_index"] == index]
        for index in range(len(last["response"]["output"]))
    ]
    mixed = []
    while any(queues):
        mixed.append(chance.choice([queue for queue in queues if queue]).pop(0))
    deltas = read(first, second, *mixed, last)
    check_deltas(deltas)
    found = answer_of(deltas)
    assert sorted(map(repr, found.parts)) == sorted(map(repr, told.parts))
    assert (found.finish, found.usage) == (told.finish, told.usage)


@pytest.mark.parametrize(
    "is_told",
    [
        lambda kind: kind == "response.completed",
        lambda kind: kind in ("response.output_item.done", "response.completed"),
        lambda kind: not kind.startswith("response.content_part"),
        lambda kind: not kind.endswith(".delta"),
        lambda kind: kind not in ("response.created", "response.in_progress"),
    ],
    ids=["the end alone", "whole items", "no parts", "no deltas", "no beginning"],
)
def test_a_server_that_tells_less_is_understood(is_told: Callable[[str], bool]) -> None:
    told = Answer(
        (
            Reasoning("hm", OWN),
            Reasoning("", OWN, redacted=True),
            Text("Hi", (Citation("https://a.example/b", "A", 0, 2),)),
            ToolCall("call_1", "f", '{"a":1}'),
            ToolCall("call_2", "patch", "*** Begin", freeform=True),
        ),
        "tools",
        Usage(9, 7, 4, 0, reasoning_tokens=5),
    )
    deltas = read(*(tree for tree in written(told) if is_told(tree["type"])))
    check_deltas(deltas)
    assert answer_of(deltas) == told
