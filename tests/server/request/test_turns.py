"""A stream of nothing but line ends, or of events without end, leaves the event loop to others all the while."""

import asyncio
from pathlib import Path

import pytest

from gproxy.server.request import turns
from gproxy.server.request.turns import Turn
from tests.server.listening import listening
from tests.server.parts import ALICE, DONE, KEY, Seen, Visit, always, chunk, peer, provider, serving, sse

EMPTY = b"data: {}\n\n"


async def test_a_turn_that_is_over_lets_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    others = 0

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    long = Turn()
    await long.shared()
    assert (long.over, others) == (False, 0)
    monkeypatch.setattr(turns, "_SECONDS", 0.0)
    short = Turn()
    await short.shared()
    assert others == 1
    counting.cancel()


@pytest.mark.parametrize("before", [True, False], ids=["before the first event", "behind it"])
async def test_others_are_served_while_a_stream_is_nothing_but_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setattr(turns, "_SECONDS", 0.0)
    silence = b": so\n\n" * 10_000
    body = silence + chunk("a") if before else chunk("a") + EMPTY * 10_000
    answer = sse(body + chunk(finish="stop") + DONE)
    others = 0

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    async with peer(always(answer)) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        counting = asyncio.create_task(count())
        visit = await front.chat("up/m", stream=True)
        counting.cancel()
    assert visit.body.count(b": so" if before else EMPTY) == 10_000
    assert visit.body.endswith(DONE)
    assert others > 40


async def test_no_more_is_read_of_an_upstream_than_has_been_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what a fast one sends would be kept, however long it takes to read."""
    monkeypatch.setattr(turns, "_SECONDS", 0.0)
    flood = b": so much, and so on\n\n" * 400_000
    taken = passed = 0

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal passed
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk("a") + flood)
        await writer.drain()
        passed = taken
        writer.write(chunk(finish="stop") + DONE)
        await writer.drain()
        writer.close()

    asked = b'{"model": "up/m", "messages": [], "stream": true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n"
    async with (
        peer(script) as up,
        serving(provider(up.url) + ALICE, tmp_path) as front,
        listening(front.gateway) as served,
    ):
        wire = await served.connect()
        wire.write(head.encode() + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(asked) + asked)
        last = b""
        while data := await wire.reader.read(65536):
            taken += len(data)
            last = last[-100:] + data
    assert DONE in last
    assert passed > 1024 * 1024, "of 9 MB, of which the system holds some"


async def test_what_came_with_the_last_event_follows_it_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_SECONDS", 0.0)
    visit = Visit(b'{"model": "up/m", "messages": [], "stream": true}')

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk("a"))
        await visit.until(lambda it: it.body != b"")
        writer.write(chunk(finish="stop") + DONE + b": so\n\n" * 2000)
        await writer.drain()

    async with peer(script) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        await front.ask("/v1/chat/completions", visit=visit)
    assert visit.body.count(b": so\n\n") == 2000
