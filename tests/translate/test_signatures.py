"""A signature passes through a client that speaks another dialect, and goes to no target but its own."""

from hypothesis import given
from hypothesis import strategies as st

from gproxy.translate import signatures
from gproxy.translate.model import Signature

dialects = st.sampled_from(["openai_chat", "openai_responses", "anthropic_messages", "gemini"])


@given(st.text(min_size=1).filter(lambda t: not t.startswith("gproxy.")), dialects, dialects)
def test_a_client_gives_back_what_it_was_given(value: str, made_by: str, client: str) -> None:
    signature = Signature(value, made_by)
    assert signatures.from_client(signatures.worn(signature, client), client) == signature


def test_a_clients_own_signature_is_worn_as_it_is() -> None:
    assert signatures.worn(Signature("EqoB", "gemini"), "gemini") == "EqoB"
    assert signatures.worn(Signature("EqoB", "gemini"), "openai_chat") == "gproxy.gemini.EqoB"


def test_nothing_stands_for_no_signature() -> None:
    assert signatures.worn(None, "gemini") == ""
    assert signatures.from_client("", "gemini") is None
    assert signatures.from_client("gproxy.gemini.", "openai_chat") is None


def test_a_target_gets_its_own_signatures_alone() -> None:
    assert signatures.valid_for(Signature("a", "gemini"), "gemini") == "a"
    assert signatures.valid_for(Signature("a", "openai_chat"), "gemini") == ""
    assert signatures.valid_for(None, "gemini") == ""


@given(st.text(min_size=1), dialects)
def test_the_signature_of_a_call_is_told_from_that_of_a_thought(value: str, made_by: str) -> None:
    signature = Signature(value, made_by)
    assert signatures.of_call(signatures.worn_by_call(signature)) == signature
    assert signatures.of_call(signatures.worn(signature, "no dialect")) is None
    assert signatures.of_call("EqoB") is None
