"""Writes `docs/configuration.md` from the schema: `python -m tests.config.reference > docs/configuration.md`."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gproxy.config import schema
from gproxy.config.schema import Config, Key
from gproxy.providers.catalog import CHANNELS

INTRODUCTION = """\
# Configuration

Made from `gproxy/config/schema.py` by `python -m tests.config.reference > docs/configuration.md`; a test holds it
to that.

One TOML file is all there is to configure. It is the one named by `--config`, else `$GPROXY_CONFIG`, else
`./gproxy.toml`, else `gproxy/gproxy.toml` in the user's configuration folder. `gproxy.toml.example` is a commented
file with every key in its place, `gproxy init` writes a short one.

```console run
$ gproxy check              # every problem at once, with file:line and the key's path
$ gproxy config show        # as it is understood, secrets redacted
$ gproxy config path        # which file that is
```

- A running server takes an edit up within 2 s, whole or not at all: one with an error changes nothing, and `/ready`
  says in which line; what is wrong there is in the log. What is bound at the start (`host`, `port`, `data_dir`,
  `workers`, `http_engine`, the TLS files) needs a restart, and the server says so.
- Every key of `[global]` is also a flag of `gproxy serve` and a variable: `port` is `--port` and `GPROXY_PORT`. A
  flag goes over the variable, that over the file, and the file over the default. A misspelt variable is warned about
  at the start and by `gproxy check`.
- A key that is not known here is an error with a suggestion. Keys of GPROXY v1 that have no effect here are warned
  about by name: the list is at the end.
- A pattern is a glob over the whole name: `*` any run, slashes too, `?` one character ([policy](policy.md)).
"""

TABLES: tuple[tuple[str, type[Any], str], ...] = (
    ("[global]", schema.Global, "The server and its store."),
    (
        "[[providers]]",
        schema.Provider,
        "The upstreams. Channels: "
        + ", ".join(f"`{name}`" for name in CHANNELS)
        + " ([channels](channels.md)).",
    ),
    ("[providers.settings]", schema.Settings, "Of one provider; all of it may be left out."),
    (
        "[[providers.credentials]]",
        schema.Credential,
        "Each has exactly one of `env`, `keyring` and `api_key`. They are tried in this order, unless any has a"
        " `weight` ([upstreams](upstreams.md)).",
    ),
    (
        "[[models]]",
        schema.Model,
        "What a provider serves, and its prices ([prices](prices.md)). A provider that none of these names serves"
        " any id of its upstream.",
    ),
    (
        "[[models.price_tiers]]",
        schema.PriceTier,
        "USD per million tokens. The first tier that the input fits prices the whole request; a cache price that is"
        " absent is the input price.",
    ),
    ("[[model_aliases]]", schema.ModelAlias, "Names of your own."),
    ("[[model_aliases.targets]]", schema.AliasTarget, "Targets behind an alias's first one."),
    (
        "[[users]]",
        schema.User,
        "Who may call. What they may use is in `[[permissions]]`: by default nothing.",
    ),
    (
        "[[users.keys]]",
        schema.UserKey,
        "Each has exactly one of `api_key_hash` and `api_key`. `gproxy keys create` makes one.",
    ),
    ("[[permissions]]", schema.Permission, "Who may use what ([policy](policy.md))."),
    (
        "[[rate_limits]]",
        schema.RateLimit,
        "How much of it. Of a user's rules the most specific one that matches applies.",
    ),
    ("[[quotas]]", schema.Quota, "And for how much money."),
)
"""Each table of the file: its heading, its struct, and a word on it."""

_WORDS: dict[object, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    datetime: "date and time",
}


def reference() -> str:
    """The text of `docs/configuration.md`."""
    return "\n".join([INTRODUCTION, *(_table(*table) for table in TABLES), _ignored()])


def structs(of: type[Any] = Config) -> Iterator[type[Any]]:
    """Every struct that the file is read into, `Config` apart."""
    for hint in typing.get_type_hints(of).values():
        for kind in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                yield kind
                yield from structs(kind)


def _table(heading: str, struct: type[Any], text: str) -> str:
    hints = typing.get_type_hints(struct)
    rows = [
        f"| `{field.name}` | {_type(hints[field.name], field.metadata['key'])} | {_default(field)} | {_help(field)} |"
        for field in dataclasses.fields(struct)
        if "key" in field.metadata
    ]
    return "\n".join(
        [f"## {heading}", "", text, "", "| key | type | default | |", "|---|---|---|---|", *rows, ""]
    )


def _type(hint: Any, key: Key) -> str:
    arguments = [kind for kind in typing.get_args(hint) if kind not in (type(None), Ellipsis)]
    if isinstance(hint, types.UnionType):
        return _type(arguments[0], key)
    if key.choices:
        words = " or ".join(f"`{choice}`" for choice in key.choices)
        return f"list of {words}" if arguments else words
    if typing.get_origin(hint) is dict:
        return "table of texts"
    if typing.get_origin(hint) is tuple:
        return "tables" if dataclasses.is_dataclass(arguments[0]) else "list of texts"
    if dataclasses.is_dataclass(hint):
        return "table"
    return _WORDS[hint] + _bounds(key)


def _bounds(key: Key) -> str:
    match key.low, key.high:
        case None, None:
            return ""
        case low, None:
            return f", {low:,} or more"
        case low, high:
            return f", {low:,} to {int(high):,}"


def _default(field: "dataclasses.Field[Any]") -> str:
    match field.default:
        case dataclasses.MISSING if field.default_factory is dataclasses.MISSING:
            return "required"
        case None | () | "" | dataclasses.MISSING:
            return ""
        case bool() as value:
            return f"`{value}`".lower()
        case int() | float() as value:
            return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
        case str() as value:
            return f'`"{value}"`'
        case _:
            return ""


def _help(field: "dataclasses.Field[Any]") -> str:
    key: Key = field.metadata["key"]
    text = key.help.replace("|", "\\|")
    if key.pattern:
        text += f" (`{key.pattern}`)".replace("|", "\\|")
    return text


def _ignored() -> str:
    lines = [
        "## Keys of GPROXY v1 without effect here",
        "",
        "They are recognised, and warned about by name.",
        "",
    ]
    lines += [
        f"- `{table}`: " + ", ".join(f"`{name}`" for name in sorted(names))
        for table, names in schema.IGNORED_KEYS.items()
    ]
    lines += [
        f"- `{table}`: whatever begins with " + ", ".join(f"`{prefix}`" for prefix in prefixes)
        for table, prefixes in schema.IGNORED_PREFIXES.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
