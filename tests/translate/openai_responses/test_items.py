"""Input items are read as turns: what the assistant said is one turn, and so are results of tools."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.model import (
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
from gproxy.translate.openai_responses.items import Items, read_items
from gproxy.translate.openai_responses.reasoning import kept_for_call


def user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(content)}


def test_what_the_assistant_said_is_one_turn_and_so_are_results() -> None:
    found = read_items(
        [
            {"role": "user", "content": "Go"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Well", "annotations": []}],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** Begin"},
            {"type": "function_call_output", "call_id": "call_1", "output": "1"},
            {
                "type": "custom_tool_call_output",
                "call_id": "call_2",
                "output": [{"type": "input_text", "text": "2"}],
            },
        ]
    )
    assert found.turns == [
        Turn("user", (Text("Go"),)),
        Turn(
            "assistant",
            (
                Reasoning("", Signature("gAAA", "openai_responses"), redacted=True),
                Text("Well"),
                ToolCall("call_1", "f", "{}"),
                ToolCall("call_2", "patch", "*** Begin", freeform=True),
            ),
        ),
        Turn("tool", (ToolResult("call_1", (Text("1"),)), ToolResult("call_2", (Text("2"),)))),
    ]
    assert found.lost == set()


def test_instructions_before_the_first_turn_are_the_systems_and_later_ones_a_turn() -> None:
    found = read_items(
        [
            {"role": "developer", "content": "a"},
            {"role": "system", "content": [{"type": "input_text", "text": "b"}]},
            {"role": "user", "content": "c"},
            {"role": "developer", "content": "d"},
        ]
    )
    assert found.system == [Text("a"), Text("b")]
    assert found.turns == [Turn("user", (Text("c"),)), Turn("system", (Text("d"),))]


def test_images_and_files_are_read_as_data_or_by_their_url() -> None:
    found = read_items(
        [
            user(
                {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "auto"},
                {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": "data:application/pdf;base64,JVBE",
                    "detail": "high",
                },
                {"type": "input_file", "file_url": "https://a.example/c.pdf"},
            )
        ]
    )
    assert found.turns[0].parts == (
        Image("iVBO", "image/png"),
        Image(url="https://a.example/b.png", detail="low"),
        File("JVBE", "application/pdf", name="a.pdf"),
        File(url="https://a.example/c.pdf"),
    )
    assert found.lost == {"input[].detail"}


def test_a_refusal_is_the_assistants() -> None:
    part = {"type": "refusal", "refusal": "No"}
    found = read_items([{"role": "assistant", "content": [part]}])
    assert found.turns == [Turn("assistant", (Refusal("No"),))]
    with pytest.raises(BadRequest, match=r"input\[0\]\.content\[0\]"):
        read_items([user(part)])


def test_a_call_in_a_namespace_has_one_name_and_gets_its_signature_back() -> None:
    signature = Signature("s", "gemini")
    call = {"type": "function_call", "call_id": "c", "namespace": "ns", "name": "f", "arguments": "{}"}
    found = read_items([kept_for_call(signature, "rs_1"), call, call | {"call_id": "d"}])
    assert found.turns == [
        Turn("assistant", (ToolCall("c", "ns.f", "{}", signature), ToolCall("d", "ns.f", "{}")))
    ]


def test_tools_that_are_added_later_are_found() -> None:
    tool = {"type": "function", "name": "f"}
    found = read_items([{"type": "additional_tools", "role": "developer", "tools": [tool]}])
    assert found.tools == [(tool, "input[0].tools[0]")]


def test_what_openais_own_tools_did_and_other_fields_are_lost() -> None:
    found = read_items(
        [
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
            {"role": "assistant", "phase": "commentary", "content": "a"},
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "b", "annotations": [{"type": "url_citation"}]}],
            },
            user({"type": "input_text", "text": "c", "prompt_cache_breakpoint": {"mode": "explicit"}}),
        ]
    )
    assert found.lost == {
        "input[].web_search_call",
        "input[].phase",
        "input[].annotations",
        "prompt_cache_breakpoint",
    }


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"type": "item_reference", "id": "rs_1"}, "send the item itself"),
        ({"id": "rs_1"}, "send the item itself"),
        ({"type": "compaction", "encrypted_content": "a"}, "send the conversation itself"),
        ({"type": "local_shell_call", "call_id": "c"}, "'local_shell_call'"),
        ({"role": "tool", "content": "a"}, r"input\[0\]\.role"),
        ({"type": "function_call", "name": "f"}, r"input\[0\]\.call_id"),
        ({"role": "system", "content": [{"type": "input_image", "image_url": "u"}]}, "of the system"),
        (user({"type": "input_image", "file_id": "file-1"}), r"content\[0\]\.file_id"),
        (user({"type": "input_file", "file_id": "file-1"}), r"content\[0\]\.file_id"),
        (user({"type": "input_file", "file_data": "JVBE"}), "data URL"),
        (user({"type": "input_audio", "input_audio": {}}), "'input_audio'"),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "refusal", "refusal": "a"}]},
            "result of a tool",
        ),
    ],
)
def test_an_item_that_cannot_be_translated_is_refused(item: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        read_items([item])


def test_nothing_is_added_to_the_turn_of_another() -> None:
    items = Items()
    items.add("tool", ())
    items.add("assistant", ())
    items.add("user", ())
    items.add("user", ())
    assert [turn.role for turn in items.turns] == ["tool", "assistant", "user", "user"]
