"""What a service account on Google's cloud is, and where its project's models are asked.

Tokens are fetched in `server/request/tokens.py`. After cloud.google.com/vertex-ai/generative-ai/docs/reference/rest;
the hosts of locations are those of the official SDK (google/genai/_api_client.py).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_GLOBAL = "global"
_HOST = "aiplatform.googleapis.com"
_SEVERAL_REGIONS = ("us", "eu")
_REGIONAL = re.compile(
    r"(?P<region>[a-z0-9-]+)-aiplatform\.googleapis\.com|aiplatform\.(?P<several>[a-z]+)\.rep\..*"
)
_BASE = re.compile(
    r"(?P<root>.*?)(?P<version>/v1(?:beta\d*)?)?(?:/projects/(?P<project>[^/]+))?"
    r"(?:/locations/(?P<location>[^/]+))?(?:/publishers(?:/google(?:/models)?)?)?\Z"
)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who asks for tokens: `email` signs with `private_key` (PEM) at `token_uri`. `key_id` may be empty."""

    project: str
    email: str
    private_key: str = field(repr=False)
    key_id: str
    token_uri: str


def service_account(secret: str) -> ServiceAccount:
    """The service account in a secret that `config/secrets.py` has read."""
    found: Mapping[str, str] = json.loads(secret)
    return ServiceAccount(
        project=found["project_id"],
        email=found["client_email"],
        private_key=found["private_key"],
        key_id=found.get("private_key_id", ""),
        token_uri=found["token_uri"],
    )


def url(base_url: str, location: str, path: str, project: str) -> str:
    """The full URL for `path` (`/v1beta/models/…`) in `project`.

    `base_url`, if any, may name a location by its host or its path, another project, and another root; without one
    the location is `global`, unless `location` says where.
    """
    address = urlsplit(base_url or f"https://{_HOST}")
    given = _BASE.match(address.path.rstrip("/"))
    assert given is not None  # every part of it may be absent
    regional = _REGIONAL.fullmatch(address.hostname or "")
    by_host = (regional["region"] or regional["several"]) if regional else ""
    location = location or given["location"] or by_host or _GLOBAL
    host = _host(location) if address.netloc == _HOST else address.netloc
    tail, _, query = path.removeprefix("/v1beta").partition("?")
    place = (
        f"{given['root']}{given['version'] or '/v1'}/projects/{given['project'] or quote(project, safe='')}"
        f"/locations/{location}/publishers/google{tail}"
    )
    query = "&".join(filter(None, [address.query, query]))
    return urlunsplit((address.scheme, host, place, query, ""))


def _host(location: str) -> str:
    if location == _GLOBAL:
        return _HOST
    if location in _SEVERAL_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-{_HOST}"
