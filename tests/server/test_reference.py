"""What goes over the socket is what was asked for, and what ends a connection is told by httpx's names.

All of it holds for the transport that serves and for the one that it is compared with.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from gproxy.server.transport import h1client
from gproxy.server.transport.h1client import H1Transport
from gproxy.server.transport.h1exchange import Exchange
from tests.kit import reference
from tests.kit.reference import MOST_STALE, READ_BYTES, AiohttpTransport, AnswerStream
from tests.kit.settings import closed_port
from tests.server.parts import GOOD, Script, Seen, always, full_listener, http, peer, reset
from tests.server.transport.test_h1connect import certificate, certify

__all__ = ["certificate"]

pytestmark = pytest.mark.both_loops

Transport = AiohttpTransport | H1Transport


@pytest.fixture(params=[AiohttpTransport, H1Transport])
def kind(request: pytest.FixtureRequest) -> type[Transport]:
    found: type[Transport] = request.param
    return found


@pytest.fixture
async def transport(kind: type[Transport]) -> AsyncIterator[Transport]:
    it = kind()
    yield it
    await it.aclose()


async def send(transport: Transport, url: str, **more: object) -> httpx.Response:
    fields: dict[str, object] = {"method": "POST", "content": b"{}", **more}
    return await transport.handle_async_request(httpx.Request(url=url, **fields))  # type: ignore[arg-type]  # by name


async def whole(answer: httpx.Response) -> bytes:
    assert isinstance(answer.stream, AnswerStream | Exchange)
    return b"".join([piece async for piece in answer.stream])


def then(*scripts: Script) -> Script:
    """One script after the other, a request each; the last one for all that follow."""
    left = list(scripts)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(seen, writer)

    return script


async def closing(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resetting(_: Seen, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def breaking(_: Seen, writer: asyncio.StreamWriter) -> None:
    """Half a head."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    await writer.drain()
    writer.close()


async def test_method_target_headers_and_body_arrive_as_they_were_given(transport: Transport) -> None:
    async with peer(always(GOOD)) as up:
        headers = [(b"X-One", b"a"), (b"accept-encoding", b"identity"), (b"x-one", b"b\xff")]
        await whole(
            await send(transport, f"{up.url}/v1/a%2Fb:c%20d?x=%61&y=%2B", headers=headers, content=b"\x00{}")
        )
    (seen,) = up.seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/a%2Fb:c%20d?x=%61&y=%2B", b"\x00{}")
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["content-length"] == "3"
    assert set(seen.headers) == {"host", "x-one", "accept-encoding", "content-length"}


async def test_a_connection_is_used_again(transport: Transport) -> None:
    async with peer(always(GOOD)) as up:
        for _ in range(3):
            await whole(await send(transport, up.url))
    assert [seen.connection for seen in up.seen] == [1, 1, 1]


async def test_connections_side_by_side_are_not_bounded(transport: Transport) -> None:
    arrived = asyncio.Barrier(120)

    async def together(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await arrived.wait()
        await always(http(seen.body))(seen, writer)

    async with peer(together) as up:
        bodies = [str(number).encode() for number in range(120)]
        answers = await asyncio.gather(*(send(transport, up.url, content=body) for body in bodies))
        assert [await whole(answer) for answer in answers] == bodies


@pytest.mark.parametrize("ending", [closing, resetting])
async def test_a_kept_connection_that_ends_unanswered_is_replaced(
    transport: Transport, ending: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is how an idle connection looks which the peer closed at the same moment."""
    monkeypatch.setattr(h1client, "LAG_SECONDS", 60.0)  # the machine may be busy
    async with peer(then(always(GOOD), ending, always(http(b"again")))) as up:
        await whole(await send(transport, up.url))
        assert await whole(await send(transport, up.url, content=b"second")) == b"again"
    assert [(seen.connection, seen.body) for seen in up.seen] == [(1, b"{}"), (1, b"second"), (2, b"second")]


@pytest.mark.parametrize("ending", [closing, resetting])
async def test_a_request_that_was_worked_on_for_a_while_does_not_go_out_again(
    transport: Transport, ending: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reference, h1client):
        monkeypatch.setattr(module, "STALE_SECONDS", 0.05)

    async def late(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await ending(seen, writer)

    async with peer(then(always(GOOD), late, always(GOOD))) as up:
        await whole(await send(transport, up.url))
        with pytest.raises(httpx.ReadError):
            await send(transport, up.url, content=b"second")
    assert [seen.body for seen in up.seen] == [b"{}", b"second"]


async def test_a_request_that_ends_every_connection_uses_up_few(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h1client, "LAG_SECONDS", 60.0)  # the machine may be busy
    arrived = asyncio.Barrier(8)

    async def together(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.body == b"poison":
            return reset(writer)
        await arrived.wait()
        await always(GOOD)(seen, writer)

    async with peer(together) as up:
        for answer in await asyncio.gather(*(send(transport, up.url) for _ in range(8))):
            await whole(answer)
        with pytest.raises(httpx.ReadError):
            await send(transport, up.url, content=b"poison")
    assert [seen.body for seen in up.seen[8:]] == [b"poison"] * (MOST_STALE + 1)


@pytest.mark.parametrize("ending", [closing, resetting])
async def test_a_new_connection_that_ends_unanswered_is_an_error(
    transport: Transport, ending: Script
) -> None:
    async with peer(ending) as up:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await send(transport, up.url)
    assert len(up.seen) == 1


async def test_a_kept_connection_that_ends_inside_the_head_is_an_error(transport: Transport) -> None:
    """The request has been answered, if badly: it must not go out a second time."""
    async with peer(then(always(GOOD), breaking, always(GOOD))) as up:
        await whole(await send(transport, up.url))
        with pytest.raises(httpx.TransportError):
            await send(transport, up.url)
    assert len(up.seen) == 2


async def test_a_refused_connection_is_a_connect_error(transport: Transport) -> None:
    with pytest.raises(httpx.ConnectError):
        await send(transport, f"http://127.0.0.1:{closed_port()}")


async def test_a_host_without_an_address_is_a_connect_error(transport: Transport) -> None:
    with pytest.raises(httpx.ConnectError):
        await send(transport, "http://no-such-host.invalid")


async def test_tls_to_a_peer_that_speaks_none_is_a_connect_error(transport: Transport) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(httpx.ConnectError):
            await send(transport, f"https://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 50 + b"\r\n\r\n"]
)
async def test_a_peer_that_speaks_no_http_is_an_error(transport: Transport, answer: bytes) -> None:
    async with peer(always(answer)) as up:
        with pytest.raises(httpx.TransportError):
            await send(transport, up.url)


@pytest.mark.parametrize("url", ["http:///v1", "ftp://127.0.0.1/", "http://127.0.0.1:99999/"])
async def test_an_address_that_is_none_is_an_error(transport: Transport, url: str) -> None:
    with pytest.raises((httpx.TransportError, httpx.InvalidURL)):
        await send(transport, url)


async def test_a_header_that_would_split_the_request_is_an_error(transport: Transport) -> None:
    async with peer(always(GOOD)) as up:
        with pytest.raises(httpx.TransportError):
            await send(transport, up.url, headers=[(b"x-a", b"1\r\nx-b: 2")])
    assert up.seen == []


async def test_a_redirect_is_the_answer(transport: Transport) -> None:
    async with peer(always(http(status=307, more=("location: /elsewhere",)))) as up:
        answer = await send(transport, up.url)
        assert (answer.status_code, answer.headers["location"]) == (307, "/elsewhere")
    assert len(up.seen) == 1


async def test_a_cookie_is_not_kept(transport: Transport) -> None:
    # No client keeps a cookie of a bare address.
    async with peer(always(http(more=("set-cookie: a=b",)))) as up:
        for _ in range(2):
            await whole(await send(transport, up.url.replace("127.0.0.1", "localhost")))
    assert "cookie" not in up.seen[1].headers


async def test_an_encoded_answer_is_left_as_it_came(transport: Transport) -> None:
    async with peer(always(http(b"no gzip", more=("content-encoding: gzip",)))) as up:
        assert await whole(await send(transport, up.url)) == b"no gzip"


async def test_proxies_of_the_environment_are_ignored(
    kind: type[Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    transport = kind()
    async with peer(always(GOOD)) as up:
        await whole(await send(transport, up.url))
    await transport.aclose()


async def test_a_proxy_that_is_asked_for_is_used(transport: Transport) -> None:
    async with peer(always(http(b"by proxy"))) as proxy:
        answer = await send(transport, "http://far.invalid/v1", extensions={"proxy": proxy.url})
        assert await whole(answer) == b"by proxy"
    assert proxy.seen[0].target == "http://far.invalid/v1"
    assert proxy.seen[0].headers["host"] == "far.invalid"


async def test_a_proxy_that_cannot_be_reached_is_a_connect_error(transport: Transport) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    async with peer(always(GOOD)) as up:
        with pytest.raises(httpx.ConnectError):
            await send(transport, up.url, extensions={"proxy": proxy})
    assert up.seen == []


async def test_a_proxy_that_refuses_a_tunnel_is_a_connect_error(transport: Transport) -> None:
    async with peer(always(http(status=403))) as proxy:
        with pytest.raises(httpx.ConnectError):
            await send(transport, "https://far.invalid/v1", extensions={"proxy": proxy.url})
    assert proxy.seen[0].method == "CONNECT"


async def test_each_connection_of_a_request_is_told(transport: Transport) -> None:
    told: list[int] = []
    async with peer(then(always(GOOD), closing, always(GOOD))) as up:
        for _ in range(2):
            await whole(
                await send(transport, up.url, extensions={"connected": lambda: told.append(up.connections)})
            )
    assert len(told) == 3


async def cut_short(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def test_an_answer_that_is_cut_short_is_a_read_error(transport: Transport) -> None:
    async with peer(cut_short) as up:
        answer = await send(transport, up.url)
        with pytest.raises(httpx.ReadError):
            await whole(answer)
        await answer.stream.aclose()  # type: ignore[union-attr]  # ours is asynchronous


async def test_an_answer_that_is_given_up_takes_its_connection_with_it(transport: Transport) -> None:
    gone = asyncio.Event()

    async def endless(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        try:
            await writer.drain()
            await asyncio.Event().wait()
        finally:
            gone.set()

    async with peer(then(endless, always(GOOD))) as up:
        answer = await send(transport, up.url)
        assert isinstance(answer.stream, AnswerStream | Exchange)
        assert await answer.stream.read() == b"half"
        answer.stream.abort()
        await whole(await send(transport, up.url))
        assert [seen.connection for seen in up.seen] == [1, 2]
    assert gone.is_set()


async def test_a_cancelled_request_leaves_the_pool_as_good_as_before(transport: Transport) -> None:
    """Each client that leaves cancels one."""
    with full_listener() as port:
        for _ in range(50):
            task = asyncio.create_task(send(transport, f"http://127.0.0.1:{port}"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    async with peer(always(GOOD)) as up:
        await whole(await send(transport, up.url))


async def test_what_came_unasked_on_a_kept_connection_answers_nobody(transport: Transport) -> None:
    told = asyncio.Event()

    async def chatty(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD)
        await writer.drain()
        await told.wait()
        writer.write(http(b"unasked"))
        await writer.drain()

    async with peer(then(chatty, always(GOOD))) as up:
        await whole(await send(transport, up.url))
        told.set()
        await asyncio.sleep(0.05)  # on its way
        assert await whole(await send(transport, up.url)) == GOOD.partition(b"\r\n\r\n")[2]
        assert [seen.connection for seen in up.seen] == [1, 2]


async def test_a_body_that_goes_wrong_is_a_read_error_at_once(transport: Transport) -> None:
    goes_wrong = asyncio.Event()

    async def broken(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await goes_wrong.wait()
        writer.write(b"zz\r\n")
        await asyncio.Event().wait()

    async with peer(broken) as up:
        answer = await send(transport, up.url)
        assert isinstance(answer.stream, AnswerStream | Exchange)
        assert await answer.stream.read() == b"hi"
        goes_wrong.set()
        with pytest.raises(httpx.ReadError):
            await asyncio.wait_for(answer.stream.read(), 2)
        answer.stream.abort()


async def test_an_answer_that_comes_before_the_end_of_the_request_is_the_answer(
    transport: Transport,
) -> None:
    """Some refuse a large body without reading it."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(b"too large", 413))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await send(transport, f"http://127.0.0.1:{port}", content=bytes(20_000_000))
        assert (answer.status_code, await whole(answer)) == (413, b"too large")


@pytest.mark.parametrize("size", [0, 1, READ_BYTES, READ_BYTES + 1, 3_000_000])
async def test_a_body_of_any_size_arrives_whole_with_its_length(transport: Transport, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with peer(always(GOOD)) as up:
        await whole(await send(transport, up.url, content=content))
    assert up.seen[0].body == content
    assert up.seen[0].headers.get("content-length", "0") == str(size)
    assert "transfer-encoding" not in up.seen[0].headers


async def test_a_request_that_is_given_up_unsent_takes_its_connection_with_it(
    transport: Transport,
) -> None:
    """The other side does not take it: closed in order, the connection would stay for as long as that is so."""
    loop = asyncio.get_running_loop()

    async def to_the_end(sock: socket.socket) -> None:
        while await loop.sock_recv(sock, 1_000_000):
            pass

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        task = asyncio.create_task(send(transport, f"http://127.0.0.1:{port}", content=bytes(20_000_000)))
        there, _ = await loop.sock_accept(listener)
        with there:
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.wait([task])
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(to_the_end(there), 2)


async def body_of(transport: Transport, url: str) -> bytes:
    answer = await send(transport, url)
    try:
        return await whole(answer)
    finally:
        await answer.aclose()


@contextmanager
def secure(certificate: Path, answer: bytes) -> Iterator[str]:
    """Where each request over TLS is answered so, and the connection then closed without TLS's own end."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(2)  # the reference leaves a connection open that it does not trust
            with suppress(OSError), sock, context.wrap_socket(sock, server_side=True) as within:
                got = b""
                while b"\r\n\r\n{}" not in got and (data := within.recv(65536)):
                    got += data
                within.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize(
    ("answer", "whole_body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi"),
        (b"HTTP/1.1 204 No\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", None),
        (b"HTTP/1.1 200 OK\r\ncontent-le", None),
        (b"", None),
    ],
    ids=["length", "chunks", "no body", "cut length", "cut chunks", "cut head", "nothing"],
)
async def test_tls_that_ends_without_saying_so_is_the_end_of_what_is_whole_alone(
    kind: type[Transport], certificate: Path, answer: bytes, whole_body: bytes | None
) -> None:
    transport = kind(trust(certificate))
    with secure(certificate, answer) as url:
        if whole_body is not None:
            assert await body_of(transport, url) == whole_body
        else:
            with pytest.raises(httpx.ReadError):
                await body_of(transport, url)
    await transport.aclose()


async def test_a_certificate_that_is_over_is_a_connect_error(kind: type[Transport], tmp_path: Path) -> None:
    expired = certify(tmp_path, timedelta(days=2))
    transport = kind(trust(expired))
    with secure(expired, GOOD) as url, pytest.raises(httpx.ConnectError, match="expired"):
        await send(transport, url)
    await transport.aclose()
