"""A window in cells counts as a plain dictionary of slots does, whatever the clock does."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger.ahead import NEWEST, NOW, PLACE, USED
from gproxy.ledger.cells import Own
from gproxy.ledger.memory import Shared
from gproxy.ledger.weighing import kept_of, slots_of
from gproxy.ledger.windows import Window, forget, mend, strike
from tests.ledger.memories import Killed, Mortal, as_seen_by

SECOND = 1_795_608_000


def nothing(query: str, values: tuple[str, ...]) -> list[Any]:
    return []


class Plain:
    """The same, as it is meant. `whole`: no slots of the store are too far apart to be kept together."""

    def __init__(self, kind: str, rows: dict[int, int]) -> None:
        self.kind, self.slots = kind, dict(rows)
        first, last = kept_of(kind, 0)
        self.whole = not rows or max(rows) - min(rows) <= last - first

    def stands(self, slot: int) -> tuple[int, int]:
        first, last = slots_of(self.kind, slot)
        counting = {it: n for it, n in self.slots.items() if n > 0 and first <= it <= last}
        return sum(counting.values()), max(counting, default=-1)

    def take(self, slot: int, need: int) -> None:
        if slot not in self.slots or not self.whole:
            self.whole = True
            first, last = kept_of(self.kind, slot)
            self.slots = {it: n for it, n in self.slots.items() if first <= it <= last}
        self.slots[slot] = self.slots.get(slot, 0) + need

    def correct(self, slot: int, by: int) -> None:
        if slot in self.slots:
            self.slots[slot] = max(0, self.slots[slot] + by)


STEPS = st.one_of(st.integers(-3, 12), st.sampled_from([-70, -30, 55, 60, 61, 62, 122, 128, 129, 200]))
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("go"), STEPS),
        st.tuples(st.just("take"), st.integers(0, 9)),
        st.tuples(st.just("correct"), st.integers(-70, 3), st.integers(-9, 9)),
    ),
    max_size=50,
)


@pytest.mark.parametrize("kind", ["rpm", "tpd"])
@given(st.dictionaries(st.integers(SECOND - 70, SECOND + 70), st.integers(0, 5), max_size=6), MOVES)
def test_it_stands_as_a_dictionary_of_slots_does(
    kind: str, rows: dict[int, int], moves: list[tuple[Any, ...]]
) -> None:
    memory, plain, now = Own(), Plain(kind, rows), SECOND
    window = Window("rule", kind, memory, lambda query, values: list(rows.items()))
    window.look(now)
    for what, *values in moves:
        if what == "go":
            now += values[0]
        elif what == "take":
            plain.take(now, values[0])
            if memory.cells[window.at + PLACE]:
                memory.cells[memory.cells[window.at + PLACE]] += values[0]
                memory.cells[window.at + NOW] = -1
            else:
                window.begin(now, values[0])
            rows.clear()
            rows.update(plain.slots)
        else:
            plain.correct(now + values[0], values[1])
            window.correct(now + values[0], values[1])
            rows.update(plain.slots)
        if memory.cells[window.at + NOW] != now:
            window.look(now)
        assert (memory.cells[window.at + USED], memory.cells[window.at + NEWEST]) == plain.stands(now)
        first, last = slots_of(kind, now)
        counting = sorted((it, n) for it, n in plain.slots.items() if n > 0 and first <= it <= last)
        assert window.within(first, last) == counting


def test_it_tells_which_slots_are_left_when_one_that_begins_has_ended_others() -> None:
    window = Window("rule", "rpm", Own(), nothing)
    for slot, left in ((SECOND, None), (SECOND + 5, None), (SECOND + 61, (SECOND + 1, SECOND + 122))):
        window.look(slot)
        assert window.begin(slot, 1) == left


def test_a_slot_in_which_nothing_counts_any_more_ends_nothing_when_it_comes_again() -> None:
    window = Window("rule", "rpm", Own(), lambda query, values: [(SECOND - 5, 0), (SECOND + 57, 3)])
    window.look(SECOND - 5)
    assert window.begin(SECOND - 5, 2) is None
    window.look(SECOND)
    assert window.within(SECOND - 5, SECOND + 60) == [(SECOND - 5, 2), (SECOND + 57, 3)]


@pytest.mark.parametrize(("kind", "n"), [("rpm", 2**63 - 1), ("tpd", 2**63 - 1), ("rpd", -5)])
def test_whatever_somebody_has_written_into_the_store_fits_a_cell(kind: str, n: int) -> None:
    memory = Shared(1)
    slot = SECOND if kind == "rpm" else SECOND // 86_400
    window = Window("rule", kind, memory, lambda query, values: [(slot, n)])
    window.look(slot)
    assert memory.cells[window.at + USED] == max(0, min(n, 2**62))
    memory.close()


def test_a_store_that_cannot_be_asked_is_asked_again() -> None:
    answers: list[Any] = [StoreError("locked"), StoreError("locked"), [(SECOND, 3)]]

    def ask(query: str, values: tuple[str, ...]) -> list[Any]:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return list(answer)

    memory = Own()
    window = Window("rule", "rpm", memory, ask)
    with pytest.raises(StoreError):
        window.look(SECOND)
    assert not window.correct(SECOND, 1)
    window.look(SECOND)
    assert memory.cells[window.at + USED] == 3


def test_what_one_had_counted_when_it_was_killed_is_in_the_sum_of_the_next() -> None:
    memory = Shared(1)
    window = Window("rule", "rpm", memory, nothing)
    window.look(SECOND)
    window.begin(SECOND, 1)
    cells = memory.cells
    cells[cells[window.at + PLACE]] += 3  # as if it was killed before it could add to the sum
    mend(memory, "window rpm rule", window.at)
    assert cells[window.at + NOW] != SECOND
    window.look(SECOND)
    assert cells[window.at + USED] == 4
    memory.close()


@pytest.mark.parametrize("writes", range(9))
def test_what_was_read_in_part_by_one_that_was_killed_is_read_by_the_next(writes: int) -> None:
    day = SECOND // 86_400
    shared = Shared(2)
    dying, living = as_seen_by(shared, 0), as_seen_by(shared, 1)
    windows = [Window("rule", "rpd", memory, lambda query, values: [(day, 5)]) for memory in (dying, living)]
    dying.cells = Mortal(dying.cells, writes)  # type: ignore[assignment]  # as good as a view of memory
    with suppress(Killed):
        windows[0].look(day)
    mend(living, "window rpd rule", windows[1].at)
    windows[1].look(day)
    assert living.cells[windows[1].at + USED] == 5
    shared.close()


@pytest.mark.parametrize("later", [61, 100, 121])
def test_what_is_corrected_in_two_slots_before_anybody_looks_stands_though_the_store_is_not_told(
    later: int,
) -> None:
    """The first to ask of the store may be one that was open for long: what is later is read with it."""
    memory = Own()
    rows = [(SECOND, 10), (SECOND + later, 5)]
    window = Window("rule", "tpm", memory, lambda query, values: rows)
    assert window.correct(SECOND, -2)
    assert window.correct(SECOND + later, 7)
    window.look(SECOND + later)
    assert memory.cells[window.at + USED] == 12
    assert window.within(SECOND, SECOND + later) == [(SECOND, 8), (SECOND + later, 12)]


def test_what_is_open_is_counted_by_each_and_struck_out_with_who_dies() -> None:
    shared = Shared(2)
    windows = [Window("rule", "concurrency", as_seen_by(shared, worker), nothing) for worker in (0, 1)]
    cells, at = shared.cells, windows[0].at
    for window, n in zip(windows, (2, 3), strict=True):
        cells[window.own] += n  # as if it was killed before it could add to the sum
    name = "window concurrency rule"
    mend(shared, name, at)
    assert cells[at + USED] == 5
    assert windows[0].correct(0, -1)
    assert cells[at + USED] == 4
    strike(as_seen_by(shared, 1), name, at)
    assert (cells[at + USED], cells[windows[1].own]) == (1, 0)
    assert windows[1].correct(0, -1)
    assert cells[at + USED] == 1, "it has nothing to give back any more"
    forget(shared, name, at)
    assert (cells[at + NOW], cells[at + USED]) == (0, 1)
    shared.close()
