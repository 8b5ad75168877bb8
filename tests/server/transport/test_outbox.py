"""What is put into an outbox in one turn of the loop goes out together, in the next."""

import asyncio

import pytest

from gproxy.server.transport.outbox import Outbox

pytestmark = pytest.mark.both_loops


async def test_all_of_one_turn_is_sent_in_the_next_in_its_order() -> None:
    outbox, sent = Outbox(), list[int]()
    for number in range(3):
        outbox.put(lambda number=number: sent.append(number))  # type: ignore[misc]  # mypy knows no default of a lambda
    assert not sent
    await asyncio.sleep(0)
    assert sent == [0, 1, 2]


async def test_what_is_put_in_while_others_are_sent_goes_with_the_next() -> None:
    outbox, sent = Outbox(), list[str]()

    def first() -> None:
        sent.append("first")
        outbox.put(lambda: sent.append("second"))

    outbox.put(first)
    await asyncio.sleep(0)
    assert sent == ["first"]
    await asyncio.sleep(0)
    assert sent == ["first", "second"]


async def test_it_gathers_from_when_it_is_told_until_all_that_was_to_run_by_then_has_run() -> None:
    outbox, seen = Outbox(), list[str]()
    loop = asyncio.get_running_loop()

    def ready(name: str) -> None:
        seen.append(f"{name}, {outbox.gathering}")
        outbox.put(lambda: seen.append(f"{name} is sent"))

    loop.call_soon(ready, "a")
    loop.call_soon(ready, "b")
    outbox.gather()
    outbox.gather()
    await asyncio.sleep(0)
    assert seen == ["a, True", "b, True", "a is sent", "b is sent"]
    assert not outbox.gathering
