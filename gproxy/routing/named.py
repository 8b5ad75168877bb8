"""The models that a body names beside `model`: to fall back to, for a tool to ask, or to be chosen from.

Whether a key may use them is `routes.py`'s to find out.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import BadRequest

_LISTS = ("models", "fallbacks")
"""By which OpenRouter, LiteLLM and others are told what to ask in the place of `model`, where that fails."""

_SETTINGS = ("plugins", "compound_custom", "data_sources", "draft_model", "safety_model")
"""Of OpenRouter, Groq, Azure, LM Studio and Together; what they name is asked beside `model`, or chosen from."""

_TUNING = ("generationConfig", "generation_config")
_ROUTING = ("routingConfig", "routing_config")
"""In which Vertex AI is told another model than that of the path."""

MEMBERS = frozenset((*_LISTS, *_SETTINGS, *_TUNING, "tools", "preset"))
"""All in which a body could name others."""

_OF_A_CLIENT = ("function", "custom")
"""Types of tools that a client runs itself, as it does those of no type: what they say of a model is theirs."""

_NAME = re.compile(r"(?:.*_)?models?|(?:model|deployment)_?name", re.IGNORECASE)

_RUN_MODELS = {
    "fusion": ("model", "analysis_models"),
    "advisor": ("model",),
    "subagent": ("model",),
    "image_generation": ("model",),
}
"""What OpenRouter runs with models of its own choice, unless these members name them: plugins, or tools
(`openrouter:fusion`), which have them in `parameters` (openrouter.ai/docs, "Server Tools", "Plugins")."""

_PRESET = "@preset/"
"""What OpenRouter has a saved configuration asked by, which chooses the model; alone or behind a model's name."""

MOST = 32
_MOST_VALUES = 20_000


def is_named_in(model: str) -> bool:
    """Whether a target's own id names another, so that `others` is to be asked whatever the body holds."""
    return _PRESET in model


def others(model: str, tree: Mapping[str, Any]) -> list[str]:
    """The names, in the order in which they are found. `model` is the upstream's id, `tree` the body.

    Raises BadRequest for more than MOST, and for what stands in the place of a list of them and is none.
    """
    found = [model[model.index(_PRESET) :]] if is_named_in(model) else []
    if not MEMBERS.isdisjoint(tree):
        for name in _named(tree):
            found.append(name)
            if len(found) > MOST:
                raise BadRequest(f"The body names more than {MOST} models.")
    return found


def _named(tree: Mapping[str, Any]) -> Iterator[str]:
    walk = _Walk()
    for field in _LISTS:
        if field in tree:
            yield from _listed(field, tree[field])
    for field in _SETTINGS:
        if field in tree:
            yield from walk.within({field: tree[field]})
    for field in _TUNING:
        if isinstance(tuning := tree.get(field), dict):
            yield from walk.within({name: tuning[name] for name in _ROUTING if name in tuning})
    if isinstance(tools := tree.get("tools"), list):
        hosted = [
            t for t in tools if isinstance(t, dict) and t.get("type", _OF_A_CLIENT[0]) not in _OF_A_CLIENT
        ]
        yield from walk.within(hosted, "tools")
    if isinstance(preset := tree.get("preset"), str):
        yield _PRESET + preset


def _listed(field: str, value: object) -> Iterator[str]:
    for each in value if isinstance(value, list) else [] if value is None else [value]:
        name = each.get("model") if isinstance(each, dict) else each
        if not isinstance(name, str):
            raise BadRequest(f"`{field}` must be a list of names of models.")
        yield name


class _Walk:
    """Looks through values, however deep, but for the tools that a client runs itself; through so many in all."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def within(self, value: object, place: str = "") -> Iterator[str]:
        """`place` is the name of the member that the value is, or is listed in."""
        self._left -= 1
        if self._left < 0:
            raise BadRequest(
                f"What the body says of hosted tools and plugins holds more than {_MOST_VALUES} values."
            )
        if isinstance(value, list):
            for each in value:
                yield from self.within(each, place)
        if not isinstance(value, dict) or _is_idle(value, place):
            return
        yield from _chosen(value)
        for name, member in value.items():
            named = _NAME.fullmatch(name) is not None
            if named and isinstance(member, str):
                yield member
                continue
            if named and isinstance(member, list):
                yield from (each for each in member if isinstance(each, str))
            yield from self.within(member, name)


def _is_idle(value: Mapping[str, Any], place: str) -> bool:
    """Whether no upstream runs it. Elsewhere a member of that name is none that anyone reads."""
    if place == "tools":
        return value.get("type") in _OF_A_CLIENT
    return place == "plugins" and value.get("enabled") is False


def _chosen(value: Mapping[str, Any]) -> Iterator[str]:
    """What stands for the models that an upstream chooses for a plugin or a tool which does not name them itself."""
    told = {"id": value, "type": value.get("parameters")}
    for member, settings in told.items():
        kind = value.get(member)
        if not isinstance(kind, str) or (member == "type" and ":" not in kind):
            continue
        needed = _RUN_MODELS.get(kind.rpartition(":")[2], ())
        if not all(isinstance(settings, dict) and settings.get(name) for name in needed):
            yield kind.replace(":", "/")
