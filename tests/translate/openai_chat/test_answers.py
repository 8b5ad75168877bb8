"""Whole completions are read as servers really give them, and written as OpenAI gives them."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from gproxy.errors import AnswerBroken
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Answer,
    Citation,
    Finish,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from gproxy.translate.openai_chat.answers import read_answer, write_answer
from gproxy.values import Usage

CLIENT = ClientFacts(model="alias", answer_id="7f", created=5)
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(message: dict[str, Any], reason: str | None = "stop", **fields: Any) -> Answer:
    return read_answer({"choices": [{"message": message, "finish_reason": reason}], **fields})


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "a"}, (Text("a"),)),
        ({"content": None, "tool_calls": [CALL]}, (ToolCall("c", "f", "{}"),)),
        ({"content": "", "refusal": "no"}, (Refusal("no"),)),
        ({"content": "a", "reasoning_content": "b"}, (Reasoning("b"), Text("a"))),
        (
            {"content": [{"type": "thinking", "thinking": [{"text": "b"}]}, {"type": "text", "text": "a"}]},
            (Reasoning("b"), Text("a")),
        ),
        (
            {
                "content": "a",
                "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "end_index": 1}}],
            },
            (Text("a", (Citation("u", "", 0, 1),)),),
        ),
        ({"content": "a", "annotations": [{"type": "file"}], "tool_calls": "odd"}, (Text("a"),)),
        (
            {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "p", "input": "x"}}]},
            (ToolCall("c", "p", "x", freeform=True),),
        ),
    ],
)
def test_a_message_is_read(message: dict[str, Any], parts: tuple[Any, ...]) -> None:
    assert read(message).parts == parts


@pytest.mark.parametrize(
    ("reason", "message", "finish"),
    [
        ("stop", {"content": "a"}, "stop"),
        (None, {"content": "a"}, "stop"),
        ("eos", {"content": "a"}, "stop"),
        ("length", {"content": "a"}, "length"),
        ("content_filter", {"content": "a"}, "refused"),
        ("tool_calls", {"tool_calls": [CALL]}, "tools"),
        ("stop", {"tool_calls": [CALL]}, "tools"),
        ("length", {"tool_calls": [CALL]}, "length"),
        ("stop", {"refusal": "no"}, "refused"),
    ],
)
def test_why_it_ended_is_read(reason: str | None, message: dict[str, Any], finish: Finish) -> None:
    assert read(message, reason).finish == finish


@pytest.mark.parametrize(
    "tree", [{}, {"choices": []}, {"choices": None}, {"choices": [{"error": {"code": 1}}]}]
)
def test_an_answer_without_a_choice_is_none(tree: dict[str, Any]) -> None:
    with pytest.raises(AnswerBroken):
        read_answer(tree)


def test_usage_is_read_with_its_details() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    assert read({"content": "a"}, usage=usage).usage == Usage(9, 4, 3)


def test_a_completion_is_written_as_the_sdk_knows_it() -> None:
    answer = Answer(
        (
            Reasoning("hm", Signature("s", "anthropic_messages")),
            Text("ab", (Citation("u", "t", 0, 2),)),
            Text("cd", (Citation("v", "t", 1, 2),)),
            ToolCall("c", "f", '{"a":1}', Signature("g", "gemini")),
            ToolCall("d", "p", "x", freeform=True),
        ),
        "tools",
        Usage(9, 4, 3, 2, reasoning_tokens=1),
    )
    tree = write_answer(answer, CLIENT)
    completion = ChatCompletion.model_validate(tree)
    message = completion.choices[0].message
    assert (completion.id, completion.model, completion.created) == ("chatcmpl-7f", "alias", 5)
    assert (message.content, message.refusal, completion.choices[0].finish_reason) == (
        "abcd",
        None,
        "tool_calls",
    )
    assert [(a.url_citation.start_index, a.url_citation.end_index) for a in message.annotations or ()] == [
        (0, 2),
        (3, 4),
    ]
    assert tree["choices"][0]["message"]["reasoning_content"] == "hm"
    assert tree["choices"][0]["message"]["reasoning_details"][0]["signature"] == "gproxy.anthropic_messages.s"
    calls = tree["choices"][0]["message"]["tool_calls"]
    assert calls[0]["extra_content"] == {"google": {"thought_signature": "g"}}
    assert calls[1] == {"id": "d", "type": "custom", "custom": {"name": "p", "input": "x"}}
    assert tree["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer((Refusal("no"),), "refused"), "stop"),
        (Answer((), "refused"), "content_filter"),
        (Answer((Text("a"),), "stop_sequence", stop_sequence="END"), "stop"),
        (Answer((Text("a"),), "length"), "length"),
    ],
)
def test_why_it_ended_is_written(answer: Answer, reason: str) -> None:
    tree = write_answer(answer, CLIENT)
    assert tree["choices"][0]["finish_reason"] == reason
    assert "usage" not in tree
