"""Who waits for an operation hears of its outcome, once, on the loop that waits."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from gproxy.errors import StoreError
from gproxy.ledger.handed import Handed, resolve, tell

REFUSED = StoreError("it exists")


def nothing(db: Any) -> None:
    pass


def waited_for(count: int) -> list[Handed]:
    loop = asyncio.get_running_loop()
    return [Handed(nothing, loop.create_future()) for _ in range(count)]


def waiters(batch: list[Handed]) -> list[asyncio.Future[Any]]:
    return [handed.waiter for handed in batch if handed.waiter is not None]


async def test_each_hears_of_its_own_outcome_and_who_has_left_of_none() -> None:
    batch = [*waited_for(3), Handed(nothing)]
    first, left, refused = waiters(batch)
    left.cancel()
    resolve(batch, [7, 8, REFUSED, 9])
    assert await first == 7
    assert left.cancelled()
    with pytest.raises(StoreError, match="it exists"):
        await refused


@pytest.mark.parametrize(("there", "told"), [(0, 0), (1, 0), (2, 1), (5, 1)])
async def test_it_is_told_when_several_are_about_to_go_on_together(there: int, told: int) -> None:
    calls: list[int] = []
    (left,) = waited_for(1)
    waiters([left])[0].cancel()
    batch = [Handed(nothing), left, *waited_for(there)]
    resolve(batch, [None] * len(batch), lambda: calls.append(sum(it.done() for it in waiters(batch))))
    assert calls == [there + 1] * told, "after all of them have been"


async def test_what_is_refused_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    (waiting, left), unheeded = waited_for(2), Handed(nothing)
    waiters([left])[0].cancel()
    assert [it.forsaken for it in (waiting, left, unheeded)] == [False, True, True]
    with caplog.at_level(logging.ERROR):
        resolve([waiting, left, unheeded], [None, REFUSED, None])
        resolve([unheeded], [StoreError("no room")])
        tell([unheeded], [StoreError("no disk")])
    assert caplog.messages == ["it exists", "no room", "no disk"]


async def test_another_thread_tells_each_loop_what_is_its_own() -> None:
    async def elsewhere() -> list[Any]:
        theirs.extend(waited_for(1))
        begun.set()
        return await asyncio.gather(*waiters(theirs))

    theirs: list[Handed] = []
    begun = threading.Event()
    there = asyncio.ensure_future(asyncio.to_thread(asyncio.run, elsewhere()))
    await asyncio.to_thread(begun.wait, 5)
    ours = waited_for(2)
    batch = [ours[0], theirs[0], Handed(nothing), ours[1]]
    await asyncio.to_thread(tell, batch, [1, 2, 3, 4])
    assert await asyncio.gather(*waiters(ours)) == [1, 4]
    assert await there == [2]


async def test_a_loop_that_is_closed_is_not_told() -> None:
    async def make() -> list[Handed]:
        return waited_for(1)

    gone = await asyncio.to_thread(asyncio.run, make())
    ours = waited_for(1)
    tell([*gone, *ours], [1, 2])
    assert await asyncio.gather(*waiters(ours)) == [2]
