"""Each wait ends when it should, though there is one timer for all of them."""

import asyncio
import math

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
        assert await self.deadlines.wait(self.began + seconds)
        self.over[seconds] = self.loop.time() - self.began


async def test_each_waitends_at_its_time_in_whatever_order_they_began(deadlines: Deadlines) -> None:
    it = Waits(deadlines)
    await asyncio.gather(*(it.out(seconds) for seconds in (0.2, 0.05, 0.3, 0.05001, 0.1)))
    assert list(it.over) == [0.05, 0.05001, 0.1, 0.2, 0.3]
    assert all(seconds - 0.002 <= took < seconds + 0.5 for seconds, took in it.over.items())
    assert not deadlines.ends


async def test_what_is_done_in_timeends_with_it_and_leaves_nothing(deadlines: Deadlines) -> None:
    it = Waits(deadlines)
    late = asyncio.create_task(it.out(0.1))
    early = deadlines.wait(it.began + 0.05)
    await asyncio.sleep(0)
    deadlines.end(early)
    assert not await early
    assert len(deadlines.ends) == 1
    await late
    assert deadlines._timer is None


async def test_one_that_is_cancelled_leaves_the_others(deadlines: Deadlines) -> None:
    it = Waits(deadlines)
    gone, ended = deadlines.wait(it.began + 0.02), deadlines.wait(math.inf)
    late = asyncio.create_task(it.out(0.05))
    await asyncio.sleep(0)
    gone.cancel()
    ended.cancel()
    deadlines.end(ended)
    await late
    assert gone.cancelled()
    assert not deadlines.ends


async def test_what_has_no_end_needs_no_timer(deadlines: Deadlines) -> None:
    for_ever = deadlines.wait(math.inf)
    assert deadlines._timer is None
    await Waits(deadlines).out(0.02)
    assert deadlines._timer is None
    deadlines.end(for_ever)
    assert not await for_ever
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
        deadlines.end(deadlines.wait(now + 60 + number))
    assert sets == [now + 60]
