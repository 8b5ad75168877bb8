"""What a process has counted as ended is known to who comes after it in its place, as far as it goes back."""

from collections.abc import Iterator

import pytest

from gproxy.ledger.ended import ADDED, MOST, TAKEN, Ended
from gproxy.ledger.memory import Shared
from tests.ledger.memories import as_seen_by


@pytest.fixture
def shared() -> Iterator[Shared]:
    it = Shared(2)
    yield it
    it.close()


def states(shared: Shared, worker: int, *names: str) -> list[int]:
    ended = Ended(as_seen_by(shared, worker))
    places = ended.find([*names])
    return [ended.state(places[name]) for name in names]


def test_who_comes_after_finds_how_far_each_was(shared: Shared) -> None:
    ended = Ended(as_seen_by(shared, 1))
    first, second = ended.note("first", TAKEN), ended.note("second", TAKEN)
    ended.add(first, ADDED)
    assert [ended.state(it) for it in (first, second)] == [ADDED | TAKEN, TAKEN]
    assert states(shared, 1, "second", "first", "third") == [TAKEN, ADDED | TAKEN, 0]
    assert states(shared, 0, "first", "second") == [0, 0], "each has its own"


def test_what_was_not_known_is_from_then_on(shared: Shared) -> None:
    ended = Ended(as_seen_by(shared, 0))
    place = ended.find(["its"])["its"]
    ended.add(place, ADDED)
    assert ended.find(["other", "its"])["its"] == place
    assert states(shared, 0, "its") == [ADDED]


def test_the_last_of_them_are_known(shared: Shared) -> None:
    ended = Ended(as_seen_by(shared, 0))
    for number in range(MOST + 1):
        ended.note(str(number), TAKEN)
    assert states(shared, 0, str(MOST), "1") == [TAKEN, TAKEN]
    assert states(shared, 0, "0") == [0]
