"""How a Gemini model reasons, and what it refuses, is known by its name."""

from typing import Any

import pytest

from gproxy.translate.gemini import models
from gproxy.translate.model import Thinking


@pytest.mark.parametrize(
    ("model", "asked", "config"),
    [
        ("gemini-2.5-pro", Thinking("high"), {"thinkingBudget": 16_384}),
        ("gemini-2.5-pro", Thinking(budget=31_999), {"thinkingBudget": 31_999}),
        ("gemini-2.5-flash", Thinking(budget=31_999), {"thinkingBudget": 24_576}),
        ("gemini-2.5-flash-lite", Thinking(budget=100), {"thinkingBudget": 512}),
        ("gemini-2.5-pro", Thinking(), {"thinkingBudget": -1}),
        ("models/gemini-3-pro-preview", Thinking("medium"), {"thinkingLevel": "LOW"}),
        ("gemini-3.1-pro-preview", Thinking("medium"), {"thinkingLevel": "MEDIUM"}),
        ("gemini-3.1-pro-preview", Thinking(budget=31_999), {"thinkingLevel": "HIGH"}),
        ("gemini-3-flash-preview", Thinking("minimal"), {"thinkingLevel": "MINIMAL"}),
        ("gemini-flash-latest", Thinking("minimal"), {"thinkingLevel": "LOW"}),
        ("gemini-3.5-flash", Thinking(), {}),
    ],
)
def test_an_effort_or_a_budget_is_told_as_the_model_takes_it(
    model: str, asked: Thinking, config: dict[str, Any]
) -> None:
    assert models.thinking_config(asked, model) == {"includeThoughts": True, **config}


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("gemini-2.5-flash", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"thinkingBudget": 128}),
        ("gemini-3.5-flash", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-pro-preview", {"thinkingLevel": "LOW"}),
    ],
)
def test_no_reasoning_is_as_little_as_the_model_can(model: str, config: dict[str, Any]) -> None:
    assert models.thinking_config(Thinking("none"), model) == {"includeThoughts": False, **config}


def test_thoughts_are_left_out_where_the_client_does_not_want_them() -> None:
    found = models.thinking_config(Thinking("low", shown=False), "gemini-2.5-pro")
    assert found == {"includeThoughts": False, "thinkingBudget": 2048}


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemma-3-27b-it"])
def test_a_model_that_does_not_reason_is_not_asked_to(model: str) -> None:
    assert models.thinking_config(Thinking("low"), model) is None


def test_rules_of_the_newer_models() -> None:
    newest, older = "gemini-3-flash-preview", "gemini-2.5-flash"
    assert models.wants_signatures(newest)
    assert models.wants_signatures("gemini-pro-latest")
    assert not models.wants_signatures(older)
    assert models.takes_media_in_results(newest)
    assert not models.takes_media_in_results(older)
    assert models.takes_penalties("gemini-2.0-flash")
    assert not models.takes_penalties(older)
    assert not models.takes_penalties("gemma-3-27b-it")
    assert models.levels_of(older) == ()
