"""The configuration as the server uses it: immutable indexes, built once per edit and swapped whole.

Reading the file is `load.py`'s, reading secrets `secrets.py`'s. What a name or a permission means is decided
in `routing/`; this only makes each look-up a dictionary's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TypeVar

from gproxy.config import schema
from gproxy.config.keys import hash_key, key_id
from gproxy.config.patterns import Pattern
from gproxy.config.strays import searched
from gproxy.values import Bound, Budget, Route, Target

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

MOST_REMEMBERED = 4096
"""Names come from clients: there is no end of them."""


class Memory(dict[K, V]):
    """What has been worked out of one version of the configuration, by what was asked; bounded."""

    def keep(self, asked: K, found: V) -> V:
        """Remember it. Returns what was found."""
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        self[asked] = found
        return found


@dataclass(frozen=True, slots=True)
class Grant:
    """One `[[permissions]]` row: `provider` None is every provider."""

    provider: str | None
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One `[[rate_limits]]` row. `rank` orders by how specific it is: all exact names are equally so, then the
    longest literal prefix, then `*`."""

    pattern: Pattern
    rank: tuple[bool, int]
    bounds: tuple[Bound, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who is calling: a key and its user. Disabled keys and users are in no index.

    `expires_at` is seconds since the epoch. `models` None narrows nothing.
    `limits` are its user's rules, of which the most specific applies; `key_bounds` and `budgets` always do.
    `key_id` is stable under renaming and gives nothing away about the key or its stored hash's preimage.
    `user_scope` and `key_scope` are the names under which the spend of both, and the key's limits, are counted.
    """

    user: str
    key_label: str
    key_id: str
    is_admin: bool = False
    expires_at: float | None = None
    grants: tuple[Grant, ...] = ()
    models: tuple[Pattern, ...] | None = None
    limits: tuple[LimitRule, ...] = ()
    key_bounds: tuple[Bound, ...] = ()
    budgets: tuple[Budget, ...] = ()
    user_scope: str = field(init=False)
    key_scope: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "user_scope", user_scope(self.user))
        object.__setattr__(self, "key_scope", key_scope(self.key_id))


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

    `bare` maps a model id to the enabled providers that list it in `[[models]]`. `secrets` are those of clients and
    providers that are known as they are: no name of a model may hold one. `disabled` says of a key that is in the
    file and is not accepted, by the same hash, why. `routes` are those that were found so far,
    by the client's user and key, the name that it sent and the provider in the path; `clear_names` tells of names
    whether they hold no such secret.
    """

    config: schema.Config
    clients: Mapping[str, Client]
    providers: Mapping[str, Provider]
    aliases: Mapping[str, Alias]
    bare: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    disabled: Mapping[str, str] = field(default_factory=dict, repr=False)
    routes: Memory[tuple[str, str, str, str | None], Route] = field(
        default_factory=Memory, init=False, repr=False, compare=False
    )
    clear_names: Memory[str, bool] = field(default_factory=Memory, init=False, repr=False, compare=False)


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
        secrets=searched(config, secrets.values()),
        disabled=_disabled(config),
    )


def user_scope(user: str) -> str:
    return f"user/{user}"


def key_scope(key_id: str) -> str:
    return f"key/{key_id}"


def nano(dollars: float) -> int:
    """Dollars as the file has them, in nano-dollars, rounded half-even."""
    return int((Decimal(str(dollars)) * 1_000_000_000).to_integral_value(ROUND_HALF_EVEN))


def _clients(config: schema.Config) -> dict[str, Client]:
    limits = _grouped((row.user_name, _limit_rule(row)) for row in config.rate_limits)
    budgets = _grouped((row.user_name, _budget(row)) for row in config.quotas if row.quota > 0)
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
                    limits=limits.get(user.name, ()),
                    key_bounds=_bounds(key_scope(key_id(stored)), key, key.tpd),
                    budgets=(*budgets.get(user.name, ()), *_key_budget(key, key_id(stored))),
                )
    return clients


def _disabled(config: schema.Config) -> dict[str, str]:
    found = {}
    for user in config.users:
        for key in user.keys:
            if not (user.enabled and key.enabled):
                stored = key.api_key_hash or hash_key(key.api_key)
                name = f"the key {user.name}/{key.label or key_id(stored)}"
                found[stored.removeprefix("sha256:")] = f"{name if user.enabled else user.name} is disabled"
    return found


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, tuple[T, ...]]:
    groups: dict[str, tuple[T, ...]] = {}
    for name, value in pairs:
        groups[name] = (*groups.get(name, ()), value)
    return groups


def _limit_rule(row: schema.RateLimit) -> LimitRule:
    per_day = [n for n in (row.tpd, row.total_tokens) if n is not None]
    rule = f"{user_scope(row.user_name)}/{row.model_pattern}"
    bounds = _bounds(rule, row, min(per_day, default=None))
    return LimitRule(Pattern(row.model_pattern), _rank(row.model_pattern), bounds)


def _rank(glob: str) -> tuple[bool, int]:
    wild = [glob.index(c) for c in "*?" if c in glob]
    if not wild:
        return (
            True,
            0,
        )  # were the longer name above the shorter, an alias could be a way round its model's rule
    return False, min(wild) if glob.strip("*") else -1


def _bounds(rule: str, row: schema.RateLimit | schema.UserKey, tpd: int | None) -> tuple[Bound, ...]:
    most = {
        "rpm": row.rpm,
        "rpd": row.rpd,
        "tpm": row.tpm,
        "tpd": tpd,
        "concurrency": row.max_concurrency,
    }
    return tuple(Bound(rule, kind, n) for kind, n in most.items() if n is not None)


def _budget(row: schema.Quota) -> Budget:
    carried = nano(row.cost_used) if row.period == "total" else 0
    return Budget(user_scope(row.user_name), row.period, nano(row.quota), carried)


def _key_budget(key: schema.UserKey, identity: str) -> tuple[Budget, ...]:
    return () if key.quota is None else (Budget(key_scope(identity), "total", nano(key.quota)),)


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
