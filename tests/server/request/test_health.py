"""What processes know of credentials: each by itself, through the store, and over restarts and reloads."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gproxy.config.snapshot import Credential, Snapshot
from gproxy.ledger import credential_state
from gproxy.ledger.sqlite import connect
from gproxy.ledger.writer import Writer
from gproxy.routing.credentials import MOST_SECONDS, PROBE_SECONDS, Cause, Failure, State
from gproxy.routing.failover import Candidate
from gproxy.server.request import health
from gproxy.server.request.health import HealthBook, Turn, identities
from gproxy.values import Health, Target
from tests.server.parts import snapshot

LIMITED = Failure(Cause.RATE_LIMITED, "status 429", 429, 30.0)
REFUSED = Failure(Cause.BAD_KEY, "status 401", 401)
TROUBLE = Failure(Cause.TROUBLE, "status 500", 500)
UNPAID = Failure(Cause.BILLING, "status 402", 402)


FILE = """
[[providers]]
name = "p"
channel = "custom"
settings.base_url = "http://x"
credentials = [{}]
[[providers]]
name = "free"
channel = "custom"
settings.base_url = "http://y"
"""


def configured(*secrets: str) -> Snapshot:
    return snapshot(FILE.format(", ".join(f'{{ api_key = "{secret}" }}' for secret in secrets)))


TWO = configured("sk-one", "sk-two")


def candidate(n: int = 1, model: str = "m", secret: str = "") -> Candidate:
    return Target("p", model), Credential(name=f"p#{n}", secret=secret or ("", "sk-one", "sk-two")[n])


@dataclass
class Process:
    """One worker's knowledge."""

    book: HealthBook
    writer: Writer

    async def settle(self) -> None:
        """Until all is written."""
        await self.writer.run(lambda _: None)

    def state(self, n: int = 1, model: str = "m", at: float | None = None) -> State:
        return self.book.condition(candidate(n, model), at or time.time()).state

    def fail(self, failure: Failure, n: int = 1, model: str = "m") -> float | None:
        return self.book.failed(Turn(candidate(n, model), time.time()), failure)


@asynccontextmanager
async def process(folder: Path, here: Snapshot = TWO) -> AsyncIterator[Process]:
    writer = Writer(folder / "gproxy.db")
    writer.start()
    book = HealthBook(writer)
    book.adopt(here)
    await book.refresh()
    try:
        yield Process(book, writer)
    finally:
        book.close()
        writer.close()


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Process]:
    async with process(tmp_path) as it:
        yield it


def past_due(path: Path) -> None:
    """Let every cool-down in the store have just ended."""
    with closing(connect(path)) as db:
        for row in credential_state.since(db, 0):

            def ended(found: Health) -> Health:
                return Health(
                    state=found.state, held=found.held, until=time.time() - 1, at=1, error=found.error
                )

            credential_state.change(db, key=row.key, identity=_identity(row.key[1]), step=ended)


def _identity(name: str) -> str:
    return identities(TWO)["p", name]


# One process.


async def test_what_nothing_is_known_of_is_asked_first_and_nothing_is_written(one: Process) -> None:
    turn = await one.book.turn([candidate(1), candidate(2)])
    assert turn is not None
    assert (turn.candidate, turn.claim) == (candidate(1), None)
    one.book.answered(turn)
    await one.settle()
    assert credential_state.read(one.writer.path) == []


async def test_a_rate_limit_is_of_one_model_and_a_bill_of_the_whole_credential(one: Process) -> None:
    assert one.fail(LIMITED) == pytest.approx(30, abs=1)
    assert (one.state(), one.state(model="other"), one.state(n=2)) == (State.OUT, State.READY, State.READY)
    assert one.fail(UNPAID, n=2) == pytest.approx(600, abs=1)
    assert one.state(n=2, model="other") is State.OUT


async def test_what_is_out_is_passed_over_and_what_is_back_comes_last(one: Process) -> None:
    one.fail(TROUBLE)
    turn = await one.book.turn([candidate(1), candidate(2)])
    assert turn is not None
    assert turn.candidate == candidate(2)
    turn = await one.book.turn([candidate(1)])
    assert turn is not None
    assert turn.candidate == candidate(1)
    one.fail(REFUSED)
    assert await one.book.turn([candidate(1)]) is None
    assert await one.book.turn([]) is None


async def test_what_somebody_has_to_do_something_about_is_said_once(
    one: Process, caplog: pytest.LogCaptureFixture
) -> None:
    for failure, n in ((REFUSED, 1), (REFUSED, 1), (UNPAID, 2), (UNPAID, 2), (LIMITED, 2), (TROUBLE, 2)):
        one.fail(failure, n)
    told = [record.getMessage() for record in caplog.records]
    assert [message.partition(";")[0] for message in told] == ["p (p#1): status 401", "p (p#2): status 402"]
    assert "sk-" not in "".join(told)


async def test_a_good_answer_ends_a_cool_down_of_the_model_and_of_the_whole(one: Process) -> None:
    one.fail(TROUBLE)
    one.fail(Failure(Cause.NO_CONNECTION, "no connection"))
    one.book.answered(Turn(candidate(), time.time()))
    assert one.state() is State.READY
    await one.settle()
    assert {row.health.state for row in credential_state.read(one.writer.path)} == {"ready"}
    assert {row.health.error for row in credential_state.read(one.writer.path)} == {
        "status 500",
        "no connection",
    }


async def test_names_that_clients_make_up_are_bounded(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MOST_ENTRIES", 3)
    one.fail(REFUSED)
    for n in range(9):
        one.fail(TROUBLE, n=2, model=f"m{n}")
    known = [one.state(n=2, model=f"m{n}") for n in range(9)]
    assert known.count(State.BACK) == 2
    assert known[-1] is State.BACK
    assert one.state() is State.REFUSED
    one.fail(TROUBLE, n=2, model="x" * 10**6)
    await one.settle()
    assert max(len(row.key[2]) for row in credential_state.read(one.writer.path)) == health.MOST_NAME_CHARS


async def test_a_store_that_takes_nothing_does_not_stop_a_process_from_learning(tmp_path: Path) -> None:
    async with process(tmp_path) as it:
        await it.settle()
        it.writer.close()
        it.fail(LIMITED)
        assert it.state() is State.OUT
        it.book._entries.update({key: _ended(found) for key, found in it.book._entries.items()})
        turn = await it.book.turn([candidate()])
        assert turn is not None
        assert turn.claim is not None


def _ended(found: Health) -> Health:
    return Health(state=found.state, held=found.held, until=time.time() - 1)


async def test_a_store_that_cannot_be_read_means_no_news(one: Process, tmp_path: Path) -> None:
    one.fail(LIMITED)
    await one.settle()
    away = one.writer.path.rename(tmp_path / "away")
    one.book.adopt(TWO)
    await one.book.refresh()
    assert one.state() is State.OUT
    away.rename(one.writer.path)
    await one.book.refresh()
    assert one.state() is State.OUT


# Several, one after the other.


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with process(tmp_path) as before:
        before.fail(LIMITED)
        before.fail(REFUSED, n=2)
    async with process(tmp_path) as after:
        assert (after.state(), after.state(n=2)) == (State.OUT, State.REFUSED)
        assert await after.book.turn([candidate(1), candidate(2)]) is None


async def test_another_secret_is_another_credential_over_a_restart(tmp_path: Path) -> None:
    async with process(tmp_path) as before:
        before.fail(REFUSED)
        before.fail(REFUSED, n=2)
    async with process(tmp_path, configured("sk-new", "sk-two")) as after:
        assert after.book.condition(candidate(1, secret="sk-new"), time.time()).state is State.READY
        assert after.state(n=2) is State.REFUSED
        await after.settle()
        assert {row.key[1] for row in credential_state.read(after.writer.path)} == {"p#2"}


async def test_another_secret_is_another_credential_after_a_reload(one: Process) -> None:
    one.fail(REFUSED)
    one.fail(LIMITED, n=2)
    await one.settle()
    one.book.adopt(configured("sk-new", "sk-two"))
    await one.book.refresh()
    assert (one.state(), one.state(n=2)) == (State.READY, State.OUT)
    # What was asked with the old one answers late.
    one.fail(REFUSED)
    await one.settle()
    assert one.state() is State.READY
    one.book.adopt(TWO)
    assert one.state() is State.READY


async def test_a_key_that_is_sent_elsewhere_may_be_accepted_there(one: Process) -> None:
    one.fail(REFUSED)
    await one.settle()
    one.book.adopt(snapshot(FILE.format('{ api_key = "sk-one" }').replace("http://x", "http://z")))
    await one.book.refresh()
    assert one.state() is State.READY


async def test_what_was_asked_elsewhere_and_answers_late_says_nothing_of_it(one: Process) -> None:
    turn = await one.book.turn([candidate()])
    assert turn is not None
    one.book.adopt(snapshot(FILE.format('{ api_key = "sk-one" }').replace("http://x", "http://z")))
    one.book.failed(turn, REFUSED)
    await one.settle()
    assert one.state() is State.READY
    assert "sk-" not in repr(turn)


async def test_a_secret_that_could_not_be_read_for_a_while_is_the_same_afterwards(one: Process) -> None:
    one.fail(REFUSED)
    await one.settle()
    one.book.adopt(snapshot(FILE.format('{ env = "NOT_SET" }, { api_key = "sk-two" }')))
    await one.book.refresh()
    one.book.adopt(TWO)
    await one.book.refresh()
    assert one.state() is State.REFUSED


async def test_a_name_that_was_given_up_and_is_given_to_another_key_says_nothing_of_it(one: Process) -> None:
    one.fail(REFUSED, n=2)
    await one.settle()
    for here in (configured("sk-one"), configured("sk-one", "sk-new")):
        one.book.adopt(here)
        await one.book.refresh()
    assert one.state(n=2) is State.READY


async def test_what_needs_no_key_is_known_by_a_name_of_its_own(one: Process) -> None:
    free: Candidate = Target("free", "m"), Credential(name="no key")
    one.book.failed(Turn(free, time.time()), LIMITED)
    await one.settle()
    one.book.adopt(TWO)
    await one.book.refresh()
    assert one.book.condition(free, time.time()).state is State.OUT


# Several at once.


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Process, Process]]:
    async with process(folder) as first, process(folder) as second:
        yield first, second


async def test_what_one_learns_the_other_knows(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        first.fail(LIMITED)
        await first.settle()
        assert second.state() is State.READY
        await second.book.refresh()
        assert second.state() is State.OUT
        first.book.answered(Turn(candidate(), time.time()))
        await first.settle()
        await second.book.refresh()
        assert second.state() is State.READY


async def test_a_follower_keeps_up_by_itself(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        following = asyncio.create_task(second.book.follow())
        first.fail(LIMITED)
        async with asyncio.timeout(health.POLL_SECONDS * 4):
            while second.state() is not State.OUT:
                await asyncio.sleep(0.01)
        following.cancel()


async def test_failures_in_a_row_are_counted_over_both(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        first.fail(TROUBLE)
        await first.settle()
        second.fail(TROUBLE)
        await second.settle()
        (row,) = credential_state.read(first.writer.path)
        assert row.health.failures == 2
        assert second.book._entries[row.key] == row.health, "what came of it is taken over"


async def test_a_reset_by_a_command_is_in_force_in_a_running_process(one: Process) -> None:
    one.fail(REFUSED)
    await one.settle()
    with closing(connect(one.writer.path)) as db:
        credential_state.reset(db)
    await one.book.refresh()
    assert one.state() is State.READY


async def test_news_does_not_undo_what_is_just_being_written(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        first.fail(TROUBLE)
        await first.settle()
        go = threading.Event()
        await asyncio.to_thread(second.writer.put, lambda _: go.wait(10))  # else this loop would do it
        second.fail(LIMITED)
        await second.book.refresh()
        assert second.state() is State.OUT
        go.set()
        await second.settle()
        assert second.state() is State.OUT
        (row,) = credential_state.read(first.writer.path)
        assert (row.health.held, row.health.failures) == ("out", 2)


# The probe.


async def _ended_cool_down(*processes: Process) -> None:
    processes[0].fail(LIMITED)
    await processes[0].settle()
    past_due(processes[0].writer.path)
    for each in processes:
        await each.book.refresh()
        assert each.state() is State.PROBE


async def _turns(*processes: Process, each: int = 25) -> list[Turn]:
    found = await asyncio.gather(*(p.book.turn([candidate()]) for p in processes for _ in range(each)))
    return [turn for turn in found if turn is not None]


async def test_one_of_fifty_probes(tmp_path: Path) -> None:
    async with process(tmp_path) as one:
        await _ended_cool_down(one)
        (turn,) = await _turns(one, each=50)
        assert turn.claim is not None
        one.book.answered(turn)
        assert len(await _turns(one)) == 25


async def test_one_of_fifty_in_two_processes_probes(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        await _ended_cool_down(*both)
        (turn,) = await _turns(*both)
        both[0].book.answered(turn)
        await both[0].settle()
        for each in both:
            await each.book.refresh()
        assert len(await _turns(*both)) == 50


async def test_one_probes_what_was_back_while_others_take_what_else_there_is(one: Process) -> None:
    one.fail(TROUBLE)
    await one.settle()
    past_due(one.writer.path)
    await one.book.refresh()
    found = await asyncio.gather(*(one.book.turn([candidate(1), candidate(2)]) for _ in range(20)))
    asked = [turn.candidate for turn in found if turn is not None]
    assert (asked.count(candidate(1)), asked.count(candidate(2))) == (1, 19)
    # Where there is nothing else they do not wait for it.
    assert len(await _turns(one)) == 25


async def test_a_probe_that_fails_holds_off_again(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        await _ended_cool_down(*both)
        (turn,) = await _turns(*both)
        both[0].book.failed(turn, LIMITED)
        await both[0].settle()
        await both[1].book.refresh()
        assert [each.state() for each in both] == [State.OUT, State.OUT]


@pytest.mark.parametrize("failure", [None, UNPAID], ids=["no outcome", "an outcome of another kind"])
async def test_a_probe_without_its_outcome_is_left_to_the_next(one: Process, failure: Failure | None) -> None:
    await _ended_cool_down(one)
    (turn,) = await _turns(one)
    assert await _turns(one) == []
    if failure is None:
        one.book.untouched(turn)
    else:
        one.book.failed(turn, failure)
        one.book.answered(Turn((Target("p", "other"), candidate()[1]), time.time()))
    await one.settle()
    (turn,) = await _turns(one)
    assert turn.claim is not None


async def test_a_probe_that_was_cancelled_while_it_claimed_is_left_to_the_next(one: Process) -> None:
    await _ended_cool_down(one)
    claiming = asyncio.create_task(one.book.turn([candidate()]))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    await one.settle()
    (turn,) = await _turns(one)
    assert turn.claim is not None


async def test_a_probe_of_a_process_that_was_killed_holds_nobody_off_for_long(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        await _ended_cool_down(*both)
        await _turns(both[0])
        assert await _turns(both[1]) == []
        later = time.time() + PROBE_SECONDS + 0.1
        assert [each.state(at=later) for each in both] == [State.READY, State.READY]


async def test_nothing_is_held_off_for_longer_than_the_longest_wait(one: Process) -> None:
    one.fail(Failure(Cause.RATE_LIMITED, "status 429", 429, 10.0**9))
    assert one.state(at=time.time() + MOST_SECONDS + 1) is State.PROBE
