"""One TOML text and the changes that can be made to it: every byte that a change is not about stays.

tomlkit renders the values put in, but does not hold the text: it moves tables of one array that stand apart
together, and appends behind a last element without a comma. What commands change is `changes.py`'s.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import tomlkit

from gproxy.config.problems import KeyPath, render_path
from gproxy.config.spans import Section, Spans, Value
from gproxy.errors import ConfigError

_REST_OF_LINE = re.compile(r"[ \t]*(?:#[^\n\r]*)?(?=\r?\n|\Z)")
_COMMENT_LINES = re.compile(r"(?:[ \t]*#[^\n]*(?:\n|\Z))*")
_BLANK_LINES = re.compile(r"(?:[ \t]*\r?\n)*")
_BLANKS = re.compile(r"[ \t]*")
_COMMA = re.compile(r"(?>(?:[ \t\r\n]|#[^\n]*+)*),")

Edit = tuple[int, int, str]
"""From, to, and what comes there instead."""


class Document:
    """A valid TOML text; a path is a tuple of keys and indexes: `("users", 0, "keys", 1)`.

    Raises tomllib.TOMLDecodeError for a text that is not TOML.
    """

    def __init__(self, text: str) -> None:
        self._take(text)

    def tables(self, *path: str | int) -> list[dict[str, Any]]:
        """The tables of the array at `path`, as plain values; empty if there is no such array.

        Raises ConfigError if something else stands there.
        """
        here: Any = self._tree
        for part in path:
            here = here.get(part, []) if isinstance(part, str) else here[part]
        if not isinstance(here, list) or not all(isinstance(table, dict) for table in here):
            raise ConfigError(f"{render_path(path)} is no array of tables: `gproxy check` says where")
        return here

    def set(self, table: KeyPath, key: str, value: object) -> None:
        """Give a key of a table a value: in its place if it has one, else behind the table's last key."""
        old = self._spans.values.get((*table, key))
        pair = f"{key} = {render(value)}"
        if old is not None:
            self._apply([(old.start, old.end, render(value))])
        elif table in self._spans.values:
            self._apply([self._into_braces(table, pair)])
        else:
            section = next(s for s in self._spans.sections if s.path == table)
            end = self._line_end(section.end)
            self._apply([(end, end, f"{self._newline}{self._indent(section.end)}{pair}")])

    def unset(self, table: KeyPath, key: str) -> None:
        """Take a key out of a table, with its line if that holds nothing else; a comment behind it stays."""
        found = self._spans.values[(*table, key)]
        if table in self._spans.values:
            self._apply([self._without_pair(table, found)])
            return
        rest = _REST_OF_LINE.match(self.text, found.end)
        if rest and not rest.group().strip():
            self._apply([(self.text.rfind("\n", 0, found.key) + 1, self._next_line(found.end), "")])
        else:
            blanks = _BLANKS.match(self.text, found.end)
            self._apply([(found.key, blanks.end() if blanks else found.end, "")])

    def rename(self, table: KeyPath, old: str, new: str, value: object) -> None:
        """Put another key and value where the key `old` stands, so that a comment behind it stays."""
        found = self._spans.values[(*table, old)]
        self._apply([(found.key, found.end, f"{new} = {render(value)}")])

    def add(self, array: KeyPath, values: Mapping[str, object]) -> None:
        """Append a table to an array, behind the last of its kind and written as those are."""
        if array in self._spans.values:
            self._apply([self._into_brackets(array, render(dict(values)))])
        elif array[:-1] in self._spans.values:
            self._apply([self._into_braces(array[:-1], f"{array[-1]} = {render([dict(values)])}")])
        else:
            self._apply([self._new_section(array, values)])

    def remove(self, entry: KeyPath) -> None:
        """Take a table out of its array with all that stands inside it; comments around it stay."""
        if entry in self._spans.values:
            self._apply([self._without_element(entry)])
        else:
            self._apply(self._without_sections(entry))

    def _take(self, text: str) -> None:
        self.text = text
        self._tree = tomllib.loads(text)
        self._spans = Spans(text)
        self._newline = "\r\n" if "\r\n" in text else "\n"

    def _apply(self, edits: Iterable[Edit]) -> None:
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        self._take(text)

    def _line_end(self, at: int) -> int:
        """Where the line of `at` ends, before its line break."""
        end = self.text.find("\n", at)
        end = len(self.text) if end < 0 else end
        return end - 1 if self.text[at:end].endswith("\r") else end

    def _next_line(self, at: int) -> int:
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end + 1

    def _indent(self, at: int) -> str:
        line = self.text[self.text.rfind("\n", 0, at) + 1 :]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _into_braces(self, table: KeyPath, pair: str) -> Edit:
        """A pair appended to an inline table."""
        span = self._spans.values[table]
        inside = [v.end for p, v in self._spans.values.items() if p[: len(table)] == table and p != table]
        if inside:
            return (max(inside), max(inside), f", {pair}")
        return (span.start, span.end, f"{{ {pair} }}")

    def _into_brackets(self, array: KeyPath, element: str) -> Edit:
        """An element appended to an inline array, on a line of its own if the others stand so."""
        span, size = self._spans.values[array], len(self.tables(*array))
        if not size:
            end = span.end - 1
            own_line = not self.text[self.text.rfind("\n", 0, end) + 1 : end].strip()
            return (end, end, f"  {element},{self._newline}" if own_line else element)
        last = self._spans.values[(*array, size - 1)]
        comma = _COMMA.match(self.text, last.end)
        line_start = self.text.rfind("\n", 0, last.start) + 1
        rest = _REST_OF_LINE.match(self.text, comma.end() if comma else last.end)
        if self.text[line_start : last.start].strip() or rest is None:
            return (last.end, last.end, f", {element}")
        line = f"{self._newline}{self.text[line_start : last.start]}{element}"
        if comma:
            return (rest.end(), rest.end(), f"{line},")
        return (last.end, rest.end(), f",{self.text[last.end : rest.end()]}{line}")

    def _without_pair(self, table: KeyPath, pair: Value) -> Edit:
        """A pair of an inline table gone with its comma, or with the one before it if it was the last."""
        if comma := _COMMA.match(self.text, pair.end):
            blanks = _BLANKS.match(self.text, comma.end())
            return (pair.key, blanks.end() if blanks else comma.end(), "")
        before = [v.end for p, v in self._spans.values.items() if p[:-1] == table and v.end <= pair.key]
        return (max(before, default=pair.key), pair.end, "")

    def _without_element(self, entry: KeyPath) -> Edit:
        """An element of an inline array gone with its comma, and with its line if that held nothing else."""
        span, before = self._spans.values[entry], self._spans.values.get((*entry[:-1], int(entry[-1]) - 1))
        comma = _COMMA.match(self.text, span.end)
        end = comma.end() if comma else span.end
        line_start = self.text.rfind("\n", 0, span.start) + 1
        rest = _REST_OF_LINE.match(self.text, end)
        if rest and not self.text[line_start : span.start].strip():
            return (line_start, self._next_line(end), "")
        if comma is None and before and "\n" not in self.text[before.end : span.start]:
            return (before.end, span.end, "")
        blanks = len(self.text[end:]) - len(self.text[end:].lstrip(" \t"))
        return (span.start, end + blanks, "")

    def _new_section(self, array: KeyPath, values: Mapping[str, object]) -> Edit:
        """A table with a header of its own, behind the last of its array, its parent, or the file."""
        kin = self._below(array) or (self._below(array[:-1]) if len(array) > 1 else [])
        at, indent = len(self.text), ""
        if kin:
            last = max(kin, key=lambda section: section.end)
            at, indent = self._behind(last), self._indent(self._line_end(last.start))
        header = ".".join(part for part in array if isinstance(part, str))
        pairs = (f"{key} = {render(value)}" for key, value in values.items())
        lines = [f"{indent}{line}{self._newline}" for line in (f"[[{header}]]", *pairs)]
        if at and not self.text.endswith("\n", 0, at):
            # The file ends without a line break and so it goes on.
            return (at, at, self._newline * 2 + "".join(lines).removesuffix(self._newline))
        follows = self.text[at : self._next_line(at)].strip() if at < len(self.text) else ""
        gap = self._newline if at and self.text[:at].strip() else ""
        return (at, at, gap + "".join(lines) + (self._newline if follows else ""))

    def _behind(self, section: Section) -> int:
        """The line behind a section and the comments that hang on it, but not those on the next header."""
        at = self._next_line(section.end)
        comments = _COMMENT_LINES.match(self.text, at)
        end = comments.end() if comments else at
        hangs_on_next = any(other.start == end for other in self._spans.sections[1:])
        return at if hangs_on_next else end

    def _below(self, path: KeyPath) -> list[Section]:
        return [s for s in self._spans.sections[1:] if s.path[: len(path)] == path]

    def _without_sections(self, entry: KeyPath) -> list[Edit]:
        """The sections of an entry gone; those that stand together go with what is between them."""
        edits: list[Edit] = []
        gone = self._below(entry)
        for is_gone, sections in groupby(self._spans.sections, gone.__contains__):
            run = list(sections)
            if not is_gone:
                continue
            start, end = run[0].start, self._next_line(run[-1].end)
            before = self.text[:start].removesuffix("\n").removesuffix("\r")
            if not before or before.endswith("\n"):
                blanks = _BLANK_LINES.match(self.text, end)
                end = blanks.end() if blanks else end
            if end == len(self.text) and start:
                start = self._next_line(len(self.text[:start].rstrip()))
            edits.append((start, end, ""))
        return edits


def render(value: object) -> str:
    """A value as TOML on one line: tables inline."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{render_key(key)} = {render(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(render, value))}]"
    return tomlkit.item(value).as_string()


def render_key(name: str) -> str:
    """A key as TOML, quoted where it must be."""
    return tomlkit.key(name).as_string()


def dump(tree: Mapping[str, object]) -> str:
    """A whole tree as TOML, with a header for each table."""
    return tomlkit.dumps(tree)
