"""How much of a stream is read event by event before others may have their turn: it may be nothing but line ends.

Who has a turn, and when, is the server's to say.
"""

from collections.abc import Sequence

_MOST_LINES = 512
_LEAST_BYTES = 1024


def portions(data: bytes) -> Sequence[bytes]:
    """A piece of a stream cut into such as take some milliseconds: by its lines, each of which may end an event."""
    if len(data) <= _LEAST_BYTES:
        return (data,)
    lines = data.count(b"\n") + data.count(b"\r")
    if lines <= _MOST_LINES:
        return (data,)
    size = max(_LEAST_BYTES, len(data) * _MOST_LINES // lines)
    return [data[at : at + size] for at in range(0, len(data), size)]
