"""From an ASGI scope to a `Call`: framing and Host checks, the key, the size, the body, read once.

Nothing is decided here about models, and nothing is sent.
"""

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from itertools import chain
from typing import Any

from msgspec import Struct, field

from gproxy.config.schema import RESERVED_NAMES, Global
from gproxy.config.snapshot import Client, Snapshot
from gproxy.errors import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    HeadersTooLarge,
    LoopDetected,
    MisdirectedRequest,
    NotFound,
    UnsupportedEncoding,
)
from gproxy.protocols import registry, strict
from gproxy.protocols.base import Facts, Protocol
from gproxy.server.request import coding
from gproxy.server.request.callers import check_expiry, check_name, client_of, keys_of, without_key
from gproxy.server.request.capture import Trace
from gproxy.server.request.course import Course, Courses, Few
from gproxy.server.request.fields import Fields, RawHeaders
from gproxy.server.request.incoming import Incoming

Scope = Mapping[str, Any]
TextHeaders = tuple[tuple[str, str], ...]

MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
MAX_TARGET_BYTES = 8 * 1024
"""Of path and query, which are taken apart before it is known who asks, and looked through for keys."""

_LONGEST_HOST, _LONGEST_MEDIA = 300, 200
"""No name of a host, and no media type, is so long: what is remembered of them is bounded."""

LONG_TARGET = f"The path and the query are longer than {MAX_TARGET_BYTES} bytes."

LOOP_HEADER = b"x-gproxy-via"
"""Names the gproxy processes that a request came through, so that one can see itself in it."""

_NO_PATH = (
    "The request target must be a path: this is no forward proxy. Point the client's base URL here instead of its"
    " proxy setting."
)
_VERSIONS = re.compile(r"(/v1(?:beta)?(?=/))+")
DataRoute = tuple[Protocol, str | None, str | None]
"""An operation, the model in the path, and the provider in the path; None where the path has none."""


class Lead(Struct):
    """Where a request leads. `long`: its target is longer than any is served. `error_body` is of its dialect, and
    `name` that of an operation. `passed` is the last pass of a request with such a head."""

    method: str
    path: str
    long: bool
    found: DataRoute | None
    error_body: Callable[[GatewayError, str], bytes]
    name: str
    passed: "Pass | None" = None


def lead(scope: Scope) -> Lead:
    path = scope["raw_path"].decode("latin-1")
    long = is_long(scope)
    found = None if long else data_route(path)
    shape, name = (found[0], found[0].name) if found else (shape_of(scope), "")
    return Lead(scope["method"], path, long, found, shape.error_body, name)


def data_route(path: str) -> DataRoute | None:
    """What a raw path asks of which model; None if it asks no model."""
    found = registry.match(path)
    if found is not None:
        return *found, None
    provider, below = _scoped(path)
    found = registry.match(below) if provider else None
    return None if found is None else (*found, provider)


def no_route(path: str) -> NotFound:
    """What a raw path that leads nowhere is answered: with the end of the right one, if its version is amiss."""
    meant = _meant(path) or _meant(_scoped(path)[1])
    if meant is None:
        return NotFound("There is no such route.")
    return NotFound(f"There is no such route; one ends in {meant}: see the client's base URL.")


def _meant(path: str) -> str | None:
    """The route that a path would lead to with one version in front, where it has none, several or another's."""
    versions = _VERSIONS.match(path)
    asked = versions and versions[1]
    below = path[versions.end() :] if versions else path
    models, _, model = below.removeprefix("/").partition("/")
    if models == "models" and ":" not in model and not below.endswith("/"):
        return f"{asked or '/v1'}/models" + ("/{model}" if model else "")
    found = registry.match(f"/v1{below}")
    if found is None:
        return None
    paths = found[0].paths
    if found[1] is None:
        return f"/v1{below}"
    return next((path for path in paths if asked and path.startswith(f"{asked}/")), paths[0])


def is_long(scope: Scope) -> bool:
    """Whether path and query are longer than any is served: not even where they lead is looked up."""
    return len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES


def shape_of(scope: Scope) -> registry.Shape:
    """The dialect in which a path that asks no model is answered; of a long target, OpenAI's."""
    if is_long(scope):
        return registry.OPENAI
    _, below = _scoped(scope["raw_path"].decode("latin-1"))
    return registry.shape_of(below, scope["headers"], scope["query_string"].decode("latin-1"))


def _scoped(path: str) -> tuple[str | None, str]:
    """The provider that a path names, if its first segment can be one, and the path below it."""
    first, slash, rest = path.removeprefix("/").partition("/")
    return (first, f"/{rest}") if slash and first not in RESERVED_NAMES else (None, path)


class Pass(Struct, kw_only=True):
    """What every request with such a head may go on with, under one snapshot: who asks, and what of which operation.

    `model` and `scoped` are the path's, if it has them; `query` is the raw one without `key`. `coding` is what the
    body's Content-Encoding says, None without one. `page`: what a browser is told with each answer. `at_once`: a body
    of so many bytes can be read in one go, once it has come; -1 for none. `courses` are those of names that hold no
    key.
    """

    snapshot: Snapshot
    client: Client
    key: str
    fields: Fields
    protocol: Protocol
    model: str | None
    scoped: str | None
    query: str
    coding: str | None
    page: TextHeaders
    at_once: int
    courses: Courses = field(default_factory=Few)


class Call(Struct, frozen=True):
    """One request that has passed the door, and the pass that it goes by, with the client, the operation and the
    configuration of that, which it is served under to its end.

    `course` is where it leads, None if none with such a head has asked for that name. `started` is
    `time.monotonic()`'s clock, `started_at` seconds since the epoch. `trace` hears of it where requests are logged.
    """

    request_id: str
    passed: Pass
    client: Client
    protocol: Protocol
    snapshot: Snapshot
    facts: Facts
    course: Course | None
    started: float
    started_at: float
    trace: Trace | None = None

    @property
    def headers(self) -> RawHeaders:
        return self.passed.fields.raw

    def __repr__(self) -> str:
        return f"Call({self.request_id})"  # its headers hold a key


def guard(scope: Scope, settings: Global, own_id: str) -> Fields:
    """The checks that hold for every route, before anything else is looked at. Returns the headers.

    Raises BadRequest, HeadersTooLarge, MisdirectedRequest or LoopDetected.
    """
    headers = Fields(tuple(scope["headers"]))
    if len(headers.raw) > MAX_HEADERS or len(b"".join(chain.from_iterable(headers.raw))) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(
            f"More than {MAX_HEADERS} headers, or more than {MAX_HEADER_BYTES} bytes of them."
        )
    if is_long(scope):
        raise HeadersTooLarge(LONG_TARGET)
    if not scope["raw_path"].startswith(b"/"):
        raise BadRequest(_NO_PATH)
    known = headers.by_name
    if b"transfer-encoding" in known and b"content-length" in known:
        raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
    host = headers.one(b"host")
    if not host and scope["http_version"] == "1.1":
        raise BadRequest("The request has no Host header.")  # RFC 9112, 3.2
    server = scope.get("server")
    local = server[0] if server else ""
    if len(host) > _LONGEST_HOST or not _is_served(host, settings.host, settings.allowed_hosts, local):
        raise MisdirectedRequest("This Host is not served here; `allowed_hosts` in [global] can add it.")
    if LOOP_HEADER in known and own_id in headers.one(LOOP_HEADER).replace(" ", "").split(","):
        raise LoopDetected("This request has already come through this proxy: a base_url points back at it.")
    return headers


@lru_cache(maxsize=256)
def _is_served(host: str, configured: str, allowed: tuple[str, ...], local: str) -> bool:
    """DNS rebinding: a page of the web may name any host, but not make a browser send another Host header."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").lower()
    if name == "localhost" or name == configured.lower() or name in map(str.lower, allowed):
        return True
    return _is_here(name, local)


def _is_here(name: str, local: str) -> bool:
    """Whether a Host is an IP literal that means this machine's end of the connection."""
    try:
        address = _unmapped(name)
        return address.is_loopback or address == _unmapped(local)
    except ValueError:
        return False


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; an IPv4 one that a socket for both families shows as IPv6 (`::ffff:10.0.0.1`) as IPv4 again."""
    parsed = ipaddress.ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed


def let_in(
    scope: Scope, headers: Fields, incoming: Incoming, found: DataRoute, page: TextHeaders, snapshot: Snapshot
) -> Pass:
    """The pass of a request to a model, once it is known who asks. `page` is for the answer.

    Raises Unauthenticated, NotFound, UnsupportedEncoding or BadRequest.
    """
    query = scope["query_string"].decode("latin-1")
    keys = keys_of(headers, query)
    client = client_of(keys, snapshot, time.time())
    incoming.greet(client)
    protocol, model, scoped = found
    if scoped is not None and scoped not in snapshot.providers:
        raise NotFound("No such provider.")
    media = _media(headers.one(b"content-type")[:_LONGEST_MEDIA])
    if media and media != "application/json" and not media.endswith("+json"):
        raise UnsupportedEncoding(f"The body must be application/json, not {media[:80]}.")
    headers.one(b"content-length")  # there must not be two
    coded = b"content-encoding" in headers.by_name
    (key,) = keys
    return Pass(
        snapshot=snapshot,
        client=client,
        key=key,
        fields=headers,
        protocol=protocol,
        model=model,
        scoped=scoped,
        query=without_key(query),
        coding=headers.one(b"content-encoding") if coded else None,
        page=page,
        at_once=-1 if coded else min(snapshot.config.globals.max_body_bytes, strict.SMALL_BYTES),
    )


async def read(passed: Pass, incoming: Incoming, request_id: str, started: float) -> Call:
    """The call, once its body is read. `started` is when it came, on `time.monotonic()`'s clock.

    Raises Unauthenticated, BodyTooLarge, UnsupportedEncoding, BadRequest, BodyTimeout or ClientLeft.
    """
    started_at = time.time()
    client, trace, request = passed.client, incoming.trace, incoming.request
    if client.expires_at is not None:
        check_expiry(client, started_at)
    incoming.client = client
    if trace is not None:
        trace.client = client
    length = request.length if request.whole and trace is None else None
    if length is None or length > passed.at_once:
        facts = await _facts(passed, await _read_body(passed, incoming))
    else:
        facts = passed.protocol.read(strict.decode(incoming.whole(), False), passed.model, passed.query)
    course = passed.courses.get(facts.model)
    if course is None:
        check_name(facts.model, passed.key, passed.snapshot)
    incoming.model = facts.model
    if trace is not None:
        trace.model = facts.model
    protocol, snapshot = passed.protocol, passed.snapshot
    return Call(request_id, passed, client, protocol, snapshot, facts, course, started, started_at, trace)


async def _facts(passed: Pass, pieces: list[bytes]) -> Facts:
    protocol, model, query = passed.protocol, passed.model, passed.query
    if sum(map(len, pieces)) <= strict.LARGE_BYTES:  # else to put them together takes long already
        pieces = [b"".join(pieces)]
        if not strict.is_large(pieces[0]):  # a thread costs more than a small one takes
            return protocol.read(strict.decode(pieces[0], False), model, query)
    return await asyncio.to_thread(lambda: protocol.read(strict.decode(b"".join(pieces)), model, query))


@lru_cache(maxsize=256)
def _media(content_type: str) -> str:
    """The type without its parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()


async def _read_body(passed: Pass, incoming: Incoming) -> list[bytes]:
    """The pieces of the whole body, decoded."""
    cap = passed.snapshot.config.globals.max_body_bytes
    length = incoming.request.length
    if length is not None and length > cap:
        raise BodyTooLarge(f"The body is larger than {cap} bytes.")
    decoder = None if passed.coding is None else coding.request_decoder(passed.coding, cap)
    pieces: list[bytes] = []
    size = 0
    while not incoming.ended:
        data = incoming.at_hand()
        if data is None:
            data = await incoming.piece()
        if decoder is not None:
            # However little has come, as much as the cap allows may come of it: nobody should wait for that.
            undo = partial(coding.decode_request, last=incoming.ended, cap=cap)
            data = await asyncio.to_thread(undo, decoder, data)
        if incoming.trace is not None:
            incoming.trace.body(data, last=incoming.ended)
        size += len(data)
        if size > cap:
            raise BodyTooLarge(f"The body is larger than {cap} bytes.")
        if data:
            pieces.append(data)
    return pieces
