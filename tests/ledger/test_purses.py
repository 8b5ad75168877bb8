"""What is spent and held is kept apart by scope and period, and by who holds it."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger.bulk import MOST_SPENT_NANO
from gproxy.ledger.cells import Memory, Own
from gproxy.ledger.memory import Shared
from gproxy.ledger.periods import DAY_S, periods
from gproxy.ledger.purses import Purses, forget, mend, strike
from gproxy.ledger.weighing import Spent, refusal
from gproxy.values import Budget
from tests.ledger.claims import claim
from tests.ledger.memories import as_seen_by

TODAY = 20_782
"""2026-11-25, in days after 1970-01-01."""


class Told:
    """A store that has heard of every cost."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, str], int] = {}
        self.asked = 0

    def charge(self, scopes: tuple[str, ...], day: int, nano: int) -> None:
        for scope in scopes:
            for period in periods(day).values():
                self.spent[scope, period] = self.spent.get((scope, period), 0) + nano

    def ask(self, query: str, values: tuple[str, ...]) -> list[Any]:
        self.asked += 1
        scope, period = values
        return [(self.spent[scope, period],)] if (scope, period) in self.spent else []


@pytest.mark.parametrize("workers", [1, 2])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("charge"), st.integers(-40, 40) | st.just(3), st.integers(1, 9), st.booleans()),
            st.tuples(st.just("hold"), st.integers(-9, 9), st.integers(0, 2), st.integers(0, 9)),
            st.tuples(st.just("release")),
            st.tuples(st.just("forget")),
            st.tuples(st.just("see")),
        ),
        max_size=40,
    )
)
@example(moves=[("charge", 3, 5, True), ("forget",), ("charge", 3, 5, True)] * 2)
@example(moves=[("charge", 0, 9, False)] * 3)
def test_each_period_has_what_was_spent_and_is_held_in_it(workers: int, moves: list[tuple[Any, ...]]) -> None:
    """Whichever days are asked for in turn, though there are purses for some only."""
    store = Told()
    shared = Shared(2)
    memories: list[Memory] = [Own()] if workers == 1 else [as_seen_by(shared, worker) for worker in (0, 1)]
    all_purses = [Purses(memory, store.ask) for memory in memories]
    held: dict[tuple[str, str], int] = {}
    holding: list[tuple[Purses, Any, tuple[str, str], int]] = []
    for number, (what, *values) in enumerate(moves):
        purses = all_purses[number % workers]
        if what == "charge":
            days, nano, both = values
            scopes = ("a", "b") if both else ("a",)
            purses.charge(scopes, TODAY + days, nano)
            store.charge(scopes, TODAY + days, nano)
        elif what == "hold" and len(holding) < 4:
            days, period, nano = values
            pair = ("a", list(periods(TODAY + days).values())[period])
            purse = (*purses.purse(*pair), 0)
            purses.hold([purse], nano)
            holding.append((purses, purse, pair, nano))
            held[pair] = held.get(pair, 0) + nano
        elif what == "release" and holding:
            purses, purse, pair, nano = holding.pop(0)
            purses.release([purse], nano)
            held[pair] -= nano
        elif what == "forget":
            all_purses[-1].pay()
            for name, at in memories[-1].places():
                forget(memories[-1], name, at)
        for day in (TODAY, TODAY - 8, TODAY + 1)[: 3 if what == "see" else 1]:  # those move others
            for purses in all_purses:
                for cost in (0, 1, 5, 9):
                    assert_it_draws_what_the_rule_leaves(purses, day, cost, store.spent, held)
            for period in periods(day).values() if what == "see" else ():
                expected = Spent(store.spent.get(("a", period), 0), held.get(("a", period), 0))
                assert all_purses[-1].spent("a", period) == expected
    for pair, spent in store.spent.items():
        assert all_purses[0].spent(*pair).spent_nano == spent
    shared.close()


BUDGETS = (Budget("a", "month", 25), Budget("a", "day", 15, carried_nano=2), Budget("b", "total", 40))


def assert_it_draws_what_the_rule_leaves(
    purses: Purses, day: int, cost: int, spent: dict[tuple[str, str], int], held: dict[tuple[str, str], int]
) -> None:
    """But for what fits because nothing is held."""
    pairs = [(it.scope, periods(day)[it.period]) for it in BUDGETS]
    takes = [spent.get(pair, 0) + held.get(pair, 0) + cost for pair in pairs]
    plain = all(n + it.carried_nano <= it.most_nano for n, it in zip(takes, BUDGETS, strict=True))
    drawn = purses.draw(BUDGETS, day, cost)
    assert (drawn is not None) == plain
    if drawn is not None:
        assert [at for at, *_ in drawn] == [purses.purse(*pair)[0] for pair in pairs]
        purses.release(drawn, cost)
        its = claim("its", *BUDGETS, at=day * DAY_S + 7.0, cost=cost)
        assert refusal(Held(spent, held), [], its) is None  # type: ignore[arg-type]  # no bound is asked for


class Held:
    """Where spend stands, of which so much is held."""

    def __init__(self, spent: dict[tuple[str, str], int], held: dict[tuple[str, str], int]) -> None:
        self._spent, self._held = spent, held

    def spent(self, scope: str, key: str) -> Spent:
        return Spent(self._spent.get((scope, key), 0), self._held.get((scope, key), 0))


@pytest.fixture(params=[1, 2])
def of_two(request: pytest.FixtureRequest) -> Iterator[list[Memory]]:
    """The memory of this worker and that of another, or twice that of one that is alone."""
    shared = Shared(2)
    yield [Own()] * 2 if request.param == 1 else [as_seen_by(shared, worker) for worker in (0, 1)]
    shared.close()


DAILY = (Budget("a", "day", 15),)


def test_a_purse_that_was_given_away_is_not_weighed_for_the_day_that_had_it(of_two: list[Memory]) -> None:
    purses, others = (Purses(memory, lambda query, values: []) for memory in of_two)
    assert purses.draw(DAILY, TODAY, 1)
    for days in range(1, 9):
        others.charge(("a",), TODAY + days, 20)
    others.pay()
    assert purses.draw(DAILY, TODAY, 1)


def test_there_is_no_room_when_what_is_read_anew_leaves_none(of_two: list[Memory]) -> None:
    store = Told()
    purses = Purses(of_two[0], store.ask)
    assert purses.draw(DAILY, TODAY, 1)
    store.charge(("a",), TODAY, 20)
    for name, at in of_two[1].places():
        forget(of_two[1], name, at)
    assert purses.draw(DAILY, TODAY, 1) is None


def test_the_store_is_asked_once_for_each_period() -> None:
    store, purses = Told(), Purses(Own(), lambda query, values: store.ask(query, values))
    for times in (1, 2, 3):
        purses.charge(("a", "b"), TODAY, 5)
        assert purses.spent("a", "total").spent_nano == 5 * times
    assert store.asked == 6


def test_a_month_and_a_year_are_told_from_those_before() -> None:
    purses = Purses(Own(), lambda query, values: [])
    for months in range(30):
        day = (date(2025, 1, 15) + timedelta(days=30 * months)).toordinal() - date(1970, 1, 1).toordinal()
        key = periods(day)["month"]
        assert purses.spent("a", key) == Spent(0, 0)
        purses.charge(("a",), day, 1)
        assert purses.spent("a", key) == Spent(1, 0)


def test_what_the_store_cannot_be_asked_for_is_asked_for_when_it_matters() -> None:
    answers: list[Any] = [StoreError("locked")] * 4 + [[(5,)]]

    def ask(query: str, values: tuple[str, ...]) -> list[Any]:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return list(answer)

    purses = Purses(Own(), ask)
    purses.charge(("a",), TODAY, 5)
    with pytest.raises(StoreError):
        purses.spent("a", "total")
    assert purses.spent("a", "total") == Spent(5, 0)


def test_it_is_never_more_than_an_integer_of_sqlite() -> None:
    memory = Shared(1)
    purses = Purses(memory, lambda query, values: [(2**63 - 1,)])
    purses.charge(("a",), TODAY, 10**15)
    assert purses.spent("a", "total") == Spent(MOST_SPENT_NANO, 0)
    memory.close()


def test_what_was_held_in_a_period_that_is_gone_is_not_taken_from_the_one_in_its_place() -> None:
    purses = Purses(Own(), lambda query, values: [])
    keys = [periods(TODAY + day)["day"] for day in range(9)]
    held = [(*purses.purse("user/a", key), 0) for key in keys[:8]]
    purses.hold(held, 5)
    ninth = (*purses.purse("user/a", keys[8]), 0)
    purses.hold([ninth], 7)
    (gone,) = [it for it in held if it[0] == ninth[0]]
    purses.release([gone], 5)
    assert purses.spent("user/a", keys[8]) == Spent(0, 7)


def test_what_one_that_dies_held_is_released_and_what_others_hold_stays() -> None:
    shared = Shared(2)
    workers = [as_seen_by(shared, worker) for worker in (0, 1)]
    for memory, nano in zip(workers, (5, 7), strict=True):
        purses = Purses(memory, lambda query, values: [])
        purses.hold([(*purses.purse("a", key), 0) for key in periods(TODAY).values()], nano)
    name = "scope a"
    at = dict(shared.places())[name]
    for purse in (at, at + 5, at + 8 * 5):
        shared.cells[purse + 2] = 99  # as if one was killed before it could add to the sum
    mend(shared, name, at)
    assert purses.spent("a", "total") == Spent(0, 12)
    strike(workers[0], name, at)
    assert [purses.spent("a", key) for key in periods(TODAY).values()] == [Spent(0, 7)] * 3
    shared.close()
