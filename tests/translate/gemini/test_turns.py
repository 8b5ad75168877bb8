"""Turns as contents: order, roles, signatures and media as Gemini's models take them."""

from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.gemini.thoughts import UNSIGNED
from gproxy.translate.gemini.turns import function_name, written_contents
from gproxy.translate.model import (
    Audio,
    Citation,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)

OLDER, NEWER = "gemini-2.5-flash", "gemini-3-flash-preview"
OWN, ANOTHERS = Signature("s", "gemini"), Signature("x", "anthropic_messages")
ASKED = Turn("user", (Text("a"),))
PNG = Image("aaaa", "image/png")


def written(*turns: Turn, model: str = OLDER, lost: set[str] | None = None) -> list[dict[str, Any]]:
    return written_contents(turns, model, set() if lost is None else lost)


def said(*parts: Part, model: str = OLDER) -> list[dict[str, Any]]:
    """What a model's turn of these parts is written as."""
    results = tuple(ToolResult(part.id) for part in parts if isinstance(part, ToolCall))
    after = (Turn("tool", results),) if results else ()
    parts_written: list[dict[str, Any]] = written(ASKED, Turn("assistant", parts), *after, model=model)[1][
        "parts"
    ]
    return parts_written


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Text("a"), {"text": "a"}),
        (PNG, {"inlineData": {"mimeType": "image/png", "data": "aaaa"}}),
        (Audio("aaaa", "wav"), {"inlineData": {"mimeType": "audio/wav", "data": "aaaa"}}),
        (File("aaaa", "text/plain"), {"inlineData": {"mimeType": "text/plain", "data": "aaaa"}}),
        (
            Image(url="https://a/b.PNG?c"),
            {"fileData": {"mimeType": "image/png", "fileUri": "https://a/b.PNG?c"}},
        ),
        (File(url="https://a/b"), {"fileData": {"fileUri": "https://a/b"}}),
    ],
)
def test_a_users_parts_are_written(part: Part, expected: dict[str, Any]) -> None:
    assert written(Turn("user", (part,))) == [{"role": "user", "parts": [expected]}]


def test_neighbours_are_one_and_the_user_begins() -> None:
    contents = written(Turn("assistant", (Text("a"),)), ASKED, Turn("user", (Text(""), Text("b"))))
    assert contents == [
        {"role": "user", "parts": [{"text": "."}]},
        {"role": "model", "parts": [{"text": "a"}]},
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
    ]
    assert written() == [{"role": "user", "parts": [{"text": "."}]}]


def test_results_are_a_content_of_their_own_behind_their_calls() -> None:
    calls = (ToolCall("1", "f", '{"a":1}'), ToolCall("2", "g", "broken"))
    results = (ToolResult("2", (Text("x"), Text("y"))), ToolResult("1", (Text("no"),), is_error=True))
    contents = written(ASKED, Turn("assistant", calls), Turn("tool", results), Turn("user", (Text("b"),)))
    assert contents[1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "f", "args": {"a": 1}}},
                {"functionCall": {"name": "g", "args": {"arguments": "broken"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "f", "response": {"error": "no"}}},
                {"functionResponse": {"name": "g", "response": {"output": "x\ny"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "b"}]},
    ]


def test_images_of_results_stand_in_them_or_behind_them() -> None:
    turns = (ASKED, Turn("assistant", (ToolCall("1", "f", "{}"),)), Turn("tool", (ToolResult("1", (PNG,)),)))
    image = {"inlineData": {"mimeType": "image/png", "data": "aaaa"}}
    assert written(*turns, model=NEWER)[2]["parts"] == [
        {"functionResponse": {"name": "f", "response": {"output": ""}, "parts": [image]}}
    ]
    answered = {"functionResponse": {"name": "f", "response": {"output": "See the image or file below."}}}
    assert written(*turns)[2:] == [
        {"role": "user", "parts": [answered]},
        {"role": "user", "parts": [image]},
    ]


def test_newer_models_get_a_signature_with_the_first_of_calls() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    plain, signed = ToolCall("1", "f", "{}"), ToolCall("2", "f", "{}", OWN)
    assert said(plain, ToolCall("3", "f", "{}"), model=NEWER) == [
        {**call, "thoughtSignature": UNSIGNED},
        call,
    ]
    assert said(signed, plain, model=NEWER) == [{**call, "thoughtSignature": "s"}, call]
    assert said(ToolCall("1", "f", "{}", ANOTHERS), model=NEWER) == [{**call, "thoughtSignature": UNSIGNED}]
    assert said(plain) == [call]


def test_thoughts_go_back_to_gemini_if_it_signed_them() -> None:
    hidden = Reasoning("", OWN, redacted=True)
    assert said(Reasoning("hm", OWN), Text("a"), hidden, hidden) == [
        {"text": "hm", "thought": True, "thoughtSignature": "s"},
        {"text": "a", "thoughtSignature": "s"},
        {"text": "", "thoughtSignature": "s"},
    ]


def test_what_cannot_be_said_is_named() -> None:
    lost: set[str] = set()
    turns = (
        Turn(
            "user", (Text("a", cache="5m"), Image(url="https://a/b", detail="low"), File("a", "b", name="n"))
        ),
        Turn("assistant", (Reasoning("hm", ANOTHERS), Text("b", (Citation("u"),)), Refusal("c"))),
        Turn("system", (Text("d"),)),
    )
    contents = written(*turns, lost=lost)
    assert contents[1]["parts"] == [{"text": "b"}, {"text": "c"}]
    assert contents[2] == {"role": "user", "parts": [{"text": "d"}]}
    assert lost == {"cache_control", "detail", "filename", "reasoning", "citations", "messages[].role"}


@pytest.mark.parametrize("turn", [Turn("user", (Refusal("a"),)), Turn("assistant", (PNG,))])
def test_what_a_side_does_not_say_is_refused(turn: Turn) -> None:
    with pytest.raises(BadRequest, match="cannot hold"):
        written(ASKED, turn)


@pytest.mark.parametrize(
    ("name", "begins"),
    [("get_weather", "get_weather"), ("_a-b", "_a-b"), ("1st", "_1st"), ("-x", "_-x"), ("a.b", "a_b_")],
)
def test_names_of_functions_begin_with_a_letter(name: str, begins: str) -> None:
    assert function_name(name).startswith(begins)
    assert len(function_name("9" * 200)) <= 64
