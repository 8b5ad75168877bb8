"""How a connection to an origin comes about: its addresses, the race between them, TLS, and a proxy on the way.

What is sent on it is `h1exchange.py`'s. Nothing here has a time limit: whoever waits for it is cancelled.
"""

import asyncio
import base64
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, TypeVar

import httpx
from aiohappyeyeballs import AddrInfoType, start_connection

from gproxy.server.transport.h1exchange import Connection
from gproxy.server.transport.h1head import MAX_HEAD_BYTES

ADDRESSES_SECONDS = 10.0
"""How long the addresses of a name are kept: connections that begin together ask for them once."""

RACE_SECONDS = 0.25
"""The next address is tried when one has not answered for so long. RFC 8305 section 5."""

_TUNNEL_OPEN = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9][ \r]")

_P = TypeVar("_P", bound=asyncio.Protocol)


class Origin(NamedTuple):
    """Who is asked. `host` is in ASCII, an IPv6 address without brackets; `authority` is what Host says."""

    tls: bool
    host: str
    port: int
    authority: str


class Proxy(NamedTuple):
    """`authorization` is the value of Proxy-Authorization, b"" for none."""

    origin: Origin
    authorization: bytes


def origin_of(url: httpx.URL) -> Origin:
    """Raises httpx.UnsupportedProtocol for what is no address of a web server."""
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("neither http nor https, or no host")
    tls = url.scheme == "https"
    port = url.port if url.port is not None else 443 if tls else 80
    if port > 65535:
        raise httpx.UnsupportedProtocol("no port")
    return Origin(tls, url.raw_host.decode("ascii"), port, url.netloc.decode("ascii"))


@lru_cache(maxsize=64)
def proxy_of(url: str) -> Proxy:
    """Raises httpx.UnsupportedProtocol."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
    authorization = b""
    if parsed.username or parsed.password:
        authorization = b"Basic " + base64.b64encode(f"{parsed.username}:{parsed.password}".encode())
    return Proxy(origin_of(parsed), authorization)


class Resolver:
    """The addresses of names, asked for once by all who want them at the same time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._found: dict[tuple[str, int], tuple[float, asyncio.Future[Sequence[AddrInfoType]]]] = {}

    async def find(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """Raises OSError or UnicodeError."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            return ask(flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name
        now = self._loop.time()
        key = (host, port)
        until, finding = self._found.get(key, (0.0, None))
        if finding is None or until <= now:
            self._found = {key: entry for key, entry in self._found.items() if entry[0] > now}
            finding = self._loop.run_in_executor(None, ask)
            self._found[key] = (now + ADDRESSES_SECONDS, finding)
            finding.add_done_callback(partial(self._settle, key))
        # Who leaves does not take the answer from the others.
        return await asyncio.shield(finding)

    def _settle(self, key: tuple[str, int], finding: asyncio.Future[Sequence[AddrInfoType]]) -> None:
        failed = finding.cancelled() or finding.exception() is not None
        if failed and key in self._found and self._found[key][1] is finding:
            del self._found[key]


class Dialer:
    """Makes connections. `context` is for TLS; without one, what the system trusts is."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._resolver = Resolver(self._loop)

    async def connect(
        self, origin: Origin, proxy: Proxy | None, make: Callable[[], Connection]
    ) -> Connection:
        """A connection that requests to `origin` can be sent on. Raises httpx.ConnectError."""
        try:
            if proxy is None:
                return await self._dial(origin, make)
            if not origin.tls:
                return await self._dial(proxy.origin, make)
            return await self._through(origin, proxy, make())
        except (OSError, ValueError) as error:
            raise httpx.ConnectError(str(error)) from error

    async def _dial(self, to: Origin, make: Callable[[], _P]) -> _P:
        context = await self._tls() if to.tls else None
        name = to.host.rstrip(".") if to.tls else None
        addresses = await self._resolver.find(to.host, to.port)
        sock = await start_connection(
            addresses, happy_eyeballs_delay=RACE_SECONDS, interleave=1, loop=self._loop
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The socket is the transport's from here on, which closes it where this fails or is given up. Were it closed
        # here as well, its number could be another connection's by then.
        _, protocol = await self._loop.create_connection(make, sock=sock, ssl=context, server_hostname=name)
        return protocol

    async def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            # It takes tens of milliseconds to read what the system trusts, for which others would wait.
            context = await self._loop.run_in_executor(None, _trusting)
            self._context = self._context or context
        return self._context

    async def _through(self, origin: Origin, proxy: Proxy, connection: Connection) -> Connection:
        context = await self._tls()
        tunnel = await self._dial(proxy.origin, _Tunnel)
        try:
            await tunnel.open(f"{_bracketed(origin.host)}:{origin.port}".encode(), proxy.authorization)
            connection.connection_made(tunnel.transport)
            transport = await self._loop.start_tls(
                tunnel.transport, connection, context, server_hostname=origin.host.rstrip(".")
            )
        except BaseException:  # given up as well as failed: nobody else knows of the tunnel
            tunnel.transport.abort()
            raise
        if transport is None:
            raise ConnectionResetError("the proxy closed the tunnel")
        connection.connection_made(transport)
        return connection


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy until it leads on to the origin."""

    def __init__(self) -> None:
        self._got = b""
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's are none of asyncio's

    async def open(self, authority: bytes, authorization: bytes) -> None:
        """Raises ConnectionError where the proxy does not open it."""
        credentials = b"Proxy-Authorization: %s\r\n" % authorization if authorization else b""
        self.transport.write(
            b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (authority, authority, credentials)
        )
        await self._answered
        head, ended, rest = self._got.partition(b"\r\n\r\n")
        if not ended or rest or _TUNNEL_OPEN.match(head + b"\r") is None:
            raise ConnectionRefusedError("the proxy opened no tunnel")

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._answered.done() and (b"\r\n\r\n" in self._got or len(self._got) > MAX_HEAD_BYTES):
            self._answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_result(None)
