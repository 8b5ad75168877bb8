"""A client that leaves ends its own request and nothing else; whoever else cancels is obeyed as ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.server.departure import Departure
from gproxy.server.incoming import ClientLeft, Incoming
from tests.server.parts import Visit

Work = Callable[[], Awaitable[Any]]


async def steps(count: int) -> None:
    """Give the loop that many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def inside(visit: Visit, work: Work) -> Any:
    """A request that does `work` for a client, whose body has been read."""
    incoming = Incoming(visit.receive)
    await incoming.piece()
    async with Departure(incoming):
        return await work()


def start(visit: Visit, work: Work) -> asyncio.Task[Any]:
    return asyncio.create_task(inside(visit, work))


async def test_work_for_a_client_that_stays_ends_as_it_ends() -> None:
    async def work() -> int:
        await steps(3)
        return 7

    assert await start(Visit(b""), work) == 7


async def test_a_failure_of_the_work_passes_through() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await start(Visit(b""), work)


async def test_a_client_that_leaves_stops_the_work() -> None:
    visit, stopped = Visit(b""), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    task = start(visit, work)
    await steps(3)
    visit.leave()
    with pytest.raises(ClientLeft):
        await task
    assert stopped.is_set()


async def test_a_client_that_has_left_before_is_noticed() -> None:
    visit = Visit(b"")
    visit.leave()
    with pytest.raises(ClientLeft):
        await start(visit, asyncio.Event().wait)


async def test_work_may_go_on_for_a_while_and_end_as_ever() -> None:
    visit = Visit(b"")
    reasons: list[str] = []

    def unheard(why: str) -> float:
        reasons.append(why)
        return 5.0

    incoming = Incoming(visit.receive)
    await incoming.piece()
    async with Departure(incoming, unheard):
        visit.leave()
        await steps(10)
        reached = True
    assert (reached, reasons) == (True, ["the client left"])


async def test_work_that_outlasts_that_while_is_stopped() -> None:
    visit = Visit(b"")
    incoming = Incoming(visit.receive)
    await incoming.piece()
    loop = asyncio.get_running_loop()
    began = loop.time()
    visit.leave()
    with pytest.raises(ClientLeft):
        async with Departure(incoming, lambda _: 0.1):
            await asyncio.Event().wait()
    assert 0.09 < loop.time() - began < 2


async def test_a_client_that_is_taken_for_gone_stops_the_work_and_loses_its_connection() -> None:
    dropped: list[bool] = []
    reasons: list[str] = []
    incoming = Incoming(Visit(b"").receive, lambda: dropped.append(True))
    await incoming.piece()

    def unheard(why: str) -> float:
        reasons.append(why)
        return 0.0

    async def stall() -> None:
        incoming.cut("it reads nothing")
        incoming.cut("it reads nothing")
        await asyncio.Event().wait()

    with pytest.raises(ClientLeft):
        async with Departure(incoming, unheard):
            await stall()
    assert (bool(dropped), reasons) == (True, ["it reads nothing"])


async def test_the_request_goes_on_after_its_client_has_left() -> None:
    """A row has still to be written: nothing of the cancellation may be left over."""
    visit = Visit(b"")
    visit.leave()

    async def request() -> str:
        try:
            await start(visit, asyncio.Event().wait)
        except ClientLeft:
            await steps(5)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return "written"

    assert await asyncio.create_task(request()) == "written"


async def test_work_that_will_not_stop_keeps_its_result() -> None:
    visit = Visit(b"")

    async def work() -> str:
        visit.leave()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished"
        return "unreachable"

    async def request() -> str:
        done: str = await start(visit, work)
        await steps(3)
        return done

    assert await asyncio.create_task(request()) == "finished"


async def test_work_that_fails_while_it_is_stopped_says_so() -> None:
    visit = Visit(b"")

    async def work() -> None:
        visit.leave()
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("broken while stopping")

    with pytest.raises(ValueError, match="broken while stopping"):
        await start(visit, work)


async def test_a_cancellation_from_elsewhere_is_no_departure() -> None:
    task = start(Visit(b""), asyncio.Event().wait)
    await steps(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_cancellation_from_elsewhere_wins_over_a_departure_at_the_same_time() -> None:
    visit = Visit(b"")
    task = start(visit, asyncio.Event().wait)
    await steps(3)
    visit.leave()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_out_inside_is_a_time_out() -> None:
    async def work() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await start(Visit(b""), work)


async def test_no_watcher_is_left_behind() -> None:
    before = asyncio.all_tasks()
    await start(Visit(b""), lambda: steps(2))
    await steps(2)
    assert asyncio.all_tasks() == before


@given(turns=st.integers(0, 8), leave=st.integers(0, 12), cancel=st.none() | st.integers(0, 12))
def test_at_any_moment_the_outcome_is_one_of_three_and_the_task_is_sound(
    turns: int, leave: int, cancel: int | None
) -> None:
    """Work of some turns of the loop, a client that leaves at one turn, and perhaps a cancellation at another."""

    async def play() -> None:
        visit = Visit(b"")

        async def work() -> str:
            await steps(turns)
            return "done"

        async def request() -> str:
            try:
                outcome: str = await inside(visit, work)
            except ClientLeft:
                outcome = "left"
            await steps(3)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            return outcome

        task = asyncio.create_task(request())
        for turn in range(20):
            if turn == leave:
                visit.leave()
            if turn == cancel:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        if task.cancelled():
            assert cancel is not None
        else:
            assert task.result() in ("done", "left")
            if leave > turns + 4:
                assert task.result() == "done"

    asyncio.run(play())
