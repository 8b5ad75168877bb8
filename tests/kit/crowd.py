"""Many requests at once, each on a connection of its own; httpx would spend the time on its pool.

What is asked is `calls.py`'s, who answers `gateway.py`'s.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.kit.gateway import Gateway
from tests.kit.upstream import DEADLINE_S


@dataclass(frozen=True)
class Ask:
    """One POST of JSON. `leave_after`: seconds after which the client gives up."""

    path: str
    body: Any
    key: str
    leave_after: float | None = None


@dataclass(frozen=True)
class Answered:
    """What came back; `status` is 0 for a client that left or lost its connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


LOST = Answered(0, {}, b"")


async def at_once(
    gateway: Gateway, asks: Iterable[Ask], told: Callable[[Answered], None] = lambda _: None
) -> list[Answered]:
    """Every answer, in the order of `asks`; `told` hears of each when it is there."""
    async with aiohttp.ClientSession(
        gateway.url,
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=DEADLINE_S * 4),
    ) as session:

        async def one(ask: Ask) -> Answered:
            try:
                async with asyncio.timeout(ask.leave_after):
                    headers = {"authorization": f"Bearer {ask.key}"}
                    async with session.post(ask.path, json=ask.body, headers=headers) as answer:
                        found = Answered(answer.status, answer.headers, await answer.read())
            except TimeoutError:
                assert ask.leave_after is not None, "no answer at all"
                found = LOST
            except aiohttp.ClientError:
                found = LOST
            told(found)
            return found

        return await asyncio.gather(*map(one, asks))


def statuses(answers: Iterable[Answered]) -> Counter[int]:
    return Counter(answer.status for answer in answers)
