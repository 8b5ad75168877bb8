"""Slow readers before a fast upstream: `python benchmarks/slow.py [--seconds 20]`; exit 1 if memory grows by 50 MB.

20 clients read a stream at 10 KB/s from an upstream that sends as fast as it is let. What the clients do not take
must hold the upstream back, and pile up in no process. Told are the growth of the proxy's resident memory, and how
many bytes the upstream had got rid of when the clients had read theirs.
"""

import argparse
import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from churn import configuration, request
from common import machine, resident_bytes, serving, table

CLIENTS = 20
BYTES_A_SECOND = 10_000
MOST_GROWTH = 50_000_000

_TEXT = b"x" * 1000
_EVENT = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % _TEXT
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT) * 50
_SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Upstream:
    """Sends on every connection as fast as that takes it; `sent` are the bytes taken so far."""

    def __init__(self) -> None:
        self.sent = 0

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                taken, _ = await loop.sock_accept(listener)
                taken.setblocking(False)
                group.create_task(self._send(taken))

    async def _send(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with sock, contextlib.suppress(ConnectionError):
            await loop.sock_recv(sock, 65536)
            await loop.sock_sendall(sock, _SSE)
            while True:
                await loop.sock_sendall(sock, _CHUNK)
                self.sent += len(_CHUNK)


async def read_slowly(port: int, seconds: float) -> int:
    """Bytes that one client has read, and still its answer went on."""
    loop = asyncio.get_running_loop()
    got = 0
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, request("up/m", stream=True))
        until = loop.time() + seconds
        while loop.time() < until:
            data = await loop.sock_recv(sock, BYTES_A_SECOND // 10)
            assert data, "the answer ended"
            got += len(data)
            await asyncio.sleep(0.1)
    return got


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.setblocking(False)
        yield listener


async def slow(seconds: float) -> bool:
    upstream = Upstream()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        listener = stack.enter_context(listening())
        port, pid = stack.enter_context(
            serving("--config", configuration(folder, {"up": listener.getsockname()[1]}))
        )
        sending = asyncio.create_task(upstream.serve(listener))
        await read_slowly(port, 1)
        before, most = resident_bytes(pid), 0
        reading = asyncio.gather(*(read_slowly(port, seconds) for _ in range(CLIENTS)))
        while not reading.done():
            most = max(most, resident_bytes(pid) - before)
            await asyncio.sleep(0.2)
        got = sum(await reading)
        sending.cancel()
        rows = [
            ("clients", f"{CLIENTS} at {BYTES_A_SECOND / 1000:.0f} KB/s, {seconds:g} s"),
            ("read by all", f"{got / 1e6:.1f} MB"),
            ("sent by the upstream", f"{upstream.sent / 1e6:.1f} MB"),
            ("memory", f"{before / 1e6:.0f} MB before, {most / 1e6:.1f} MB more at most"),
        ]
        print(machine(), table(("what", "figure"), rows), sep="\n\n")
        return most < MOST_GROWTH


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(slow(given.seconds)) else 1)
