"""What must hold between the rows and tables of a configuration, beyond each value by itself.

Single values are `reader.py`'s. What a rule means to a request is decided in `routing/`.
"""

import ipaddress
import os
import re
from collections.abc import Collection, Hashable, Iterable, Mapping
from itertools import chain
from urllib.parse import urlsplit

from gproxy.config import keys, schema
from gproxy.config.problems import KeyPath, Problems, suggestion

FALLBACK_MODEL = "default"
"""The `model_id` of GPROXY v1's fallback row, which is left out here."""

_MISSPELT = 0.82
"""How alike an unknown channel must be to one of ours to be its misspelling, not a channel we do not have."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_LOG_FLAGS = ("enable_upstream_log", "enable_downstream_log")


def foreign_channel(channel: object, channels: Collection[str]) -> bool:
    """Whether a channel is one that we do not have, rather than one of ours misspelt."""
    return (
        isinstance(channel, str)
        and channel not in channels
        and not suggestion(channel, channels, cutoff=_MISSPELT)
    )


def check(
    config: schema.Config, problems: Problems, *, channels: schema.Channels, origins: Mapping[str, str]
) -> None:
    """Note every problem between the rows. `origins` are the `[global]` keys that a flag or variable set."""
    _check_global(config.globals, problems, origins)
    _check_providers(config, problems, channels)
    _check_models(config, problems)
    _check_aliases(config, problems)
    _check_users(config, problems)
    _check_policy(config, problems)
    _check_references(config, problems)
    _warn_of_idle(config, problems, channels)


_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@]*")


def printable(secret: str) -> bool:
    """Whether a key or secret can be sent in a header: ASCII without blanks or control characters."""
    return bool(re.fullmatch(r"[\x21-\x7e]+", secret))


def _check_global(found: schema.Global, problems: Problems, origins: Mapping[str, str]) -> None:
    def path(name: str) -> KeyPath:
        return (origins[name],) if name in origins else ("global", name)

    if not re.fullmatch(r"[^\s/]+", found.host):
        problems.error(path("host"), "must be an address or a host name")
    elif not _is_loopback(found.host):
        problems.warn(path("host"), "is not a loopback address: other machines can reach this server")
    if not found.data_dir:
        problems.error(path("data_dir"), "must not be empty")
    _check_url(path("proxy"), found.proxy, problems, proxy=True)
    if found.workers > 1 and os.name == "nt":
        problems.error(path("workers"), "Windows serves with one worker only", "set it to 1")
    for name in _LOG_FLAGS:
        if getattr(found, f"{name}_body") and not getattr(found, name):
            problems.warn(path(f"{name}_body"), f"has no effect without `{name}`")
    for origin in found.cors_origins:
        if origin != "*" and _ORIGIN.fullmatch(origin) is None:
            problems.error(
                path("cors_origins"),
                "holds what no browser sends as an origin",
                'write it as "https://app.example", with a port if it has one and no path',
            )
    if bool(found.tls_certificate) != bool(found.tls_key):
        given, missing = ("tls_certificate", "tls_key")[:: 1 if found.tls_certificate else -1]
        problems.error(path(given), f"needs `{missing}` too", "set both for HTTPS, or neither")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_url(path: KeyPath, url: str, problems: Problems, *, proxy: bool = False) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not printable(url):
        problems.error(path, "must be an http:// or https:// address")
    elif parts.fragment:
        problems.error(path, "must not have a fragment")
    elif parts.query and proxy:
        problems.error(path, "must not have a query")
    elif parts.username is not None and not proxy:
        problems.error(path, "must not hold a user or password", "put the secret into `credentials`")


def _check_providers(config: schema.Config, problems: Problems, channels: schema.Channels) -> None:
    rows = [(("providers", i), row) for i, row in enumerate(config.providers)]
    _check_unique(problems, "this provider", (((row.name,), (*path, "name")) for path, row in rows))
    for path, row in rows:
        if row.name in schema.RESERVED_NAMES:
            problems.error((*path, "name"), f'"{row.name}" is a path of gproxy itself', "choose another name")
        _check_channel((*path, "channel"), row.channel, problems, channels)
        facts = channels.get(row.channel)
        if facts is not None and facts.needs_address and not row.settings.base_url:
            problems.error(path, f'the channel "{row.channel}" needs settings.base_url')
        _check_url((*path, "settings", "base_url"), row.settings.base_url, problems)
        _check_url((*path, "settings", "proxy"), row.settings.proxy, problems, proxy=True)
        for name, value in row.settings.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING or not value.isascii():
                problems.error((*path, "settings", "headers", name), "is no header that can be added")
        _check_credentials(path, row, problems)


def _check_channel(path: KeyPath, channel: str, problems: Problems, channels: schema.Channels) -> None:
    if not channel or channel in channels:
        return
    if foreign_channel(channel, channels):
        problems.warn(path, f'there is no channel "{channel}" here: the provider is disabled')
    else:
        near = suggestion(channel, channels, cutoff=_MISSPELT)
        problems.error(path, f'unknown channel "{channel}"', near)


def _check_credentials(provider_path: KeyPath, provider: schema.Provider, problems: Problems) -> None:
    path = (*provider_path, "credentials")
    for i, row in enumerate(provider.credentials):
        given = [name for name in ("env", "keyring", "api_key") if getattr(row, name)]
        if len(given) > 1:
            problems.error((*path, i), f"only one of {', '.join(given)} can be given")
        elif not given and problems.lines.keys() & {
            (*path, i, name) for name in schema.IGNORED_KEYS["providers.credentials"]
        }:
            problems.warn((*path, i), "is of a kind that gproxy cannot use, and is left out")
        elif not given:
            _need_one_of((*path, i), ("env", "keyring", "api_key"), schema.Credential, problems)
    names = enumerate(credential_names(provider))
    _check_unique(problems, "this credential's name", (((name,), (*path, i)) for i, name in names))


def _need_one_of(
    path: KeyPath,
    names: tuple[str, ...],
    struct: type[schema.Credential | schema.UserKey],
    problems: Problems,
) -> None:
    """Not said of a row that is no table, or in which such a key is wrong or misspelt: that is told already."""
    if not problems.has_error(path, besides=schema.keys_of(struct).keys() - set(names)):
        problems.error(path, f"needs one of {', '.join(names)}")


def credential_names(provider: schema.Provider) -> list[str]:
    """The name of each credential in file order: its label, else `provider#N` with N from 1."""
    return [row.label or f"{provider.name}#{n}" for n, row in enumerate(provider.credentials, 1)]


def _check_models(config: schema.Config, problems: Problems) -> None:
    rows = [(("models", i), row) for i, row in enumerate(config.models)]
    _check_unique(
        problems,
        "this model",
        (((row.provider_name, row.model_id), (*path, "model_id")) for path, row in rows),
    )
    for path, row in rows:
        if row.model_id == FALLBACK_MODEL:
            problems.warn((*path, "model_id"), "is GPROXY v1's fallback row and has no effect here")
        _check_prices(path, row, problems)


def _check_prices(path: KeyPath, row: schema.Model, problems: Problems) -> None:
    ordinary = bool(row.price_each_call or row.price_tiers)
    for service in ("", "flex_", "scale_", "priority_"):
        name = f"{service}price_tiers"
        reach: float = -1
        for i, tier in enumerate(getattr(row, name)):
            limit = float("inf") if tier.input_tokens_up_to is None else tier.input_tokens_up_to
            if limit <= reach:
                problems.warn((*path, name, i), "is never reached: an earlier tier fits first")
            reach = max(reach, limit)
        for key in (name, f"{service}price_each_call"):
            if service and getattr(row, key) and not ordinary:
                problems.warn((*path, key), "has no effect without price_tiers or price_each_call beside it")


def _check_aliases(config: schema.Config, problems: Problems) -> None:
    rows = [(("model_aliases", i), row) for i, row in enumerate(config.model_aliases)]
    _check_unique(problems, "this alias", (((row.alias,), (*path, "alias")) for path, row in rows))
    listed = {(row.provider_name, row.model_id) for row in config.models if row.model_id != FALLBACK_MODEL}
    closed = {provider for provider, _ in listed}
    for path, target in chain.from_iterable(_targets(path, row) for path, row in rows):
        if target.provider_name in closed and (target.provider_name, target.model_id) not in listed:
            problems.warn(
                (*path, "model_id"),
                f'is not among the [[models]] of "{target.provider_name}": it answers 404',
            )


def _targets(
    path: KeyPath, alias: schema.ModelAlias
) -> Iterable[tuple[KeyPath, schema.ModelAlias | schema.AliasTarget]]:
    yield path, alias
    for i, target in enumerate(alias.targets):
        yield (*path, "targets", i), target


def _check_users(config: schema.Config, problems: Problems) -> None:
    users = [(("users", i), row) for i, row in enumerate(config.users)]
    _check_unique(problems, "this user", (((row.name,), (*path, "name")) for path, row in users))
    hashes: list[tuple[tuple[str], KeyPath]] = []
    for user_path, user in users:
        rows = [((*user_path, "keys", i), row) for i, row in enumerate(user.keys)]
        _check_unique(problems, "this label", (((row.label,), (*path, "label")) for path, row in rows))
        for path, row in rows:
            _check_key(path, row, problems)
            stored = row.api_key_hash or (keys.hash_key(row.api_key) if row.api_key else "")
            hashes.append(((stored,), (*path, "api_key_hash" if row.api_key_hash else "api_key")))
    _check_unique(problems, "this key", hashes)


def _check_key(path: KeyPath, row: schema.UserKey, problems: Problems) -> None:
    if row.api_key and row.api_key_hash:
        problems.error(path, "only one of api_key_hash, api_key can be given")
    elif row.api_key and not printable(row.api_key):
        problems.error((*path, "api_key"), "must be ASCII without blanks: no client could send it")
    elif row.api_key and keys.is_guessable(row.api_key):
        problems.warn(
            (*path, "api_key"),
            "stands here in clear, and is short enough to be guessed",
            "`gproxy keys rotate` replaces it by a long one, `gproxy keys hash` by its hash",
        )
    elif row.api_key:
        problems.warn(
            (*path, "api_key"), "stands here in clear", "`gproxy keys hash` replaces it by its hash"
        )
    elif not row.api_key_hash:
        _need_one_of(path, ("api_key_hash", "api_key"), schema.UserKey, problems)
    if row.quota is not None and 0 <= row.quota < schema.LEAST_USD:
        problems.error((*path, "quota"), "must be above 0", "leave it out for none, or disable the key")


def _check_policy(config: schema.Config, problems: Problems) -> None:
    _check_unique(
        problems,
        "this permission",
        (
            ((row.user_name, row.provider_name, row.model_pattern), ("permissions", i))
            for i, row in enumerate(config.permissions)
        ),
    )
    _check_limits(config, problems)
    _check_quotas(config, problems)


def _check_limits(config: schema.Config, problems: Problems) -> None:
    rows = [(("rate_limits", i), row) for i, row in enumerate(config.rate_limits)]
    _check_unique(problems, "this limit", (((row.user_name, row.model_pattern), path) for path, row in rows))
    for path, _ in rows:
        set_here = {name for name in (*schema.BOUNDS, "total_tokens") if (*path, name) in problems.lines}
        if not set_here and not problems.has_error(path, besides={"user_name", "model_pattern"}):
            problems.error(path, "sets no limit", f"give it one of {', '.join(schema.BOUNDS)}")
        if {"tpd", "total_tokens"} <= set_here:
            problems.warn(path, "tpd and total_tokens are the same limit", "the smaller one holds")


def _check_quotas(config: schema.Config, problems: Problems) -> None:
    rows = [(("quotas", i), row) for i, row in enumerate(config.quotas)]
    _check_unique(problems, "this quota", (((row.user_name, row.period), path) for path, row in rows))
    for path, row in rows:
        place = (*path, "quota")
        if row.quota == 0 and place in problems.lines and not problems.has_error(place, besides=()):
            problems.warn(place, "0 is unlimited", "disable the user to stop its spending")
        elif 0 < row.quota < schema.LEAST_USD:
            problems.error(place, "is less than a nano-dollar")
        if row.cost_used and row.period != "total":
            problems.warn((*path, "cost_used"), 'counts in period "total" only')


def _check_references(config: schema.Config, problems: Problems) -> None:
    providers = {row.name for row in config.providers}
    users = {row.name for row in config.users}
    aliases = chain.from_iterable(
        _targets(("model_aliases", i), row) for i, row in enumerate(config.model_aliases)
    )
    for path, row in chain(
        ((("models", i), row) for i, row in enumerate(config.models)),
        aliases,
        ((("permissions", i), row) for i, row in enumerate(config.permissions)),
    ):
        _check_known((*path, "provider_name"), row.provider_name, "provider", providers, problems)
    for table in ("permissions", "rate_limits", "quotas"):
        for i, bound in enumerate(getattr(config, table)):
            _check_known((table, i, "user_name"), bound.user_name, "user", users, problems)


def _warn_of_idle(config: schema.Config, problems: Problems, channels: schema.Channels) -> None:
    """What may be set and does nothing yet, by name."""
    for i, provider in enumerate(config.providers):
        path: KeyPath = ("providers", i)
        facts = channels.get(provider.channel)
        if provider.settings.protocols and facts is not None and not facts.configurable:
            problems.warn(
                (*path, "settings", "protocols"), f'has no effect: what "{provider.channel}" speaks is known'
            )
        if provider.settings.location and facts is not None and not facts.service_account:
            problems.warn(
                (*path, "settings", "location"), f'has no effect: "{provider.channel}" has no locations'
            )
    for i, alias in enumerate(config.model_aliases):
        path = ("model_aliases", i)
        for n in range(len(alias.targets) if alias.strategy != "weighted" else 0):
            weight = (*path, "targets", n, "weight")
            if weight in problems.lines:
                problems.warn(
                    weight, f'has no effect under strategy "{alias.strategy}": targets are tried in order'
                )


def _check_known(
    path: KeyPath, name: str | None, what: str, known: Collection[str], problems: Problems
) -> None:
    if name and name not in known:
        problems.error(path, f'there is no {what} "{name}"', suggestion(name, known))


def _check_unique(
    problems: Problems, what: str, rows: Iterable[tuple[tuple[Hashable, ...], KeyPath]]
) -> None:
    """Each key once; keys with an empty part are those of rows already reported."""
    first: dict[tuple[Hashable, ...], int] = {}
    for key, path in rows:
        if "" in key:
            continue
        if key in first:
            problems.error(path, f"{what} is given twice", f"first in line {first[key]}")
        else:
            first[key] = problems.line(path)
