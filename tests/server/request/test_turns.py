"""A stream of nothing but line ends, or of events without end, leaves the event loop to others all the while."""

import asyncio
from pathlib import Path

import pytest

from gproxy.server.request import turns
from gproxy.server.request.turns import Turn
from tests.server.parts import ALICE, DONE, always, chunk, peer, provider, serving, sse

EMPTY = b"data: {}\n\n"


async def test_a_turn_that_is_over_lets_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    others = 0

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    long = Turn()
    await long.shared()
    assert (long.over, others) == (False, 0)
    monkeypatch.setattr(turns, "_SECONDS", 0.0)
    short = Turn()
    await short.shared()
    assert others == 1
    counting.cancel()


@pytest.mark.parametrize("before", [True, False], ids=["before the first event", "behind it"])
async def test_others_are_served_while_a_stream_is_nothing_but_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setattr(turns, "_SECONDS", 0.0)
    silence = b": so\n\n" * 10_000
    body = silence + chunk("a") if before else chunk("a") + EMPTY * 10_000
    answer = sse(body + chunk(finish="stop") + DONE)
    others = 0

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    async with peer(always(answer)) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        counting = asyncio.create_task(count())
        visit = await front.chat("up/m", stream=True)
        counting.cancel()
    assert visit.body.count(b": so" if before else EMPTY) == 10_000
    assert visit.body.endswith(DONE)
    assert others > 40
