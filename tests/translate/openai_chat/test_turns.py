"""Turns are messages that a server of this dialect takes, plain strings wherever they can be."""

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
from gproxy.translate.openai_chat.turns import written_turns

ASKED = Turn("user", (Text("a"),))
SIGNED = Reasoning("hm", Signature("s", "openai_chat"))


def written(*turns: Turn, model: str = "llama", system: tuple[Text, ...] = ()) -> tuple[list[Any], set[str]]:
    lost: set[str] = set()
    return written_turns(Conversation(system=system, turns=turns), model, lost), lost


def called(call: ToolCall, *result: Text | Image | File) -> tuple[Turn, Turn]:
    return Turn("assistant", (call,)), Turn("tool", (ToolResult(call.id, result),))


def test_instructions_are_one_string() -> None:
    messages, lost = written(ASKED, Turn("system", (Text("d"),)), system=(Text("b", cache="5m"), Text("c")))
    assert messages == [
        {"role": "system", "content": "b\n\nc"},
        {"role": "user", "content": "a"},
        {"role": "system", "content": "d"},
    ]
    assert lost == {"cache_control"}


def test_what_a_user_sends_is_written() -> None:
    parts = (
        Text("a"),
        Image("iVBO", "image/png", detail="low"),
        Image(url="https://a.example/b"),
        File("JVBE", "application/pdf"),
        File("SMOkbGxv", "text/markdown", name="n.md"),
        Audio("UklG", "mp3"),
    )
    messages, lost = written(Turn("user", parts))
    assert messages[0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b"}},
        {"type": "file", "file": {"filename": "file", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "text", "text": "n.md\n\nHällo"},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
    ]
    assert lost == set()


def test_a_file_by_its_url_is_refused() -> None:
    with pytest.raises(BadRequest, match="send its data"):
        written(Turn("user", (File(url="https://a.example/b.pdf"),)))


def test_what_cannot_stand_in_a_turn_is_refused() -> None:
    with pytest.raises(BadRequest, match="Refusal"):
        written(Turn("user", (Refusal("no"),)))
    with pytest.raises(BadRequest, match="Image"):
        written(Turn("assistant", (Image(url="https://a.example"),)))


def test_a_call_has_no_content_beside_it_and_empty_turns_go() -> None:
    messages, _ = written(
        ASKED, *called(ToolCall("c", "f", ""), Text("ok")), Turn("assistant", ()), Turn("user", ())
    )
    assert messages[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
    ]


def test_images_in_results_are_a_users_after_all_of_them() -> None:
    calls = (ToolCall("c", "f", "{}"), ToolCall("d", "f", "{}"))
    image = Image(url="https://a.example/b")
    results = (ToolResult("c", (image,), is_error=True), ToolResult("d", (Text("x"), Text("y"))))
    messages, lost = written(ASKED, Turn("assistant", calls), Turn("tool", results))
    assert messages[2:] == [
        {"role": "tool", "tool_call_id": "c", "content": "See the image or file below."},
        {"role": "tool", "tool_call_id": "d", "content": "x\ny"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b"}}]},
    ]
    assert lost == {"tool_result.is_error"}


def test_an_empty_result_is_empty() -> None:
    messages, _ = written(ASKED, *called(ToolCall("c", "f", "{}")))
    assert messages[2] == {"role": "tool", "tool_call_id": "c", "content": ""}


@pytest.mark.parametrize(("model", "length"), [("gpt-5", 32), ("mistral-large-latest", 9)])
def test_ids_that_do_not_fit_are_the_same_at_call_and_result(model: str, length: int) -> None:
    messages, _ = written(ASKED, *called(ToolCall("toolu_" + "x" * 40, "f", "{}"), Text("ok")), model=model)
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]
    assert len(messages[2]["tool_call_id"]) == length


@pytest.mark.parametrize(
    ("model", "kept"),
    [("kimi-k2-thinking", True), ("gpt-5", False), ("anthropic/claude-sonnet-4.5", False)],
)
def test_an_id_that_the_model_made_itself_goes_back_as_it_was(model: str, kept: bool) -> None:
    messages, _ = written(ASKED, *called(ToolCall("functions.f:0", "f", "{}")), model=model)
    assert (messages[2]["tool_call_id"] == "functions.f:0") is kept
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]


def test_a_call_that_takes_text_is_openais_own() -> None:
    call = ToolCall("c", "patch", "*** Begin", freeform=True)
    native, _ = written(ASKED, *called(call), model="gpt-5")
    assert native[1]["tool_calls"] == [
        {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
    ]
    other, _ = written(ASKED, *called(call))
    assert other[1]["tool_calls"][0]["function"]["arguments"] == '{"input": "*** Begin"}'


@pytest.mark.parametrize(
    ("model", "thought", "expected", "lost"),
    [
        ("gpt-5", SIGNED, {}, {"reasoning"}),
        ("gpt-5", Reasoning("hm"), {}, {"reasoning"}),
        ("deepseek-reasoner", Reasoning("hm"), {"reasoning_content": "hm"}, set()),
        ("deepseek-reasoner", Reasoning("hm", Signature("s", "gemini")), {"reasoning_content": "hm"}, set()),
        (
            "some/model",
            SIGNED,
            {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "s"}]},
            set(),
        ),
    ],
)
def test_reasoning_goes_back_to_those_who_want_it(
    model: str, thought: Reasoning, expected: dict[str, Any], lost: set[str]
) -> None:
    call = ToolCall("c", "f", "{}")
    result = Turn("tool", (ToolResult("c", (Text("ok"),)),))
    messages, named = written(ASKED, Turn("assistant", (thought, call)), result, model=model)
    assert {name: value for name, value in messages[1].items() if name.startswith("reasoning")} == expected
    assert named == lost


def test_a_signature_of_geminis_goes_back_to_gemini() -> None:
    call = ToolCall("c", "f", "{}", Signature("s", "gemini"))
    messages, _ = written(ASKED, *called(call), model="gemini-3-pro")
    assert messages[1]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}
    other, _ = written(ASKED, *called(call), model="gpt-5")
    assert "extra_content" not in other[1]["tool_calls"][0]


def test_refusals_and_citations_of_before() -> None:
    said = Turn("assistant", (Text("b", (Citation("https://a.example"),)), Refusal("no")))
    messages, lost = written(ASKED, said)
    assert messages[1] == {"role": "assistant", "content": "b", "refusal": "no"}
    assert lost == {"citations"}
