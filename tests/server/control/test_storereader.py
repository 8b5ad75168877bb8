"""Reads beside the event loop, and what happens when there are too many."""

import asyncio
import threading

import pytest

from gproxy.errors import StoreError, Unavailable
from gproxy.server.control.storereader import AT_ONCE, MOST_OPEN, StoreReader


async def test_what_is_read_or_raised_comes_back() -> None:
    reader = StoreReader()

    def broken() -> None:
        raise StoreError("gone")

    assert await reader.read(lambda: 7) == 7
    with pytest.raises(StoreError, match="gone"):
        await reader.read(broken)


async def test_of_a_store_that_is_gone_nothing_is_told() -> None:
    """An empty one would be read as no spend at all."""
    gone: list[str] = []
    reader = StoreReader(lambda: gone[0] if gone else None)
    assert await reader.read(lambda: 7) == 7
    gone.append("/home/alice/gproxy.db was removed")
    with pytest.raises(Unavailable, match="removed or replaced") as told:
        await reader.read(lambda: 7)
    assert "/home" not in str(told.value)


async def test_few_are_made_at_once_and_too_many_are_refused_while_the_loop_goes_on() -> None:
    reader = StoreReader()
    go, running = threading.Event(), []

    def slow() -> int:
        running.append(1)
        go.wait(10)
        return 1

    reads = [asyncio.create_task(reader.read(slow)) for _ in range(MOST_OPEN)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await reader.read(slow)
    async with asyncio.timeout(10):
        while len(running) < AT_ONCE:
            await asyncio.sleep(0)
    assert len(running) == AT_ONCE
    go.set()
    assert sum(await asyncio.gather(*reads)) == MOST_OPEN
    assert await reader.read(lambda: 2) == 2


async def test_who_leaves_still_holds_its_place_until_its_read_has_ended() -> None:
    reader = StoreReader()
    go = threading.Event()
    reads = [asyncio.create_task(reader.read(lambda: go.wait(10))) for _ in range(MOST_OPEN)]
    await asyncio.sleep(0)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    with pytest.raises(Unavailable):
        await reader.read(lambda: 1)
    go.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await reader.read(lambda: 1) == 1
                break
            except Unavailable:
                await asyncio.sleep(0)
