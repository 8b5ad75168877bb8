"""A flood of requests without a valid key: each is refused, and leaves next to nothing."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger.logs import Downstream, Filters, listed
from gproxy.server.console import LINES
from gproxy.server.request import strangers
from gproxy.server.request.strangers import AT_ONCE, PER_SECOND, Strangers
from tests.server.parts import ALICE, provider, serving

LOGS = "[global]\nenable_downstream_log = true\nenable_downstream_log_body = true\n"
FLOOD = 1000
KNOWN = 20
CHAT = "/v1/chat/completions"


class Clock:
    """What a loop has that a meter asks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.later: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Any) -> None:
        self.later.append((seconds, call))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


def test_a_handful_is_told_of_one_by_one(clock: Clock) -> None:
    meter = Strangers()
    assert all(meter.told() for _ in range(AT_ONCE))
    assert not meter.told()
    clock.now += 1
    assert sum(meter.told() for _ in range(FLOOD)) == PER_SECOND
    clock.now += 1e6
    assert sum(meter.told() for _ in range(FLOOD)) == AT_ONCE


def test_how_many_were_left_out_is_said_once_in_a_while(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = Strangers()
    for _ in range(2):
        while meter.told():
            pass
        assert not meter.told()
        ((seconds, tell),) = clock.later
        assert seconds == strangers.TELL_SECONDS
        clock.later.clear()
        tell()
        clock.now += AT_ONCE / PER_SECOND
    LINES.close()
    said = capsys.readouterr().err.splitlines()
    assert said == ["gproxy: 2 more requests came without a valid key, and were left out of the logs."] * 2


async def test_a_flood_leaves_few_lines_and_entries_and_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(LOGS + provider("http://127.0.0.1:9") + ALICE, tmp_path) as front:
        for _ in range(FLOOD):
            assert (await front.ask(CHAT, {"model": "up/m"}, key="sk-wrong-4711")).status == 401
        for _ in range(FLOOD // 10):
            assert (await front.ask(CHAT, {"model": "up/m"}, key=None, host="evil.example")).status == 421
            assert (await front.ask("/v1/models", method="GET", key="sk-wrong-4711")).status == 401
            assert (await front.ask("/nowhere", method="GET", key=None)).status == 404
        for _ in range(KNOWN):
            assert (await front.ask(CHAT, {"model": ""})).status == 400
        assert await front.rows() == []
        entries = listed(front.path, Downstream, Filters(), limit=2 * FLOOD)
        counted = front.gateway.metrics._counts["refusals", "openai_chat", "key"]
    lines = capsys.readouterr().err.splitlines()
    assert sum(" 400 " in line for line in lines) == KNOWN
    assert AT_ONCE <= sum(" 401 " in line or " 421 " in line for line in lines) < FLOOD / 2
    assert AT_ONCE + KNOWN <= len(entries) < FLOOD / 2 + KNOWN
    assert counted == FLOOD


LONG = {
    "escapes": ("/".join(["%" * 9] * 800), ""),
    "segments": ("/".join(f"{number:08d}" for number in range(800)), ""),
    "query": ("x", "&".join(["%61"] * 1500)),
}
MANY = "".join(
    f'[[models]]\nprovider_name = "up"\nmodel_id = "a-model-with-a-name-{number}"\n' for number in range(2000)
)


async def cost(folder: Path, path: str, query: str, models: str = MANY, status: int = 401) -> float:
    """Seconds of CPU that a handful of strangers' requests take, each of which is told of; of three handfuls the
    least."""
    target, spent = f"/v1beta/models/{path}:embedContent", []
    folder.mkdir()
    async with serving(provider("http://127.0.0.1:9") + models + ALICE, folder) as front:
        for _ in range(3):
            began = time.process_time()
            for _ in range(AT_ONCE // 4):
                assert (await front.ask(target, b"{}", key=None, query=query)).status == status
            spent.append(time.process_time() - began)
    return min(spent)


@pytest.mark.parametrize("kind", LONG)
async def test_a_long_path_of_a_stranger_holds_nobody_up(tmp_path: Path, kind: str) -> None:
    """It is searched for keys, by everything that the file names: not for each name, and no part of it twice."""
    path, query = LONG[kind]
    whole = await cost(tmp_path / "whole", path, query)
    assert whole < 3 * await cost(tmp_path / "few", path, query, models="")
    assert whole < 8 * await cost(tmp_path / "quarter", path[: len(path) // 4 + 1], query[: len(query) // 4])


async def test_a_path_that_is_too_long_is_not_looked_through(tmp_path: Path) -> None:
    longest = await cost(tmp_path / "longest", *LONG["segments"])
    assert await cost(tmp_path / "longer", "%" * 60_000, "", status=431) < longest / 2
