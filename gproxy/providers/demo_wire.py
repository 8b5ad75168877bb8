"""What the offline channel is asked and what it answers, as bytes with the pauses between them.

What is said is decided in `demo_talk.py`; nobody waits here, that is the server's part.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CREATED = 1_767_225_600
"""The time of every answer, 2026-01-01 UTC: the demo has no clock."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `seed` is a hexadecimal digest of all of it, from which ids are made."""

    operation: str
    model: str
    tree: Mapping[str, Any] = field(repr=False)
    stream: bool
    sse: bool
    seed: str


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """One answer. `chunks` are (seconds to wait first, bytes), in order."""

    status: int
    content_type: str
    chunks: tuple[tuple[float, bytes], ...] = field(repr=False)

    @property
    def body(self) -> bytes:
        """All bytes at once."""
        return b"".join(data for _, data in self.chunks)


def encode(value: object) -> bytes:
    """`value` as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def json_answer(value: object, *, status: int = 200, delay: float = 0.06) -> DemoAnswer:
    """`value` in one piece, after `delay` seconds."""
    return DemoAnswer(status, "application/json", ((delay, encode(value)),))


def sse(value: object, *, named: bool = False) -> bytes:
    """One event; `named`: its name is the value's `type`."""
    name = b"event: %b\n" % str(value["type"]).encode() if named and isinstance(value, Mapping) else b""
    return b"%bdata: %b\n\n" % (name, encode(value))


def sse_answer(
    events: Iterable[tuple[float, object]], *, named: bool = False, end: bytes = b""
) -> DemoAnswer:
    """Events with their pauses as one stream, `end` after the last."""
    chunks = [(delay, sse(value, named=named)) for delay, value in events]
    if end:
        chunks.append((0.0, end))
    return DemoAnswer(200, "text/event-stream; charset=utf-8", tuple(chunks))
