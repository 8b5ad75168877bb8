"""Messages are turns, and results of tools one of their own."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.anthropic_messages.messages import read_messages
from gproxy.translate.model import (
    File,
    Image,
    Reasoning,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)

CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "ä"]}}


def read(*messages: dict[str, Any]) -> tuple[tuple[Turn, ...], set[str]]:
    lost: set[str] = set()
    return read_messages(list(messages), lost), lost


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def test_what_a_user_sends_is_read() -> None:
    turns, lost = read(
        user(
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
            {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}},
            {
                "type": "document",
                "title": "t",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            },
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hällo"}},
            {"type": "document", "source": {"type": "url", "url": "https://a.example/c"}},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
            {
                "type": "search_result",
                "title": "t",
                "source": "s",
                "content": [{"type": "text", "text": "y"}],
            },
        )
    )
    assert turns[0].parts == (
        Text("a", cache="5m"),
        Image("iVBO", "image/png"),
        Image(url="https://a.example/b"),
        File("JVBE", "application/pdf", name="t"),
        File("SMOkbGxv", "text/plain"),
        File(url="https://a.example/c"),
        Text("x"),
        Text("t (s)"),
        Text("y"),
    )
    assert lost == set()


def test_results_are_a_turn_of_their_own_before_what_else_the_user_says() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "u"}}
    turns, _ = read(
        {"role": "assistant", "content": [CALL | {"cache_control": {"type": "ephemeral"}}]},
        user(
            {"type": "text", "text": "then"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": [
                    {"type": "text", "text": "a"},
                    image,
                    {"type": "tool_reference", "tool_name": "g"},
                ],
                "is_error": True,
            },
        ),
    )
    assert turns == (
        Turn("assistant", (ToolCall("toolu_1", "f", '{"a":[1,"ä"]}', cache="5m"),)),
        Turn("tool", (ToolResult("toolu_1", (Text("a"), Image(url="u"), Text("g")), True),)),
        Turn("user", (Text("then"),)),
    )


@pytest.mark.parametrize(("content", "parts"), [("ok", (Text("ok"),)), ("", ()), (None, ())])
def test_a_result_may_be_a_string_or_empty(content: str | None, parts: tuple[Text, ...]) -> None:
    (turn,), _ = read(user({"type": "tool_result", "tool_use_id": "a", "content": content}))
    assert turn == Turn("tool", (ToolResult("a", parts),))


def test_thoughts_keep_their_signatures_and_tell_who_made_them() -> None:
    turns, _ = read(
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "a", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "thinking", "thinking": "b", "signature": "gproxy.openai_responses.x"},
                {"type": "thinking", "thinking": "", "signature": "gproxy-call.gemini.g"},
                CALL,
                CALL | {"id": "gpid-ZnVuY3Rpb25zLmY6MA"},
            ],
        },
        {"role": "system", "content": "c"},
    )
    assert turns[0].parts == (
        Reasoning("a", Signature("s", "anthropic_messages")),
        Reasoning("", Signature("d", "anthropic_messages"), redacted=True),
        Reasoning("b", Signature("x", "openai_responses")),
        ToolCall("toolu_1", "f", '{"a":[1,"ä"]}', Signature("g", "gemini")),
        ToolCall("functions.f:0", "f", '{"a":[1,"ä"]}'),
    )
    assert turns[1] == Turn("system", (Text("c"),))


def test_what_has_no_place_is_named() -> None:
    text = {"type": "text", "text": "a", "citations": [{"type": "char_location"}]}
    document = {"type": "document", "context": "c", "citations": {"enabled": True}}
    turns, lost = read(
        {
            "role": "assistant",
            "content": [text, {"type": "server_tool_use"}, {"type": "web_search_tool_result"}],
        },
        user(document | {"source": {"type": "text", "data": "x"}}),
    )
    assert turns[0].parts == (Text("a"),)
    assert lost == {
        "messages[].citations",
        "messages[].context",
        "messages[].server_tool_use",
        "messages[].web_search_tool_result",
    }


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "tool", "content": "a"}, r"`messages\[0\]\.role`"),
        ({"role": "user"}, r"`messages\[0\]\.content`"),
        ({"role": "user", "content": [1]}, r"`messages\[0\]\.content`"),
        (user({"text": "a"}), r"`messages\[0\]\.content\[0\]`"),
        (user({"type": "container_upload"}), "'container_upload'"),
        (user({"type": "image", "source": {"type": "file", "file_id": "f"}}), "send its data"),
        (user({"type": "image", "source": {"type": "odd"}}), r"source\.type"),
        (user({"type": "document", "source": {"type": "file", "file_id": "f"}}), "send its data"),
        (user({"type": "document", "source": {}}), r"source\.type"),
        (user({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}), r"\.input`"),
        (user({"type": "tool_result", "content": "a"}), r"\.tool_use_id`"),
        (user({"type": "tool_result", "tool_use_id": "a", "content": [CALL]}), "cannot stand inside"),
        (
            {"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
            "only a user's message",
        ),
    ],
)
def test_a_malformed_message_is_refused_by_its_place(message: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        read(message)
