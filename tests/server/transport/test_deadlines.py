"""Each wait ends when it should, though there is one timer for all of them."""

import asyncio

import pytest

from gproxy.server.transport.deadlines import Deadlines

pytestmark = pytest.mark.both_loops


@pytest.fixture
async def deadlines() -> Deadlines:
    return Deadlines()


class Waits:
    """Waits on one `Deadlines`, and how long after the beginning each of them ended."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.over: dict[float, float] = {}

    async def out(self, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await self.deadlines.wait(self.loop.create_future(), self.began + seconds)
        self.over[seconds] = self.loop.time() - self.began


async def test_each_wait_ends_at_its_time_in_whatever_order_they_began(deadlines: Deadlines) -> None:
    it = Waits(deadlines)
    await asyncio.gather(*(it.out(seconds) for seconds in (0.2, 0.05, 0.3, 0.05001, 0.1)))
    assert list(it.over) == [0.05, 0.05001, 0.1, 0.2, 0.3]
    assert all(seconds - 0.002 <= took < seconds + 0.5 for seconds, took in it.over.items())
    assert not deadlines._ends


async def test_what_is_done_in_time_ends_with_it_and_leaves_nothing(deadlines: Deadlines) -> None:
    it = Waits(deadlines)
    future = it.loop.create_future()
    late = asyncio.create_task(it.out(0.1))
    early = asyncio.create_task(deadlines.wait(future, it.began + 0.05))
    await asyncio.sleep(0)
    future.set_result(False)
    await early
    assert len(deadlines._ends) == 1
    await late
    assert deadlines._timer is None


async def test_one_that_is_cancelled_leaves_the_others(deadlines: Deadlines) -> None:
    it = Waits(deadlines)
    gone = asyncio.create_task(deadlines.wait(it.loop.create_future(), it.began + 0.02))
    late = asyncio.create_task(it.out(0.05))
    await asyncio.sleep(0)
    gone.cancel()
    await late
    assert gone.cancelled()


async def test_what_has_no_end_needs_no_timer(deadlines: Deadlines) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    for_ever = asyncio.create_task(deadlines.wait(future, float("inf")))
    await asyncio.sleep(0)
    assert deadlines._timer is None
    await Waits(deadlines).out(0.02)
    assert deadlines._timer is None
    future.set_result(False)
    await for_ever
    deadlines.close()


async def test_thousands_of_waits_set_few_timers(
    deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    sets: list[float] = []
    monkeypatch.setattr(
        Deadlines, "_set", lambda self, until: sets.append(until) or setattr(self, "_due", until)
    )
    now = loop.time()
    for number in range(2000):
        future = loop.create_future()
        future.set_result(False)
        await deadlines.wait(future, now + 60 + number)
    assert sets == [now + 60]
