"""What is known of Gemini models by their names: how they reason, and what they refuse.

A name without a version (`gemini-flash-latest`) is taken for a model of the newest.
"""

import re
from functools import lru_cache
from typing import Any

from gproxy.translate import traits
from gproxy.translate.model import Effort, Thinking

_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_NEWEST = (99, 0)
_OLDEST = (0, 0)
_PENALTIES_SINCE = (2, 0)
_BUDGETS_SINCE = (2, 5)
_LEVELS_SINCE = (3, 0)
_MINIMAL_UNTIL = (3, 6)
_AS_IT_SEES_FIT = -1

# (smallest, largest) by the model's name: https://ai.google.dev/gemini-api/docs/thinking
_BUDGETS = {"flash-lite": (512, 24_576), "flash": (1, 24_576), "pro": (128, 32_768)}


@lru_cache(maxsize=1024)
def _version(model: str) -> tuple[int, int]:
    found = _VERSION.search(model)
    if found is not None:
        return int(found[1]), int(found[2] or 0)
    return _NEWEST if "gemini" in model else _OLDEST


def wants_signatures(model: str) -> bool:
    """Whether a call that is sent back must have the signature it came with."""
    return _version(model) >= _LEVELS_SINCE


def takes_media_in_results(model: str) -> bool:
    """Whether the result of a tool may hold images and files itself."""
    return _version(model) >= _LEVELS_SINCE


def takes_json_beside_tools(model: str) -> bool:
    """Whether it can be asked to answer in JSON while it has tools: a Gemini before the third cannot."""
    return not _OLDEST < _version(model) < _LEVELS_SINCE


def takes_penalties(model: str) -> bool:
    """Newer models refuse them (“Penalty is not enabled for this model”)."""
    return _PENALTIES_SINCE <= _version(model) < _BUDGETS_SINCE


def levels_of(model: str) -> tuple[Effort, ...]:
    """The thinking levels that a model takes; () for one that has none."""
    version = _version(model)
    if version < _LEVELS_SINCE:
        return ()
    if "flash" in model:
        return (
            ("minimal", "low", "medium", "high") if version <= _MINIMAL_UNTIL else ("low", "medium", "high")
        )
    return ("low", "high") if version == _LEVELS_SINCE else ("low", "medium", "high")


def thinking_config(asked: Thinking, model: str) -> dict[str, Any] | None:
    """`thinkingConfig` for what was asked; None for a model that does not reason."""
    effort = traits.effort_of(asked)
    config: dict[str, Any] = {"includeThoughts": asked.shown is not False and effort != "none"}
    levels = levels_of(model)
    if levels:
        if effort is not None:
            config["thinkingLevel"] = traits.nearest(effort, levels).upper()
        return config
    if _version(model) < _BUDGETS_SINCE:
        return None
    smallest, largest = next((sizes for name, sizes in _BUDGETS.items() if name in model), _BUDGETS["pro"])
    if effort is None:
        config["thinkingBudget"] = _AS_IT_SEES_FIT
    elif effort == "none":
        config["thinkingBudget"] = 0 if "flash" in model else smallest
    else:
        config["thinkingBudget"] = max(smallest, traits.budget_of(asked, largest))
    return config
