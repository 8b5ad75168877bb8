"""The structs that gproxy.toml is read into, and with each field its one description: the table of keys.

A field's default, help text and bounds stand beside it here and nowhere else; validation (`reader.py`),
`--help`, the reference in `docs/` and the tests of `gproxy.toml.example` are made from them. Reading files is
not done here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

RESERVED_NAMES = frozenset(
    {"v1", "v1beta", "health", "healthz", "ready", "admin", "user", "metrics", "static", "favicon.ico"}
)
"""First path segments that are ours, so that no provider can be named so."""


class ChannelFacts(Protocol):
    """What validation has to know of a channel; the rows themselves are in `providers/catalog.py`."""

    @property
    def needs_address(self) -> bool:
        """Whether `settings.base_url` must be given."""
        ...

    @property
    def configurable(self) -> bool:
        """Whether `settings.protocols` says what the upstream speaks."""
        ...

    @property
    def service_account(self) -> bool:
        """Whether a credential is a service account's JSON, or the path of its file, and no key."""
        ...

    @property
    def prices(self) -> str:
        """Its name in the built-in table of prices, "" if that has none of its."""
        ...

    @property
    def own_price(self) -> tuple[float, float] | None:
        """What any model of its costs, where no table says it: USD per million tokens of input and of output."""
        ...


Channels = Mapping[str, ChannelFacts]
"""The channels there are, by the names that `channel =` may take."""

PROTOCOLS = ("openai_chat", "openai_responses", "openai_embeddings", "anthropic_messages", "gemini")
"""What `settings.protocols` of a provider may list."""

BOUNDS = ("rpm", "rpd", "tpm", "tpd", "max_concurrency")
"""The bounds that a rule of `[[rate_limits]]` and a key may set, by their names in both."""

LEAST_USD, MOST_USD = 1e-9, 1e9
"""The smallest quota that is one, a nano-dollar, and the largest: sums with it stay within 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is known of one key of the file beyond its type and default.

    `low` and `high` bound a number, `choices` lists the words allowed, `pattern` is a regular expression for
    the whole string. `ignored`: accepted for the sake of GPROXY v1 files and warned about.
    """

    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    ignored: bool = False


def key(help: str, *, default: Any = dataclasses.MISSING, secret: bool = False, **facts: Any) -> Any:
    """A dataclass field with its `Key` in the metadata; without a default the key is required.

    A default that is a class (`dict`) is called for each value. What may hold a `secret` is in no repr.
    """
    metadata = {"key": Key(help=help, **facts)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Global:
    host: str = key("address to listen on; a non-loopback one warns at start", default="127.0.0.1")
    port: int = key("port to listen on; 0 takes a free one", default=8787, low=0, high=65535)
    data_dir: str = key("folder of the usage store, relative to this file", default="./data")
    proxy: str = key(
        "HTTP(S) proxy for upstream traffic; environment proxies are ignored", default="", secret=True
    )
    workers: int = key("worker processes", default=1, low=1, high=64)
    max_body_bytes: int = key("largest request body, decoded", default=52_428_800, low=1024)
    enable_usage: bool = key("write a usage row per request", default=True)
    enable_upstream_log: bool = key("log each attempt's envelope", default=False)
    enable_upstream_log_body: bool = key("and its bodies; needs enable_upstream_log", default=False)
    enable_downstream_log: bool = key("log each request's envelope", default=False)
    enable_downstream_log_body: bool = key("and its bodies; needs enable_downstream_log", default=False)
    log_retention_days: int = key("days that request logs are kept; usage rows stay", default=30, low=1)
    log_body_max_bytes: int = key("a longer logged body is cut", default=65_536, low=0)
    quota_status: int = key("status of a spent quota", default=402, choices=("402", "429"))
    cors_origins: tuple[str, ...] = key(
        "browser origins that may call, such as https://app.example; * for any", default=()
    )
    allowed_hosts: tuple[str, ...] = key(
        "extra Host names; loopback names and `host` always work", default=()
    )
    drain_seconds: int = key("how long streams may finish after SIGTERM", default=30, low=0, high=3600)
    allow_unpriced: bool = key("with a quota: serve a model of unknown price at cost null", default=False)
    http_engine: str = key("HTTP/1.1 engine", default="fast", choices=("fast", "hypercorn"))
    tls_certificate: str = key("path of the certificate; with tls_key: HTTPS", default="")
    tls_key: str = key("path of the certificate's key", default="")
    log_format: str = key("access log and messages on stderr", default="text", choices=("text", "json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    base_url: str = key("the upstream's address, with or without /v1 or /v1beta", default="")
    connect_timeout_s: float = key("seconds to connect", default=10.0, low=0.01)
    first_byte_timeout_s: float = key(
        "seconds to the first byte of the answer, in a stream to its first event", default=600.0, low=0.01
    )
    idle_timeout_s: float = key("seconds of silence inside an answer", default=300.0, low=0.01)
    total_timeout_s: float = key("seconds for a whole request, 0 for none", default=0.0, low=0)
    max_attempts: int = key("attempts per request over all credentials", default=4, low=1, high=100)
    on_disconnect: str = key(
        "when the client leaves: end the upstream's answer, or `drain` it to learn its usage",
        default="cancel",
        choices=("cancel", "drain"),
    )
    include_usage: bool = key("ask chat streams for usage", default=True)
    protocols: tuple[str, ...] = key(
        "what a custom channel speaks; absent: `openai_chat` and `openai_embeddings`",
        default=(),
        choices=PROTOCOLS,
    )
    location: str = key(
        "where a service account's project is asked; absent: what base_url says, else `global`",
        default="",
        pattern=r"[a-z0-9-]*",
    )
    headers: dict[str, str] = key("extra headers on every request", default=dict, secret=True)
    proxy: str = key("HTTP(S) proxy for this provider", default="", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Exactly one of `env`, `keyring` and `api_key` is given. `service_account`: its channel takes such a one."""

    env: str = key("name of an environment variable", default="")
    keyring: str = key("entry of the OS keyring, service `gproxy`", default="")
    api_key: str = key("the secret itself; prefer the other two", default="", secret=True)
    label: str = key("name in reports and logs; absent: `provider#N`, by its place", default="")
    weight: int | None = key("share of the traffic; absent at all: tried in order", default=None, low=0)
    service_account: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    name: str = key("segment of the URL and prefix of the model", pattern=r"[a-z0-9][a-z0-9_-]*")
    channel: str = key("what kind of upstream this is")
    enabled: bool = key("serve this provider", default=True)
    settings: Settings = key("address, timeouts, retries", default=Settings())
    credentials: tuple[Credential, ...] = key("the upstream's keys", default=())
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTier:
    """USD per million tokens; a cache price that is None is the input price."""

    input_tokens_up_to: int | None = key("largest input that this tier prices", default=None, low=0)
    price_input_tokens: float | None = key("input", default=None, low=0)
    price_output_tokens: float | None = key("output", default=None, low=0)
    price_cache_read_input_tokens: float | None = key("cache read", default=None, low=0)
    price_cache_creation_input_tokens: float | None = key("cache write", default=None, low=0)
    price_cache_creation_input_tokens_5min: float | None = key("cache write, 5 min", default=None, low=0)
    price_cache_creation_input_tokens_1h: float | None = key("cache write, 1 h", default=None, low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    provider_name: str = key("the provider that serves it")
    model_id: str = key("the id that the upstream knows")
    display_name: str = key("name for people", default="")
    enabled: bool = key("serve this model", default=True)
    price_each_call: float | None = key("USD for each call", default=None, low=0)
    price_tiers: tuple[PriceTier, ...] = key("prices by length of the input", default=())
    flex_price_each_call: float | None = key("the same in the service tier `flex`", default=None, low=0)
    flex_price_tiers: tuple[PriceTier, ...] = key("the same in the service tier `flex`", default=())
    scale_price_each_call: float | None = key("the same in the service tier `scale`", default=None, low=0)
    scale_price_tiers: tuple[PriceTier, ...] = key("the same in the service tier `scale`", default=())
    priority_price_each_call: float | None = key("the same in `priority`, or fast mode", default=None, low=0)
    priority_price_tiers: tuple[PriceTier, ...] = key("the same in `priority`, or fast mode", default=())
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasTarget:
    provider_name: str = key("the provider that serves it")
    model_id: str = key("the id that the upstream knows")
    weight: int = key("share under strategy `weighted`; the first target's is 1", default=1, low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAlias:
    alias: str = key("the name that clients send")
    provider_name: str = key("the first target's provider")
    model_id: str = key("the first target's model")
    enabled: bool = key("serve this alias", default=True)
    strategy: str = key(
        "how targets are chosen: in order, or by weight",
        default="failover",
        choices=("failover", "weighted"),
    )
    targets: tuple[AliasTarget, ...] = key("more targets behind the first", default=())
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UserKey:
    """Exactly one of `api_key_hash` and `api_key` is given."""

    label: str = key("name of the key in reports", default="")
    api_key_hash: str = key("SHA-256 of the key", default="", pattern=r"sha256:[0-9a-f]{64}")
    key_hint: str = key("the last four characters", default="")
    api_key: str = key("the key itself; `gproxy keys hash` converts it", default="", secret=True)
    enabled: bool = key("accept this key", default=True)
    expires_at: datetime | None = key("accept it until then", default=None)
    models: tuple[str, ...] | None = key("patterns that narrow what its user may use", default=None)
    rpm: int | None = key("requests per minute", default=None, low=1)
    rpd: int | None = key("requests per day", default=None, low=1)
    tpm: int | None = key("tokens per minute", default=None, low=1)
    tpd: int | None = key("tokens per day", default=None, low=1)
    max_concurrency: int | None = key("requests at once", default=None, low=1)
    quota: float | None = key("USD that this key may spend", default=None, low=0, high=MOST_USD)
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    name: str = key("name of the user", pattern=r"[^\s/][^/]*")
    enabled: bool = key("accept this user's keys", default=True)
    is_admin: bool = key("may read /admin and /metrics", default=False)
    password: str = key("of GPROXY's console; unused", default="", secret=True, ignored=True)
    keys: tuple[UserKey, ...] = key("keys of this user", default=())
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    user_name: str = key("whom it allows")
    provider_name: str | None = key("at which provider; absent: at every one", default=None)
    model_pattern: str = key("which models")
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    user_name: str = key("whom it limits")
    model_pattern: str = key("on which models")
    rpm: int | None = key("requests per minute", default=None, low=1)
    rpd: int | None = key("requests per day", default=None, low=1)
    tpm: int | None = key("tokens per minute", default=None, low=1)
    tpd: int | None = key("tokens per day", default=None, low=1)
    total_tokens: int | None = key("tokens per day, GPROXY's name", default=None, low=1)
    max_concurrency: int | None = key("requests at once", default=None, low=1)
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    user_name: str = key("whose spend it bounds")
    quota: float = key("USD; 0 is unlimited", low=0, high=MOST_USD)
    period: str = key("when spend starts anew", default="total", choices=("total", "day", "month"))
    cost_used: float = key("spend carried over, in period `total`", default=0.0, low=0, high=MOST_USD)
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file. The field names of the tables are the file's, `global` apart."""

    globals: Global = Global()
    providers: tuple[Provider, ...] = ()
    models: tuple[Model, ...] = ()
    model_aliases: tuple[ModelAlias, ...] = ()
    users: tuple[User, ...] = ()
    permissions: tuple[Permission, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    quotas: tuple[Quota, ...] = ()


IGNORED_KEYS: dict[str, frozenset[str]] = {
    "global": frozenset(
        {"spoof_emulation", "update_source", "update_channel", "dsn", "admin_user", "admin_password"}
    ),
    "providers": frozenset({"label", "routing"}),
    "providers.settings": frozenset(
        {
            "user_agent",
            "max_retries_on_429",
            "sanitize_rules",
            "rewrite_rules",
            "enable_magic_cache",
            "cache_breakpoints",
            "flatten_system_before_cache",
            "extra_beta_headers",
        }
    ),
    "providers.credentials": frozenset(
        {
            "access_token",
            "refresh_token",
            "id_token",
            "expires_at_ms",
            "account_id",
            "user_email",
            "cookie",
            "type",
            "project_id",
            "private_key_id",
            "private_key",
            "client_email",
            "client_id",
            "client_secret",
            "auth_uri",
            "token_uri",
            "auth_provider_x509_cert_url",
            "client_x509_cert_url",
            "universe_domain",
        }
    ),
    "file_permissions": frozenset({"user_name", "provider_name"}),
}
"""Keys of GPROXY v1 that are recognised, warned about by name, and have no effect here."""

IGNORED_PREFIXES: dict[str, tuple[str, ...]] = {"models.price_tiers": ("flex_", "scale_", "priority_")}
"""The same for families of keys: prices of service classes, which have tiers of their own."""


def keys_of(struct: type[Any]) -> dict[str, Key]:
    """The keys of one table, in file order, by name."""
    return {f.name: f.metadata["key"] for f in dataclasses.fields(struct) if "key" in f.metadata}
