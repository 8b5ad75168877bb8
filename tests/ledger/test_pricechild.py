"""A child that is asked line by line, and is there no longer than it should be."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gproxy.ledger import pricechild
from gproxy.ledger.pricebook import COMMAND
from gproxy.ledger.pricechild import PriceChild

ECHO = """
import json, os, sys
for line in sys.stdin:
    word = json.loads(line)
    if word == "die": raise SystemExit("no more")
    if word == "hang": sys.stdin.readlines()
    print(json.dumps([os.getpid(), word]), flush=True)
"""
"""A child that answers each question with its process id and the question."""

COMMAND_LINE = (sys.executable, "-Sc", ECHO)


@pytest.fixture
async def kept() -> AsyncIterator[PriceChild]:
    child = PriceChild(COMMAND_LINE, keep_s=60)
    yield child
    await child.close()


def gone(pid: int) -> bool:
    """Whether there is no such process, not even one that waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while not gone(pid):
            await asyncio.sleep(0.01)


async def test_questions_of_a_while_go_to_one_child(kept: PriceChild) -> None:
    (first,) = await kept.ask(["a"])
    more = await kept.ask(["b", "c"])
    assert [word for _, word in more] == ["b", "c"]
    assert {pid for pid, _ in (first, *more)} == {first[0]}
    await kept.close()
    assert gone(first[0])


async def test_without_a_time_to_stay_a_child_ends_with_its_answer() -> None:
    child = PriceChild(COMMAND_LINE)
    ((first, _),) = await child.ask(["a"])
    ((second, _),) = await child.ask(["a"])
    assert first != second
    assert gone(first)
    assert gone(second)


async def test_a_child_is_given_up_when_its_time_is_over_and_another_answers() -> None:
    child = PriceChild(COMMAND_LINE, keep_s=0.2)
    ((first, _),) = await child.ask(["a"])
    await until_gone(first)
    ((second, _),) = await child.ask(["a"])
    assert second != first
    await child.close()


async def test_one_that_dies_or_hangs_over_a_question_fails_it_and_is_replaced(
    kept: PriceChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((first, _),) = await kept.ask(["a"])
    with pytest.raises(ValueError, match="exit 1: no more"):
        await kept.ask(["b", "die", "c"])
    assert gone(first)
    ((second, word),) = await kept.ask(["d"])
    assert word == "d"
    monkeypatch.setattr(pricechild, "ANSWER_TIMEOUT_S", 0.3)
    with pytest.raises(TimeoutError):
        await kept.ask(["hang"])
    assert gone(second)
    monkeypatch.undo()
    assert (await kept.ask(["e"]))[0][1] == "e"


async def test_one_that_was_killed_between_questions_is_replaced(kept: PriceChild) -> None:
    ((pid, _),) = await kept.ask(["a"])
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
    assert (await kept.ask(["b"]))[0][1] == "b"


async def test_who_leaves_in_the_middle_leaves_no_answer_for_the_next(kept: PriceChild) -> None:
    await kept.ask(["a"])
    asking = asyncio.get_running_loop().create_task(kept.ask(["hang"]))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await kept.ask(["b"]))[0][1] == "b"


async def test_many_questions_at_once_do_not_fill_the_pipes(kept: PriceChild) -> None:
    words = [f"{number:0250}" for number in range(4000)]
    assert [word for _, word in await kept.ask(words)] == words


def test_a_child_ends_with_the_process_that_started_it_however_that_ends() -> None:
    program = (
        "import asyncio, sys\nfrom gproxy.ledger.pricechild import PriceChild\n"
        "async def main():\n"
        f"    child = PriceChild({COMMAND_LINE!r}, 60)\n"
        "    print((await child.ask(['a']))[0][0], flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


async def test_the_program_that_knows_prices_answers_line_by_line() -> None:
    child = PriceChild(COMMAND, keep_s=60)
    try:
        for model in ("gpt-4.1-mini", "no-such-model", "gpt-4.1"):
            (answer,) = await child.ask([("openai", model)])
            assert (answer is None) == (model == "no-such-model")
    finally:
        await child.close()


async def test_a_child_is_given_no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "MINE", "GPROXY_PROXY"):
        monkeypatch.setenv(name, "sk-canary-4711")
    child = PriceChild(
        (sys.executable, "-c", "import json, os; input(); print(json.dumps([*os.environ.items()]))")
    )
    (given,) = await child.ask(["x"])
    assert "PATH" in dict(given)
    assert "sk-canary-4711" not in dict(given).values()
