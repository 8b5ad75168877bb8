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
    "/".join(["%" * 9] * 800): "",
    "/".join(f"{number:08d}" for number in range(800)): "",
    "x": "&".join(["%61"] * 1500),
    "%" * 60_000: "",
}


@pytest.mark.parametrize(("path", "query"), LONG.items(), ids=["escapes", "segments", "query", "too-long"])
async def test_a_long_path_of_a_stranger_holds_nobody_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, query: str
) -> None:
    """Each of a flood was told of after its path had been searched for keys, by everything that the file names."""
    many = "".join(
        f'[[models]]\nprovider_name = "up"\nmodel_id = "a-model-with-a-name-{number}"\n'
        for number in range(2000)
    )
    async with serving(provider("http://127.0.0.1:9") + many + ALICE, tmp_path) as front:
        began = time.process_time()
        for _ in range(AT_ONCE // 4):
            answer = await front.ask(f"/v1beta/models/{path}:embedContent", b"{}", key=None, query=query)
            assert answer.status in (401, 431)
        assert (time.process_time() - began) / (AT_ONCE // 4) < 0.02
    LINES.close()
    capsys.readouterr()
