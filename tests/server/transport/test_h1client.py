"""Connections are kept, used and given up as they should be, and a request is what was asked for and nothing else."""

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.server.transport import h1client
from gproxy.server.transport.h1client import H1Transport, _split, form_of
from gproxy.server.transport.h1connect import origin_of
from gproxy.server.transport.h1exchange import WRITE_BYTES, Exchange
from tests.server.parts import GOOD, Peer, Seen, always, http, peer

pytestmark = pytest.mark.both_loops


@pytest.fixture
async def transport() -> AsyncIterator[H1Transport]:
    it = H1Transport()
    yield it
    await it.aclose()


async def ask(transport: H1Transport, up: Peer, body: bytes = b"") -> bytes:
    answer = await transport.fetch("POST", up.url + "/", [], body)
    try:
        return b"".join([piece async for piece in answer])
    finally:
        answer.abort()


async def together(up: Peer, transport: H1Transport, number: int) -> None:
    """So many requests at the same time, each on a connection of its own."""
    await asyncio.gather(*(ask(transport, up) for _ in range(number)))


def meeting(number: int) -> Callable[[Seen, asyncio.StreamWriter], object]:
    barrier = asyncio.Barrier(number)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if not seen.body:
            await barrier.wait()
        await always(GOOD)(seen, writer)

    return script


@contextmanager
def waits(transport: H1Transport) -> Iterator[None]:
    """As if somebody waited for each of the upstreams, so that requests go by the outbox."""
    places = tuple(transport._pool._places.values())
    for place in places:
        place.open += 1
    yield
    for place in places:
        place.open -= 1


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("unasked", [http(b"unasked"), b""], ids=["an answer", "its end"])
@pytest.mark.parametrize("body", [b"", bytes(2 * WRITE_BYTES)], ids=["small", "large"])
@pytest.mark.parametrize("others", [waits, contextlib.nullcontext], ids=["others wait", "alone"])
async def test_what_came_to_an_idle_connection_is_seen_before_it_is_used(
    transport: H1Transport,
    unasked: bytes,
    body: bytes,
    others: Callable[[H1Transport], AbstractContextManager[None]],
) -> None:
    """Though the loop has had no turn to read it: else it would answer whoever asks next, or lose what is asked."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def answer() -> socket.socket:
            taken, _ = await loop.sock_accept(listener)
            await loop.sock_recv(taken, 65536)
            await loop.sock_sendall(taken, GOOD)
            return taken

        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        first, answering = await asyncio.gather(transport.fetch("POST", url, []), answer())
        with answering:
            assert b"".join([piece async for piece in first]) == GOOD.partition(b"\r\n\r\n")[2]

            async def ask_when_it_has_come() -> Exchange:
                if unasked:
                    answering.send(unasked)
                else:
                    answering.shutdown(socket.SHUT_WR)
                return await transport.fetch("POST", url, [], body)

            async with asyncio.timeout(10):
                with others(transport):
                    second, other = await asyncio.gather(ask_when_it_has_come(), answer())
            with other:
                assert b"".join([piece async for piece in second]) == GOOD.partition(b"\r\n\r\n")[2]
                answering.setblocking(True)
                with contextlib.suppress(ConnectionResetError):  # it said what nobody has read
                    assert answering.recv(65536) == b"", "it was not asked again"


async def test_what_may_have_been_begun_does_not_go_out_again(
    transport: H1Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends later than its peer could have told of before has had somebody at work behind it."""
    monkeypatch.setattr(h1client, "LAG_SECONDS", 0.0)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.body:
            await asyncio.sleep(0.3)
            writer.close()
        else:
            await always(GOOD)(seen, writer)

    async with peer(script) as up:
        await ask(transport, up)
        with pytest.raises(httpx.ReadError):
            await ask(transport, up, b"costly")
    assert [seen.body for seen in up.seen] == [b"", b"costly"]


async def test_the_connection_that_was_used_last_is_used_first(transport: H1Transport) -> None:
    async with peer(meeting(3)) as up:  # type: ignore[arg-type]  # a script
        await together(up, transport, 3)
        for _ in range(4):
            await ask(transport, up, b"alone")
        last = [seen.connection for seen in up.seen[3:]]
        assert len(set(last)) == 1


async def test_an_idle_connection_is_closed_in_time(
    transport: H1Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h1client, "KEEP_ALIVE_SECONDS", 0.1)
    async with peer(meeting(3)) as up:  # type: ignore[arg-type]  # a script
        await together(up, transport, 3)
        assert len(up._tasks) == 3
        await until(lambda: not up._tasks)
        await ask(transport, up, b"alone")
        assert up.seen[-1].connection == 4
        await until(lambda: not up._tasks)
    assert not transport._pool._all
    assert not transport._pool._places


async def test_a_connection_that_was_idle_for_too_long_is_not_used(
    transport: H1Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the loop had no time to close it."""
    async with peer(always(GOOD)) as up:
        await ask(transport, up)
        monkeypatch.setattr(h1client, "KEEP_ALIVE_SECONDS", 0.0)
        await ask(transport, up)
        assert [seen.connection for seen in up.seen] == [1, 2]


async def test_a_connection_from_before_the_machine_slept_is_not_used(
    transport: H1Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its peer, or a router on the way, has forgotten it, and the machine was not awake to hear of that."""
    awake = h1client.sleepless
    async with peer(always(GOOD)) as up:
        await ask(transport, up)
        await ask(transport, up)
        monkeypatch.setattr(h1client, "sleepless", lambda: awake() + 3600)
        await ask(transport, up)
        assert [seen.connection for seen in up.seen] == [1, 1, 2]


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux alone has that clock")
def test_the_age_of_a_connection_is_by_a_clock_that_goes_on_in_sleep() -> None:
    assert time.clock_gettime(time.CLOCK_BOOTTIME) == pytest.approx(h1client.sleepless(), abs=5)


async def test_idle_connections_have_a_bound(transport: H1Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h1client, "MAX_IDLE", 2)
    async with peer(meeting(5)) as up:  # type: ignore[arg-type]  # a script
        await together(up, transport, 5)
        await until(lambda: len(up._tasks) == 2)
    await until(lambda: not transport._pool._all)


async def test_closing_ends_what_is_open_and_what_is_asked_later(transport: H1Transport) -> None:
    async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with peer(silent) as up:
        asking = asyncio.create_task(ask(transport, up))
        await until(lambda: bool(up.seen))
        await transport.aclose()
        with pytest.raises(httpx.ReadError):
            await asking
        await asyncio.wait_for(up.left.wait(), 1)
        with pytest.raises(httpx.ConnectError):
            await ask(transport, up)


async def test_a_request_that_is_cancelled_closes_its_connection_at_once(transport: H1Transport) -> None:
    async def slow(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await asyncio.Event().wait()

    async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    for script in (slow, silent):
        async with peer(script) as up:
            asking = asyncio.create_task(ask(transport, up))
            await until(lambda up=up: bool(up.seen))  # type: ignore[misc]  # bound now
            await asyncio.sleep(0.02)
            asking.cancel()
            await asyncio.wait([asking])
            await asyncio.wait_for(up.left.wait(), 1)
    assert not transport._pool._all


async def test_thousands_of_cancelled_requests_leave_nothing_behind(transport: H1Transport) -> None:
    """Each answer holds what was asked with it, so that none can be another's."""
    dice = random.Random(7)

    async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
        pause = dice.random() * 0.004
        body = seen.body * 50
        await asyncio.sleep(pause)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:100])
        await asyncio.sleep(pause)
        writer.write(body[100:])
        await writer.drain()

    async def one(number: int) -> bool:
        body = b"#%06d." % number
        try:
            async with asyncio.timeout(dice.random() * lasts if number % 4 else None):
                assert await ask(transport, up, body) == body * 50
        except TimeoutError:
            return False
        return True

    async with peer(echo) as up:
        await ask(transport, up, b"#warm..")
        sockets = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        done, lasts = 0, 0.02
        for start in range(0, 2000, 40):
            began = asyncio.get_running_loop().time()
            done += sum(await asyncio.gather(*(one(start + number) for number in range(40))))
            lasts = asyncio.get_running_loop().time() - began  # on this machine, just now
        assert 500 <= done < 2000
        bodies = [b"#last%02d" % number for number in range(20)]
        answers = await asyncio.gather(*(ask(transport, up, body) for body in bodies))
        assert answers == [body * 50 for body in bodies]
        await transport.aclose()
        await until(lambda: not up._tasks)
        assert not transport._pool._all
        if sockets:  # which are closed by the loop in a turn of its own
            await until(lambda: len(os.listdir("/proc/self/fd")) <= sockets)


@pytest.mark.parametrize(
    "header",
    [
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\nx-b: 2"),
        (b"x-a", b"1\r"),
        (b"x-a", b"\0"),
        (b"x a", b"1"),
        (b"x-a:", b"1"),
        (b"", b"1"),
        (b"x-a\r\n", b"1"),
    ],
)
async def test_what_would_split_a_request_is_refused_before_anything_is_sent(
    transport: H1Transport, header: tuple[bytes, bytes]
) -> None:
    async with peer(always(GOOD)) as up:
        for _ in range(2):
            with pytest.raises(httpx.UnsupportedProtocol):
                await transport.fetch("POST", up.url + "/", [header])
        assert up.connections == 0


@pytest.mark.parametrize("method", ["GET / HTTP/1.1\r\nx:", "", "G T"])
async def test_a_method_that_is_none_is_refused(transport: H1Transport, method: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport.fetch(method, "http://127.0.0.1/", [])


@pytest.mark.parametrize("url", ["", "/", "http:///v1", "ftp://127.0.0.1/", "http://127.0.0.1:99999/"])
async def test_a_url_that_is_none_is_refused(transport: H1Transport, url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport.fetch("GET", url, [])


def test_the_head_of_a_request_is_framed_by_us() -> None:
    headers = [
        (b"HOST", b"evil"),
        (b"Content-length", b"7"),
        (b"transfer-encoding", b"chunked"),
        (b"A", b" b "),
    ]
    framed = b"POST /x HTTP/1.1\r\nHost: here:81\r\nA:  b \r\nContent-Length: 5\r\n\r\n"
    assert form_of("POST", "http://here:81/x", headers).head(5) == framed
    assert form_of("POST", "http://here:81/x").further(headers).head(5) == framed
    assert form_of("GET", "http://h/").head(0) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert form_of("POST", "http://h/").head(0) == (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    )


@given(rest=st.text(st.sampled_from("/.?%aZ09-_~!$&'()*+,;=:@ \"<>[]{}|^`ü#"), max_size=20))
def test_a_url_is_taken_apart_as_httpx_does_it(rest: str) -> None:
    url = f"http://host.example:81/{rest}"
    parsed = httpx.URL(url)
    assert _split(url) == (origin_of(parsed), parsed.raw_path)


async def test_the_outer_form_and_the_inner_one_send_the_same(transport: H1Transport) -> None:
    headers = [(b"X-One", b"a"), (b"x-one", b"b\xff")]
    async with peer(always(http(b"same"))) as up:
        request = httpx.Request("POST", up.url + "/a%2Fb?c=%20", headers=headers, content=b"{}")
        outer = await transport.handle_async_request(request)
        assert isinstance(outer.stream, httpx.AsyncByteStream)
        assert b"".join([piece async for piece in outer.stream]) == b"same"
        inner = await transport.fetch("POST", up.url + "/a%2Fb?c=%20", headers, b"{}")
        assert await inner.read() == b"same"
        assert (inner.status, inner.headers) == (outer.status_code, outer.headers.raw)
        assert len({(seen.method, seen.target, str(seen.headers), seen.body) for seen in up.seen}) == 1


@pytest.mark.parametrize("rest", [http(b"evil"), b"HTTP/1.1 200 OK\r\n", b"g", b"\x00"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_follows_an_answer_in_one_read_is_not_the_next_one(
    transport: H1Transport, method: str, rest: bytes
) -> None:
    first = http(b"" if method == "HEAD" else b"first")

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await always(http(b"right") if len(up.seen) > 1 else first + rest)(seen, writer)

    async with peer(script) as up:
        answer = await transport.fetch(method, up.url + "/", [])
        assert answer.status == 200
        assert await answer.read() == (b"" if method == "HEAD" else b"first")
        assert await ask(transport, up) == b"right"
        assert [seen.connection for seen in up.seen] == [1, 2]


async def test_a_body_that_answers_head_is_not_the_next_answer(transport: H1Transport) -> None:
    async with peer(always(http(b"of no use"))) as up:
        answer = await transport.fetch("HEAD", up.url + "/", [])
        assert await answer.read() == b""
        assert await ask(transport, up) == b"of no use"
        assert [seen.connection for seen in up.seen] == [1, 2]
