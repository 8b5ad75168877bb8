"""Where each header, key and value of a TOML text stands, by path: what lossless edits are made from.

The text must be valid TOML: `tomllib` has accepted it, so that nothing is checked again here. Changes are
`document.py`'s.
"""

import re
import tomllib
from dataclasses import dataclass, field

from gproxy.config.problems import KeyPath

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_KEY = re.compile(r""""(?:\\.|[^"\\\n])*"|'[^'\n]*'|[A-Za-z0-9_-]+""")
_SCALAR = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*"
    r"|[^\s,\]}#]+",
    re.DOTALL,
)


@dataclass(slots=True)
class Section:
    """A header and the statements below it: `[[users]]`, `[global]`, or the top of the file without a header.

    `path` has the indexes of the arrays in it: `("users", 0, "keys", 1)`. `start` is where its header's line
    starts, `end` where its last statement's value (or the header itself) ends.
    """

    path: KeyPath
    start: int
    end: int
    array: bool = False


@dataclass(slots=True)
class Value:
    """A value's span; `key` is where the key before it starts, for an element of an array its own start."""

    start: int
    end: int
    key: int


@dataclass(slots=True)
class Spans:
    """The spans of one text. `values` has every key's value and every element of an array, by path."""

    text: str
    sections: list[Section] = field(default_factory=list)
    values: dict[KeyPath, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts: dict[KeyPath, int] = {}
        self.sections.append(Section((), 0, 0))
        at = self._skip(0)
        while at < len(self.text):
            section = self.sections[-1]
            if self.text[at] == "[":
                at = self._header(at, counts)
            else:
                at = section.end = self._pair(at, section.path)
            at = self._skip(at)

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        return found.end() if found else at

    def _header(self, at: int, counts: dict[KeyPath, int]) -> int:
        array = self.text.startswith("[[", at)
        names, end = self._key(at + 1 + array)
        end += 1 + array
        path: KeyPath = ()
        for depth, name in enumerate(names, 1):
            path = (*path, name)
            if array and depth == len(names):
                counts[path] = counts.get(path, -1) + 1
            if path in counts:
                path = (*path, counts[path])
        line = self.text.rfind("\n", 0, at) + 1
        self.sections.append(Section(path, line, end, array))
        return end

    def _key(self, at: int) -> tuple[tuple[str, ...], int]:
        """The parts of a dotted key, and where the character behind it stands."""
        names: list[str] = []
        while True:
            at = _end(_BLANK, self.text, at)
            end = _end(_KEY, self.text, at)
            raw = self.text[at:end]
            names.append(next(iter(tomllib.loads(f"{raw}=0"))) if raw[0] in "\"'" else raw)
            at = _end(_BLANK, self.text, end)
            if self.text[at] != ".":
                return tuple(names), at
            at += 1

    def _pair(self, at: int, path: KeyPath) -> int:
        names, equals = self._key(at)
        return self._value(_end(_BLANK, self.text, equals + 1), (*path, *names), at)

    def _value(self, at: int, path: KeyPath, key: int | None = None) -> int:
        if self.text[at] == "[":
            end = self._elements(at, path)
        elif self.text[at] == "{":
            end = self._pairs(at, path)
        else:
            end = _end(_SCALAR, self.text, at)
        self.values[path] = Value(at, end, at if key is None else key)
        return end

    def _elements(self, at: int, path: KeyPath) -> int:
        at, index = self._skip(at + 1), 0
        while self.text[at] != "]":
            at = self._skip(self._value(at, (*path, index)))
            index += 1
            if self.text[at] == ",":
                at = self._skip(at + 1)
        return at + 1

    def _pairs(self, at: int, path: KeyPath) -> int:
        at = self._skip(at + 1)
        while self.text[at] != "}":
            at = self._skip(self._pair(at, path))
            if self.text[at] == ",":
                at = self._skip(at + 1)
        return at + 1


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"not TOML at offset {at}")
    return found.end()
