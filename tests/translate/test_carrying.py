"""Which dialect is preferred for a provider that does not speak the client's."""

import pytest

from gproxy.translate.carrying import PREFERRED, carrying
from gproxy.translate.registry import DIALECTS

TRANSLATED = [name for name in PREFERRED if name in DIALECTS]


@pytest.mark.parametrize("client", TRANSLATED)
@pytest.mark.parametrize("target", TRANSLATED)
def test_the_only_dialect_that_is_spoken_is_taken_unless_it_is_the_clients(client: str, target: str) -> None:
    assert carrying(client, {target, "openai_embeddings"}, "m") == ("" if target == client else target)


def test_what_everybody_carries_comes_first() -> None:
    assert carrying("anthropic_messages", set(PREFERRED), "llama-4") == "openai_chat"


def test_a_model_is_asked_in_the_dialect_of_its_maker() -> None:
    assert carrying("openai_chat", set(PREFERRED), "anthropic/claude-opus-4-5") == "anthropic_messages"
    if "openai_responses" in DIALECTS:
        assert carrying("anthropic_messages", set(PREFERRED), "gpt-5.4") == "openai_responses"
        assert carrying("anthropic_messages", {"openai_chat"}, "gpt-5.4") == "openai_chat"
        assert carrying("anthropic_messages", set(PREFERRED), "gpt-4.1") == "openai_chat"
    if "gemini" in DIALECTS:
        assert carrying("openai_chat", set(PREFERRED), "gemini-3-pro") == "gemini"


@pytest.mark.parametrize("spoken", [set(), {"openai_embeddings"}])
def test_there_may_be_none(spoken: set[str]) -> None:
    assert carrying("openai_chat", spoken, "m") == ""
    assert carrying("openai_embeddings", set(PREFERRED), "m") == ""
