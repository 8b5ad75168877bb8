"""The tables of a parsed TOML document -> the structs of `schema.py`, each value held against its `Key`.

What holds between rows and tables is `rules.py`'s.
"""

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from gproxy.config import schema
from gproxy.config.problems import KeyPath, Problems, suggestion
from gproxy.config.strays import looks_like_key

_WANTED = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    datetime: "a date and time",
    list: "an array",
    dict: "a table",
}
_FOUND = {**_WANTED, bool: "a boolean", date: "a date", time: "a time of day"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_LARGEST = 2**63 - 1
_NOT_SHOWN = frozenset({"api_key", "password", "base_url", "proxy", "key_hint"})
"""What may hold a secret, or a part of one; `headers` besides."""


class Reader:
    """Reads tables into structs and notes what is wrong with them.

    A value that is wrong is reported and then replaced: by its default, or if it has none by the empty value
    of its type, so that the rules between rows can still be held against the rest. Only a configuration
    without errors is ever used. A struct's class is typed Any: what comes back is one of it.
    """

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def struct(self, cls: Any, table: Mapping[str, object], path: KeyPath) -> Any:
        """One table. Unknown keys are errors, GPROXY v1's are warnings."""
        hints = _hints(cls)
        keys = _keys(cls)
        required = _required(cls)
        self._foreign_keys(table, path, keys)
        values: dict[str, Any] = {}
        for name, key in keys.items():
            if name in table:
                values[name] = self.value(hints[name], table[name], key, (*path, name))
                if values[name] == "" and name not in _text_by_default(cls) and not key.pattern:
                    self.problems.error((*path, name), "must not be empty")
                if key.ignored:
                    self.problems.warn((*path, name), "is GPROXY v1's and has no effect here")
            elif name in required:
                self.problems.error(path, f"`{name}` is missing")
        if "line" in hints:
            values["line"] = self.problems.line(path)
        return _filled(cls, values)

    def rows(self, cls: Any, raw: object, path: KeyPath) -> tuple[Any, ...]:
        """An array of tables."""
        if not isinstance(raw, list):
            self._wrong_type(path, list, raw)
            return ()
        return tuple(self._table(cls, row, (*path, index)) for index, row in enumerate(raw))

    def value(self, hint: Any, raw: object, key: schema.Key, path: KeyPath) -> Any:
        """One value, checked; None if it is of the wrong type."""
        kind = _without_none(hint)
        if typing.get_origin(kind) is tuple:
            element = typing.get_args(kind)[0]
            if dataclasses.is_dataclass(element):
                return self.rows(element, raw, path)
            return self._strings(raw, key, path)
        if dataclasses.is_dataclass(kind):
            return self._table(kind, raw, path)
        if typing.get_origin(kind) is dict:
            return self._string_table(raw, key, path)
        return self._scalar(kind, raw, key, path)

    def override(self, hint: Any, raw: object, key: schema.Key, path: KeyPath) -> Any:
        """A value from a flag or a variable: text is read as the key's type, the rest as in the file."""
        read = _from_text(hint, raw) if isinstance(raw, str) else list(raw) if isinstance(raw, tuple) else raw
        if read is None:
            self.problems.error(path, f"must be {_WANTED[hint]}")
            return None
        return self.value(hint, read, key, path)

    def _table(self, cls: Any, raw: object, path: KeyPath) -> Any:
        if isinstance(raw, dict):
            return self.struct(cls, raw, path)
        self._wrong_type(path, dict, raw)
        return _filled(cls, {})

    def _strings(self, raw: object, key: schema.Key, path: KeyPath) -> tuple[str, ...] | None:
        if not isinstance(raw, list):
            self._wrong_type(path, list, raw)
            return None
        read = [self._scalar(str, item, key, (*path, index)) for index, item in enumerate(raw)]
        for index, item in enumerate(read):
            if item == "":
                self.problems.error((*path, index), "must not be empty")
        return tuple(item for item in read if item)

    def _string_table(self, raw: object, key: schema.Key, path: KeyPath) -> dict[str, str] | None:
        if not isinstance(raw, dict):
            self._wrong_type(path, dict, raw)
            return None
        read = {name: self._scalar(str, item, key, (*path, name)) for name, item in raw.items()}
        return {name: item for name, item in read.items() if item is not None}

    def _scalar(self, kind: type[Any], raw: Any, key: schema.Key, path: KeyPath) -> Any:
        if kind is float and type(raw) is int and abs(raw) <= _LARGEST:
            raw = float(raw)
        if type(raw) is not kind:
            self._wrong_type(path, kind, raw)
            return None
        if kind is datetime and raw.tzinfo is None:
            self.problems.error(path, "needs an offset", f"write {raw.isoformat()}Z for UTC")
            return None
        if fault := _fault(raw, key) or _key_in_name(raw, path):
            self.problems.error(path, fault)
        return raw

    def _wrong_type(self, path: KeyPath, wanted: type[Any], raw: object) -> None:
        hint = "write it as 2027-01-01T00:00:00Z" if wanted is datetime else ""
        found = _FOUND.get(type(raw), "something else")
        self.problems.error(path, f"must be {_WANTED[wanted]}, is {found}", hint)

    def _foreign_keys(
        self, table: Mapping[str, object], path: KeyPath, keys: Mapping[str, schema.Key]
    ) -> None:
        kind = ".".join(part for part in path if isinstance(part, str))
        known = schema.IGNORED_KEYS.get(kind, frozenset())
        prefixes = schema.IGNORED_PREFIXES.get(kind, ())
        ignored = []
        for name in table:
            if name in keys:
                continue
            if name in known or name.startswith(prefixes):
                ignored.append(name)
            else:
                self.problems.error((*path, name), f'unknown key "{name}"', suggestion(name, keys))
        if len(ignored) == 1:
            self.problems.warn((*path, ignored[0]), "is GPROXY v1's and has no effect here")
        elif ignored:
            names = ", ".join(ignored)
            self.problems.warn(path, f"{names} are GPROXY v1's and have no effect here")


def _fault(raw: Any, key: schema.Key) -> str:
    """What is wrong with a value of the right type, without repeating what may be a secret; else empty."""
    if isinstance(raw, str) and _CONTROL.search(raw):
        return "must not hold control characters"
    if key.pattern and not re.fullmatch(key.pattern, raw):
        return f"does not have the form {key.pattern}"
    if key.choices and str(raw) not in key.choices:
        return f"must be one of {', '.join(key.choices)}"
    if isinstance(raw, float) and not math.isfinite(raw):
        return "must be a finite number"
    if isinstance(raw, int | float):
        if key.low is not None and raw < key.low:
            return f"must be at least {key.low}"
        if raw > (_LARGEST if key.high is None else key.high):
            return f"must be at most {key.high or _LARGEST}"
    return ""


def _key_in_name(raw: Any, path: KeyPath) -> str:
    """What is wrong with a key that stands where it would be shown; else empty."""
    if not isinstance(raw, str) or path[-1] in _NOT_SHOWN or "headers" in path or not looks_like_key(raw):
        return ""
    return "holds what looks like an API key, which belongs into api_key, the environment or the keyring"


def _from_text(hint: Any, text: str) -> Any:
    """The text of a flag or variable as the type of its key, None if it is no such thing."""
    if hint is bool:
        return _BOOLEANS.get(text.lower())
    if hint is int:
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
    if typing.get_origin(hint) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


@functools.cache
def _keys(cls: Any) -> Mapping[str, schema.Key]:
    return schema.keys_of(cls)


@functools.cache
def _hints(cls: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(arm for arm in typing.get_args(hint) if arm is not types.NoneType)
    return hint


@functools.cache
def _required(cls: Any) -> frozenset[str]:
    missing = dataclasses.MISSING
    fields = dataclasses.fields(cls)
    return frozenset(f.name for f in fields if f.default is missing and f.default_factory is missing)


@functools.cache
def _text_by_default(cls: Any) -> frozenset[str]:
    """The keys with a text as default: an empty one is theirs to judge."""
    return frozenset(f.name for f in dataclasses.fields(cls) if isinstance(f.default, str))


def _filled(cls: Any, values: Mapping[str, Any]) -> Any:
    """The struct, with values that are None left to their defaults and required ones made empty."""
    given = {name: value for name, value in values.items() if value is not None}
    for name in _required(cls) - given.keys():
        given[name] = _hints(cls)[name]()
    return cls(**given)
