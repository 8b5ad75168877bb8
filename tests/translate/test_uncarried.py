"""What cannot be told is found for each pair of dialects, and is what a request that asks for it is told."""

import pytest

from gproxy.translate import exchange
from gproxy.translate.base import TargetFacts
from gproxy.translate.registry import DIALECTS
from gproxy.translate.uncarried import NOTHING, uncarried

CLAUDE, DEEPSEEK, GPT = (TargetFacts(model=m) for m in ("claude-opus-4-7", "deepseek-chat", "gpt-5.1"))
SAMPLING = ("temperature", "top_k", "top_p")


@pytest.mark.parametrize(
    ("client", "target", "facts", "lost", "refused"),
    [
        ("anthropic_messages", "openai_responses", GPT, {"stop", "cache_control", *SAMPLING}, ()),
        (
            "openai_chat",
            "anthropic_messages",
            CLAUDE,
            {"seed", "verbosity", *SAMPLING},
            ("json_object", "sound"),
        ),
        ("anthropic_messages", "openai_chat", DEEPSEEK, {"thinking", "tool_result.is_error"}, ("file_url",)),
        ("openai_responses", "gemini", TargetFacts(model="gemini-3-pro"), {"metadata", "user"}, ()),
        (
            "openai_responses",
            "gemini",
            TargetFacts(model="gemini-2.5-pro"),
            {"metadata", "user"},
            ("json_schema beside tools",),
        ),
    ],
)
def test_what_cannot_be_told_is_named(
    client: str, target: str, facts: TargetFacts, lost: set[str], refused: tuple[str, ...]
) -> None:
    found = uncarried(client, target, facts)
    assert set(found.lost) >= lost
    assert found.refused == refused
    assert not set(found.lost) & set(found.refused)


def test_what_a_client_cannot_say_is_not_named() -> None:
    assert not {"seed", "stop", "top_k"} & set(uncarried("openai_responses", "openai_responses", GPT).lost)


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
def test_a_dialect_carries_nearly_all_that_it_can_say(dialect: str) -> None:
    model = TargetFacts(model="claude-3-7-sonnet-latest")
    assert uncarried(dialect, dialect, model).refused == ()
    assert uncarried("anthropic_messages", "anthropic_messages", model) == NOTHING


def test_it_is_what_a_request_is_told() -> None:
    request = {"messages": [{"role": "user", "content": "a"}], "seed": 7, "verbosity": "low", "top_k": 3}
    told = exchange.request(DIALECTS["openai_chat"], DIALECTS["anthropic_messages"], request, CLAUDE).lost
    assert told <= set(uncarried("openai_chat", "anthropic_messages", CLAUDE).lost)
