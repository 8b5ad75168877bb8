"""Reasoning that another provider signed is kept from each dialect's own providers, and nothing else is."""

from base64 import b64encode
from typing import Any

import pytest

from gproxy.translate.foreign import without_foreign
from gproxy.translate.gemini.carriers import carried_by_call
from gproxy.translate.gemini.thoughts import UNSIGNED, worn
from gproxy.translate.model import Reasoning, Signature
from gproxy.translate.registry import DIALECTS

OWN = {"type": "thinking", "thinking": "a", "signature": "EqoB"}
FOREIGN = {"type": "thinking", "thinking": "b", "signature": "gproxy.openai_responses.x"}
HIDDEN = {"type": "redacted_thinking", "data": "gproxy.openai_chat.y"}
OF_CALL = {"type": "thinking", "thinking": "", "signature": "gproxy-call.gemini.z"}
OF_NOBODY = {"type": "thinking", "thinking": "c", "signature": "gproxy.none."}
TEXT = {"type": "text", "text": "gproxy.is.mine"}
USED = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}
HELLO = {"role": "user", "content": "Hello"}


def request(*blocks: dict[str, Any], then: dict[str, Any] = HELLO) -> dict[str, Any]:
    said = {"role": "assistant", "content": list(blocks)}
    return {"model": "m", "thinking": {"type": "enabled"}, "messages": [HELLO, said, then]}


def messages(tree: dict[str, Any]) -> dict[str, Any] | None:
    return without_foreign("anthropic_messages", tree, "claude-sonnet-4-5")


def test_own_reasoning_and_texts_stay_as_they_are() -> None:
    assert messages(request(OWN, TEXT)) is None
    assert messages({"messages": "none"}) is None
    assert messages({"messages": [HELLO, {"role": "assistant", "content": ["a", None]}]}) is None


def test_anothers_reasoning_goes_and_the_rest_stays() -> None:
    given = request(FOREIGN, HIDDEN, OF_CALL, OF_NOBODY, OWN, TEXT)
    assert messages(given) == request(OWN, TEXT)
    assert given == request(FOREIGN, HIDDEN, OF_CALL, OF_NOBODY, OWN, TEXT)


def test_a_message_of_nothing_else_goes_whole() -> None:
    found = messages(request(FOREIGN))
    assert found is not None
    assert found["messages"] == [HELLO, HELLO]


def test_calls_that_began_with_anothers_thought_go_on_without_one() -> None:
    found = messages(request(FOREIGN, USED, then=RESULT))
    assert found is not None
    assert "thinking" not in found
    kept = messages(request(OWN, FOREIGN, USED, then=RESULT))
    assert kept == request(OWN, USED, then=RESULT)


def test_openai_is_sent_no_item_that_it_cannot_decrypt() -> None:
    own = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    foreign = {"type": "reasoning", "id": "rs_2", "encrypted_content": "gproxy.anthropic_messages.EqoB"}
    of_call = {"type": "reasoning", "id": "rs_3", "encrypted_content": "gproxy-call.gemini.z"}
    said = {"type": "message", "role": "user", "content": "gproxy.is.mine"}
    tree = {"model": "m", "store": False, "input": [said, foreign, own, of_call]}
    assert without_foreign("openai_responses", tree, "gpt-5.1") == {**tree, "input": [said, own]}
    for none in ({**tree, "input": [said, own, "x"]}, {"input": "gproxy.x"}, {}):
        assert without_foreign("openai_responses", none, "gpt-5.1") is None


def test_openrouter_is_sent_no_details_of_others() -> None:
    own = {"type": "reasoning.text", "text": "a", "signature": "EqoB"}
    foreign = {"type": "reasoning.text", "text": "b", "signature": "gproxy.gemini.x"}
    hidden = {"type": "reasoning.encrypted", "data": "gproxy.openai_responses.x"}
    said = {"role": "assistant", "content": "c", "reasoning_details": [foreign, own, hidden]}
    only = {"role": "assistant", "content": "d", "reasoning_details": [hidden]}
    found = without_foreign("openai_chat", {"messages": [HELLO, said, only]}, "m")
    kept = {"role": "assistant", "content": "c", "reasoning_details": [own]}
    assert found == {"messages": [HELLO, kept, {"role": "assistant", "content": "d"}]}
    assert without_foreign("openai_chat", {"messages": [HELLO, kept]}, "m") is None


@pytest.mark.parametrize("name", ["thoughtSignature", "thought_signature"])
@pytest.mark.parametrize("model", ["gemini-2.5-pro", "gemini-3-flash"])
def test_gemini_is_sent_no_signature_of_ours(model: str, name: str) -> None:
    signed = {name: worn(Signature("EqoB", "anthropic_messages"))}
    carrying = {name: carried_by_call([Reasoning("hm")])}
    call, text = {"functionCall": {"name": "f"}}, {"text": "a"}
    asked = {"role": "user", "parts": [{"text": "q"}]}
    parts = [{"text": "hm", "thought": True, **signed}, text | signed, {"text": "", **signed}]
    own = {"functionCall": {"name": "g"}, name: "CkgI"}
    tree = {"contents": [asked, {"role": "model", "parts": [*parts, call | carrying, call | signed, own]}]}
    stand_in = {"thoughtSignature": UNSIGNED} if "3" in model else {}
    expected = [text, call | stand_in, call | stand_in, own]
    assert without_foreign("gemini", tree, model) == {
        "contents": [asked, {"role": "model", "parts": expected}]
    }
    alone = {"contents": [asked, {"role": "model", "parts": parts[:1]}]}
    assert without_foreign("gemini", alone, model) == {"contents": [asked]}
    untouched = {"contents": [asked, {"role": "model", "parts": [own, {name: b64encode(b"gpro").decode()}]}]}
    assert without_foreign("gemini", untouched, model) is None


@pytest.mark.parametrize("dialect", [*DIALECTS, "openai_embeddings"])
@pytest.mark.parametrize("wrong", ["x", 7, None, ["x"], [None], [[]], {}, [{"parts": 3, "content": 4}]])
def test_what_is_malformed_is_left_to_the_provider(dialect: str, wrong: Any) -> None:
    tree = {"messages": wrong, "contents": wrong, "input": wrong}
    assert without_foreign(dialect, tree, "m") is None
