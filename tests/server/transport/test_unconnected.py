"""Each way in which a connection can fail has words of its own."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gproxy.config.schema import Settings
from gproxy.errors import UpstreamFault
from gproxy.server.request.upstream import Attempt, Upstream, Way
from gproxy.server.transport.unconnected import NO_TLS, is_reset, why
from tests.kit.settings import closed_port
from tests.server.parts import Seen, full_listener, peer, reset
from tests.server.transport.test_h1connect import Secure, certificate, port_of

__all__ = ["certificate"]


@pytest.fixture
async def client() -> AsyncIterator[Upstream]:
    it = Upstream()
    yield it
    await it.close()


async def reason(client: Upstream, url: str) -> str:
    settings = Settings(connect_timeout_s=2)
    with pytest.raises(UpstreamFault) as failed:
        await client.send(Attempt(way=Way(url), body=b"{}", settings=settings))
    return failed.value.reason


async def test_a_refused_connection_says_so(client: Upstream) -> None:
    assert await reason(client, f"http://127.0.0.1:{closed_port()}") == "connection refused"


async def test_a_name_without_an_address_says_so(client: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "sk-secret is not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    assert await reason(client, "http://nowhere.invalid") == "name not found (DNS)"


async def test_a_certificate_that_nobody_signed_says_so(client: Upstream, certificate: Path) -> None:
    server = await Secure(certificate).start()
    async with server:
        said = await reason(client, f"https://localhost:{port_of(server)}")
    assert said == "TLS failed: certificate not trusted"


async def test_a_peer_without_tls_says_so(client: Upstream) -> None:
    server = await asyncio.start_server(_greet, "127.0.0.1", 0)
    async with server:
        assert await reason(client, f"https://127.0.0.1:{port_of(server)}") == NO_TLS


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_one_that_takes_too_long_says_so(client: Upstream) -> None:
    with full_listener() as port:
        assert await reason(client, f"http://127.0.0.1:{port}") == "no connection in time"


async def test_a_reset_after_the_request_went_out_is_no_orderly_end(client: Upstream) -> None:
    async def resets(_: Seen, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with peer(resets) as up:
        assert await reason(client, up.url) == "the connection was reset before the answer"


def test_words_are_ours_whatever_an_error_says() -> None:
    broken = httpx.ConnectError("sk-secret")
    assert why(broken) == "no connection"
    broken.__cause__ = OSError(errno.ENETUNREACH, "sk-secret")
    assert why(broken) == "address not reachable"
    broken.__cause__ = ssl.SSLError("sk-secret")
    assert why(broken) == "TLS failed"
    assert not is_reset(broken)
