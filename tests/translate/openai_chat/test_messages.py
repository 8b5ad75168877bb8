"""Messages are turns: instructions, what users send, what the assistant said and called, and what tools gave."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.model import (
    Audio,
    File,
    Image,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from gproxy.translate.openai_chat.messages import Messages, read_messages

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

SOUND = {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}


def read(*messages: dict[str, Any]) -> Messages:
    return read_messages(list(messages))


def test_instructions_before_the_first_turn_are_the_system() -> None:
    found = read(
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
        {"role": "developer", "content": "d"},
    )
    assert found.system == (Text("a"), Text("b"))
    assert found.turns == (Turn("user", (Text("c"),)), Turn("system", (Text("d"),)))


def test_what_a_user_sends_is_read() -> None:
    parts = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
    ]
    found = read({"role": "user", "content": parts, "name": "bob"})
    assert found.turns[0].parts == (
        Text("a", cache="5m"),
        Image("iVBO", "image/png", detail="low"),
        Image(url="https://a.example/b.png"),
        File("JVBE", "application/pdf", name="a.pdf"),
        Audio("UklG", "wav"),
    )
    assert found.lost == {"messages[].name"}


def test_what_the_assistant_said_and_called_is_read_in_that_order() -> None:
    found = read(
        {
            "role": "assistant",
            "content": "b",
            "refusal": None,
            "reasoning_content": "a",
            "tool_calls": [CALL, {"id": "call_2", "type": "custom", "custom": {"name": "p", "input": "x"}}],
            "annotations": [],
            "audio": None,
            "function_call": None,
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "two"}]},
    )
    assert found.turns == (
        Turn(
            "assistant",
            (
                Reasoning("a"),
                Text("b"),
                ToolCall("call_1", "f", '{"a":1}'),
                ToolCall("call_2", "p", "x", freeform=True),
            ),
        ),
        Turn("tool", (ToolResult("call_1", (Text("one"),)), ToolResult("call_2", (Text("two"),)))),
    )
    assert found.lost == set()


def test_refusals_and_thoughts_may_stand_among_the_parts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "refusal", "refusal": "no"},
    ]
    found = read({"role": "assistant", "content": parts}, {"role": "assistant", "refusal": "never"})
    assert [turn.parts for turn in found.turns] == [(Reasoning("hm"), Refusal("no")), (Refusal("never"),)]


def test_a_signature_of_googles_is_read_and_an_id_of_ours_is_the_targets_again() -> None:
    call = CALL | {
        "id": "gpid-ZnVuY3Rpb25zLmY6MA",
        "extra_content": {"google": {"thought_signature": "sig"}},
    }
    found = read(
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "gpid-ZnVuY3Rpb25zLmY6MA", "content": ""},
    )
    assert found.turns[0].parts == (ToolCall("functions.f:0", "f", '{"a":1}', Signature("sig", "gemini")),)
    assert found.turns[1].parts == (ToolResult("functions.f:0", (Text(""),)),)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "function", "content": "a"}, r"`messages\[0\]\.role`"),
        ({"role": ["user"], "content": "a"}, r"`messages\[0\]\.role`"),
        ({"role": "user", "content": 1}, r"`messages\[0\]\.content`"),
        ({"role": "user", "content": [{"type": "video"}]}, r"`messages\[0\]\.content\[0\]`"),
        ({"role": "system", "content": [{"type": "image_url"}]}, "cannot stand there"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "send its data"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_data": "JVBE"}}]}, "a data URL"),
        ({"role": "assistant", "audio": {"id": "a"}}, r"`messages\[0\]\.audio`"),
        ({"role": "assistant", "function_call": {"name": "f"}}, r"`messages\[0\]\.function_call`"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, r"`messages\[0\]\.tool_calls\[0\]\.id`"),
        ({"role": "tool", "content": "a"}, r"`messages\[0\]\.tool_call_id`"),
        (
            {
                "role": "tool",
                "tool_call_id": "a",
                "content": [{"type": "input_audio", "input_audio": {"data": "a", "format": "b"}}],
            },
            "cannot hold",
        ),
    ],
)
def test_a_malformed_message_is_refused_by_its_place(message: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        read(message)


def test_marks_that_have_no_place_are_named() -> None:
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert read({"role": "user", "content": [part]}).lost == {"prompt_cache_breakpoint"}
    assert read({"role": "assistant", "content": "a", "annotations": [{}]}).lost == {"messages[].annotations"}
