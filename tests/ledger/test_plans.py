"""The short way of a plan gives what the rules give of each bound, and leaves what each window would leave."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gproxy.ledger import plans as module
from gproxy.ledger.ahead import LEADER, give
from gproxy.ledger.cells import Own
from gproxy.ledger.memory import Shared
from gproxy.ledger.plans import Added, Plan
from gproxy.ledger.weighing import BY_TOKENS, SLIDING, counted, refusal, slots_at, standings, tightest
from gproxy.ledger.windows import RING, Window
from gproxy.values import Bound, Claim, Standing
from tests.ledger.claims import claim
from tests.ledger.memories import as_seen_by
from tests.ledger.test_weighing import Books

NOON = 1_795_608_000.25
MIDNIGHT = 1_795_651_200.0
BOUNDS = (
    *(Bound("user/a/*", kind, most) for kind, most in (("rpm", 4), ("tpm", 40), ("rpd", 4), ("tpd", 40))),
    Bound("user/a/*", "concurrency", 3),
    Bound("key/k", "rpm", 4),
    Bound("key/k", "tpm", 40),
    Bound("key/k", "concurrency", 2),
)
PARTS = (slice(5), slice(2), slice(5, 8), slice(2, 4), slice(0, 5, 4), slice(3, 4), slice(1, 7, 5))
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("go"), st.sampled_from([0.25, 0.75, 1.0, 30.0, 60.0, 61.0, -1.0, -30.0, 86_400.0])),
        st.tuples(st.just("reserve"), st.integers(0, 15), st.sampled_from([0, 1, 10, 40, 50])),
        st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from([0, 1, 20, 70])),
        st.tuples(st.just("see"), st.integers(0, 4), st.integers(0, 7)),
    ),
    max_size=40,
)
"""What is reserved is of one of eight plans of the first process, or of the second, if there are two."""


class Side:
    """A memory as each process sees it, with plans of bounds of which some are the same; those of all processes, one
    behind the other."""

    def __init__(self, processes: int) -> None:
        memory = Shared(processes) if processes > 1 else Own()
        seen = [as_seen_by(memory, worker) for worker in range(processes)] if memory.workers > 1 else [memory]
        self.memory = seen[0]
        self.close = memory.close if memory.workers > 1 else lambda: None
        self.plans: list[Plan] = []
        for each in seen:
            windows = {it: Window(it.rule, it.kind, each, lambda query, values: []) for it in BOUNDS}
            self.windows = list(windows.values())
            for bounds in (BOUNDS, *(BOUNDS[it] for it in PARTS)):
                self.plans.append(Plan(bounds, [windows[it] for it in bounds], each))

    def give(self) -> None:
        """What was counted ahead of any window."""
        for window in self.windows:
            if leader := self.memory.cells[window.at + LEADER]:
                give(self.memory, leader)

    def counted(self) -> list[list[int]]:
        """All that is in windows."""
        cells, found = self.memory.cells, []
        for it in self.windows:
            kept = 128 if it.sliding else 8 if it.written else self.memory.workers
            found.append([*cells[it.at : it.at + RING + kept]])
        return found


@pytest.fixture(autouse=True, scope="module")
def calm() -> Iterator[None]:
    """Plans run ahead with the second claim."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CALM", 1)
        yield


def plain(stands: Sequence[Standing], tokens: int, now: float) -> bool:
    """Whether none is as tight as another, or all count something, the day has some minutes yet, and no count is
    ahead."""
    left = [(it.left, it.bound.kind in BY_TOKENS) for it in stands if it.bound.kind != "concurrency"]
    if len(left) == len(set(left)):
        return True
    ends = [it.resets_in for it in stands if it.bound.kind in SLIDING]
    return tokens > 0 and max(ends) <= 61 and now % 86_400 < 86_400 - 122


STORIES: tuple[list[tuple[Any, ...]], ...] = (
    [("reserve", 3, 1), ("go", -1.0), ("reserve", 2, 1), ("reserve", 0, 1)],  # a count is ahead
    [("reserve", 2, 1), ("go", -1.0), *[("reserve", 2, 1)] * 3],
    # Another process is ahead with these, or of some of these windows, in this second or another.
    [
        *[("reserve", 0, 1)] * 2,
        ("reserve", 8, 9),
        ("end", 0, 2),
        ("end", 1, 2),
        ("see", 0, 0),
        ("reserve", 8, 1),
    ],
    [*[("reserve", 2, 1)] * 2, ("reserve", 8, 1), ("reserve", 10, 1), ("reserve", 2, 1)],
    [*[("reserve", 10, 1)] * 3, ("end", 0, 0), ("go", 1.0), ("end", 0, 0), ("reserve", 2, 1), ("end", 0, 0)],
    [
        ("reserve", 10, 1),
        ("go", 1.0),
        *[("reserve", 2, 1)] * 2,
        ("end", 0, 1),
        ("reserve", 10, 1),
        ("end", 1, 9),
    ],
    [
        ("reserve", 3, 10),
        ("reserve", 11, 10),
        ("go", 1.0),
        *[("reserve", 11, 1)] * 2,
        ("end", 0, 9),
        ("see", 0, 0),
    ],
    [*[("reserve", 0, 1)] * 3, ("end", 0, 20), ("reserve", 0, 10), ("see", 0, 0), ("reserve", 0, 1)],
    # Others are ahead once more than this one knows, in another second, or where other windows are the tightest.
    [*[("reserve", 15, 5)] * 3, ("go", 1.0), *[("reserve", 7, 5)] * 2, ("end", 0, 1), ("see", 0, 0)],
    [*[("reserve", 15, 1)] * 3, ("reserve", 3, 5), *[("reserve", 7, 1)] * 2, ("reserve", 15, 1)],
    # All tokens are given back.
    [*[("reserve", 0, 1)] * 2, *[("end", 0, 0)] * 2, ("reserve", 0, 0), ("see", 4, 0)],
    [*[("reserve", 2, 1)] * 2, *[("end", 0, 0)] * 2, ("reserve", 2, 0), ("see", 0, 0)],
    [*[("reserve", 4, 1)] * 2, *[("end", 0, 0)] * 2, ("reserve", 4, 0), ("see", 0, 0)],
    # None was reserved.
    [*[("reserve", 2, 0)] * 3, ("see", 0, 0)],
    # More tokens were used than fit, or counted.
    [*[("reserve", 4, 1)] * 3, ("end", 0, 70), ("reserve", 4, 0), ("see", 4, 0)],
    [("reserve", 2, 50), *[("reserve", 2, 0)] * 2, ("end", 0, 20), ("see", 0, 0)],
    # Others count in the same windows, or end.
    [*[("reserve", 1, 1)] * 2, ("reserve", 0, 1), ("end", 0, 1), ("reserve", 1, 1), ("see", 4, 0)],
    [*[("reserve", 1, 1)] * 3, ("reserve", 0, 1)],
    [("reserve", 5, 1), *[("reserve", 1, 1)] * 2, ("end", 0, 1), ("reserve", 1, 1)],
    [("reserve", 3, 10), ("end", 0, 10), *[("reserve", 7, 1)] * 2, *[("end", 0, 0)] * 2, ("see", 0, 0)],
    # What ends was counted before.
    [*[("reserve", 1, 1)] * 2, ("go", 1.0), ("reserve", 1, 1), ("end", 0, 20), ("reserve", 1, 1)],
    [("reserve", 0, 9), ("go", 1.0), *[("reserve", 0, 1)] * 2, ("end", 0, 1), ("reserve", 0, 1)],
    [("reserve", 2, 1), ("go", 60.0), *[("reserve", 2, 1)] * 2, ("end", 0, 20), ("reserve", 2, 0)],
    [("reserve", 4, 9), ("go", 1.0), *[("reserve", 4, 1)] * 2, ("end", 0, 1), *[("end", 0, 0)] * 2],
    [("reserve", 6, 9), ("go", 1.0), *[("reserve", 6, 9)] * 2, *[("end", 1, 0)] * 3, ("reserve", 6, 0)],
    [("reserve", 5, 1), ("go", 1.0), *[("reserve", 5, 1)] * 2, ("end", 0, 1), ("reserve", 5, 1)],
    [
        ("reserve", 2, 1),
        ("go", 1.0),
        *[("reserve", 2, 1)] * 2,
        ("end", 0, 20),
        *[("end", 0, 0)] * 2,
        ("see", 0, 0),
    ],
    [
        ("reserve", 2, 1),
        ("go", -90.0),
        ("reserve", 2, 1),
        ("go", 91.0),
        *[("reserve", 2, 1)] * 2,
        ("end", 0, 20),
    ],
    [("reserve", 6, 9), ("go", -86_400.0), *[("reserve", 6, 1)] * 2, ("end", 0, 20), ("reserve", 6, 1)],
    [
        *(("reserve", 2, 1), ("go", -61.0), ("reserve", 2, 9), ("go", 61.0)),
        *([("reserve", 2, 1)] * 2 + [("end", 1, 20), ("reserve", 2, 1)]),
    ],
)


def with_stories(test: Any) -> Any:
    for moves in STORIES:
        test = example(now=NOON, moves=moves)(test)
    return test


@settings(deadline=None, max_examples=600)
@given(now=st.sampled_from([NOON, MIDNIGHT - 130, MIDNIGHT - 30.5]), moves=MOVES)
@with_stories
@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_plain_is_told_and_corrected_as_the_rules_say_of_each_bound(
    processes: int, now: float, moves: list[tuple[Any, ...]]
) -> None:
    short, long = Side(processes), Side(processes)
    added: Added = defaultdict(dict)
    expected: Added = defaultdict(dict)
    number = 0
    open_now: list[tuple[int, Claim]] = []
    for what, *values in moves:
        if what == "go":
            now += values[0]
        elif what == "reserve":
            which, tokens = values[0] % len(short.plans), values[1]
            plan, other = short.plans[which], long.plans[which]
            for it in (plan, other):
                if it.second != int(now):
                    it.turn(int(now), added)
            its = claim(f"r{(number := number + 1)}", *plan.bounds, at=now, tokens=tokens)
            told, counts = plan.look(tokens, now), other.counts(tokens)
            refused = refusal(Books(), counts, its)
            for it in counts:
                it.take()
            stands = standings(counts, now)
            if told is not None:
                assert refused is None
                assert told == tightest(stands)
            else:
                assert refused is not None or tokens > plan.unclipped or not plain(stands, tokens, now)
            if told is None:
                plan.counts(tokens)
            if refused is None:
                assert list(plan.count(tokens)) == list(other.count(tokens))
                open_now.append((which, its))
                if tokens <= plan.unclipped:
                    plan.requests, plan.tokens = plan.requests + 1, plan.tokens + tokens
                    for rule, kind, slot, n in counted(its):
                        if kind != "concurrency":
                            slots = expected[rule, kind]
                            slots[slot] = slots.get(slot, 0) + n
        elif what == "end" and open_now:
            which, its = open_now.pop(values[0] % len(open_now))
            corrected = short.plans[which].end(its, values[1], False)
            flat = [(*slot, by) for slots, by in corrected for slot in slots]
            assert flat == by_each_window(long.plans[which], its, values[1])
        if what == "see" and values[0]:
            take_back(values[1], int(now), short, long)
        elif what == "see":
            short.give()
            assert short.counted() == long.counted()
    short.give()
    assert short.counted() == long.counted()
    for plan in short.plans:
        plan.spread(added)
    assert added == expected
    short.close()
    long.close()


def take_back(which: int, second: int, *sides: Side) -> None:
    """One of what counts in a window, as if it was of a plan that is no more."""
    kind = BOUNDS[which].kind
    for side in sides:
        side.windows[which].correct(slots_at(second)[kind], 0 if kind == "concurrency" else -1)


def by_each_window(plan: Plan, its: Claim, tokens: int) -> list[tuple[str, str, int, int]]:
    slots = slots_at(int(its.at))
    corrected = []
    for window, (rule, kind, slot, n) in zip(plan.windows, counted(its), strict=True):
        if window.own:
            window.correct(slots[kind], -1)
        elif kind in BY_TOKENS and window.correct(slot, tokens - n):
            corrected.append((rule, kind, slot, tokens - n))
    return corrected


@pytest.fixture
def of_one() -> Iterator[Side]:
    side = Side(1)
    yield side
    side.close()


def is_ahead(side: Side) -> bool:
    return any(side.memory.cells[it.at + LEADER] for it in side.windows)


def counts(side: Side, which: int, second: int) -> None:
    plan = side.plans[which]
    if plan.second != second:
        plan.turn(second, defaultdict(dict))
    assert plan.look(1, float(second)) is not None
    plan.count(1)


def test_a_plan_is_ahead_only_after_several_claims_of_a_second_that_fitted(of_one: Side) -> None:
    for second in range(3):
        counts(of_one, 2, int(NOON) + second)
        assert not is_ahead(of_one)
    counts(of_one, 2, int(NOON) + 2)
    assert is_ahead(of_one)


def test_a_plan_that_gave_way_to_another_is_not_ahead_again_at_once(of_one: Side) -> None:
    for _ in range(2):
        counts(of_one, 4, int(NOON))
    assert is_ahead(of_one)
    counts(of_one, 1, int(NOON))
    assert not is_ahead(of_one)
    counts(of_one, 4, int(NOON))
    assert not is_ahead(of_one)
