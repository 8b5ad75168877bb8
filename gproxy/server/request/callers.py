"""Who is calling: the key of a request, wherever it stands, and the client whose key it is.

What the client may do is decided in `routing/`.
"""

import hashlib
from urllib.parse import unquote_plus

from gproxy.config.keys import PREFIX, looks_made_here
from gproxy.config.snapshot import Client, Snapshot
from gproxy.config.strays import SHORTEST, hashed_key, holds_key, published
from gproxy.errors import BadRequest, Unauthenticated
from gproxy.server.request.fields import Fields, RawHeaders

_KEY_HEADERS = (b"x-api-key", b"x-goog-api-key")
_MISSING = "No API key. Send it as `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `?key=`."
_INVALID = (
    "The API key is not valid: it is unknown, disabled or expired, or two different keys came in one request. "
    "The proxy's own log says which."
)
"""The same for each reason: who tries keys out is not told that one was good once."""


def authenticate(headers: RawHeaders, query: str, snapshot: Snapshot, now: float) -> Client:
    """Who is calling, by any of the four places for a key. Raises Unauthenticated.

    `now` is seconds since the epoch. Keys are looked up by their hash, so that how long it takes says nothing
    about how much of a key was right.
    """
    return client_of(keys_of(Fields(headers), query), snapshot, now)


def keys_of(headers: Fields, query: str) -> set[str]:
    """All keys that came, from wherever."""
    found: set[str] = set()
    if b"authorization" in headers.by_name:
        found.update(map(_bearer, headers.all(b"authorization")))
    for name in _KEY_HEADERS:
        if name in headers.by_name:
            found.update(headers.all(name))
    if query:
        found.update(unquote_plus(value) for name, value in _pairs(query) if name == "key")
    found.discard("")
    return found


def client_of(given: set[str], snapshot: Snapshot, now: float) -> Client:
    if not given:
        raise Unauthenticated(_MISSING, why="no key came")
    if len(given) > 1:
        raise Unauthenticated(_INVALID, why="two different keys came")
    (key,) = given
    digest = _hash(key)
    client = snapshot.clients.get(digest)
    if client is None:
        raise Unauthenticated(_INVALID, why=snapshot.disabled.get(digest) or _unknown(key))
    check_expiry(client, now)
    return client


def _unknown(key: str) -> str:
    if looks_made_here(key):
        return "the key is unknown: revoked, or made for another gproxy"
    if key.startswith(PREFIX):
        return "the key is unknown: mistyped or cut short, by its checksum"
    return "the key is unknown, and not of gproxy's form"


def check_expiry(client: Client, now: float) -> None:
    """Raises Unauthenticated for a client whose key has held for long enough."""
    if client.expires_at is not None and client.expires_at <= now:
        name = f"{client.user}/{client.key_label or client.key_id}"
        raise Unauthenticated(_INVALID, why=f"the key {name} has expired")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def check_name(model: str, key: str, snapshot: Snapshot) -> None:
    """A name is stored, shown and logged, so it must hold no key: the caller's own, or another that is known here.

    Of keys whose hash alone is known, one is recognised that is the name, or a part of it between slashes.
    """
    clear = snapshot.clear_names.get(model)
    if clear is None:
        clear = snapshot.clear_names.keep(model, not _holds_known_key(model, snapshot))
    own = (
        (key in model or "%" in model)
        and len(key) >= SHORTEST
        and holds_key(model, (key,))
        and not published(key, snapshot.config)
    )
    if own or not clear:
        raise BadRequest("The name of the model holds an API key. Send the key in its header alone.")


def _holds_known_key(model: str, snapshot: Snapshot) -> bool:
    return holds_key(model, snapshot.secrets) or any(
        hashed_key(part, snapshot.clients, snapshot.config) for part in model.split("/")
    )


def _bearer(authorization: str) -> str:
    """The key in an Authorization header, "" if it holds something else."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme == "Bearer" or scheme.lower() == "bearer" else ""


def without_key(query: str) -> str:
    """The query as it came, less the client's key."""
    if "key" not in query and "%" not in query:
        return query
    return "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]) != "key")


def _pairs(query: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in query.split("&") if part)
    return [(unquote_plus(name), value) for name, _, value in parts]
