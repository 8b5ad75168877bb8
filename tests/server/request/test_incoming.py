import asyncio
import contextlib
from collections.abc import Callable, MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest

from gproxy.config.snapshot import Client
from gproxy.errors import BodyTimeout
from gproxy.server.engine.exchange import Exchange
from gproxy.server.engine.framing import read_head
from gproxy.server.request import incoming as module
from gproxy.server.request.incoming import ClientLeft, Incoming
from tests.server.listening import Paper
from tests.server.parts import Visit, incoming


def over(headers: bytes) -> tuple[Incoming, Exchange]:
    """A request over the fast engine, of which nothing but the head has come."""
    it = Exchange(Paper(), *read_head(b"POST / HTTP/1.1\r\n" + headers + b"\r\n"))
    return Incoming(it), it


MEGABYTE = bytes(1024 * 1024)


async def silence() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    return {}


async def test_pieces_come_as_they_are_and_the_last_ends_the_body() -> None:
    body = incoming(Visit(b"a", b"", b"b").receive)
    got = []
    while not body.ended:
        got.append(await body.piece())
    assert got == [b"a", b"", b"b"]


async def test_a_message_without_a_body_is_an_empty_last_piece() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    body = incoming(receive)
    assert (await body.piece(), body.ended) == (b"", True)


async def test_a_client_that_leaves_inside_its_body_has_left() -> None:
    body = incoming(Visit(b"a", then_leave=True).receive)
    await body.piece()
    with pytest.raises(ClientLeft):
        await body.piece()
    assert body.ended


async def test_a_sender_that_falls_silent_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_IDLE_SECONDS", 0.01)
    with pytest.raises(BodyTimeout):
        await incoming(silence).piece()


@pytest.mark.parametrize(("each", "whole"), [(b"x", False), (b"x" * 100, True)], ids=["trickle", "slow"])
async def test_a_body_has_to_keep_up_a_least_rate(
    monkeypatch: pytest.MonkeyPatch, each: bytes, whole: bool
) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS", 0.1)
    count = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal count
        count += 1
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": each, "more_body": count < 60}

    body = incoming(receive)
    with contextlib.nullcontext() if whole else pytest.raises(BodyTimeout):
        while not body.ended:
            await body.piece()
    assert (count == 60) == whole


async def test_the_rest_of_a_refused_body_is_read_to_its_end() -> None:
    body = incoming(Visit(*[MEGABYTE] * 3).receive)
    await body.discard()
    assert body.ended


async def test_a_body_that_has_ended_is_not_read_on() -> None:
    body = incoming(Visit(b"all").receive)
    await body.piece()
    async with asyncio.timeout(1):
        await body.discard()


async def test_only_so_much_of_a_refused_body_is_read() -> None:
    visit = Visit(*[MEGABYTE] * 100)
    body = incoming(visit.receive)
    await body.discard()
    assert not body.ended
    left = incoming(visit.receive)
    count = 0
    while not left.ended:
        await left.piece()
        count += 1
    assert count == 96


async def test_only_so_long_is_a_refused_body_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DISCARD_SECONDS", 0.01)
    async with asyncio.timeout(5):
        await incoming(silence).discard()
    monkeypatch.setattr(module, "BODY_IDLE_SECONDS", 0.001)
    await incoming(silence).discard()


async def test_a_client_that_leaves_while_its_refused_body_is_read_is_no_fault() -> None:
    body = incoming(Visit(b"a", then_leave=True).receive)
    await body.discard()
    assert body.ended


async def test_a_refused_body_that_is_broken_as_well_is_no_fault() -> None:
    body, it = over(b"transfer-encoding: chunked\r\n")
    it.feed(b"nonsense\r\n")
    await body.discard()
    assert not body.ended


async def test_who_cuts_a_connection_is_heard_and_where_nobody_listens_its_task_ends() -> None:
    """Whether it can be dropped or not."""
    dropped: list[bool] = []
    heard: list[str] = []

    async def serve(drop: Callable[[], None] | None) -> None:
        client = incoming(silence, drop)
        client.on_cut = heard.append
        client.cut("first")
        await asyncio.sleep(0)
        client.on_cut = None
        client.cut("second")
        await asyncio.sleep(30)

    for drop in (lambda: dropped.append(True), None):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(serve(drop))
    assert (len(dropped), heard) == (2, ["first", "first"])


async def test_what_is_there_already_is_taken_without_waiting() -> None:
    body, it = over(b"content-length: 2\r\n")
    assert body.at_hand() is None
    it.feed(b"a")
    assert await body.piece() == b"a"
    assert not body.ended
    it.feed(b"b")
    assert body.at_hand() == b"b"
    assert body.ended


async def test_a_body_that_was_never_asked_for_is_not_waited_for_to_be_thrown_away() -> None:
    """Its sender waits to be told to send it."""
    body, _ = over(b"content-length: 2\r\nexpect: 100-continue\r\n")
    async with asyncio.timeout(1):
        assert await body.discard()


async def test_who_is_greeted_is_known_and_told_to_the_log() -> None:
    body = incoming(silence)
    assert body.client is None
    client = Client(user="alice", key_label="laptop", key_id="id")
    body.greet(client)
    assert body.client is not None
    body.trace = SimpleNamespace(client=None)  # type: ignore[assignment]  # what it tells of is all that counts
    body.greet(client)
    assert body.trace.client is client
