"""Where a request for a channel goes and what identifies us there: URLs, credential headers, dialects spoken.

The facts of each channel are rows of `catalog.py`; which headers of the client go along is decided in
`protocols/headers.py`.
"""

import re
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

from gproxy.config import schema
from gproxy.config.snapshot import Provider
from gproxy.errors import ConfigError
from gproxy.providers import azure, vertex
from gproxy.providers.catalog import CHANNELS, EXTRAS, Channel

ANTHROPIC_VERSION = "2023-06-01"

_OPENAI = frozenset({"openai_chat", "openai_responses", "openai_embeddings"})
# Of an upstream that nothing was said of: many lack the Responses API, which translation reaches them from.
_UNSAID = frozenset({"openai_chat", "openai_embeddings"})
_LISTS = {"anthropic_messages": "/v1/models?limit=1000", "gemini": "/v1beta/models?pageSize=1000"}
_VERSION = re.compile(r"\A/v1(beta)?(?=/)")
# Clients of OpenAI's dialects expect the version inside the base URL, so one that ends in a version of its
# own (`/api/paas/v4`, `/v1beta/openai`) has all there is.
_OWN_VERSION = re.compile(r"/v\d+[a-z0-9]*(/openai)?\Z")
_PLAIN = ("/v1", "/v1beta")


def endpoint(
    channel: Channel,
    settings: schema.Settings,
    protocol_name: str,
    path: str,
    *,
    model: str = "",
    project: str = "",
) -> str:
    """The full URL for `path`, which is what `Protocol.upstream_path` gave (`/v1/…`, Gemini `/v1beta/…`).

    `model` is the upstream's, for a channel whose paths name it; `project` a service account's.

    `settings.base_url` may end in a slash, a version, or any part of the channel's own prefix; its query, if
    any, is kept. A version there is taken as given where another host stands in for a channel that has more, or
    less, than a version in front of its paths. Raises ConfigError when neither the channel nor the settings hold
    an address, BadRequest when the model's name cannot stand in a path.
    """
    address = settings.base_url or channel.root
    if channel.deployments:
        return azure.url(_checked(channel.name, address), protocol_name, path, model)
    if channel.service_account:
        return vertex.url(_checked(channel.name, address), settings.location, path, project)
    place, own = _below(channel.name, address, protocol_name)
    tail, _, query = _VERSION.sub("", path).partition("?")
    query = "&".join(part for part in (own, query) if part)
    return f"{place}{tail}?{query}" if query else place + tail


def asked_model(channel: Channel, settings: schema.Settings, model: str) -> str:
    """What a body names in the place of `model`: the same, but for an address that names a deployment."""
    return azure.deployment(settings.base_url, model) if channel.deployments else model


def known_as(provider: Provider, model: str) -> str:
    """The name by which it is known what `model` takes: its own, but for a deployment, which may have any name."""
    channel = CHANNELS[provider.channel]
    if not channel.deployments:
        return model
    row = provider.models.get(model) if provider.models else None
    told = row.display_name if row is not None else ""
    return azure.model_of(asked_model(channel, provider.settings, model), told)


def _checked(channel_name: str, address: str) -> str:
    if not urlsplit(address).netloc:
        raise ConfigError(f"channel {channel_name!r} needs settings.base_url, an http:// or https:// address")
    return address


@lru_cache(maxsize=1024)
def _below(channel_name: str, base_url: str, protocol_name: str) -> tuple[str, str]:
    """What a protocol's paths go below, without a version, and the query that belongs to it."""
    channel = CHANNELS[channel_name]
    address = urlsplit(_checked(channel_name, base_url))
    base = address.path.rstrip("/")
    root, prefix = _root(channel, base), channel.speaks[protocol_name]
    if ending := base[len(root) :]:
        begins = f"{prefix}/".startswith(f"{ending}/") or prefix in _PLAIN
        as_given = ending in _PLAIN and not begins and _stands_in(channel, address.hostname or "")
    else:
        as_given = protocol_name in _OPENAI and bool(_OWN_VERSION.search(base))
    if as_given:
        root, prefix = base, ""
    return urlunsplit((address.scheme, address.netloc, root + prefix, "", "")), address.query


def _root(channel: Channel, base: str) -> str:
    """`base`, a path without a slash at its end, less the longest known ending: what prefixes go below."""
    endings = set(_PLAIN)
    for prefix in channel.speaks.values():
        steps = prefix.split("/")
        endings.update("/".join(steps[:n]) for n in range(2, len(steps) + 1))
    return base.removesuffix(max((e for e in endings if base.endswith(e)), key=len, default=""))


def _stands_in(channel: Channel, host: str) -> bool:
    """Whether `host` is none of the channel's own, such as a relay's."""
    own = urlsplit(channel.root).hostname or ""
    return bool(own) and not f".{host}".endswith(f".{own}")


def _relayed(channel: Channel, settings: schema.Settings) -> bool:
    return bool(settings.base_url) and _stands_in(channel, urlsplit(settings.base_url).hostname or "")


def auth_headers(channel: Channel, protocol_name: str, secret: str | None) -> tuple[tuple[str, str], ...]:
    """The one header that carries `secret`; none without a secret."""
    if secret is None:
        return ()
    style = channel.auth.get(protocol_name) or channel.auth[""]
    return (("authorization", f"Bearer {secret}"),) if style == "bearer" else ((style, secret),)


def default_headers(channel: Channel, protocol_name: str) -> tuple[tuple[str, str], ...]:
    """Headers that must be there: each is added if, and only if, the client sent none of that name."""
    return (("anthropic-version", ANTHROPIC_VERSION),) if protocol_name == "anthropic_messages" else ()


def speaks(channel: Channel, settings: schema.Settings) -> frozenset[str]:
    """The protocols, of `schema.PROTOCOLS`, that this provider can be asked in."""
    if channel.configurable:
        return frozenset(settings.protocols) or _UNSAID
    return frozenset(channel.speaks)


def carrier(channel: Channel, settings: schema.Settings, operation: str, carried_by: frozenset[str]) -> str:
    """The protocol by which this provider carries an operation, of those that can; "" if it does not.

    A relay at another host than the channel's own may have more than that, and is asked.
    """
    if operation in EXTRAS and operation not in channel.extras and not _relayed(channel, settings):
        return ""
    return min(carried_by & speaks(channel, settings), default="")


def list_url(channel: Channel, settings: schema.Settings) -> tuple[str, str] | None:
    """URL of the upstream's list of models and the protocol whose shape and auth it has; None: no list."""
    if not channel.lists_models or not (channel.root or settings.base_url):
        return None
    spoken = speaks(channel, settings)
    protocol_name = next(name for name in schema.PROTOCOLS if name in spoken)
    return endpoint(channel, settings, protocol_name, _LISTS.get(protocol_name, "/v1/models")), protocol_name


def check_url(channel: Channel, settings: schema.Settings) -> tuple[str, str] | None:
    """URL that a GET of proves a key by, and the protocol whose auth it has; None where the list of models does.

    A relay at another host may not have it.
    """
    if not channel.check_path or _relayed(channel, settings):
        return None
    return endpoint(channel, settings, "openai_responses", channel.check_path), "openai_responses"
