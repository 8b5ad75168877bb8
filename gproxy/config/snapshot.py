"""The configuration as the server uses it: immutable indexes, built once per edit and swapped whole.

Reading the file is `load.py`'s, reading secrets `secrets.py`'s. What a name or a permission means is decided
in `routing/`; this only makes each look-up a dictionary's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gproxy.config import schema
from gproxy.config.keys import hash_key, key_id
from gproxy.config.patterns import Pattern
from gproxy.values import Target


@dataclass(frozen=True, slots=True)
class Grant:
    """One `[[permissions]]` row: `provider` None is every provider."""

    provider: str | None
    pattern: Pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who is calling: a key and its user. Disabled keys and users are in no index.

    `expires_at` is seconds since the epoch. `models` None narrows nothing.
    `key_id` is stable under renaming and gives nothing away about the key or its stored hash's preimage.
    """

    user: str
    key_label: str
    key_id: str
    is_admin: bool = False
    expires_at: float | None = None
    grants: tuple[Grant, ...] = ()
    models: tuple[Pattern, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One upstream secret that could be read. `name` is its label, else `provider#N` in file order (from 1).

    `secret` None: a channel that needs no key.
    """

    name: str
    secret: str | None = field(default=None, repr=False)
    weight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider. `models` None: any id is passed on; else only the enabled ids listed.

    `credentials` are those whose secret could be read; the others are among the snapshot's warnings.
    """

    name: str
    channel: str
    enabled: bool
    settings: schema.Settings
    credentials: tuple[Credential, ...] = ()
    models: Mapping[str, schema.Model] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name for one or more targets. Disabled aliases are in no index."""

    name: str
    targets: tuple[Target, ...]
    strategy: str = "failover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One version of the configuration. `clients` is keyed by the SHA-256 hex of the key.

    `bare` maps a model id to the enabled providers that list it in `[[models]]`.
    """

    config: schema.Config
    clients: Mapping[str, Client]
    providers: Mapping[str, Provider]
    aliases: Mapping[str, Alias]
    bare: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()


def build(
    config: schema.Config, secrets: Mapping[tuple[str, str], str], warnings: tuple[str, ...] = ()
) -> Snapshot:
    """The indexes of `config`. `secrets` are those that could be read, by (provider, credential name)."""
    providers = {row.name: _provider(row, config, secrets) for row in config.providers}
    return Snapshot(
        config=config,
        clients=_clients(config),
        providers=providers,
        aliases={row.alias: _alias(row) for row in config.model_aliases if row.enabled},
        bare=_bare(providers),
        warnings=warnings,
    )


def _clients(config: schema.Config) -> dict[str, Client]:
    grants: dict[str, list[Grant]] = {}
    for row in config.permissions:
        grants.setdefault(row.user_name, []).append(Grant(row.provider_name, Pattern(row.model_pattern)))
    clients = {}
    for user in config.users:
        for key in user.keys:
            if user.enabled and key.enabled:
                stored = key.api_key_hash or hash_key(key.api_key)
                clients[stored.removeprefix("sha256:")] = Client(
                    user=user.name,
                    key_label=key.label,
                    key_id=key_id(stored),
                    is_admin=user.is_admin,
                    expires_at=None if key.expires_at is None else key.expires_at.timestamp(),
                    grants=tuple(grants.get(user.name, ())),
                    models=None if key.models is None else tuple(map(Pattern, key.models)),
                )
    return clients


def _provider(
    row: schema.Provider, config: schema.Config, secrets: Mapping[tuple[str, str], str]
) -> Provider:
    listed = [model for model in config.models if model.provider_name == row.name]
    return Provider(
        name=row.name,
        channel=row.channel,
        enabled=row.enabled,
        settings=row.settings,
        credentials=tuple(
            Credential(name=c.label, secret=secrets[row.name, c.label], weight=c.weight)
            for c in row.credentials
            if (row.name, c.label) in secrets
        ),
        models={model.model_id: model for model in listed if model.enabled} if listed else None,
    )


def _alias(row: schema.ModelAlias) -> Alias:
    more = (Target(target.provider_name, target.model_id, target.weight) for target in row.targets)
    targets = (Target(row.provider_name, row.model_id), *more)
    return Alias(name=row.alias, targets=targets, strategy=row.strategy)


def _bare(providers: Mapping[str, Provider]) -> dict[str, tuple[str, ...]]:
    bare: dict[str, tuple[str, ...]] = {}
    for provider in providers.values():
        for model_id in (provider.models or {}) if provider.enabled else ():
            bare[model_id] = (*bare.get(model_id, ()), provider.name)
    return bare
