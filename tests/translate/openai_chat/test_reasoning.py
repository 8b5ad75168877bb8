"""Reasoning is read in each of the forms that servers give it, and its signature is kept."""

from dataclasses import replace
from typing import Any

import pytest

from gproxy.translate import signatures
from gproxy.translate.model import Reasoning, Signature
from gproxy.translate.openai_chat.reasoning import detail_of, plain_text, read_reasoning

TEXT = {"type": "reasoning.text", "text": "a", "signature": "s", "index": 0}
OWN = Signature("s", "openai_chat")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, []),
        ({"reasoning_content": "a"}, [Reasoning("a")]),
        ({"reasoning": "a"}, [Reasoning("a")]),
        ({"reasoning": {"odd": 1}}, []),
        ({"reasoning": "a", "reasoning_details": [TEXT]}, [Reasoning("a", OWN)]),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "a"}]}, [Reasoning("a")]),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "s"}]}, [Reasoning("", OWN, True)]),
        ({"reasoning": "a", "reasoning_details": ["odd", {"type": "reasoning.text"}]}, [Reasoning("a")]),
        (
            {"reasoning_details": [TEXT | {"signature": "gproxy.anthropic_messages.x"}]},
            [Reasoning("a", Signature("x", "anthropic_messages"))],
        ),
    ],
)
def test_reasoning_is_read(message: dict[str, Any], expected: list[Reasoning]) -> None:
    assert list(read_reasoning(message)) == expected


def test_plain_text_is_the_first_that_is_there() -> None:
    assert plain_text({"reasoning_content": "", "reasoning": "b"}) == "b"


@pytest.mark.parametrize(
    "part",
    [Reasoning("a", OWN), Reasoning("", OWN, True), Reasoning("a", Signature("x", "anthropic_messages"))],
)
def test_a_signed_part_is_read_as_it_was_written(part: Reasoning) -> None:
    assert list(read_reasoning({"reasoning_details": [detail_of(part)]})) == [part]


def test_a_part_without_a_signature_has_no_detail() -> None:
    assert detail_of(Reasoning("a")) is None


@pytest.mark.parametrize(
    "detail",
    [
        {
            "type": "reasoning.text",
            "text": "a",
            "signature": "s",
            "id": "r-1",
            "format": "anthropic-claude-v1",
        },
        {"type": "reasoning.encrypted", "data": "s", "id": "call_1", "format": "google-gemini-v1"},
        {"type": "reasoning.encrypted", "data": '{"', "format": "f"},
        {"type": "reasoning.encrypted", "data": "{"},
    ],
)
@pytest.mark.parametrize("client", ["anthropic_messages", "openai_responses", "gemini", "openai_chat"])
def test_what_stands_beside_a_signature_comes_back_with_it(detail: dict[str, Any], client: str) -> None:
    (part,) = read_reasoning({"reasoning_details": [detail]})
    worn = signatures.worn(part.signature, client)
    again = replace(part, signature=signatures.from_client(worn, client))
    assert detail_of(again) == detail


@pytest.mark.parametrize("value", ["{", "{}", "[]", '{"signature": 7}', "{" * 9000])
def test_a_signature_that_was_tampered_with_breaks_nothing(value: str) -> None:
    assert detail_of(Reasoning("", Signature(f"gproxy-detail.{value}", "openai_chat"), True)) is not None
