"""Every fault of an upstream by its name, and every answer readable whatever its coding."""

import asyncio
import gzip
import math
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import brotli
import pytest
import zstandard

from gproxy.config.schema import Settings
from gproxy.errors import (
    AnswerBroken,
    AnswerRefused,
    ConnectFailed,
    ConnectTimedOut,
    FirstByteTimedOut,
    IdleTimedOut,
    UpstreamFault,
)
from gproxy.providers.demo_wire import DemoAnswer
from gproxy.server.request import upstream
from gproxy.server.request.upstream import Attempt, Upstream, Way
from tests.kit.settings import closed_port
from tests.server.parts import Seen, always, filled, full_listener, http, peer

TEXT = b'{"text": "hello"}' * 20


@pytest.fixture
async def client() -> AsyncIterator[Upstream]:
    it = Upstream()
    yield it
    await it.close()


def attempt(url: str, *, deadline: float = math.inf, **settings: Any) -> Attempt:
    return Attempt(
        way=Way(url, [(b"x-a", b"1")]), body=b"{}", settings=Settings(**settings), deadline=deadline
    )


async def fetch(client: Upstream, what: Attempt) -> bytes:
    """The whole body, closed in every case."""
    answer = await client.send(what)
    try:
        return await answer.whole()
    finally:
        answer.close()


async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def stalling(_: Seen, writer: asyncio.StreamWriter) -> None:
    """A head and some of the body, then nothing."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await silent(_, writer)


async def cut_short(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    writer.close()


async def drip(_: Seen, writer: asyncio.StreamWriter) -> None:
    """Pieces for a while, each in good time, then nothing."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
    for _piece in range(4):
        await asyncio.sleep(0.1)
        writer.write(b"piece")
    await asyncio.Event().wait()


async def test_what_is_poured_has_the_idle_time_between_two_pieces(client: Upstream) -> None:
    async with peer(drip) as up:
        answer = await client.send(attempt(up.url, idle_timeout_s=0.3))
        got: list[bytes] = []
        began = asyncio.get_running_loop().time()
        with pytest.raises(IdleTimedOut, match="stopped coming"):
            await answer.pour(lambda data: not got.append(data))
        assert b"".join(got) == b"piece" * 4
        assert asyncio.get_running_loop().time() - began > 0.6
        answer.close()


async def test_what_is_poured_ends_with_the_time_for_the_whole_request(client: Upstream) -> None:
    async with peer(drip) as up:
        deadline = asyncio.get_running_loop().time() + 0.25
        answer = await client.send(attempt(up.url, idle_timeout_s=9, deadline=deadline))
        with pytest.raises(IdleTimedOut, match="whole request"):
            await answer.pour(lambda _: True)
        answer.close()


async def test_pouring_again_and_again_does_not_outlast_that_time(client: Upstream) -> None:
    async with peer(always(http(bytes(200_000)))) as up:
        deadline = asyncio.get_running_loop().time() + 0.1
        answer = await client.send(attempt(up.url, deadline=deadline))
        await asyncio.sleep(0.15)
        with pytest.raises(IdleTimedOut, match="whole request"):
            await answer.pour(lambda _: False)
        answer.close()


async def test_what_is_poured_is_decoded_and_may_be_cut_short(client: Upstream) -> None:
    packed = gzip.compress(TEXT)
    async with peer(always(http(packed, more=("content-encoding: gzip",)))) as up:
        answer = await client.send(attempt(up.url))
        got: list[bytes] = []
        while not await answer.pour(lambda data: not got.append(data)):
            pass
        assert b"".join(got) == TEXT
        answer.close()
    async with peer(cut_short) as up:
        answer = await client.send(attempt(up.url))
        with pytest.raises(AnswerBroken):
            await answer.pour(lambda _: True)
        answer.close()


async def test_a_played_answer_is_poured_piece_by_piece(client: Upstream) -> None:
    said = DemoAnswer(200, "text/plain", ((0.0, b"a"), (0.01, b"b")))
    answer = await client.send(Attempt(way=Way(""), settings=Settings(), offline=lambda: said))
    got: list[bytes] = []
    while not await answer.pour(lambda data: not got.append(data)):
        pass
    assert got == [b"a", b"b"]


async def test_an_answer_has_its_status_headers_and_body(client: Upstream) -> None:
    more = ("X-Two:  b ", "x-two: c")
    async with peer(always(http(TEXT, 201, "Application/JSON; charset=utf-8", more))) as up:
        answer = await client.send(attempt(up.url))
        assert (answer.status, answer.media) == (201, "application/json")
        assert answer.header(b"x-two") == "b"
        assert answer.header(b"x-none") == ""
        assert await answer.whole() == TEXT
        assert await answer.read() == b""
        answer.close()


async def test_a_refused_connection_failed_and_cannot_have_been_billed(client: Upstream) -> None:
    with pytest.raises(ConnectFailed) as failed:
        await client.send(attempt(f"http://127.0.0.1:{closed_port()}"))
    assert not failed.value.maybe_billed


async def test_a_connection_that_takes_too_long_timed_out(client: Upstream) -> None:
    with full_listener() as port, pytest.raises(ConnectTimedOut):
        await client.send(attempt(f"http://127.0.0.1:{port}", connect_timeout_s=0.05))


async def test_the_time_for_a_connection_holds_where_a_kept_one_had_ended(client: Upstream) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        listener.setblocking(False)
        port = listener.getsockname()[1]

        async def answer_once() -> None:
            taken, _ = await loop.sock_accept(listener)
            with taken:
                await loop.sock_recv(taken, 4096)
                await loop.sock_sendall(taken, http(b"ok"))
                await loop.sock_recv(taken, 4096)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer_once())
            again = attempt(f"http://127.0.0.1:{port}", connect_timeout_s=0.1, first_byte_timeout_s=5)
            assert await fetch(client, again) == b"ok"
            with filled(port), pytest.raises(ConnectTimedOut):
                await client.send(again)


async def test_an_answer_that_does_not_begin_timed_out(client: Upstream) -> None:
    async with peer(silent) as up:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(FirstByteTimedOut):
            await client.send(attempt(up.url, first_byte_timeout_s=0.05))
        assert 0.04 < loop.time() - began < 2


async def test_the_time_to_the_first_byte_is_one_time_for_the_head_and_what_follows_it(
    client: Upstream,
) -> None:
    async def late(_: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        await silent(_, writer)

    async with peer(late) as up:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await client.send(attempt(up.url, first_byte_timeout_s=1.5, idle_timeout_s=0.01))
        with pytest.raises(FirstByteTimedOut):
            await answer.read(first=True)
        answer.close()
    assert 1.45 < loop.time() - began < 2.4


async def test_a_body_may_begin_late_though_its_pauses_are_to_be_short(client: Upstream) -> None:
    async def thinking(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(b"{}")
        await writer.drain()

    async with peer(thinking) as up:
        assert await fetch(client, attempt(up.url, idle_timeout_s=0.02)) == b"{}"


async def test_a_deadline_holds_for_an_upstream_that_always_has_something_ready(client: Upstream) -> None:
    async def endless(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 100_000)
            await writer.drain()

    async with peer(endless) as up:
        loop = asyncio.get_running_loop()
        answer = await client.send(attempt(up.url, deadline=loop.time() + 0.3))

        async def slowly() -> None:
            while await answer.read():
                await asyncio.sleep(0.02)

        with pytest.raises(IdleTimedOut) as fault:
            await slowly()
        answer.close()
    assert fault.value.reason == "the time for the whole request ran out"


async def test_an_answer_that_stops_timed_out(client: Upstream) -> None:
    async with peer(stalling) as up:
        answer = await client.send(attempt(up.url, idle_timeout_s=0.05))
        assert await answer.read() == b"half"
        with pytest.raises(IdleTimedOut):
            await answer.read()
        answer.close()


async def test_silence_is_counted_anew_for_each_piece(client: Upstream) -> None:
    async def slowly(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        for _number in range(10):
            await asyncio.sleep(0.08)
            writer.write(b"x")
            await writer.drain()

    async with peer(slowly) as up:
        answer = await client.send(attempt(up.url, idle_timeout_s=0.6))
        assert await answer.whole() == b"x" * 10


@pytest.mark.parametrize("script", [silent, stalling])
async def test_a_deadline_holds_over_the_head_and_the_body(client: Upstream, script: Any) -> None:
    deadline = asyncio.get_running_loop().time() + 0.1
    async with peer(script) as up:
        with pytest.raises(UpstreamFault) as fault:
            await fetch(client, attempt(up.url, deadline=deadline))
    assert fault.value.timed_out
    assert asyncio.get_running_loop().time() < deadline + 2


async def test_an_answer_that_is_cut_short_is_broken(client: Upstream) -> None:
    async with peer(cut_short) as up:
        answer = await client.send(attempt(up.url))
        with pytest.raises(AnswerBroken):
            await answer.whole()
        answer.close()


async def test_a_connection_that_ends_before_the_answer_is_broken(client: Upstream) -> None:
    async def closing(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with peer(closing) as up:
        with pytest.raises(AnswerBroken):
            await client.send(attempt(up.url))


async def test_a_redirect_is_an_answer_like_any_other(client: Upstream) -> None:
    async with peer(always(http(status=302, more=("location: http://127.0.0.1:1/",)))) as up:
        answer = await client.send(attempt(up.url))
        assert answer.status == 302
        answer.close()


CODINGS = {
    "gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstandard.compress(TEXT),
    "identity": TEXT,
    "gzip, br": brotli.compress(gzip.compress(TEXT)),
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_an_answer_in_a_coding_is_decoded_though_none_was_asked_for(
    client: Upstream, coding: str
) -> None:
    async with peer(always(http(CODINGS[coding], more=(f"content-encoding: {coding}",)))) as up:
        answer = await client.send(attempt(up.url))
        assert await answer.whole() == TEXT


async def test_a_piece_of_which_nothing_comes_out_yet_is_no_end(client: Upstream) -> None:
    encoded = gzip.compress(TEXT)

    async def slowly(_: Seen, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(encoded)}\r\n\r\n"
        writer.write(head.encode())
        for byte in encoded:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with peer(slowly) as up:
        assert await (await client.send(attempt(up.url))).whole() == TEXT


@pytest.mark.parametrize(
    "body",
    [b"plain", gzip.compress(TEXT)[:-3], gzip.compress(TEXT) + b"x"],
    ids=["none", "cut", "more"],  # compressed bytes hold the time
)
async def test_an_answer_that_is_not_in_its_coding_is_broken(client: Upstream, body: bytes) -> None:
    async with peer(always(http(body, more=("content-encoding: gzip",)))) as up:
        answer = await client.send(attempt(up.url))
        with pytest.raises(AnswerBroken):
            await answer.whole()
        answer.close()


async def test_an_answer_in_an_unknown_coding_is_refused(client: Upstream) -> None:
    async with peer(always(http(TEXT, more=("content-encoding: exi",)))) as up:
        with pytest.raises(AnswerRefused):
            await client.send(attempt(up.url))


async def test_a_bomb_is_refused(client: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "MAX_WHOLE_ANSWER", 1000)
    async with peer(always(http(gzip.compress(bytes(5000)), more=("content-encoding: gzip",)))) as up:
        answer = await client.send(attempt(up.url))
        with pytest.raises(AnswerBroken):
            await answer.whole()
        answer.close()


async def test_an_answer_is_held_in_memory_up_to_a_cap(client: Upstream) -> None:
    async with peer(always(http(bytes(1000)))) as up:
        answer = await client.send(attempt(up.url))
        assert len(await answer.whole(1000)) == 1000
        answer = await client.send(attempt(up.url))
        with pytest.raises(AnswerBroken):
            await answer.whole(999)
        answer.close()


async def test_the_proxy_of_an_attempt_is_used(client: Upstream) -> None:
    async with peer(always(http(TEXT))) as proxy:
        way = Way("http://far.invalid/v1/x", proxy=proxy.url)
        through = Attempt(way=way, body=b"{}", settings=Settings())
        assert await (await client.send(through)).whole() == TEXT
    assert proxy.seen[0].target == "http://far.invalid/v1/x"


async def test_an_offline_answer_is_played_with_its_pauses(client: Upstream) -> None:
    answer = DemoAnswer(status=200, content_type="text/plain", chunks=((0.0, b"a"), (0.02, b"b")))
    played = Attempt(way=Way(""), settings=Settings(), offline=lambda: answer)
    loop = asyncio.get_running_loop()
    got = await client.send(played)
    began = loop.time()
    assert (got.status, got.media, await got.whole()) == (200, "text/plain", b"ab")
    assert loop.time() - began >= 0.02


async def test_no_fault_repeats_what_the_upstream_said(client: Upstream) -> None:
    async with peer(always(b"HTTP/1.1 SECRET-TEXT\r\n\r\n")) as up:
        with pytest.raises(UpstreamFault) as fault:
            await client.send(attempt(up.url))
    assert "SECRET" not in fault.value.reason


def test_an_attempt_shows_no_secret_when_it_is_printed() -> None:
    secret = [(b"authorization", b"SECRET")]
    way = Way("http://x", secret).along(secret)
    assert b"SECRET" in way.form().start
    it = Attempt(way=way, body=b"SECRET", settings=Settings())
    assert "SECRET" not in repr(it)
