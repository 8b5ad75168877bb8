"""What is wrong with a configuration, and where: one `Problem` each, and the list that collects them.

What counts as wrong is decided in `reader.py` and `rules.py`.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

KeyPath = tuple[str | int, ...]
"""Where a value stands in the document: `("providers", 0, "channel")`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to tell the user. `line` counts from 1; 0: it stands in no line of the file.

    `path` is the key (`providers[0].channel`), or the flag or variable (`--port`, `GPROXY_PORT`) that is
    meant, or empty for the file as a whole. No text here ever holds a secret.
    """

    severity: Literal["error", "warning"]
    line: int
    path: str
    message: str
    hint: str = ""

    def render(self, filename: str) -> str:
        """One line: `gproxy.toml:12: error: providers[0].channel: unknown channel "x"; did you mean "y"?`."""
        place = f"{self._file(filename)}: " if self.line or not self.path else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}{self.severity}: {path}{self.message}{hint}"

    def place(self, filename: str) -> str:
        """Where alone, for those whom the names of the file are not told: `gproxy.toml:12: providers[0].channel`."""
        return f"{self._file(filename)}: {self.path}" if self.path else self._file(filename)

    def _file(self, filename: str) -> str:
        return f"{filename}:{self.line}" if self.line else filename


@dataclass(slots=True)
class Problems:
    """The problems found so far. `lines` maps the path of each key and table to its line."""

    lines: Mapping[KeyPath, int]
    found: list[Problem] = field(default_factory=list)

    def error(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.found.append(Problem("error", self.line(path), render_path(path), message, hint))

    def warn(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.found.append(Problem("warning", self.line(path), render_path(path), message, hint))

    def has_error(self, table: KeyPath, *, besides: Collection[str]) -> bool:
        """Whether an error is noted for a table itself, or for a key in it that is not one of `besides`."""
        here = render_path(table)
        below = (
            problem.path.removeprefix(here)
            for problem in self.found
            if problem.severity == "error" and problem.path.startswith(here)
        )
        return any(re.split(r"[.[]", rest.removeprefix("."))[0] not in besides for rest in below)

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of the nearest table around it that has one; else 0."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def render_path(path: KeyPath) -> str:
    """`("providers", 0, "channel")` -> `providers[0].channel`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def suggestion(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`did you mean "port"?` for the nearest known word, or empty if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f'did you mean "{near[0]}"?' if near else ""
