import asyncio
from typing import Any

from gproxy.server.tasks import Tasks


async def test_a_task_is_held_until_it_is_done() -> None:
    tasks = Tasks()
    go, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    tasks.spawn(work())
    go.set()
    await tasks.drain(5)
    assert done.is_set()


async def test_what_does_not_end_in_time_is_cancelled() -> None:
    tasks = Tasks()
    endless = tasks.spawn(asyncio.Event().wait())
    await tasks.drain(0)
    await asyncio.wait([endless])
    assert endless.cancelled()


async def test_draining_nothing_returns_at_once() -> None:
    await Tasks().drain(1000)


async def test_a_task_that_fails_is_reported_and_no_task_that_is_cancelled_is() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def work() -> None:
        raise ValueError("broken")

    tasks = Tasks()
    tasks.spawn(work())
    tasks.spawn(asyncio.Event().wait())
    await tasks.drain(0.01)
    await asyncio.sleep(0)
    assert [str(context["exception"]) for context in reported] == ["broken"]


async def test_the_result_is_the_callers_to_have() -> None:
    async def work() -> int:
        return 7

    assert await Tasks().spawn(work()) == 7
