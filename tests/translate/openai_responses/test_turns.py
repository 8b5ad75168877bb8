"""Turns are written as input items: in their order, with ids that OpenAI takes, and nothing that it refuses."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.model import (
    Audio,
    Citation,
    Conversation,
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
from gproxy.translate.openai_responses.turns import written_items

OWN = Signature("gAAA", "openai_responses")


def written(*turns: Turn, model: str = "gpt-5") -> tuple[list[dict[str, Any]], set[str]]:
    lost: set[str] = set()
    return written_items(Conversation(turns=turns), model, lost), lost


def test_what_was_said_keeps_its_order() -> None:
    items, lost = written(
        Turn("user", (Text("Go"),)),
        Turn(
            "assistant",
            (Reasoning("hm", OWN), Text("a"), Text("b"), ToolCall("call_1", "f", "{}"), Text("c")),
        ),
        Turn("tool", (ToolResult("call_1", (Text("1"),)),)),
    )
    assert [item["type"] for item in items] == [
        "message",
        "reasoning",
        "message",
        "function_call",
        "message",
        "function_call_output",
    ]
    assert items[0] == {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Go"}],
    }
    assert [part["text"] for part in items[2]["content"]] == ["a", "b"]
    assert items[3] == {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    assert items[5] == {"type": "function_call_output", "call_id": "call_1", "output": "1"}
    assert lost == set()


def test_instructions_given_later_have_the_role_that_the_model_knows() -> None:
    turns = (Turn("user", (Text("a"),)), Turn("system", (Text("b"),)))
    assert written(*turns)[0][1]["role"] == "developer"
    assert written(*turns, model="llama")[0][1]["role"] == "system"


def test_images_and_files_are_written_as_data_or_by_their_url() -> None:
    (item,), lost = written(
        Turn(
            "user",
            (
                Image("iVBO", "image/png"),
                Image(url="https://a.example/b.png", detail="low"),
                File("JVBE", "application/pdf"),
                File(url="https://a.example/c.pdf", name="c"),
                File("SMOkbGxv", "text/plain", name="note"),
            ),
        )
    )
    assert item["content"] == [
        {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "auto"},
        {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
        {"type": "input_file", "filename": "file", "file_data": "data:application/pdf;base64,JVBE"},
        {"type": "input_file", "file_url": "https://a.example/c.pdf"},
        {"type": "input_text", "text": "note\n\nHällo"},
    ]
    assert lost == {"file.name"}


def test_a_tool_that_takes_text_is_called_as_one_where_the_model_knows_such() -> None:
    turns = (
        Turn("assistant", (ToolCall("call_1", "patch", "*** Begin", freeform=True),)),
        Turn("tool", (ToolResult("call_1", (Text("done"),)),)),
    )
    assert written(*turns)[0] == [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"},
    ]
    assert written(*turns, model="llama")[0] == [
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "patch",
            "arguments": '{"input": "*** Begin"}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "done"},
    ]


def test_an_id_that_is_too_long_is_the_same_for_the_call_and_its_result() -> None:
    long = "call_" + "x" * 80
    (call, result), _ = written(
        Turn("assistant", (ToolCall(long, "mcp.a", "", cache="5m"),)),
        Turn("tool", (ToolResult(long, is_error=True),)),
    )
    assert call["call_id"] == result["call_id"]
    assert len(call["call_id"]) <= 64
    assert (call["arguments"], result["output"]) == ("{}", "")
    assert "." not in call["name"]


def test_a_result_may_hold_images() -> None:
    parts = (Text("a"), Image("iVBO", "image/png"))
    items, lost = written(
        Turn("assistant", (ToolCall("c", "f", "{}"),)),
        Turn("tool", (ToolResult("c", parts, is_error=True),)),
    )
    assert [part["type"] for part in items[1]["output"]] == ["input_text", "input_image"]
    assert lost == {"tool_result.is_error"}


def test_what_cannot_be_said_is_lost() -> None:
    items, lost = written(
        Turn("user", (Text("a", cache="5m"),)),
        Turn(
            "assistant",
            (
                Reasoning("hm", Signature("EqoB", "anthropic_messages")),
                Text("b", (Citation("https://a.example"),)),
                Refusal("No"),
            ),
        ),
    )
    assert [part["type"] for part in items[1]["content"]] == ["output_text", "refusal"]
    assert lost == {"cache_control", "reasoning", "citations"}


def test_sound_is_refused() -> None:
    with pytest.raises(BadRequest, match="Audio"):
        written(Turn("user", (Audio("UklG", "wav"),)))
    with pytest.raises(BadRequest, match="Image"):
        written(Turn("assistant", (Image(url="https://a.example"),)))


def test_a_turn_without_parts_says_nothing() -> None:
    assert written(Turn("user", ()), Turn("assistant", ()))[0] == []
