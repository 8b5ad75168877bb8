"""Contents as turns: both spellings, calls without ids, thoughts in pieces, and what cannot be translated."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.gemini.contents import read_contents, read_system
from gproxy.translate.gemini.spelling import several
from gproxy.translate.model import (
    Audio,
    File,
    Image,
    Part,
    Reasoning,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)

F = {"functionCall": {"name": "f", "args": {"a": 1}}}
G = {"functionCall": {"name": "g"}}


def answered(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"output": text}, **more}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def model(*parts: Any) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def read(*contents: Any) -> tuple[Turn, ...]:
    return read_contents(list(contents), set())


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"text": "a"}, Text("a")),
        ({"inlineData": {"mimeType": "image/png", "data": "-_8"}}, Image("+/8=", "image/png")),
        ({"inline_data": {"mime_type": "image/png", "data": "aaaa"}}, Image("aaaa", "image/png")),
        ({"inlineData": {"mimeType": "audio/mpeg", "data": "aaaa"}}, Audio("aaaa", "mp3")),
        ({"inlineData": {"mimeType": "audio/wav; rate=8000", "data": "aaaa"}}, Audio("aaaa", "wav")),
        (
            {"inlineData": {"mimeType": "application/pdf", "data": "aaaa", "displayName": "a.pdf"}},
            File("aaaa", "application/pdf", name="a.pdf"),
        ),
        ({"fileData": {"mimeType": "image/png", "fileUri": "https://a.b/c"}}, Image(url="https://a.b/c")),
        (
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.b/c"}},
            File(url="https://a.b/c"),
        ),
    ],
)
def test_a_user_sends_texts_images_sound_and_files(part: dict[str, Any], expected: Part) -> None:
    assert read({"parts": [part]}) == (Turn("user", (expected,)),)


def test_one_content_and_one_part_may_stand_alone() -> None:
    assert read({"parts": {"text": "a"}}) == (Turn("user", (Text("a"),)),)


def test_calls_without_ids_are_numbered_and_answered_by_name_and_in_order() -> None:
    turns = read(
        user({"text": "a"}),
        model(F, F, G),
        user(answered("g", "1"), answered("f", "2"), answered("f", "3"), {"text": "b"}),
        model(F),
        user(answered("f", "4")),
    )
    assert turns[1:4] == (
        Turn(
            "assistant",
            (
                ToolCall("call_1", "f", '{"a":1}'),
                ToolCall("call_2", "f", '{"a":1}'),
                ToolCall("call_3", "g", "{}"),
            ),
        ),
        Turn(
            "tool",
            tuple(ToolResult(f"call_{n}", (Text(text),)) for n, text in ((3, "1"), (1, "2"), (2, "3"))),
        ),
        Turn("user", (Text("b"),)),
    )
    assert turns[5].parts == (ToolResult("call_4", (Text("4"),)),)


def test_ids_that_are_given_pair_calls_and_results_and_are_the_targets_own_again() -> None:
    calls = [{"functionCall": {"id": name, "name": "f"}} for name in ("x", "gpid-ZnVuY3Rpb25zLmY6MA")]
    turns = read(model(*calls), user(answered("f", "1", id="gpid-ZnVuY3Rpb25zLmY6MA"), answered("f", "2")))
    assert [call.id for call in turns[0].parts if isinstance(call, ToolCall)] == ["x", "functions.f:0"]
    assert turns[1].parts == (ToolResult("functions.f:0", (Text("1"),)), ToolResult("x", (Text("2"),)))


@pytest.mark.parametrize(
    ("response", "parts", "is_error"),
    [
        ({"output": "a"}, (Text("a"),), False),
        ({"error": "a"}, (Text("a"),), True),
        ({"result": 5}, (Text('{"result":5}'),), False),
        ({"output": {"a": 1}}, (Text('{"output":{"a":1}}'),), False),
        ({"error": {"code": 1}}, (Text('{"error":{"code":1}}'),), True),
        ({"output": "a", "error": "b"}, (Text('{"output":"a","error":"b"}'),), False),
        ({}, (), False),
        ({"output": ""}, (), False),
    ],
)
def test_a_response_is_a_text_or_an_error(
    response: dict[str, Any], parts: tuple[Part, ...], is_error: bool
) -> None:
    turns = read(model(F), user({"functionResponse": {"name": "f", "response": response}}))
    assert turns[1].parts == (ToolResult("call_1", parts, is_error),)


def test_a_response_may_hold_images() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "aaaa"}}
    turns = read(model(F), user(answered("f", "see", parts=[image])))
    assert turns[1].parts == (ToolResult("call_1", (Text("see"), Image("aaaa", "image/png"))),)


def test_what_was_streamed_to_a_client_is_whole_again() -> None:
    turns = read(
        model({"text": "hm", "thought": True}),
        model({"text": "m", "thought": True}, {"text": "", "thought": True, "thoughtSignature": "s1"}),
        model({"text": "He"}),
        model({"text": "llo", "thoughtSignature": "s2"}, {**F, "thoughtSignature": "s3"}),
    )
    assert turns == (
        Turn(
            "assistant",
            (
                Reasoning("hmm", Signature("s1", "gemini")),
                Text("Hello"),
                Reasoning("", Signature("s2", "gemini"), redacted=True),
                ToolCall("call_1", "f", '{"a":1}', Signature("s3", "gemini")),
            ),
        ),
    )


def test_what_only_google_knows_is_named() -> None:
    lost: set[str] = set()
    code = model({"executableCode": {"code": "1"}}, {"codeExecutionResult": {}}, {"text": "a"})
    video = user({"text": "b", "videoMetadata": {}, "partMetadata": None})
    assert read_contents([code, video], lost)[0].parts == (Text("a"),)
    assert lost == {
        f"contents[].parts[].{n}" for n in ("executableCode", "codeExecutionResult", "videoMetadata")
    }


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"role": "system", "parts": []}, "role"),
        (user({}), "one kind"),
        (user({"text": "a", "inlineData": {}}), "one kind"),
        (user({"executableCode": {}}), "user"),
        (user({"unknown": {}}), "user"),
        (model(answered("f", "a")), "model"),
        (user(answered("f", "a")), "not called"),
        (user({"inlineData": {"mimeType": "image/png"}}), "data"),
        (user({"inlineData": {"mimeType": "video/mp4", "data": "aaaa"}}), "video"),
        (user({"fileData": {"fileUri": "gs://a/b"}}), "send its data"),
        (
            user({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}}),
            "send its data",
        ),
        (user({"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}}), "video"),
        (user({"fileData": {"fileUri": "https://a.b/c", "mimeType": "video/mp4"}}), "video"),
        ("Hi", "contents"),
    ],
)
def test_what_cannot_be_translated_is_refused(content: Any, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        read_contents(several({"contents": [content]}, "contents"), set())


def test_sound_cannot_be_a_response() -> None:
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "aaaa"}}
    with pytest.raises(BadRequest, match="response"):
        read(model(F), user(answered("f", "", parts=[sound])))


def test_instructions_are_text() -> None:
    assert read_system({"parts": [{"text": "a"}, {"text": "b"}]}, "systemInstruction") == (
        Text("a"),
        Text("b"),
    )
    with pytest.raises(BadRequest, match=r"systemInstruction\.parts\[0\]"):
        read_system({"parts": [{"inlineData": {}}]}, "systemInstruction")
