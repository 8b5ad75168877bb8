"""The bytes of gproxy.toml -> (Config, problems): all problems at once, without effects.

Files, environment and secrets are `source.py`'s.
"""

import ast
import dataclasses
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gproxy.config import accounts, rules, schema, unpriced
from gproxy.config.problems import Problem, Problems, suggestion
from gproxy.config.reader import Reader
from gproxy.config.scan import scan
from gproxy.config.strays import searched, without_lookalikes

__all__ = ["Problem", "load"]

_ROWS: dict[str, type[Any]] = {
    "providers": schema.Provider,
    "models": schema.Model,
    "model_aliases": schema.ModelAlias,
    "users": schema.User,
    "permissions": schema.Permission,
    "rate_limits": schema.RateLimit,
    "quotas": schema.Quota,
}
_NAME_IN_FAULT = re.compile(r""" (?:\(['"].*\)|key ['"].*['"])""")
"""Names in what tomllib says of those that are given twice: of a file that is no TOML nobody knows which are keys."""
_IGNORED_TABLES = frozenset(schema.IGNORED_KEYS) - {"global", *_ROWS}


def load(
    text: bytes,
    *,
    channels: schema.Channels,
    overrides: Mapping[str, object] = {},
    secrets: Collection[str] = (),
) -> tuple[schema.Config | None, list[Problem]]:
    """The configuration, or None if any problem is an error; problems in the order of their lines.

    `channels` are the names that `channel =` may take. `overrides` are values for `[global]` by their origin
    (`--port`, `GPROXY_PORT`, or plain `port`), text or typed. No problem tells one of `secrets`, or
    a key of the file, also where it stands in the place of a name.
    """
    try:
        decoded = text.decode()
        document = tomllib.loads(decoded)
        problems = Problems(scan(decoded))
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        return None, [Problem("error", line, "", "is not UTF-8", "save the file as UTF-8")]
    except RecursionError:
        return None, [Problem("error", 0, "", "nests too deeply")]
    except ValueError as error:
        return None, [_without_keys(_syntax_problem(decoded, str(error)), ())]
    config = _read(document, problems, channels, overrides)
    keys = searched(config, _literals(document)) | set(secrets)
    found = [
        _without_keys(problem, keys) for problem in sorted(problems.found, key=lambda problem: problem.line)
    ]
    if any(problem.severity == "error" for problem in found):
        return None, found
    return _settled(config, channels), found


def _literals(document: Mapping[str, Any]) -> Iterator[str]:
    """Every `api_key` of a document, of what is not read in it too."""
    left: list[Any] = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
            if isinstance(key := value.get("api_key"), str):
                yield key
        elif isinstance(value, list):
            left += value


def _without_keys(problem: Problem, keys: Collection[str]) -> Problem:
    """The same, with nothing in it that is one of `keys` or looks like one: a key may stand where a name belongs."""
    told = (without_lookalikes(text, keys) for text in (problem.path, problem.message, problem.hint))
    path, message, hint = told
    return dataclasses.replace(problem, path=path, message=message, hint=hint)


def _syntax_problem(text: str, fault: str) -> Problem:
    """tomllib tells the place in its text: `… (at line 3, column 9)` or `(at end of document)`."""
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", fault)
    if place is None:
        # Python's own limit on the digits of a number, which tomllib lets through.
        return Problem("error", 0, "", "is not TOML: a number in it has too many digits")
    line = int(place[1]) if place[1] else len(text.splitlines())
    hint = "save the file without a byte-order mark" if text.startswith("\ufeff") else ""
    told = _in_words(_NAME_IN_FAULT.sub(" a name", fault[: place.start()]))
    where = f"column {place[2]}" if place[2] else "the end of the file"
    return Problem("error", line, "", f"is not TOML: {told}, at {where}", hint)


def _in_words(fault: str) -> str:
    """A fault that tomllib tells, without characters as Python writes them."""
    if found := re.fullmatch(r"(?:Illegal|Found invalid) character ('.+')", fault):
        character = ast.literal_eval(found[1])
        if character == "\n":
            return "a text in quotation marks does not end in its line"
        return f"the character U+{ord(character):04X} may not stand here"
    if re.fullmatch("""Expected "'+\"""", fault):
        return "a text in single quotation marks does not end"
    return fault[:1].lower() + fault[1:]


def _read(
    document: Mapping[str, Any],
    problems: Problems,
    channels: schema.Channels,
    overrides: Mapping[str, object],
) -> schema.Config:
    """Every table, with every problem noted."""
    reader = Reader(problems)
    for name in document:
        if name in _IGNORED_TABLES:
            problems.warn((name,), "is GPROXY v1's and has no effect here")
        elif name != "global" and name not in _ROWS:
            problems.error((name,), f'unknown table "{name}"', suggestion(name, ["global", *_ROWS]))
    globals_ = reader.value(schema.Global, document.get("global", {}), schema.Key(help=""), ("global",))
    globals_, origins = _overlaid(globals_, overrides, reader)
    tables: dict[str, Any] = {
        name: reader.rows(cls, _known_part(name, document[name], channels), (name,))
        for name, cls in _ROWS.items()
        if name in document
    }
    config = schema.Config(globals=globals_, **tables)
    rules.check(config, problems, channels=channels, origins=origins)
    unpriced.check(config, problems, channels)
    return config


def _known_part(table: str, rows: Any, channels: schema.Channels) -> Any:
    """The rows, less what only a channel that we do not have could give a meaning to, and with service accounts that
    are written out in the table as secrets."""
    if table != "providers" or not isinstance(rows, list):
        return rows
    return [_known_provider(row, channels) if isinstance(row, dict) else row for row in rows]


def _known_provider(row: Mapping[str, Any], channels: schema.Channels) -> Mapping[str, Any]:
    channel, credentials = row.get("channel"), row.get("credentials")
    if rules.foreign_channel(channel, channels):
        return {name: value for name, value in row.items() if name not in ("settings", "credentials")}
    facts = channels.get(channel) if isinstance(channel, str) else None
    if facts is None or not facts.service_account or not isinstance(credentials, list):
        return row
    fields = schema.IGNORED_KEYS["providers.credentials"]
    read = [accounts.inline(each, fields) if isinstance(each, dict) else each for each in credentials]
    return {**row, "credentials": read}


def _overlaid(
    globals_: schema.Global, overrides: Mapping[str, object], reader: Reader
) -> tuple[schema.Global, dict[str, str]]:
    """`[global]` with the overrides, and the origin of each key that one of them set."""
    keys = schema.keys_of(schema.Global)
    types = {field.name: field.type for field in dataclasses.fields(schema.Global)}
    values: dict[str, Any] = {}
    origins = {}
    for origin, raw in overrides.items():
        name = origin.removeprefix("--").removeprefix("GPROXY_").replace("-", "_").lower()
        if name not in keys:
            reader.problems.error((origin,), "there is no such key in [global]", suggestion(name, keys))
            continue
        value = reader.override(types[name], raw, keys[name], (origin,))
        if value is not None:
            values[name] = value
            origins[name] = origin
    return dataclasses.replace(globals_, **values), origins


def _settled(config: schema.Config, channels: schema.Channels) -> schema.Config:
    """The configuration without what was warned of as having no effect, and with each credential named."""
    return dataclasses.replace(
        config,
        providers=tuple(_settled_provider(row, channels) for row in config.providers),
        models=tuple(row for row in config.models if row.model_id != rules.FALLBACK_MODEL),
    )


def _settled_provider(provider: schema.Provider, channels: schema.Channels) -> schema.Provider:
    facts = channels.get(provider.channel)
    named = (
        dataclasses.replace(row, label=name, service_account=facts is not None and facts.service_account)
        for row, name in zip(provider.credentials, rules.credential_names(provider), strict=True)
    )
    return dataclasses.replace(
        provider,
        enabled=provider.enabled and provider.channel in channels,
        credentials=tuple(row for row in named if row.env or row.keyring or row.api_key),
    )
