"""A connection comes about by whichever address answers, over TLS that is checked, and through proxies."""

import asyncio
import base64
import random
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gproxy.server.transport import h1connect
from gproxy.server.transport.h1client import H1Transport
from gproxy.server.transport.h1connect import Origin, Resolver, origin_of, proxy_of
from tests.kit.settings import closed_port
from tests.server.parts import GOOD, always, http, peer

pytestmark = pytest.mark.both_loops


def certify(folder: Path, begun: timedelta = timedelta(0)) -> Path:
    """A certificate for localhost, not for its addresses, signed by itself, with its key. It holds for a day, and
    has done so since `begun` ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost")]
    now = datetime.now(UTC).replace(tzinfo=None) - begun
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "tls.pem"
    path.write_bytes(text + made.public_bytes(pem))
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certify(tmp_path_factory.mktemp("tls"))


class Secure:
    """A server that speaks TLS and answers every request with its number."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self.connections = 0
        self.open = 0
        self.answered = 0
        self.protocols: list[str | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.answered += 1
                writer.write(http(str(self.answered).encode()))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def start(self) -> asyncio.Server:
        self._context.set_alpn_protocols(["http/1.1"])
        return await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self._context)


@pytest.fixture
async def trusting(certificate: Path) -> AsyncIterator[H1Transport]:
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["http/1.1"])
    it = H1Transport(context)
    yield it
    await it.aclose()


@pytest.fixture
async def transport() -> AsyncIterator[H1Transport]:
    it = H1Transport()
    yield it
    await it.aclose()


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_tls_is_spoken_and_its_connection_used_again(trusting: H1Transport, certificate: Path) -> None:
    secure = Secure(certificate)
    async with await secure.start() as server:
        for number in (b"1", b"2"):
            answer = await trusting.fetch("GET", f"https://localhost:{port_of(server)}/", [])
            assert await answer.read() == number
        await trusting.aclose()
    assert secure.connections == 1
    assert secure.protocols == ["http/1.1"]


async def test_a_certificate_that_nobody_vouches_for_is_a_connect_error(
    transport: H1Transport, certificate: Path
) -> None:
    secure = Secure(certificate)
    async with await secure.start() as server:
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await transport.fetch("GET", f"https://127.0.0.1:{port_of(server)}/", [])
    assert secure.answered == 0


async def test_a_certificate_for_another_name_is_a_connect_error(
    trusting: H1Transport, certificate: Path
) -> None:
    secure = Secure(certificate)
    async with await secure.start() as server:
        with pytest.raises(httpx.ConnectError, match="IP address mismatch"):
            await trusting.fetch("GET", f"https://127.0.0.1:{port_of(server)}/", [])
    assert secure.answered == 0


async def test_a_handshake_that_is_given_up_closes_its_connection(transport: H1Transport) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        try:
            while await reader.read(1000):
                pass
        except ConnectionError:
            pass
        gone.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        task = asyncio.create_task(transport.fetch("GET", f"https://127.0.0.1:{port_of(server)}/", []))
        await arrived.wait()
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(gone.wait(), 1)


class Forwarder:
    """A proxy that opens tunnels to wherever `to` is."""

    def __init__(self, to: int, says: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self._to = to
        self._says = says
        self.heads: list[bytes] = []
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self._says)
        if not self._says.startswith(b"HTTP/1.1 200 C"):
            writer.close()
            return
        there, on = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(_pump(reader, on), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
    except ConnectionError:
        pass
    finally:
        sink.close()


async def test_tls_goes_through_a_tunnel_that_a_proxy_opens(trusting: H1Transport, certificate: Path) -> None:
    secure = Secure(certificate)
    async with await secure.start() as server:
        forwarder = Forwarder(port_of(server))
        async with await asyncio.start_server(forwarder.serve, "127.0.0.1", 0) as proxy:
            by = f"http://us%40er:pa%3Ass@127.0.0.1:{port_of(proxy)}"
            for number in (b"1", b"2"):
                answer = await trusting.fetch("GET", "https://localhost:4430/", [], proxy=by)
                assert await answer.read() == number
            await trusting.aclose()
    (head,) = forwarder.heads
    credentials = base64.b64encode(b"us@er:pa:ss")
    assert head == (
        b"CONNECT localhost:4430 HTTP/1.1\r\nHost: localhost:4430\r\n"
        b"Proxy-Authorization: Basic " + credentials + b"\r\n\r\n"
    )
    assert secure.connections == 1


async def test_connections_that_are_given_up_while_they_come_about_leave_nothing_behind(
    trusting: H1Transport, certificate: Path
) -> None:
    """At every moment of a name's look-up, a race, a tunnel, a handshake and a request."""
    dice = random.Random(5)
    secure = Secure(certificate)
    async with await secure.start() as server:
        forwarder = Forwarder(port_of(server))
        async with await asyncio.start_server(forwarder.serve, "127.0.0.1", 0) as proxy:
            direct = f"https://localhost:{port_of(server)}/"
            by = f"http://127.0.0.1:{port_of(proxy)}"

            async def one(number: int) -> bool:
                url, proxy = ("https://localhost:4430/", by) if number % 2 else (direct, "")
                try:
                    async with asyncio.timeout(dice.random() * lasts if number % 4 > 1 else None):
                        await (await trusting.fetch("GET", url, [], proxy=proxy)).aclose()
                except TimeoutError:
                    return False
                return True

            done, lasts = 0, 0.1
            for _ in range(12):
                began = asyncio.get_running_loop().time()
                done += sum(await asyncio.gather(*(one(number) for number in range(12))))
                lasts = asyncio.get_running_loop().time() - began  # on this machine, just now
                trusting._pool.close()
                trusting._pool._closed = False
            assert 72 <= done < 144
            answers = await asyncio.gather(*(trusting.fetch("GET", direct, []) for _ in range(10)))
            assert [answer.status for answer in answers] == [200] * 10
            await trusting.aclose()
            async with asyncio.timeout(5):
                while secure.open or forwarder.open:
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"",
    ],
)
async def test_a_tunnel_that_is_none_is_a_connect_error(transport: H1Transport, says: bytes) -> None:
    forwarder = Forwarder(0, says)
    async with await asyncio.start_server(forwarder.serve, "127.0.0.1", 0) as proxy:
        with pytest.raises(httpx.ConnectError):
            await transport.fetch(
                "GET", "https://far.invalid/", [], proxy=f"http://127.0.0.1:{port_of(proxy)}"
            )


async def test_a_request_without_tls_is_asked_of_the_proxy_itself(transport: H1Transport) -> None:
    async with peer(always(GOOD)) as proxy:
        by = proxy.url.replace("//", "//me:secret@")
        await (await transport.fetch("GET", "http://far.invalid:81/a?b", [], proxy=by)).aclose()
    (seen,) = proxy.seen
    assert seen.target == "http://far.invalid:81/a?b"
    assert seen.headers["host"] == "far.invalid:81"
    assert seen.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


async def test_connections_by_a_proxy_are_used_for_what_goes_by_it_alone(transport: H1Transport) -> None:
    async with peer(always(GOOD)) as up:
        for proxy in ("", up.url, up.url.replace("//", "//me:secret@"), ""):
            answer = await transport.fetch("GET", up.url + "/", [], proxy=proxy)
            await answer.read()
        assert [seen.connection for seen in up.seen] == [1, 2, 3, 1]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nowhere", "http://"])
async def test_a_proxy_that_is_none_is_an_error(transport: H1Transport, proxy: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport.fetch("GET", "http://127.0.0.1/", [], proxy=proxy)


async def test_the_next_address_is_tried_when_one_refuses_or_does_not_answer(
    transport: H1Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """192.0.2.1 is nobody's (RFC 5737)."""
    async with peer(always(GOOD)) as up:
        port = int(up.url.rpartition(":")[2])
        real = socket.getaddrinfo

        def several(host: str, *arguments: object, **more: object) -> list[object]:
            if host != "several.invalid":
                return real(host, *arguments, **more)  # type: ignore[arg-type,return-value]  # as they came
            if "flags" in more:
                raise socket.gaierror("a name")
            refusing = ("127.0.0.1", closed_port())
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", to)
                for to in (("192.0.2.1", port), refusing, ("127.0.0.1", port))
            ]

        monkeypatch.setattr(socket, "getaddrinfo", several)
        answer = await asyncio.wait_for(transport.fetch("GET", f"http://several.invalid:{port}/", []), 5)
        assert answer.status == 200
        await answer.aclose()


async def test_addresses_are_asked_for_once_by_all_and_by_those_who_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def slow(host: str, port: int, *_: object, **more: object) -> list[object]:
        if more.get("flags"):
            raise socket.gaierror("a name")
        asked.append(host)
        if host == "no.invalid":
            raise socket.gaierror("none")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = Resolver(asyncio.get_running_loop())
    tasks = [asyncio.create_task(resolver.find("yes.invalid", 80)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(addresses == found[1] for addresses in found[2:])
    assert await resolver.find("yes.invalid", 80) == found[1]
    assert asked == ["yes.invalid"]
    for _ in range(2):  # that there are none is not kept
        with pytest.raises(socket.gaierror):
            await resolver.find("no.invalid", 80)
    assert asked == ["yes.invalid", "no.invalid", "no.invalid"]
    monkeypatch.setattr(h1connect, "ADDRESSES_SECONDS", -1.0)
    await resolver.find("late.invalid", 80)
    await resolver.find("late.invalid", 80)
    assert asked.count("late.invalid") == 2


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://Example.com", Origin(False, "example.com", 80, "example.com")),
        ("https://example.com:443/x", Origin(True, "example.com", 443, "example.com")),
        ("http://[::1]:8080/", Origin(False, "::1", 8080, "[::1]:8080")),
        ("https://bücher.example/", Origin(True, "xn--bcher-kva.example", 443, "xn--bcher-kva.example")),
        ("http://user:secret@example.com/", Origin(False, "example.com", 80, "example.com")),
    ],
)
def test_an_origin_is_its_scheme_host_and_port(url: str, origin: Origin) -> None:
    assert origin_of(httpx.URL(url)) == origin


def test_a_proxy_without_a_user_is_told_of_none() -> None:
    assert proxy_of("http://127.0.0.1:3128").authorization == b""
