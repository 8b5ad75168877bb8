"""Turns are messages that begin with the user, change sides, and hold nothing that Anthropic refuses."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.anthropic_messages.turns import written_system, written_turns
from gproxy.translate.model import (
    Audio,
    Citation,
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

ASKED = Turn("user", (Text("a"),))
FIRST = {"role": "user", "content": "a"}


def written(*turns: Turn) -> tuple[list[dict[str, Any]], set[str]]:
    lost: set[str] = set()
    return written_turns(turns, lost), lost


def test_the_user_comes_first_and_sides_change() -> None:
    messages, _ = written(Turn("assistant", (Text("Hi"),)), ASKED, Turn("user", (Text("b"),)))
    assert messages == [
        {"role": "user", "content": "."},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    assert written()[0] == [{"role": "user", "content": "."}]


def test_empty_texts_and_turns_without_anything_else_go() -> None:
    unsigned = Turn("assistant", (Reasoning("hm"), Text(" \n")))
    messages, lost = written(ASKED, unsigned, Turn("user", (Text(""), Text("b"))))
    assert messages == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]
    assert lost == {"reasoning"}


def test_results_are_a_users_and_come_before_what_else_they_say() -> None:
    call = ToolCall("functions.f:0", "f", '{"a":1}', cache="5m")
    image = Image("iVBO", "image/png")
    result = ToolResult("functions.f:0", (Text("x"), Text(""), image), is_error=True, cache="1h")
    messages, _ = written(ASKED, Turn("assistant", (Text("b"), call)), ASKED, Turn("tool", (result,)))
    called = messages[1]["content"][1]
    assert called == {
        "type": "tool_use",
        "id": called["id"],
        "name": "f",
        "input": {"a": 1},
        "cache_control": {"type": "ephemeral"},
    }
    assert messages[2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": called["id"],
            "content": [
                {"type": "text", "text": "x"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
            ],
            "is_error": True,
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        {"type": "text", "text": "a"},
    ]
    assert called["id"].isalnum()


def test_an_empty_result_has_no_content() -> None:
    messages, _ = written(
        ASKED, Turn("assistant", (ToolCall("c", "f", ""),)), Turn("tool", (ToolResult("c"),))
    )
    assert messages[2]["content"] == [{"type": "tool_result", "tool_use_id": "c"}]


def test_images_and_documents_are_written() -> None:
    parts = (
        Image(url="https://a.example/b", detail="low"),
        File("JVBE", "application/pdf", name="t"),
        File(url="https://a.example/c", cache="5m"),
        File("SMOkbGxv", "text/markdown"),
    )
    messages, lost = written(Turn("user", parts))
    assert messages[0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "t",
        },
        {
            "type": "document",
            "source": {"type": "url", "url": "https://a.example/c"},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hällo"}},
    ]
    assert lost == {"detail"}


@pytest.mark.parametrize(
    ("part", "named"), [(Audio("a", "wav"), "Audio"), (File("a", "video/mp4"), "video/mp4")]
)
def test_what_anthropic_does_not_take_is_refused(part: Audio | File, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        written(Turn("user", (part,)))


def test_only_thoughts_that_anthropic_signed_go_back() -> None:
    own, other = Signature("s", "anthropic_messages"), Signature("s", "gemini")
    thoughts = (Reasoning("a", own), Reasoning("", own, True), Reasoning("b", other), Reasoning("c"))
    messages, lost = written(ASKED, Turn("assistant", (*thoughts, Text("d"))), ASKED)
    assert messages[1]["content"] == [
        {"type": "thinking", "thinking": "a", "signature": "s"},
        {"type": "redacted_thinking", "data": "s"},
        {"type": "text", "text": "d"},
    ]
    assert lost == {"reasoning"}


def test_the_beginning_of_an_answer_does_not_end_in_white_space() -> None:
    assert written(ASKED, Turn("assistant", (Text("{ \n"),)))[0][1]["content"] == "{"


def test_what_is_said_otherwise_is_named() -> None:
    said = Turn("assistant", (Text("b", (Citation("https://a.example"),)), Refusal("no")))
    messages, lost = written(ASKED, said, Turn("system", (Text("c"),)))
    assert messages[1]["content"] == [{"type": "text", "text": "b"}, {"type": "text", "text": "no"}]
    assert messages[2] == {"role": "user", "content": "c"}
    assert lost == {"citations", "messages[].role"}


def test_a_system_of_one_text_is_a_string() -> None:
    assert written_system((Text("a"),)) == "a"
    assert written_system((Text("a", cache="5m"),)) == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    ]
