"""httpx's transport interface on llhttp: kept connections, and requests whose heads are made as bytes.

Sockets, TLS and proxies are `h1connect.py`'s, what goes over one connection `h1exchange.py`'s. Time limits are set by
whoever waits. httpx's own pool scans every connection twice per request and loses a slot for each connect that is
cancelled; nothing of it is used.
"""

import asyncio
import math
import re
import ssl
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import httpx

from gproxy.server.transport.deadlines import Deadlines
from gproxy.server.transport.h1connect import Dialer, Origin, Proxy, origin_of, proxy_of
from gproxy.server.transport.h1exchange import Connection, Exchange, Place
from gproxy.server.transport.outbox import Outbox

KEEP_ALIVE_SECONDS = 15.0
"""How long an idle connection is kept: less than upstreams keep theirs, so that theirs seldom ends first."""

STALE_SECONDS = 1.0
LAG_SECONDS = 0.1
"""A peer that closes an idle connection at the moment a request is sent on it is heard of before an answer to the
request could come: within the time to the peer and back, which is no more than it took to connect, and what this
process may be late by. A connection that ends later, or after a second in any case, had an upstream at work behind
it, which may bill for it."""

MOST_STALE = 2
"""More kept connections do not end by chance under one request: it is what ends them."""

# Goes on while the machine sleeps, as Linux's monotonic clock does not: when it wakes, peers have long gone unheard.
_SLEEPLESS = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

MAX_IDLE = 256
"""Idle connections that are kept to one origin."""

Headers = Sequence[tuple[bytes, bytes]]
_Key = tuple[Origin, Proxy | None]

# A URL that httpx would leave as it is: no need to take it apart for each request.
_PLAIN_URL = re.compile(
    r"(https?://[a-z0-9.-]+(?::[0-9]{1,5})?)(/[\w\-~!$&()*+,;=:@/.]*(?:\?[\w\-~!$&()*+,;=:@/.?]*)?)", re.ASCII
)
_TARGET = re.compile(rb"[\x21-\x7e]+")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_WITH_LENGTH = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, slots=True)
class Form:
    """What requests have in common: whom they are sent to, and how their heads `start`, up to what frames them."""

    method: str
    key: _Key = field(repr=False)
    start: bytes = field(repr=False)

    def further(self, headers: Headers) -> "Form":
        """The same with further headers. Raises httpx.UnsupportedProtocol as `form_of`."""
        return Form(self.method, self.key, self.start + _block(headers)) if headers else self

    def head(self, length: int) -> bytes:
        """The head of one request, with a body of `length` bytes."""
        if length or self.method in _WITH_LENGTH:
            return b"%sContent-Length: %d\r\n\r\n" % (self.start, length)
        return self.start + b"\r\n"


class TimedOut(TimeoutError):
    """`until`: by when it had to be; `connected`: what was late is the head, else the connection."""

    def __init__(self, until: float, *, connected: bool) -> None:
        self.until = until
        self.connected = connected


class H1Transport(httpx.AsyncBaseTransport):
    """One pool for all origins, to be made inside the running loop.

    Redirects, cookies, decompression and the environment's proxies are none of its business. `request.extensions` may
    hold `proxy` (a URL, or "") and `connected`, which is called each time that the request has got a connection.
    `context`: for TLS, instead of what the system trusts.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = Dialer(context)
        self._pool = Pool()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The head of the answer; the body is read from its stream, an `Exchange`. Raises httpx.TransportError."""
        url, more = request.url, request.extensions
        form = _form(request.method, origin_of(url), url.raw_path, request.headers.raw, more.get("proxy", ""))
        answer = await self.send(form, request.content, more.get("connected", _nothing))
        return httpx.Response(answer.status, headers=answer.headers, stream=answer, request=request)

    async def fetch(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes = b"",
        proxy: str = "",
    ) -> Exchange:
        """The same without httpx's objects: the answer, whose head is there. Raises httpx.TransportError.

        `headers` without Host and those of the framing, which are added.
        """
        return await self.send(form_of(method, url, headers, proxy), body, _nothing)

    async def send(
        self,
        form: Form,
        body: bytes,
        connected: Callable[[], object],
        connect_s: float = math.inf,
        answer_s: float = math.inf,
        deadline: float = math.inf,
    ) -> Exchange:
        """An answer whose head is there. Raises httpx.TransportError and TimedOut.

        `connected` is called each time that the request has got a connection, which may take `connect_s`; the head
        may then take `answer_s`, and all of it last until `deadline` on the loop's clock.
        """
        head, clock = form.head(len(body)), self._loop.time
        stale = 0
        while True:
            connection = self._pool.take(form.key)
            kept = connection is not None
            if connection is None:
                connection = await self._connection(form.key, min(clock() + connect_s, deadline))
            connected()
            began = clock()
            until = began + answer_s
            if until > deadline:
                until = deadline
            exchange = connection.start(head, body, form.method == "HEAD")
            try:
                while not exchange.status:
                    if await exchange.news(until):
                        raise TimeoutError
            except httpx.ReadError:
                # The peer closed a kept connection at once and before any byte of an answer, which is how an idle one
                # ends: the request goes out once more.
                if kept and exchange.unsent:
                    continue
                soon = began + min(STALE_SECONDS, connection.way + LAG_SECONDS)
                idle = kept and exchange.unanswered and clock() < soon
                if not idle or stale == MOST_STALE:
                    raise
                stale += 1
            except TimeoutError:
                exchange.abort()
                raise TimedOut(until, connected=True) from None
            except BaseException:  # a request that is given up frees its connection, too
                exchange.abort()
                raise
            else:
                return exchange

    async def _connection(self, key: _Key, until: float) -> Connection:
        """A new one. Raises httpx.ConnectError, and TimedOut at `until` on the loop's clock."""
        try:
            async with asyncio.timeout_at(until if until < math.inf else None):
                return await self._pool.add(key, self._dialer)
        except TimeoutError:
            raise TimedOut(until, connected=False) from None

    async def aclose(self) -> None:
        self._pool.close()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn


def _nothing() -> None:
    pass


def form_of(method: str, url: str, headers: Headers = (), proxy: str = "") -> Form:
    """Raises httpx.UnsupportedProtocol for what would be read as something else than it is."""
    origin, target = _split(url)
    return _form(method, origin, target, headers, proxy)


def _form(method: str, origin: Origin, target: bytes, headers: Headers, proxy_url: str) -> Form:
    proxy = proxy_of(proxy_url) if proxy_url else None
    if proxy is not None and not origin.tls:
        target = f"http://{origin.authority}".encode() + target
        if proxy.authorization:
            headers = [*headers, (b"Proxy-Authorization", proxy.authorization)]
    if _TARGET.fullmatch(target) is None or _TOKEN.fullmatch(method.encode()) is None:
        raise httpx.UnsupportedProtocol("the method or the target is none")
    line = b"%s %s HTTP/1.1\r\n" % (method.encode(), target)
    host = _block([(b"Host", origin.authority.encode())], ours=True)
    return Form(method, (origin, proxy), line + host + _block(headers))


def _block(headers: Headers, *, ours: bool = False) -> bytes:
    """Lines of a head. Host and framing are ours, whatever others say of them. Raises httpx.UnsupportedProtocol."""
    lines = [b"%s: %s\r\n" % header for header in headers if ours or not _is_ours(header[0])]
    block = b"".join(lines)
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines) or b"\0" in block:
        raise httpx.UnsupportedProtocol("a line break or NUL inside a header")
    return block


@lru_cache(maxsize=1024)
def _is_ours(name: bytes) -> bool:
    """Whether a header is written here. Raises httpx.UnsupportedProtocol for what is no name of one."""
    if _TOKEN.fullmatch(name) is None:
        raise httpx.UnsupportedProtocol("not the name of a header")
    return name.lower() in (b"host", b"content-length", b"transfer-encoding")


def _split(url: str) -> tuple[Origin, bytes]:
    plain = _PLAIN_URL.fullmatch(url)
    if plain is not None and "/." not in url:
        return _origin(plain[1]), plain[2].encode()
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
    return origin_of(parsed), parsed.raw_path


@lru_cache(maxsize=256)
def _origin(url: str) -> Origin:
    try:
        return origin_of(httpx.URL(url))
    except httpx.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from error


sleepless: Callable[[], float] = (
    time.monotonic if _SLEEPLESS is None else partial(time.clock_gettime, _SLEEPLESS)
)
"""Seconds since some moment, those in which the machine slept among them."""


class Pool:
    """The connections of a transport; of the idle ones to an origin, the last is used first."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._all: set[Connection] = set()
        self._places: dict[Hashable, Place] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self.deadlines = Deadlines(self._waits)
        self.outbox = Outbox()

    def take(self, key: _Key) -> Connection | None:
        """An idle connection, which is idle no longer."""
        place = self._places.get(key)
        idle = None if place is None else place.idle
        while idle:
            connection = idle.pop()
            if not connection.closing() and sleepless() - connection.idle_since < KEEP_ALIVE_SECONDS:
                return connection
            connection.abort()
        return None

    async def add(self, key: _Key, dialer: Dialer) -> Connection:
        """A new connection. Raises httpx.ConnectError."""
        began = self._loop.time()
        connection = await dialer.connect(*key, lambda: Connection(self))
        connection.way = self._loop.time() - began
        self._all.add(connection)
        connection.place = place = self._places.setdefault(key, Place(key))
        place.open += 1
        if self._closed:
            connection.abort()
            raise httpx.ConnectError("the client is closed")
        return connection

    def release(self, connection: Connection) -> None:
        idle = connection.place.idle
        connection.idle_since = sleepless()
        idle.append(connection)
        if len(idle) > MAX_IDLE:
            idle[0].abort()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)

    def forget(self, connection: Connection) -> None:
        if connection not in self._all:
            return
        self._all.remove(connection)
        place = connection.place
        if connection in place.idle:
            place.idle.remove(connection)
        place.open -= 1
        if not place.open:
            del self._places[place.key]

    def _waits(self) -> list[Exchange]:
        return [exchange for it in self._all if (exchange := it.awaited) is not None]

    def _sweep(self) -> None:
        """Close what has been idle for long enough, and look again when the next one will have been."""
        self._sweeper = None
        now = sleepless()
        oldest = now - KEEP_ALIVE_SECONDS
        for place in tuple(self._places.values()):
            while place.idle and place.idle[0].idle_since <= oldest:
                place.idle[0].abort()
        first = min((p.idle[0].idle_since for p in self._places.values() if p.idle), default=None)
        if first is not None:
            self._sweeper = self._loop.call_later(first + KEEP_ALIVE_SECONDS - now, self._sweep)

    def close(self) -> None:
        self._closed = True
        self.deadlines.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self._all):
            connection.abort()
