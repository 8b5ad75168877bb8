"""What is written while answers are gathered goes out with them, in its order, and not at all on what is given up."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gproxy.server.engine.sender import MAX_HELD_BYTES, Sender
from gproxy.server.transport.outbox import Outbox

pytestmark = pytest.mark.both_loops

Read = Callable[[], Awaitable[bytes]]


@asynccontextmanager
async def sending() -> AsyncIterator[tuple[Outbox, Sender, asyncio.Transport, Read]]:
    """A sender on one end of a connection, and what reads all that has come at the other, and waits for nothing."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
    reader, there = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1024 * 1024)
    here = await accepted.get()
    outbox = Outbox()

    async def read() -> bytes:
        await asyncio.sleep(0.02)
        reading = asyncio.ensure_future(reader.read(1024 * 1024))
        await asyncio.sleep(0)
        if reading.done():
            return reading.result()
        reading.cancel()
        return b""

    yield outbox, Sender(here.transport, outbox), here.transport, read  # type: ignore[arg-type]  # it is a transport
    for writer in (here, there):
        writer.transport.abort()
    server.close()
    await asyncio.sleep(0)


async def test_what_is_written_alone_goes_out_at_once() -> None:
    async with sending() as (outbox, sender, transport, read):
        sender.write(b"one")
        transport.abort()  # which would keep what is held
        assert await read() == b"one"
        assert not outbox.gathering


async def test_what_is_gathered_goes_out_behind_all_that_was_to_run() -> None:
    async with sending() as (outbox, sender, _, read):
        came: list[bytes] = []
        looking = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(lambda: came.append(b"one" if outbox.gathering else b""))
        outbox.gather()
        sender.write(b"one")
        assert not came
        await asyncio.sleep(0)
        assert came == [b"one"]
        assert await looking == b"one"


@pytest.mark.parametrize("second", [b"two", b"2" * (MAX_HELD_BYTES + 1)], ids=["small", "large"])
async def test_what_is_held_goes_out_before_what_is_written_next(second: bytes) -> None:
    async with sending() as (outbox, sender, _, read):
        outbox.gather()
        sender.write(b"one")
        sender.write(second)
        assert await read() == b"one" + second


@pytest.mark.parametrize(
    ("data", "blocked"), [(b"1" * (MAX_HELD_BYTES + 1), False), (b"one", True)], ids=["large", "blocked"]
)
async def test_what_may_have_to_wait_for_its_client_is_not_held(data: bytes, blocked: bool) -> None:
    async with sending() as (outbox, sender, transport, read):
        outbox.gather()
        sender.blocked = blocked
        sender.write(data)
        transport.close()
        assert await read() == data


async def test_what_is_held_can_be_written_before_its_time_or_forgotten() -> None:
    async with sending() as (outbox, sender, _, read):
        outbox.gather()
        sender.write(b"one")
        sender.flush()
        sender.write(b"two")
        sender.forget()
        assert await read() == b"one"


async def test_a_client_that_takes_nothing_of_what_waits_is_seen_by_looks() -> None:
    async with sending() as (_, sender, transport, read):
        looks = itertools.count(1.0)
        assert sender.idle_for(next(looks)) == 0
        sender.write(b"x" * 20_000_000)  # more than both ends have room for
        assert transport.get_write_buffer_size() > 0
        async with asyncio.timeout(10):
            while sender.idle_for(next(looks)) < 3:  # until the kernel has no more room
                await asyncio.sleep(0.01)
            while transport.get_write_buffer_size():
                await read()
        assert sender.idle_for(next(looks)) == 0
