"""A client that leaves ends its own request and nothing else; whoever else cancels is obeyed as ever."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.server.engine.exchange import Exchange
from gproxy.server.engine.framing import read_head
from gproxy.server.request.departure import Departure
from gproxy.server.request.incoming import ClientLeft, Incoming
from tests.server import parts
from tests.server.listening import Paper
from tests.server.parts import Visit

Work = Callable[[], Awaitable[Any]]


class Going(Departure, kw_only=True):
    """One that goes on without its client for as long as `say` says."""

    say: Callable[[str], float]

    def unheard(self, why: str) -> float:
        return self.say(why)


async def steps(count: int) -> None:
    """Give the loop that many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


class Heard:
    """A client whose connection calls when it leaves, as the fast engine's does."""

    def __init__(self) -> None:
        self.exchange = Exchange(Paper(), *read_head(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n"))
        self.leave = self.exchange.leave


def waited_for() -> Visit:
    """A client whose leaving is waited for, as ASGI has it."""
    return Visit(b"")


Client = Visit | Heard


def of(client: Client) -> Incoming:
    """What comes of it to the task that calls this."""
    if isinstance(client, Visit):
        return parts.incoming(client.receive)
    task = asyncio.current_task()
    assert task is not None
    client.exchange.task = task
    return Incoming(client.exchange)


Kind = Callable[[], Client]


@pytest.fixture(params=[waited_for, Heard])
def client(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


async def inside(visit: Client, work: Work) -> Any:
    """A request that does `work` for a client, whose body has been read."""
    incoming = of(visit)
    await incoming.piece()
    with Departure(incoming):
        return await work()


def start(visit: Client, work: Work) -> asyncio.Task[Any]:
    return asyncio.create_task(inside(visit, work))


async def test_work_for_a_client_that_stays_ends_as_it_ends(client: Kind) -> None:
    async def work() -> int:
        await steps(3)
        return 7

    assert await start(client(), work) == 7


async def test_a_failure_of_the_work_passes_through(client: Kind) -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await start(client(), work)


async def test_a_client_that_leaves_stops_the_work(client: Kind) -> None:
    visit, stopped = client(), asyncio.Event()

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


async def test_a_client_that_has_left_before_is_noticed(client: Kind) -> None:
    visit = client()
    visit.leave()
    with pytest.raises(ClientLeft):
        await start(visit, asyncio.Event().wait)


async def test_work_may_go_on_for_a_while_and_end_as_ever(client: Kind) -> None:
    visit = client()
    reasons: list[str] = []

    def unheard(why: str) -> float:
        reasons.append(why)
        return 5.0

    incoming = of(visit)
    await incoming.piece()
    with Going(incoming, say=unheard):
        visit.leave()
        await steps(10)
        reached = True
    assert (reached, reasons) == (True, ["the client left"])


async def test_work_that_outlasts_that_while_is_stopped(client: Kind) -> None:
    visit = client()
    incoming = of(visit)
    await incoming.piece()
    loop = asyncio.get_running_loop()
    began = loop.time()
    visit.leave()
    with pytest.raises(ClientLeft), Going(incoming, say=lambda _: 0.1):
        await asyncio.Event().wait()
    assert 0.09 < loop.time() - began < 2


@pytest.mark.parametrize("seconds", [0.0, 5.0])
async def test_what_a_client_has_not_taken_when_it_leaves_is_dropped(seconds: float) -> None:
    """It may have closed its side alone: the work would wait for it to read."""
    visit, dropped = Visit(b""), asyncio.Event()
    incoming = parts.incoming(visit.receive, dropped.set)
    await incoming.piece()
    with contextlib.suppress(ClientLeft), Going(incoming, say=lambda _: seconds):
        assert not dropped.is_set()
        visit.leave()
        await dropped.wait()
    assert dropped.is_set()


async def test_a_client_that_is_taken_for_gone_stops_the_work_and_loses_its_connection() -> None:
    dropped: list[bool] = []
    reasons: list[str] = []
    incoming = parts.incoming(Visit(b"").receive, lambda: dropped.append(True))
    await incoming.piece()

    def unheard(why: str) -> float:
        reasons.append(why)
        return 0.0

    async def stall() -> None:
        incoming.cut("it reads nothing")
        incoming.cut("it reads nothing")
        await asyncio.Event().wait()

    with pytest.raises(ClientLeft), Going(incoming, say=unheard):
        await stall()
    assert (bool(dropped), reasons) == (True, ["it reads nothing"])


async def test_a_client_that_is_taken_for_gone_by_the_last_step_stops_nothing_behind_it() -> None:
    incoming = parts.incoming(Visit(b"").receive)
    await incoming.piece()
    with Departure(incoming):
        incoming.cut("it reads nothing")
    await steps(3)


async def test_the_request_goes_on_after_its_client_has_left(client: Kind) -> None:
    """A row has still to be written: nothing of the cancellation may be left over."""
    visit = client()
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


async def test_work_that_will_not_stop_keeps_its_result(client: Kind) -> None:
    visit = client()

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


async def test_work_that_fails_while_it_is_stopped_says_so(client: Kind) -> None:
    visit = client()

    async def work() -> None:
        visit.leave()
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("broken while stopping")

    with pytest.raises(ValueError, match="broken while stopping"):
        await start(visit, work)


async def test_a_cancellation_from_elsewhere_is_no_departure(client: Kind) -> None:
    task = start(client(), asyncio.Event().wait)
    await steps(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_cancellation_from_elsewhere_wins_over_a_departure_at_the_same_time(client: Kind) -> None:
    visit = client()
    task = start(visit, asyncio.Event().wait)
    await steps(3)
    visit.leave()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_out_inside_is_a_time_out(client: Kind) -> None:
    async def work() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await start(client(), work)


async def test_no_watcher_is_left_behind(client: Kind) -> None:
    before = asyncio.all_tasks()
    await start(client(), lambda: steps(2))
    await steps(2)
    assert asyncio.all_tasks() == before


@given(
    client=st.sampled_from([waited_for, Heard]),
    turns=st.integers(0, 8),
    leave=st.integers(0, 12),
    cancel=st.none() | st.integers(0, 12),
)
def test_at_any_moment_the_outcome_is_one_of_three_and_the_task_is_sound(
    client: Kind, turns: int, leave: int, cancel: int | None
) -> None:
    """Work of some turns of the loop, a client that leaves at one turn, and perhaps a cancellation at another."""

    async def play() -> None:
        visit = client()

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
