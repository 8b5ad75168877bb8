"""`gproxy.toml.example` shows every key there is, and what it shows loads."""

import dataclasses
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

from gproxy.config import schema
from gproxy.config.load import load
from gproxy.providers import catalog

EXAMPLE = (Path(__file__).parents[2] / "gproxy.toml.example").read_text(encoding="utf-8")
SWITCHED_ON = re.sub(r"(?m)^([ \t]*)#(?=[\[{\w])", r"\1", EXAMPLE)
CHANNELS = {name: catalog.CHANNELS[name] for name in ("openai", "custom", "demo")}


def all_keys(cls: type[Any]) -> set[tuple[str, ...]]:
    """The path of every key below a struct, arrays left out: `("providers", "settings", "base_url")`."""
    found: set[tuple[str, ...]] = set()
    for name, hint in typing.get_type_hints(cls).items():
        inner = next(iter(typing.get_args(hint)), hint)
        if name not in ("line", "service_account"):
            found.add((name,))
        if dataclasses.is_dataclass(inner):
            found |= {(name, *below) for below in all_keys(typing.cast(type[Any], inner))}
    return found


def shown_keys(tree: Any) -> set[tuple[str, ...]]:
    if isinstance(tree, list):
        return set().union(*map(shown_keys, tree))
    if not isinstance(tree, dict):
        return set()
    return {(name, *below) for name, inner in tree.items() for below in ({()} | shown_keys(inner))}


def test_the_example_loads_as_it_stands_without_a_problem() -> None:
    config, problems = load(EXAMPLE.encode(), channels=CHANNELS)
    assert config is not None
    assert problems == []


def test_all_switched_on_nothing_is_refused() -> None:
    _, problems = load(SWITCHED_ON.encode(), channels=CHANNELS)
    assert [problem for problem in problems if problem.severity == "error"] == []


def test_every_key_of_the_schema_is_shown() -> None:
    """`tpd` of a rate limit alone is only told of in words: it is the same as `total_tokens`, and both together
    are warned about. The tiers of a class of service have the keys of the ordinary ones.
    """
    wanted = {("global" if path[0] == "globals" else path[0], *path[1:]) for path in all_keys(schema.Config)}
    wanted -= {path for path in wanted if len(path) == 3 and path[1].endswith("_price_tiers")}
    shown = shown_keys(tomllib.loads(SWITCHED_ON))
    assert wanted - shown == {("rate_limits", "tpd")}


def test_settings_of_global_are_shown_at_their_defaults() -> None:
    config, _ = load(re.sub(r"(?s)\n# --- .*", "", SWITCHED_ON).encode(), channels=CHANNELS)
    assert config is not None
    assert config.globals == schema.Global()
