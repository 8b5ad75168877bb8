"""The configuration as the server uses it: immutable indexes, built once per edit and swapped whole.

Reading the file is `load.py`'s, reading secrets `secrets.py`'s. What a name or a permission means is decided in
`routing/`; this only makes each look-up a dictionary's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gproxy.config import schema
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
    config: schema.Config, secrets: Mapping[tuple[str, str], str] = {}, warnings: tuple[str, ...] = ()
) -> Snapshot:
    """The indexes of `config`. `secrets` are those that could be read, by (provider, credential name)."""
    raise NotImplementedError
