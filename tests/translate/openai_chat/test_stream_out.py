"""Chunks are written as OpenAI writes them: usage if it was asked for, calls by index, `[DONE]` last."""

import json
from dataclasses import replace
from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from gproxy.errors import UpstreamTimeout
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Added,
    Answer,
    Citation,
    Opened,
    Reasoning,
    Signature,
    Started,
    Text,
    ToolCall,
)
from gproxy.translate.openai_chat.stream_out import ChatWriter
from gproxy.values import Usage
from tests.translate.grammar import check_chat, events_of

ANSWER = Answer(
    (
        Reasoning("hm", Signature("s", "gemini")),
        Text("ab", (Citation("u", "t", 0, 2),)),
        Text("cd", (Citation("v", "t", 1, 2),)),
        ToolCall("c", "f", '{"a":1}', Signature("g", "gemini")),
        ToolCall("d", "p", "x", freeform=True),
    ),
    "tools",
    Usage(9, 4),
)


def written(answer: Answer, *, asked_usage: bool = True) -> bytes:
    writer = ChatWriter(ClientFacts(model="alias", answer_id="7f", created=5, asked_usage=asked_usage))
    return b"".join(map(writer.feed, deltas_of(answer))) + writer.end()


def chunks(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data or b"") for event in events_of(stream)[:-1]]


def test_a_stream_is_one_that_the_sdk_knows() -> None:
    stream = written(ANSWER)
    check_chat(stream)
    found = chunks(stream)
    for chunk in found:
        if "custom" not in json.dumps(chunk):  # which its types leave out
            ChatCompletionChunk.model_validate(chunk)
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in found} == {
        ("chatcmpl-7f", "alias", 5)
    }
    said = [chunk["choices"][0]["delta"] for chunk in found if chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in said) == "abcd"
    assert [d["reasoning_content"] for d in said if "reasoning_content" in d] == ["hm"]
    (details,) = [d["reasoning_details"] for d in said if "reasoning_details" in d]
    assert details == [{"index": 0, "type": "reasoning.text", "text": "hm", "signature": "gproxy.gemini.s"}]
    cited = [d["annotations"][0]["url_citation"] for d in said if "annotations" in d]
    assert [(c["start_index"], c["end_index"]) for c in cited] == [(0, 2), (3, 4)]
    called = [call for d in said for call in d.get("tool_calls", ())]
    assert [call["index"] for call in called] == [0, 0, 1, 1]
    assert called[0]["extra_content"] == {"google": {"thought_signature": "g"}}
    assert called[3]["custom"] == {"input": "x"}


def test_the_sdk_puts_the_stream_together_again() -> None:
    state = ChatCompletionStreamState()
    answer = replace(ANSWER, parts=(ANSWER.parts[0], *ANSWER.parts[:-1]))  # it knows no calls of text
    for chunk in chunks(written(answer)):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    completion = state.get_final_completion()
    message = completion.choices[0].message.model_dump()
    assert message["content"] == "abcd"
    assert [a["url_citation"]["url"] for a in message["annotations"]] == ["u", "v"]
    assert message["reasoning_content"] == "hmhm"
    assert [detail["text"] for detail in message["reasoning_details"]] == ["hm", "hm"]
    (call,) = message["tool_calls"]
    assert (call["id"], call["function"]["arguments"]) == ("c", '{"a":1}')
    assert call["extra_content"] == {"google": {"thought_signature": "g"}}
    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 13


def test_usage_comes_in_a_chunk_of_its_own_if_it_was_asked_for() -> None:
    assert chunks(written(ANSWER))[-1]["usage"]["total_tokens"] == 13
    unasked = written(ANSWER, asked_usage=False)
    check_chat(unasked, asked_usage=False)
    assert b'"usage"' not in unasked


def test_usage_that_was_not_reported_is_not_made_up() -> None:
    last = chunks(written(Answer((Text("a"),), "length")))[-1]
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"] is None


def test_each_piece_goes_out_at_once() -> None:
    writer = ChatWriter(ClientFacts(model="m", answer_id="1", created=0))
    assert b'"role":"assistant"' in writer.feed(Started())
    writer.feed(Opened(Text("")))
    assert b'{"content":"\xc3\xa4"}' in writer.feed(Added("ä"))


def test_a_broken_stream_ends_in_an_error_without_an_end() -> None:
    writer = ChatWriter(ClientFacts(model="m", answer_id="1", created=0))
    (event,) = events_of(writer.abort(UpstreamTimeout("too slow"), "req"))
    assert json.loads(event.data or b"")["error"]["message"] == "too slow"
