"""What a plan counts ahead of its windows is in them when it gives it, whoever does so and whoever was killed."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.ledger import ahead, windows
from gproxy.ledger.ahead import (
    FREE,
    LEADER,
    LEFT,
    NOW,
    OPEN,
    OPENED,
    PLACE,
    REQUESTS,
    TOKENS,
    TURN,
    USED,
    begin,
    correct_before,
    give,
    mend,
    place,
    second_of,
)
from gproxy.ledger.memory import Shared
from gproxy.ledger.windows import RING, Window
from tests.ledger.memories import Killed, Mortal, as_seen_by

SECOND = 1_795_608_000
DAY = SECOND // 86_400
KINDS = {"rpm": REQUESTS, "tpd": TOKENS, "concurrency": OPENED}


class Ahead:
    """A plan of two processes, ahead of a window of each sort, in which something counts already."""

    def __init__(self, requests: int, tokens: int, opened: tuple[int, int]) -> None:
        self.shared = Shared(2)
        self.memory, self.other = as_seen_by(self.shared, 0), as_seen_by(self.shared, 1)
        self.windows = {kind: Window("rule", kind, self.memory, lambda query, values: []) for kind in KINDS}
        self.at = place(self.memory, "of them", len(KINDS))
        cells = self.memory.cells
        for kind, slot, n in (("rpm", SECOND, requests), ("tpd", DAY, tokens)):
            self.windows[kind].look(slot)
            self.windows[kind].begin(slot, n)
        of_open = self.windows["concurrency"].at
        for worker, n in enumerate(opened):
            cells[of_open + RING + worker] = n
            cells[of_open + USED] += n
        cells[self.at + LEFT], cells[self.at + FREE] = 100, 1000
        self.begin()

    def begin(self) -> None:
        led = []
        for kind, by in KINDS.items():
            at = self.windows[kind].at
            where = at + RING if by == OPENED else self.memory.cells[at + PLACE]
            led.append((at, by, {"rpm": SECOND, "tpd": DAY, "concurrency": 0}[kind], where))
        begin(self.memory, self.at, SECOND, led)

    def count(self, requests: int, tokens: int, opened: tuple[int, int]) -> None:
        cells = self.memory.cells
        cells[self.at + LEFT] -= requests
        cells[self.at + FREE] -= tokens
        for worker, n in enumerate(opened):
            cells[self.at + OPEN + worker] += n

    def counted(self) -> list[tuple[int, int]]:
        """What counts in each window: as it is kept, and in all."""
        found = []
        for kind, it in self.windows.items():
            cells = self.memory.cells
            if kind == "concurrency":
                found.append((sum(cells[it.at + RING : it.at + RING + 2]), cells[it.at + USED]))
                continue
            slot = SECOND if kind == "rpm" else DAY
            if cells[it.at + NOW] != slot:
                it.look(slot)
            found.append((sum(n for _, n in it.within(slot, slot)), cells[it.at + USED]))
        return found


@pytest.fixture
def plan() -> Iterator[Ahead]:
    it = Ahead(3, 30, (2, 1))
    yield it
    it.shared.close()


def test_windows_that_are_led_stand_nowhere_and_then_where_they_stood(plan: Ahead) -> None:
    cells = plan.memory.cells
    assert {(cells[it.at + NOW], cells[it.at + LEADER]) for it in plan.windows.values()} == {(-1, plan.at)}
    give(plan.other, plan.at)
    assert [cells[it.at + NOW] for it in plan.windows.values()] == [SECOND, DAY, 0]
    assert {cells[it.at + LEADER] for it in plan.windows.values()} == {0}
    assert plan.counted() == [(3, 3), (30, 30), (3, 3)]


def test_what_all_processes_have_counted_is_given_by_any_of_them(plan: Ahead) -> None:
    plan.count(5, 70, (4, -1))
    give(plan.other, plan.at)
    assert plan.counted() == [(8, 8), (100, 100), (6, 6)]
    own = plan.windows["concurrency"].at + RING
    assert [*plan.memory.cells[own : own + 2]] == [6, 0]


def test_each_time_is_told_from_the_one_before_in_the_same_second(plan: Ahead) -> None:
    turns = set()
    for _ in range(3):
        turns.add(plan.memory.cells[plan.at + TURN])
        give(plan.memory, plan.at)
        assert plan.memory.cells[plan.at + TURN] == 0
        plan.begin()
    assert {second_of(it) for it in turns} == {SECOND}
    assert len(turns) == 3


def test_what_was_counted_before_in_the_day_stays_there(plan: Ahead) -> None:
    """A correction that a window of days got itself, in the slot in which it stands."""
    day = plan.windows["tpd"]
    for at in (plan.memory.cells[day.at + PLACE], day.at + USED):
        plan.memory.cells[at] -= 20
    correct_before(plan.memory, plan.at, [1], -20)
    plan.count(0, 7, (0, 0))
    give(plan.memory, plan.at)
    assert plan.counted() == [(3, 3), (17, 17), (3, 3)]


def test_the_same_name_is_the_same_plan_in_every_process(plan: Ahead) -> None:
    assert place(plan.other, "of them", len(KINDS)) == plan.at
    assert place(plan.other, "of others", len(KINDS)) != plan.at


@given(st.integers(0, 40), st.integers(0, 9), st.integers(0, 90), st.integers(-2, 5), st.integers(-1, 5))
def test_a_kill_while_it_gives_leaves_all_of_it_counted_once(
    writes: int, requests: int, tokens: int, mine: int, theirs: int
) -> None:
    plan = Ahead(3, 30, (2, 1))
    plan.count(requests, tokens, (mine, theirs))
    plan.other.cells = Mortal(plan.other.cells, writes)  # type: ignore[assignment]  # as good as a view of memory
    with suppress(Killed):
        give(plan.other, plan.at)
    mended(plan)
    opened = 3 + mine + theirs
    assert plan.counted() == [(3 + requests,) * 2, (30 + tokens,) * 2, (opened, opened)]
    plan.shared.close()


@given(st.integers(0, 40))
def test_a_kill_while_it_begins_leaves_the_windows_as_they_were(writes: int) -> None:
    plan = Ahead(3, 30, (2, 1))
    give(plan.memory, plan.at)
    whole = plan.memory.cells
    plan.memory.cells = Mortal(whole, writes)  # type: ignore[assignment]  # as good as a view of memory
    with suppress(Killed):
        plan.begin()
    plan.memory.cells = whole
    mended(plan)
    assert plan.counted() == [(3, 3), (30, 30), (3, 3)]
    plan.shared.close()


@pytest.mark.parametrize("days", [[], [1]])
@pytest.mark.parametrize("by", [-20, 20])
@pytest.mark.parametrize("writes", range(6))
def test_a_kill_while_what_was_counted_before_is_corrected_takes_nothing_twice(
    plan: Ahead, writes: int, by: int, days: list[int]
) -> None:
    """In the slot of an earlier second, which of a day may be this one."""
    plan.count(0, 30, (0, 0))
    day = plan.windows["tpd"]
    for at in (plan.memory.cells[day.at + PLACE], day.at + USED) if days else ():
        plan.memory.cells[at] += by
    plan.other.cells = Mortal(plan.other.cells, writes)  # type: ignore[assignment]  # as good as a view of memory
    with suppress(Killed):
        correct_before(plan.other, plan.at, days, by)
    mended(plan)
    assert plan.counted()[1][0] >= (60 + min(by, 0) if days else 60)


def mended(plan: Ahead) -> None:
    """As the next does who has its turn."""
    for what in (mend, windows.mend):
        for name, at in plan.memory.places():
            what(plan.memory, name, at)
    assert plan.memory.cells[plan.at + TURN] == plan.memory.cells[plan.windows["concurrency"].at + NOW] == 0
    assert {plan.memory.cells[it.at + LEADER] for it in plan.windows.values()} == {0}


def test_only_what_has_the_name_of_a_plan_is_mended_as_one(plan: Ahead) -> None:
    before = [*plan.memory.cells[plan.at : plan.at + 20]]
    mend(plan.memory, "window rpm rule", plan.at)
    assert [*plan.memory.cells[plan.at : plan.at + 20]] == before
    assert ahead.second_of(before[TURN]) == SECOND
