"""Deltas go out as events of the Responses API, in the order that OpenAI has them."""

import json
from typing import Any

import httpx
import openai
import pytest

from gproxy.errors import UpstreamFailed
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Added,
    Answer,
    Citation,
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
from gproxy.translate.openai_responses.answers import write_answer
from gproxy.translate.openai_responses.stream_out import ResponsesWriter
from gproxy.values import Usage
from tests.translate.grammar import check_responses, events_of

CLIENT = ClientFacts(model="my-alias", answer_id="7f", created=1764000000)
ANSWER = Answer(
    (
        Reasoning("hm", Signature("EqoB", "anthropic_messages")),
        Reasoning("", Signature("EqoC", "anthropic_messages"), redacted=True),
        Text("Hi", (Citation("https://a.example/b", "A", 0, 2),)),
        ToolCall("call_1", "mcp__files.read", '{"a":1}', Signature("s", "gemini")),
        ToolCall("call_2", "patch", "*** Begin", freeform=True),
    ),
    "tools",
    Usage(9, 7, 4, 1, reasoning_tokens=5),
)


def streamed(answer: Answer) -> bytes:
    writer = ResponsesWriter(CLIENT)
    return b"".join(map(writer.feed, deltas_of(answer))) + writer.end()


def told(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data or b"") for event in events_of(stream)]


def test_an_answer_is_told_event_by_event() -> None:
    stream = streamed(Answer((Text("Hi"), ToolCall("c", "f", "{}")), "tools"))
    check_responses(stream)
    assert [event["type"].removeprefix("response.") for event in told(stream)] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_reasoning_is_told_as_a_summary() -> None:
    kinds = [event["type"] for event in told(streamed(Answer((Reasoning("hm"),), "stop")))][3:-2]
    assert kinds == [
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]


def test_a_text_has_its_own_sources_alone() -> None:
    texts = tuple(Text(text, (Citation(f"https://{text}.example", "A", 0, 1),)) for text in "ab")
    stream = streamed(Answer(texts, "stop"))
    check_responses(stream)
    assert told(stream)[-1]["response"] == write_answer(Answer(texts, "stop"), CLIENT)


def test_the_last_event_has_the_whole_answer() -> None:
    stream = streamed(ANSWER)
    check_responses(stream)
    assert told(stream)[-1]["response"] == write_answer(ANSWER, CLIENT)


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (Answer((Text("a"),), "length"), "response.incomplete"),
        (Answer((), "refused"), "response.incomplete"),
        (Answer((Refusal("No"),), "refused"), "response.completed"),
        (Answer((Reasoning("", Signature("E", "anthropic_messages")),), "stop"), "response.completed"),
    ],
)
def test_it_ends_as_the_answer_does(answer: Answer, last: str) -> None:
    stream = streamed(answer)
    check_responses(stream)
    assert told(stream)[-1]["type"] == last


def test_a_stream_that_breaks_ends_in_an_error_with_the_next_number() -> None:
    writer = ResponsesWriter(CLIENT)
    deltas: list[Delta] = [Started(), Opened(Text("")), Added("Hi")]
    stream = b"".join(map(writer.feed, deltas)) + writer.abort(UpstreamFailed("It failed."), "req")
    events = told(stream)
    assert [event["sequence_number"] for event in events] == list(range(6))
    assert (events[-1]["type"], events[-1]["message"]) == ("error", "It failed.")


def sdk(stream: bytes) -> openai.OpenAI:
    def answered(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    return openai.OpenAI(
        api_key="k", base_url="http://x", http_client=httpx.Client(transport=httpx.MockTransport(answered))
    )


def test_the_official_sdk_puts_the_stream_together() -> None:
    with sdk(streamed(ANSWER)).responses.stream(model="m", input="Hello") as stream:
        kinds = [event.type for event in stream]
        found = stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert found.output_text == "Hi"
    assert [item.type for item in found.output] == [
        "reasoning",
        "reasoning",
        "message",
        "reasoning",
        "function_call",
        "custom_tool_call",
    ]
    assert found.usage is not None
    assert found.usage.input_tokens_details.cached_tokens == 4


def test_the_official_sdk_raises_where_the_stream_breaks() -> None:
    writer = ResponsesWriter(CLIENT)
    broken = writer.feed(Started()) + writer.abort(UpstreamFailed("It failed."), "req")
    with pytest.raises(openai.APIError, match=r"It failed\."):
        list(sdk(broken).responses.create(model="m", input="Hello", stream=True))


def test_nothing_is_missing_after_the_end_is_known_but_the_last_event() -> None:
    writer = ResponsesWriter(CLIENT)
    out = writer.feed(Started())
    assert writer.feed(Finished("stop")) == b""
    check_responses(out + writer.end())
