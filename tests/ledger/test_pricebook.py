import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gproxy.ledger import pricebook, pricechild
from gproxy.ledger.pricebook import PriceBook
from gproxy.ledger.pricing import Apart, Price, Rates, Tier

_COUNTING_CHILD = """
import sys
pairs = sys.stdin.read().splitlines()
with open({log!r}, "a") as log:
    log.write(f"{{len(pairs)}}\\n")
{then}
"""
_ANSWER = """
rates = '{"tiers": [[null,1,2,3,4,5,null]], "per_call": 6, "per_search": 7}'
flex = '{"tiers": [[9,1,2,3,4,5,[1,2,3,4,5,6,7]]], "per_call": 0, "per_search": 0}'
for pair in pairs:
    known = '{"source": "s", "rates": ' + rates + ', "classes": {"flex": ' + flex + '}, "until": %s}'
    print('null' if 'unknown' in pair else known)
"""


class Child:
    """A program in the place of the look-up: counts its runs in a file, and answers as told."""

    def __init__(self, folder: Path, then: str = _ANSWER % "null") -> None:
        self._log = folder / "runs"
        self._log.touch()
        self._then = folder / "child.py"
        self.answer(then)

    def answer(self, then: str) -> None:
        self._then.write_text(_COUNTING_CHILD.format(log=str(self._log), then=then))

    @property
    def command(self) -> Sequence[str]:
        return (sys.executable, str(self._then))

    @property
    def runs(self) -> list[int]:
        """How many questions each run was asked."""
        return [int(line) for line in self._log.read_text().split()]


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child(tmp_path)


def _hang(folder: Path) -> str:
    return f"""
import os, time
with open({str(folder / "pid")!r}, "w") as file:
    file.write(str(os.getpid()))
time.sleep(60)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_prices_come_from_genai_prices_which_is_not_imported_here() -> None:
    """Another module may have imported it into the test's process, so a process of its own is asked."""
    program = (
        "import asyncio, sys; from gproxy.ledger.pricebook import PriceBook;"
        "price = asyncio.run(PriceBook().get('anthropic', 'claude-haiku-4-5'));"
        "print(price.rates.tiers[0].input, 'genai_prices' in sys.modules)"
    )
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    out, _ = await run.communicate()
    assert out.split() == [b"1000000000", b"False"]


async def test_a_model_is_asked_for_once_and_then_known_without_waiting(child: Child) -> None:
    book = PriceBook(child.command)
    assert book.cached("main", "large") is None
    assert not book.known("main", "large")
    price = await book.get("main", "large")
    assert price is not None
    assert price == Price(
        "s",
        Rates((Tier(None, 1, 2, 3, 4, 5),), per_call=6, per_search=7),
        {"flex": Rates((Tier(9, 1, 2, 3, 4, 5, Apart(1, 2, 3, 4, 5, 6, 7)),))},
    )
    assert await book.get("main", "large") is price
    assert book.cached("main", "large") is price
    assert book.known("main", "large")
    assert child.runs == [1]


async def test_unknown_is_an_answer_too(child: Child) -> None:
    book = PriceBook(child.command)
    assert await book.get("main", "unknown") is None
    assert await book.get("main", "unknown") is None
    assert child.runs == [1]


async def test_look_ups_that_come_together_share_a_child(child: Child) -> None:
    book = PriceBook(child.command)
    prices = await asyncio.gather(*(book.get("main", f"m{number % 5}") for number in range(50)))
    assert None not in prices
    assert sum(child.runs) == 5
    assert len(child.runs) <= 2


async def test_warming_asks_for_what_is_missing_in_one_go(child: Child) -> None:
    book = PriceBook(child.command)
    await book.warm([("main", "a"), ("main", "b"), ("", "local"), ("main", "a")])
    await book.warm([("main", "b"), ("main", "c")])
    assert child.runs == [2, 1]
    assert book.cached("main", "c") is not None


async def test_a_provider_without_prices_and_an_endless_name_start_no_child(child: Child) -> None:
    book = PriceBook(child.command)
    assert await book.get("", "local") is None
    assert book.known("", "local")
    assert await book.get("main", "m" * 1000) is None
    assert child.runs == []


@pytest.mark.parametrize(
    "then",
    [
        "sys.exit(3)",
        "print('null\\n' * 9)",
        "print('{')",
        "print('{}')",
        "print('7')",
        "raise OSError('no disk')",
    ],
)
async def test_a_look_up_that_fails_is_unknown_said_once_and_tried_again_later(
    tmp_path: Path, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    child, clock = Child(tmp_path, then), Clock()
    book = PriceBook(child.command, clock)
    assert await book.get("main", "large") is None
    assert await book.get("main", "large") is None
    clock.now += pricebook.RETRY_S
    assert await book.get("main", "large") is None
    assert len(child.runs) == 2
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    child.answer(_ANSWER % "null")
    clock.now += pricebook.RETRY_S
    assert await book.get("main", "large") is not None


async def test_a_look_up_that_failed_keeps_a_request_under_a_quota_out_for_five_seconds(
    tmp_path: Path,
) -> None:
    child, clock = Child(tmp_path, "sys.exit(3)"), Clock()
    book = PriceBook(child.command, clock)
    assert await book.get("main", "large") is None
    child.answer(_ANSWER % "null")
    clock.now += 5
    assert await book.get("main", "large") is not None


async def test_a_program_that_cannot_be_run_is_a_look_up_that_failed(tmp_path: Path) -> None:
    assert await PriceBook((str(tmp_path / "absent"),)).get("main", "large") is None


async def test_a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricechild, "ANSWER_TIMEOUT_S", 0.5)
    child = Child(tmp_path, _hang(tmp_path))
    assert await PriceBook(child.command).get("main", "large") is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_who_leaves_ends_its_child_and_the_next_asks_again(tmp_path: Path) -> None:
    child = Child(tmp_path, _hang(tmp_path))
    book = PriceBook(child.command)
    first = asyncio.get_running_loop().create_task(book.get("main", "large"))
    second = asyncio.get_running_loop().create_task(book.get("main", "large"))
    async with asyncio.timeout(10):
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.01)
    child.answer(_ANSWER % "null")
    first.cancel()
    assert await second is not None
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_who_waited_for_the_one_who_leaves_still_gets_its_price(tmp_path: Path) -> None:
    """The second asks for the third's model too; the third must not take its going for an answer."""
    child = Child(tmp_path, _hang(tmp_path))
    book = PriceBook(child.command)
    tasks = [asyncio.get_running_loop().create_task(book.get("main", model)) for model in "abc"]
    for number, task in enumerate(tasks[:2], start=1):
        async with asyncio.timeout(10):
            while len(child.runs) < number:
                await asyncio.sleep(0.01)
        if number == 2:
            child.answer(_ANSWER % "null")
        task.cancel()
    assert await tasks[2] is not None
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert child.runs == [1, 2, 1]


async def test_a_price_is_asked_for_anew_when_it_may_have_changed(tmp_path: Path) -> None:
    clock = Clock()
    child = Child(tmp_path, _ANSWER % (clock.now + 100))
    book = PriceBook(child.command, clock)
    await book.get("main", "large")
    clock.now += 99
    await book.get("main", "large")
    assert child.runs == [1]
    clock.now += 1
    assert book.cached("main", "large") is None
    await book.get("main", "large")
    assert child.runs == [1, 1]


async def test_a_request_that_is_under_way_when_a_price_changes_keeps_the_price_it_began_with(
    tmp_path: Path,
) -> None:
    clock = Clock()
    child = Child(tmp_path, _ANSWER % (clock.now + 100))
    book = PriceBook(child.command, clock)
    began = clock.now + 99
    first = await book.get("main", "large")
    clock.now += 101
    child.answer("sys.exit(3)")
    assert await book.get("main", "large") is None
    assert await book.get("main", "large", began) is first
    child.answer((_ANSWER % "null").replace('"s"', '"t"'))
    clock.now += pricebook.RETRY_S
    second = await book.get("main", "large")
    assert second is not None
    assert second.source == "t"
    assert book.cached("main", "large", began) is first
    assert book.cached("main", "large", clock.now) is second
    assert book.cached("main", "large", clock.now + 1000) is second, "a clock that was set back"


async def test_a_request_that_began_before_a_look_up_failed_is_priced_once_it_succeeds(
    tmp_path: Path,
) -> None:
    child, clock = Child(tmp_path, "sys.exit(3)"), Clock()
    book = PriceBook(child.command, clock)
    began = clock.now
    assert await book.get("main", "large", began) is None
    child.answer(_ANSWER % "null")
    clock.now += pricebook.RETRY_S
    assert await book.get("main", "large", began) is not None


async def test_the_number_of_prices_kept_is_bounded(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricebook, "MOST_ENTRIES", 10)
    book = PriceBook(child.command)
    await book.warm([("main", f"m{number}") for number in range(30)])
    known = [number for number in range(30) if book.cached("main", f"m{number}")]
    assert known == list(range(20, 30))


async def test_the_child_imports_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "genai_prices.py").write_text("raise SystemExit(7)")
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert await PriceBook().get("openai", "gpt-4.1-mini") is not None
