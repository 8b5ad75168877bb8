"""Reasoning that another provider signed is kept from Anthropic, and nothing else is."""

from typing import Any

from gproxy.translate.foreign import may_hold_foreign, without_foreign

OWN = {"type": "thinking", "thinking": "a", "signature": "EqoB"}
FOREIGN = {"type": "thinking", "thinking": "b", "signature": "gproxy.openai_responses.x"}
HIDDEN = {"type": "redacted_thinking", "data": "gproxy.openai_chat.y"}
OF_CALL = {"type": "thinking", "thinking": "", "signature": "gproxy-call.gemini.z"}
TEXT = {"type": "text", "text": "gproxy.is.mine"}
USED = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}
HELLO = {"role": "user", "content": "Hello"}


def request(*blocks: dict[str, Any], then: dict[str, Any] = HELLO) -> dict[str, Any]:
    said = {"role": "assistant", "content": list(blocks)}
    return {"model": "m", "thinking": {"type": "enabled"}, "messages": [HELLO, said, then]}


def test_own_reasoning_and_texts_stay_as_they_are() -> None:
    assert without_foreign(request(OWN, TEXT)) is None
    assert without_foreign({"messages": "none"}) is None
    assert not may_hold_foreign('{"text": "EqoB gproxy"}')
    assert may_hold_foreign('{"signature": "gproxy.gemini.z"}')


def test_anothers_reasoning_goes_and_the_rest_stays() -> None:
    given = request(FOREIGN, HIDDEN, OF_CALL, OWN, TEXT)
    assert without_foreign(given) == request(OWN, TEXT)
    assert given == request(FOREIGN, HIDDEN, OF_CALL, OWN, TEXT)


def test_a_message_of_nothing_else_goes_whole() -> None:
    found = without_foreign(request(FOREIGN))
    assert found is not None
    assert found["messages"] == [HELLO, HELLO]


def test_calls_that_began_with_anothers_thought_go_on_without_one() -> None:
    found = without_foreign(request(FOREIGN, USED, then=RESULT))
    assert found is not None
    assert "thinking" not in found
    kept = without_foreign(request(OWN, FOREIGN, USED, then=RESULT))
    assert kept == request(OWN, USED, then=RESULT)
