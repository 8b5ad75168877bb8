"""A request by ASGI has what the fast engine's has, as far as ASGI tells of it."""

import asyncio

import pytest

from gproxy.server.request.asgi import DROP, AsgiRequest
from tests.server.parts import Headers, Visit, incoming, scope


def request(visit: Visit, headers: Headers = (), **extensions: object) -> AsgiRequest:
    at = scope("/", headers=headers)
    at["extensions"] |= extensions
    return AsgiRequest(at, visit.receive, visit.send)


async def test_who_watches_is_called_when_the_client_leaves_and_not_before() -> None:
    visit = Visit(b"")
    body = incoming(visit.receive)
    await body.piece()
    left, never = asyncio.Event(), asyncio.Event()
    body.request.on_leaving(never.set)
    body.request.on_leaving(None)
    body.request.on_leaving(left.set)
    await asyncio.sleep(0)
    assert not left.is_set()
    visit.leave()
    await asyncio.wait_for(left.wait(), 5)
    assert not never.is_set()


async def test_nothing_is_ready_before_it_is_asked_for() -> None:
    it = request(Visit(b"a"))
    assert it.ready() is None
    assert (await it.receive())["body"] == b"a"


async def test_a_connection_is_dropped_where_its_server_can() -> None:
    dropped: list[bool] = []
    request(Visit()).drop()
    request(Visit(), **{DROP: lambda: dropped.append(True)}).drop()
    assert dropped == [True]


@pytest.mark.parametrize(
    ("told", "length"),
    [
        ([], None),
        ([b"12"], 12),
        ([b"0"], 0),
        ([b"x"], None),
        ([b"-1"], None),
        ([b""], None),
        ([b"9" * 5000], None),
    ],
)
async def test_the_length_is_what_the_client_told(told: list[bytes], length: int | None) -> None:
    assert request(Visit(), [(b"content-length", value) for value in told]).length == length


async def test_it_is_served_by_the_task_that_makes_it() -> None:
    assert request(Visit()).task is asyncio.current_task()
