"""The memory of one process: as many cells as were asked for, and found again by their name."""

from gproxy.ledger.cells import Own


def test_what_has_a_name_is_found_again_and_is_nobody_elses() -> None:
    memory = Own()
    with memory.turn:
        first = memory.place("first", 3)
        second = memory.place("second", 2)
        assert memory.place("first", 3) == first
        for cell in range(first, first + 3):
            memory.cells[cell] = 7
        assert memory.cells[second : second + 2] == [0, 0]
    assert dict(memory.places()) == {"first": first, "second": second}
    assert len(memory.cells) == 5


def test_a_turn_keeps_off_who_takes_what_was_counted() -> None:
    memory = Own()
    with memory.turn:
        assert not memory.changing.acquire(blocking=False)
    assert (memory.worker, memory.workers) == (0, 1)
