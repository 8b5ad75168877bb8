"""How much of a stream is read event by event before others may have their turn: it may be nothing but line ends.

Who has a turn, and when, is the server's to say.
"""

from collections.abc import Sequence

_LEAST_BYTES = 1024


def portions(data: bytes, marks: bytes, most: int) -> Sequence[bytes]:
    """A piece of a stream cut into such as take some milliseconds: about `most` of its framer's `marks` in each, of
    which each may end an event."""
    if len(data) <= _LEAST_BYTES:
        return (data,)
    found = sum(map(data.count, marks))
    if found <= most:
        return (data,)
    size = max(_LEAST_BYTES, len(data) * most // found)
    return [data[at : at + size] for at in range(0, len(data), size)]
