"""Each wait ends when it should, though there is one timer for all of them."""

import asyncio
import math

import pytest

from gproxy.server.transport.deadlines import Deadlines

pytestmark = pytest.mark.both_loops


class Wait:
    """One that lasts until then, unless it is `over` before; when it was found to be late, if it was."""

    def __init__(self, bench: "Bench", seconds: float) -> None:
        self.until = bench.began + seconds
        self.late_after = math.nan
        self._bench = bench
        bench.waits.append(self)
        if self.until < bench.deadlines.due:
            bench.deadlines.set(self.until)

    def late(self) -> None:
        self.late_after = self._bench.loop.time() - self._bench.began
        self.over()

    def over(self) -> None:
        self._bench.waits.remove(self)


class Bench:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.waits: list[Wait] = []
        self.deadlines = Deadlines(lambda: self.waits)

    async def empty(self) -> None:
        async with asyncio.timeout(5):
            while self.waits:
                await asyncio.sleep(0.005)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_each_wait_ends_at_its_time_in_whatever_order_they_began(bench: Bench) -> None:
    times = (0.2, 0.05, 0.3, 0.05001, 0.1)
    waits = {seconds: Wait(bench, seconds) for seconds in times}
    await bench.empty()
    late = {seconds: wait.late_after for seconds, wait in waits.items()}
    assert sorted(times, key=late.__getitem__) == sorted(times)
    assert all(seconds - 0.002 <= after < seconds + 0.5 for seconds, after in late.items())


async def test_what_is_over_in_time_is_left_alone(bench: Bench) -> None:
    early, late = Wait(bench, 0.02), Wait(bench, 0.05)
    early.over()
    await bench.empty()
    assert math.isnan(early.late_after)
    assert late.late_after >= 0.048
    assert bench.deadlines._timer is None


async def test_what_has_no_end_needs_no_timer(bench: Bench) -> None:
    for_ever = Wait(bench, math.inf)
    assert bench.deadlines._timer is None
    late = Wait(bench, 0.02)
    await asyncio.sleep(0.05)
    assert late.late_after >= 0.018
    assert bench.waits == [for_ever]
    assert bench.deadlines._timer is None
    assert bench.deadlines.due == math.inf


async def test_nothing_is_late_once_it_is_closed(bench: Bench) -> None:
    wait = Wait(bench, 0.02)
    bench.deadlines.close()
    await asyncio.sleep(0.05)
    assert bench.waits == [wait]


async def test_thousands_of_waits_set_few_timers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sets: list[float] = []
    monkeypatch.setattr(
        Deadlines, "set", lambda self, until: sets.append(until) or setattr(self, "due", until)
    )
    for number in range(2000):
        Wait(bench, 60 + number).over()
    assert sets == [bench.began + 60]
