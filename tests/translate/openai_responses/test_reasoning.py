"""Reasoning goes out and comes back as it was, and to nobody but who made it."""

import pytest

from gproxy.translate.model import Reasoning, Signature
from gproxy.translate.openai_responses.reasoning import (
    item_for_client,
    item_for_target,
    kept_for_call,
    reasoning_of,
    signature_of_call,
)

OWN = Signature("gAAA", "openai_responses")
OTHER = Signature("EqoB", "anthropic_messages")


@pytest.mark.parametrize(
    "part",
    [
        Reasoning("hm"),
        Reasoning("hm", OWN),
        Reasoning("hm", OTHER),
        Reasoning("", OTHER),
        Reasoning("", OTHER, redacted=True),
        Reasoning("", OWN, redacted=True),
    ],
)
def test_what_a_client_is_given_is_read_again(part: Reasoning) -> None:
    item = item_for_client(part, "rs_1")
    assert (item["id"], item["type"]) == ("rs_1", "reasoning")
    assert reasoning_of(item) == part


def test_a_target_gets_what_it_made() -> None:
    item = item_for_target(Reasoning("hm", OWN))
    assert item == {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "gAAA",
    }
    assert item_for_target(Reasoning("", OWN, redacted=True)) == item | {"summary": []}
    assert item_for_target(Reasoning("hm", OTHER)) is None
    assert item_for_target(Reasoning("hm")) is None


def test_summaries_are_parted_and_whole_reasoning_is_not() -> None:
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    content = [{"type": "reasoning_text", "text": "c"}, {"type": "reasoning_text", "text": "d"}]
    assert reasoning_of({"summary": summary, "content": content}) == Reasoning("a\n\nb")
    assert reasoning_of({"summary": [], "content": content}) == Reasoning("cd")
    assert reasoning_of({"summary": [], "encrypted_content": None}) is None


def test_the_signature_of_a_call_is_kept_by_an_item_of_its_own() -> None:
    signature = Signature("a.b", "gemini")
    item = kept_for_call(signature, "rs_1")
    assert signature_of_call(item) == signature
    assert signature_of_call(item_for_client(Reasoning("", OWN, redacted=True), "rs_1")) is None
