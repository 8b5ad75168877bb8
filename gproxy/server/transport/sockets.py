"""What the event loop does not do for a connection: ask the kernel about it, and end it by a reset.

Nothing is read or written here.
"""

import asyncio
import select
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial

if sys.platform != "win32":
    import fcntl
    import termios

_RESET = struct.pack("ii", 1, 0)


def unacknowledged(descriptor: int) -> int:
    """How many bytes the kernel holds that the other side has not taken; 0 where it does not say."""
    if sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def arrivals(transport: asyncio.BaseTransport) -> Callable[[], Sequence[object]]:
    """Tells, by what is true, whether anything has come in on an open connection that its transport has not read:
    bytes, or its end.

    Never true where the kernel does not say. It is asked in half a microsecond.
    """
    if sys.platform == "win32":
        return tuple
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return partial(poll.poll, 0)


def reset(transport: asyncio.WriteTransport) -> None:
    """Close at once. What the kernel has taken over is not kept for a client that does not take it."""
    if transport.get_write_buffer_size():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
