"""Whole messages are read as servers really give them, and written as Anthropic gives them."""

from typing import Any

import pytest
from anthropic.types import Message

from gproxy.errors import AnswerBroken
from gproxy.translate.anthropic_messages.answers import read_answer, write_answer
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
from gproxy.values import Usage

CLIENT = ClientFacts(model="alias", answer_id="7f", created=5)
OWN = Signature("s", "anthropic_messages")


def read(*blocks: dict[str, Any], **fields: Any) -> Answer:
    return read_answer({"type": "message", "content": list(blocks), "stop_reason": "end_turn", **fields})


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"type": "text", "text": "a"}, (Text("a"),)),
        ({"type": "thinking", "thinking": "a", "signature": "s"}, (Reasoning("a", OWN),)),
        ({"type": "thinking", "thinking": "a"}, (Reasoning("a"),)),
        ({"type": "redacted_thinking", "data": "s"}, (Reasoning("", OWN, True),)),
        (
            {"type": "tool_use", "id": "t", "name": "f", "input": {"ä": 1}},
            (ToolCall("t", "f", '{"ä":1}'),),
        ),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {}}, (ToolCall("t", "f", "{}"),)),
        ({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}}, ()),
        ({"type": "web_search_tool_result", "content": []}, ()),
        (
            {
                "type": "text",
                "text": "abc",
                "citations": [
                    {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "q"},
                    {"type": "char_location", "document_index": 0},
                ],
            },
            (Text("abc", (Citation("u", "t", 0, 3, "q"),)),),
        ),
    ],
)
def test_a_block_is_read(block: dict[str, Any], parts: tuple[Any, ...]) -> None:
    assert read(block).parts == parts


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("pause_turn", "stop"),
        (None, "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tools"),
        ("refusal", "refused"),
    ],
)
def test_why_it_ended_is_read(reason: str | None, finish: Finish) -> None:
    answer = read({"type": "text", "text": "a"}, stop_reason=reason, stop_sequence="END")
    assert (answer.finish, answer.stop_sequence) == (finish, "END")


@pytest.mark.parametrize("tree", [{}, {"content": "a"}, {"content": None}])
def test_an_answer_without_content_is_none(tree: dict[str, Any]) -> None:
    with pytest.raises(AnswerBroken):
        read_answer(tree)


def test_usage_is_read_with_the_cache_in_its_input() -> None:
    usage = {
        "input_tokens": 2,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
        "output_tokens": 5,
    }
    assert read(usage=usage).usage == Usage(9, 5, 3, 4)


def test_a_message_is_written_as_the_sdk_knows_it() -> None:
    answer = Answer(
        (
            Reasoning("hm", Signature("s", "openai_chat")),
            Reasoning("", OWN, redacted=True),
            Text("ab", (Citation("u", "t", 0, 2, "q"),)),
            Refusal("no"),
            ToolCall("c", "f", '{"a":1}', Signature("g", "gemini")),
        ),
        "tools",
        Usage(9, 4, 3, 2, reasoning_tokens=1),
    )
    tree = write_answer(answer, CLIENT)
    message = Message.model_validate(tree)
    assert (message.id, message.model, message.stop_reason) == ("msg_7f", "alias", "tool_use")
    assert [block.type for block in message.content] == [
        "thinking",
        "redacted_thinking",
        "text",
        "text",
        "thinking",
        "tool_use",
    ]
    assert tree["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "gproxy.openai_chat.s"}
    assert tree["content"][4] == {"type": "thinking", "thinking": "", "signature": "gproxy-call.gemini.g"}
    assert tree["content"][5] == {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}
    assert tree["content"][2]["citations"][0]["cited_text"] == "q"
    assert tree["usage"] == {
        "input_tokens": 4,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 1},
    }


def test_a_message_has_usage_even_if_none_was_reported() -> None:
    tree = write_answer(Answer((), "stop_sequence", None, "END"), CLIENT)
    assert tree["usage"]["input_tokens"] == 0
    assert (tree["stop_reason"], tree["stop_sequence"]) == ("stop_sequence", "END")


def test_counts_that_make_no_sense_are_never_negative() -> None:
    assert write_answer(Answer((), "stop", Usage(1, 1, 5)), CLIENT)["usage"]["input_tokens"] == 0
