"""So many requests begin in one turn of the event loop; nobody is passed over, and nobody is forgotten."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gproxy.server.engine.gate import MOST_BEGUN, Gate


@given(st.lists(st.integers(0, 3 * MOST_BEGUN), min_size=1, max_size=12))
def test_all_begin_in_their_order_and_no_turn_begins_more_than_its_share(arrivals: list[int]) -> None:
    begun = asyncio.run(_arrive(arrivals))
    assert [number for turn in begun for number in turn] == list(range(sum(arrivals)))
    assert max(map(len, begun)) <= MOST_BEGUN


async def _arrive(arrivals: list[int]) -> list[list[int]]:
    """What was begun in each turn, if so many come in one turn after the other. Who comes tries once."""
    gate = Gate()
    begun: list[list[int]] = []
    number = 0
    while len(begun) < len(arrivals) or sum(map(len, begun)) < sum(arrivals):
        begun.append([])
        await asyncio.sleep(0)  # the next turn
        for _ in range(arrivals[len(begun) - 1] if len(begun) <= len(arrivals) else 0):
            if gate.passes():
                begun[-1].append(number)
            else:
                gate.wait(lambda number=number: begun[-1].append(number))  # type: ignore[misc]  # bound now
            number += 1
        assert not gate._waiting or len(begun[-1]) == MOST_BEGUN, "there was room for one who waits"
        assert len(begun) <= len(arrivals) + sum(arrivals) // MOST_BEGUN + 2, "somebody waits for ever"
    return begun


async def test_nothing_is_done_where_nobody_comes() -> None:
    gate, turns = Gate(), list[int]()
    turn = gate._next_turn
    gate._next_turn = lambda: turns.append(1) or turn()  # type: ignore[method-assign, func-returns-value]  # counts
    assert gate.passes()
    for _ in range(4):
        await asyncio.sleep(0)
    assert len(turns) == 1, "another turn is asked for"
    assert gate.passes()
    await asyncio.sleep(0)
    assert len(turns) == 2
