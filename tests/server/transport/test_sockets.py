"""What the kernel is asked about a real connection, and told to do with it."""

import asyncio
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from gproxy.server.transport.sockets import arrivals, reset, unacknowledged


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection; the first has a small buffer."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server, closing(socket.socket()) as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        there.connect(server.getsockname())
        here, _ = server.accept()
        with closing(here):
            here.setblocking(False)
            yield there, here


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not say")
def test_what_a_reader_does_not_take_is_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    there, here = pair
    assert unacknowledged(here.fileno()) == 0
    here.send(b"x" * 500_000)
    held = unacknowledged(here.fileno())
    assert held > 0
    there.settimeout(5)
    while there.recv(65536) and unacknowledged(here.fileno()) == held:
        pass
    assert unacknowledged(here.fileno()) < held


def test_nothing_is_known_of_what_is_no_connection() -> None:
    assert unacknowledged(10_000) == 0


async def test_a_client_that_takes_nothing_is_reset() -> None:
    made: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: made.append(writer), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.transport.pause_reading()
    while not made:
        await asyncio.sleep(0.005)
    made[0].write(b"x" * 20_000_000)
    reset(made[0].transport)
    writer.transport.resume_reading()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    server.close()


@pytest.mark.both_loops
@pytest.mark.parametrize("what", ["bytes", "the end", "a reset"])
async def test_what_has_come_in_and_nobody_has_read_is_known(
    pair: tuple[socket.socket, socket.socket], what: str
) -> None:
    there, here = pair
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
    arrived = arrivals(transport)
    assert not arrived()
    if what == "bytes":
        there.send(b"x")
    elif what == "a reset":
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if what != "bytes":
        there.close()
    assert arrived(), "before the loop has had a turn"
    transport.abort()
