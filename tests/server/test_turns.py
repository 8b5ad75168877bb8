"""A stream of nothing but line ends, or of events without end, leaves the event loop to others all the while."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.server import turns
from gproxy.server.turns import Turn, parts
from tests.server.parts import ALICE, DONE, always, chunk, peer, provider, serving, sse

EMPTY = b"data: {}\n\n"


@given(st.lists(st.sampled_from([b"\n", b"\r", b"a" * 300, b"data: {}\n\n"]), max_size=3000))
def test_parts_are_the_whole_and_none_has_many_lines(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    found = parts(data)
    assert b"".join(found) == data
    assert data == b"" or all(found)
    assert all(len(part) <= 1024 or len(part) * 2 < len(data) or len(found) == 1 for part in found)


def test_few_lines_stay_together() -> None:
    data = (b"data: " + b"x" * 500 + b"\n\n") * 200
    assert list(parts(data)) == [data]


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
