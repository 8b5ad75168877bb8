"""The configuration as people may see it: without secrets. Who may see it is the caller's to decide."""

import dataclasses
import re
from typing import Any

from gproxy.config.schema import Config

REDACTED = "[redacted]"

_SECRET = frozenset({"api_key", "api_key_hash", "password"})
_ADDRESS = frozenset({"base_url", "proxy"})
_OURS = frozenset({"line", "service_account"})
"""Fields that are no keys of the file."""

_USERINFO = re.compile(r"//.*@")
"""To the last `@`: a password may hold one, and whatever else."""

_VALUE = re.compile(r"(?<==)[^&]+")


def address(url: str) -> str:
    """A URL without its user and password, and without the values of its query: any of them may be a secret."""
    place, mark, query = _USERINFO.sub(f"//{REDACTED}@", url).partition("?")
    return place + mark + _VALUE.sub(REDACTED, query)


def redacted(config: Config) -> dict[str, Any]:
    """The tables of the file as plain values, defaults included, what is empty left out."""
    tables: dict[str, Any] = _plain(config)
    return {"global": tables.pop("globals")} | tables


def _plain(value: Any, name: str = "") -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.name not in _OURS]
        found = {each: _plain(getattr(value, each), each) for each in names}
        return {each: inner for each, inner in found.items() if inner not in (None, "", [], {})}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if name == "headers":
        return dict.fromkeys(value or (), REDACTED)
    if name in _SECRET:
        return REDACTED if value else ""
    if name in _ADDRESS:
        return address(value)
    return value
