"""Signatures are base64 at a client, which may write them anew; pieces of one thought are one again."""

from base64 import b64decode, urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st

from gproxy.translate.gemini.thoughts import UNSIGNED, from_client, joined, standard, worn
from gproxy.translate.model import Reasoning, Signature, Text, ToolCall

SIGNED = Signature("s", "gemini")


def rewritten(text: str) -> str:
    """As the official SDK for Python keeps a field of bytes."""
    return urlsafe_b64encode(b64decode(text)).decode()


@given(st.text(min_size=1), st.sampled_from(["openai_chat", "openai_responses", "anthropic_messages"]))
def test_anothers_signature_comes_back_from_a_client_that_writes_it_anew(value: str, dialect: str) -> None:
    signature = Signature(value, dialect)
    assert from_client(worn(signature)) == signature
    assert from_client(rewritten(worn(signature))) == signature


def test_geminis_own_signature_is_left_as_it_is() -> None:
    assert worn(Signature("EqoB+/8=", "gemini")) == "EqoB+/8="
    assert from_client("EqoB-_8=") == Signature("EqoB-_8=", "gemini")
    assert from_client("Z3Byb3h5%") == Signature("Z3Byb3h5%", "gemini")


def test_what_stands_for_a_signature_is_none() -> None:
    assert from_client(UNSIGNED) is None
    assert from_client("") is None


def test_base64_of_either_alphabet_becomes_the_standard_one() -> None:
    assert standard("-_8") == "+/8="
    assert standard("iVBORw0KGgo=") == "iVBORw0KGgo="


def test_pieces_of_a_text_and_of_a_thought_are_one_up_to_its_signature() -> None:
    call = ToolCall("1", "f", "{}")
    redacted = Reasoning("", SIGNED, redacted=True)
    pieces = [Reasoning("a"), Reasoning("b"), Reasoning("", SIGNED), Reasoning("c"), redacted, Text("d")]
    assert joined([*pieces, Text("e"), call, Text("f")]) == [
        Reasoning("ab", SIGNED),
        Reasoning("c"),
        redacted,
        Text("de"),
        call,
        Text("f"),
    ]
