"""Glob patterns over whole model names: `*` any run (slashes too), `?` one character, all else literal.

Which names a pattern is held against is decided in `routing/`.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> re.Pattern[str]:
    first, *rest = ("".join("." if c == "?" else re.escape(c) for c in run) for run in glob.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    # Each run between two stars is taken at its first place for good (an atomic group): a pattern of many
    # stars then costs one pass, where plain `.*` would try every split.
    middle = "".join(f"(?>.*?{run})" for run in rest[:-1] if run)
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One glob. `matches` is case-sensitive and anchored at both ends."""

    glob: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regex", _compiled(self.glob))

    def matches(self, name: str) -> bool:
        return self._regex.fullmatch(name) is not None
