"""The rules by themselves; over a store and over memory they are held by `test_spend.py` and `test_tally.py`."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.ledger.weighing import (
    Count,
    Spent,
    counted,
    counted_open,
    kept_of,
    need_of,
    refusal,
    slots_at,
    slots_of,
    standings,
    tightest,
)
from gproxy.values import Bound, Budget, Claim, Standing
from tests.ledger import claims

NOON = 1_795_608_000.25
SECOND, DAY = int(NOON), int(NOON) // 86_400

NOTHING = Spent()


class Books:
    """What is counted in the slots of every counter, and what every scope has spent and holds."""

    def __init__(self, slots: Iterable[tuple[int, int]] = (), spent: Spent = NOTHING) -> None:
        self._slots, self._spent = sorted(slots), spent

    def within(self, rule: str, kind: str, first: int, last: int) -> list[tuple[int, int]]:
        return [(slot, n) for slot, n in self._slots if first <= slot <= last]

    def spent(self, scope: str, key: str) -> Spent:
        return self._spent


def claim(*budgets: Budget, tokens: int = 0, cost: int = 0) -> Claim:
    return Claim(
        request_id="r", scopes=(), bounds=(), budgets=budgets, tokens=tokens, cost_nano=cost, at=NOON
    )


@pytest.mark.parametrize(
    ("kind", "slot", "counting", "kept"),
    [
        ("rpm", SECOND, (SECOND - 60, SECOND + 61), (SECOND - 60, SECOND + 61)),
        ("tpd", DAY, (DAY, DAY), (DAY - 2, DAY + 2)),
        ("concurrency", 0, (0, 0), (-2, 2)),
    ],
)
def test_each_kind_counts_in_slots_of_its_own(
    kind: str, slot: int, counting: tuple[int, int], kept: tuple[int, int]
) -> None:
    assert (slots_at(SECOND)[kind], slots_of(kind, slot), kept_of(kind, slot)) == (slot, counting, kept)


def test_tokens_are_needed_up_to_the_limit_and_of_all_else_one() -> None:
    assert [need_of(70, Bound("r", "tpm", most)) for most in (50, 90)] == [50, 70]
    assert need_of(70, Bound("r", "rpd", 5)) == need_of(70, Bound("r", "concurrency", 5)) == 1


def test_what_counts_while_it_is_open_is_a_part_of_what_is_counted() -> None:
    bounds = [Bound(rule, kind, 7) for rule in "ab" for kind in ("rpm", "rpd", "tpm", "tpd", "concurrency")]
    its = claims.claim("r", *bounds, at=NOON)
    assert counted_open(its) == [it for it in counted(its) if it[1] == "concurrency"]


def test_the_bound_that_is_full_for_longest_refuses_and_says_for_how_long() -> None:
    minute, day = Bound("r", "rpm", 3), Bound("r", "rpd", 3)
    books = Books([(SECOND - 50, 1), (SECOND - 20, 2)])
    full = Count(minute, 1, SECOND, 3, SECOND - 20)
    refused = refusal(books, [full], claim())
    assert refused is not None
    assert (refused.refused, refused.retry_after) == (minute, 10.75)
    refused = refusal(books, [full, Count(day, 1, DAY, 3, DAY)], claim())
    assert refused is not None
    assert (refused.refused, refused.retry_after) == (day, 12 * 3600 - 0.25)
    assert refusal(books, [Count(minute, 1, SECOND, 2, SECOND)], claim()) is None


@pytest.mark.parametrize(
    ("spent", "held", "cost", "fits"),
    [
        (40, 40, 20, True),
        (40, 40, 21, False),
        (99, 0, 500, True),
        (100, 0, 0, True),
        (100, 0, 1, False),
        (99, 1, 1, False),
    ],
)
def test_a_budget_takes_what_fits_beside_what_is_held_or_what_is_alone_and_not_too_late(
    spent: int, held: int, cost: int, fits: bool
) -> None:
    budget = Budget("user/a", "total", 110, 10)
    refused = refusal(Books(spent=Spent(spent, held)), [], claim(budget, cost=cost))
    assert (refused is None) == fits
    if refused is not None:
        assert (refused.refused, refused.fits_alone) == (budget, spent < 100)


def test_a_standing_counts_what_is_taken_and_tells_when_all_is_back() -> None:
    def told() -> list[tuple[int, float]]:
        return [(it.left, it.resets_in) for it in standings(counts, NOON)]

    minute = Count(Bound("r", "rpm", 5), 1, SECOND, 2, SECOND - 30)
    ahead = Count(Bound("r", "tpm", 5), 1, SECOND, 2, SECOND + 7)
    idle = Count(Bound("r", "tpd", 5), 0, DAY)
    full = Count(Bound("r", "tpd", 5), 9, DAY)
    counts = [minute, ahead, idle, full]
    assert told() == [(3, 30.75), (3, 67.75), (5, 0.0), (5, 0.0)]
    for count in counts:
        count.take()
    assert told() == [(2, 60.75), (2, 67.75), (5, 0.0), (0, 12 * 3600 - 0.25)]


STANDINGS = st.lists(
    st.builds(
        Standing,
        st.builds(
            Bound,
            st.just("r"),
            st.sampled_from(["rpm", "rpd", "tpm", "tpd", "concurrency"]),
            st.integers(1, 9),
        ),
        st.integers(0, 2),
        st.integers(0, 12).map(lambda quarters: quarters / 4),
    ),
    max_size=8,
)


@given(STANDINGS)
def test_of_bounds_that_leave_as_much_the_one_that_is_full_for_longest_is_the_tightest(
    standings: list[Standing],
) -> None:
    """One on requests, one on tokens, and none on what is open at once."""
    found = tightest(standings)
    for kinds in (("rpm", "rpd"), ("tpm", "tpd")):
        of_these = [it for it in standings if it.bound.kind in kinds]
        if of_these:
            found.remove(min(of_these, key=lambda it: (it.left, -it.resets_in)))
    assert found == []
