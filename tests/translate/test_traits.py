"""Models are known by their names, however a provider writes them; unknown ones have no rules."""

import pytest

from gproxy.translate import traits
from gproxy.translate.model import EFFORTS, Effort, Thinking


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-opus-4-7", (4, 7)),
        ("anthropic/claude-4.7-opus", (4, 7)),
        ("claude-sonnet-4-5-20250929", (4, 5)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-3-7-sonnet-latest", (3, 7)),
        ("claude-3-5-haiku@20241022", (3, 5)),
        ("us.anthropic.claude-opus-4-6-v1", (4, 6)),
        ("claude-fable-5", (5, 0)),
        ("claude-mythos-preview", (99, 0)),
        ("gpt-4.1", None),
        ("deepseek-chat", None),
    ],
)
def test_the_version_of_a_claude_is_read(model: str, version: tuple[int, int] | None) -> None:
    assert traits.claude_version(model) == version


@pytest.mark.parametrize(
    ("model", "efforts"),
    [
        ("gpt-4.1-mini", ()),
        ("gpt-5-chat-latest", ()),
        ("gpt-5-mini", ("minimal", "low", "medium", "high")),
        ("openai/gpt-5.1-codex", ("none", "low", "medium", "high")),
        ("gpt-5.4", ("none", "low", "medium", "high", "xhigh")),
        ("gpt-6-astra", ("none", "low", "medium", "high", "xhigh")),
        ("o4-mini-2025-04-16", ("low", "medium", "high")),
        ("openai/gpt-oss-120b", ("low", "medium", "high")),
        ("gpt-4o", ()),
        ("gpt-35-turbo", ()),
        ("gpt-41-nano", ()),
        ("gpt-51", ("none", "low", "medium", "high")),
        ("gpt-deployment", ()),
        ("gemini-2.5-pro", ("minimal", "low", "medium", "high")),
        ("llama-3.3-70b", ()),
    ],
)
def test_a_model_takes_these_efforts(model: str, efforts: tuple[Effort, ...]) -> None:
    assert traits.efforts_of(model) == efforts


@pytest.mark.parametrize(
    ("model", "effort", "refuses"),
    [
        ("gpt-5.1", "high", True),
        ("gpt-5.1", None, True),
        ("gpt-5.1", "none", False),
        ("o3", None, True),
        ("gpt-4o", None, False),
        ("openai/gpt-oss-20b", "high", False),
        ("qwen3", "high", False),
    ],
)
def test_openais_models_take_no_sampling_while_they_reason(
    model: str, effort: Effort | None, refuses: bool
) -> None:
    assert traits.refuses_sampling(model, effort) is refuses


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-sonnet-latest", 8192),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-opus-4-1", 32_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-opus-4-5", 64_000),
        ("claude-mythos-preview", 64_000),
        ("anthropic/claude-opus-4.6", 128_000),
        ("chatgpt-4o-latest", 16_384),
        ("openai/gpt-4.1-mini", 32_768),
        ("gemini-2.0-flash", 8192),
        ("gemini-2.5-pro", None),
        ("gpt-5", None),
        ("deepseek-chat", None),
    ],
)
def test_the_ceiling_of_a_model_is_known(model: str, most: int | None) -> None:
    assert traits.ceiling(model) == most


@pytest.mark.parametrize(
    ("effort", "allowed", "nearest"),
    [
        ("max", ("low", "high"), "high"),
        ("none", ("low", "high"), "low"),
        ("minimal", ("none", "low"), "none"),
        ("medium", EFFORTS, "medium"),
    ],
)
def test_an_effort_that_is_not_taken_becomes_the_next_one(
    effort: Effort, allowed: tuple[Effort, ...], nearest: Effort
) -> None:
    assert traits.nearest(effort, allowed) == nearest


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        (Thinking(), None),
        (Thinking("xhigh", 5), "xhigh"),
        (Thinking(budget=0), "none"),
        (Thinking(budget=2048), "low"),
        (Thinking(budget=4096), "medium"),
        (Thinking(budget=31999), "high"),
    ],
)
def test_a_budget_is_an_effort(thinking: Thinking, effort: Effort | None) -> None:
    assert traits.effort_of(thinking) == effort


def test_an_effort_is_a_budget() -> None:
    assert traits.budget_of(Thinking("low"), 10_000) == 2048
    assert traits.budget_of(Thinking("max"), 10_000) == 10_000
    assert traits.budget_of(Thinking(), 10_000) == 8192
    assert traits.budget_of(Thinking("low", 5000), 10_000) == 5000
    assert traits.budget_of(Thinking("none"), 10_000) == 0


@pytest.mark.parametrize(
    ("model", "refuses"),
    [
        ("gpt-5.4", True),
        ("gpt-5.6-terra", True),
        ("gpt-6-astra", True),
        ("gpt-5.1", False),
        ("gpt-4.1", False),
        ("openai/gpt-5.4", False),
    ],
)
def test_newer_models_of_openais_do_not_reason_beside_tools_in_chat(model: str, refuses: bool) -> None:
    assert traits.reasons_without_tools(model) is refuses


@pytest.mark.parametrize(
    ("model", "may"),
    [
        ("claude-opus-5", True),
        ("claude-opus-4-8", True),
        ("claude-opus-4-7", False),
        ("claude-fable-5", False),
        ("claude-mythos-preview", False),
        ("glm-5", False),
    ],
)
def test_some_claudes_can_be_told_not_to_reason(model: str, may: bool) -> None:
    assert traits.may_rest(model) is may


def test_rules_of_single_makers_are_known_by_their_models() -> None:
    assert traits.wants_reasoning_back("moonshotai/Kimi-K2-Thinking")
    assert not traits.wants_reasoning_back("gpt-5")
    assert traits.has_short_ids("mistral-large-latest")
    assert not traits.has_short_ids("gpt-5")
    assert traits.is_of_openai("openai/gpt-4o")
    assert not traits.is_of_openai("openai/gpt-oss-120b")


@pytest.mark.parametrize(
    ("model", "takes"),
    [("gpt-5", True), ("openai/gpt-5.5-mini", True), ("gpt-6-luna", True)]
    + [(older, False) for older in ("gpt-4.1", "gpt-4o", "gpt-35-turbo", "o3", "gpt-oss-120b", "qwen3", "")],
)
def test_tools_that_take_text_came_with_gpt_5(model: str, takes: bool) -> None:
    assert traits.takes_text_tools(model) is takes
