"""What a dead worker leaves: in the store what it had open is settled, in memory nothing of it stays open or held."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger import plans, spend
from gproxy.ledger.memory import Shared
from gproxy.ledger.spend import pending
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.succession import succeed
from gproxy.ledger.tally import Tally
from gproxy.ledger.weighing import Spent
from gproxy.values import Bound, Budget, Claim, Usage
from tests.kit.reserving import reserve
from tests.ledger import claims
from tests.ledger.claims import claim
from tests.ledger.memories import Killed, Mortal, as_seen_by
from tests.ledger.racing import EVERYTHING
from tests.ledger.rows import record

DAY = 86_400
NOON = 1_795_608_000.25


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    it = open_store(tmp_path / "gproxy.db")
    yield it
    it.close()


@pytest.fixture
def shared() -> Iterator[Shared]:
    it = Shared(2)
    yield it
    it.close()


def used(tally: Tally, at: float) -> list[int]:
    """Of each bound, by a request that is settled at once, and before it."""
    asking = claim("looks", *EVERYTHING, at=at, tokens=0, cost=0)
    tally.reserve(asking)
    found = claims.used(tally, *EVERYTHING, at=at)
    tally.settle(asking, 0, 0)
    bounds = [it for it in EVERYTHING if isinstance(it, Bound)]
    return [n - (it.kind not in ("tpm", "tpd")) for n, it in zip(found, bounds, strict=True)]


TOKENS, REAL = 10, 4


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from([None, 0.0, 1.0, 2.0, 61.0, -1.0, 5 * DAY, 40 * DAY]),
    st.integers(0, 5),
    st.one_of(st.integers(0, 60), st.integers(0, 700)),
    st.booleans(),
    st.sampled_from([0, 1, 8]),
)
def test_a_kill_before_any_write_leaves_a_request_counted_or_not_and_nothing_open_or_held(
    later: float | None, others: int, writes: int, first: bool, calm: int
) -> None:
    """Of one that is reserved, or (None) settled. `first`: none was before, so that it names what it counts. With
    more than `calm` others, plans are ahead of their windows."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plans, "_CALM", calm)
        killed(later, others, writes, first)


def killed(later: float | None, others: int, writes: int, first: bool) -> None:
    shared = Shared(2)
    dying, living = as_seen_by(shared, 0), as_seen_by(shared, 1)
    tallies = [Tally(memory, lambda query, values: []) for memory in (dying, living)]
    its = claim("its", *EVERYTHING, at=NOON + (later or 0))
    before = 0
    if not first:
        before = others + 1
        for number in range(others):
            tallies[number % 2].reserve(claim(str(number), *EVERYTHING[:4], at=NOON))
        tallies[1].reserve(claim("other", *EVERYTHING, at=NOON))
    if later is None:
        tallies[0].reserve(its)
    dying.cells = Mortal(dying.cells, writes)  # type: ignore[assignment]  # as good as a view of memory
    done = 0
    with suppress(Killed):
        if later is None:
            tallies[0].settle(its, REAL, 100)
        else:
            tallies[0].reserve(its)
        done = 1
    heir = as_seen_by(shared, 0)
    heir.strike()
    now = max(NOON, its.at)
    rpm, tpm, rpd, tpd, opened = used(tallies[1], now)
    spent = tallies[1].spent("user/alice", "total")
    assert (opened, spent.held_nano) == ((0, 0) if first else (1, 100))
    assert used(Tally(heir, lambda query, values: []), now + 90)[4] == opened
    if later is None:
        assert (rpm, rpd) == (before + 1, before + 1)
        assert {tpm, tpd} <= {before * TOKENS + n for n in (REAL, *[TOKENS] * (1 - done))}
        assert spent.spent_nano in (100, 100 * done)
    else:
        in_minute, in_day = before * (now - NOON < 61), before * (now - NOON < DAY)
        assert {rpm - in_minute, rpd - in_day} <= {1, done}
        assert {tpm - in_minute * TOKENS, tpd - in_day * TOKENS} <= {TOKENS, done * TOKENS}
        assert spent.spent_nano == 0
    shared.close()


def left_open(
    store: Store, shared: Shared, name: str, worker: int, *limits: Bound | Budget
) -> tuple[Shared, Tally, Claim]:
    """A request of a worker, in memory and, as it was open for a while, in the store."""
    its = claim(name, *limits, at=time.time())
    seen = as_seen_by(shared, worker)
    tally = Tally(seen, lambda query, values: [])
    tally.reserve(its)
    started = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    row = record(name, outcome="interrupted", cost_nano=40, started_at=started, usage=Usage(input_tokens=3))
    assert store.run([lambda db: reserve(db, its, worker, pending(row))])[0].refused is None
    return seen, tally, its


def stands(shared: Shared, path: Path, worker: int) -> tuple[list[int], Spent]:
    tally = Tally(as_seen_by(shared, worker), lambda query, values: spend.ask(path, query, values))
    return used(tally, time.time()), tally.spent("user/alice", "total")


def test_what_the_dead_one_left_is_settled_in_the_store_and_in_memory(
    store: Store, shared: Shared, tmp_path: Path
) -> None:
    path = tmp_path / "gproxy.db"
    for worker, name in enumerate(("its", "of another")):
        left_open(store, shared, name, worker, *EVERYTHING)
    assert stands(shared, path, 1) == ([2, 20, 2, 20, 2], Spent(0, 200))
    assert succeed(path, as_seen_by(shared, 1), 0) == 1
    (_, tpm, rpd, tpd, opened), spent = stands(shared, path, 1)
    assert (tpm, tpd, opened, spent) == (13, 13, 1, Spent(40, 100))
    assert rpd == 3  # with the one that looked before
    assert succeed(path, as_seen_by(shared, 1), 0) == 0
    assert stands(shared, path, 1)[1] == Spent(40, 100)
    in_store = spend.spent(path, [("user/alice", "total")], time.time())["user/alice", "total"]
    assert in_store == Spent(40, 100)


def test_nobody_reads_anew_what_is_being_settled(
    store: Store, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would find that it is not spent, and not hear of it when it is. The dead one had counted nothing yet."""
    path = tmp_path / "gproxy.db"
    empty = Shared(2)
    left_open(store, empty, "its", 0, *EVERYTHING)
    empty.close()
    other = Tally(as_seen_by(shared, 1), lambda query, values: spend.ask(path, query, values))
    run = Store.run

    def look_too(store: Store, works: Any, patience_ms: int | None = None) -> list[Any]:
        other.overtaken()
        other.reread()
        other.spent("user/alice", "total")
        return run(store, works, patience_ms)

    monkeypatch.setattr(Store, "run", look_too)
    succeed(path, as_seen_by(shared, 1), 0)
    assert other.spent("user/alice", "total") == Spent(40, 0)


@pytest.mark.parametrize("looks", ["before", "after"])
def test_who_counts_for_the_first_time_as_another_is_succeeded_counts_nothing_twice(
    store: Store, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: str
) -> None:
    """What it reads of the store may have been settled there by then, or not."""
    path = tmp_path / "gproxy.db"
    empty = Shared(2)
    left_open(store, empty, "its", 0, *EVERYTHING)
    empty.close()
    seen: list[Spent] = []
    run = Store.run

    def look_too(store: Store, works: Any, patience_ms: int | None = None) -> list[Any]:
        settles = any(isinstance(work, spend.Settling) for work in works)
        if settles and looks == "before":
            seen.append(stands(shared, path, 1)[1])
        found = run(store, works, patience_ms)
        if settles and looks == "after":
            seen.append(stands(shared, path, 1)[1])
        return found

    monkeypatch.setattr(Store, "run", look_too)
    succeed(path, as_seen_by(shared, 1), 0)
    (_, tpm, _, tpd, opened), spent = stands(shared, path, 1)
    assert (seen, tpm, tpd, opened, spent) == ([Spent(40, 0)], 3, 3, 0, Spent(40, 0))


def test_one_that_fails_as_it_succeeds_leaves_nothing_counted_twice_however_often(
    store: Store, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gproxy.db"
    left_open(store, shared, "its", 0, *EVERYTHING)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "run", fail_to_settle(Store.run))
        for _ in range(3):
            with pytest.raises(StoreError, match="disk"):
                succeed(path, as_seen_by(shared, 1), 0)
    assert succeed(path, as_seen_by(shared, 1), 0) == 1
    (_, tpm, _, tpd, _), spent = stands(shared, path, 1)
    assert (tpm, tpd, spent) == (3, 3, Spent(40, 0))
    assert spend.spent(path, [("user/alice", "total")], time.time())["user/alice", "total"] == Spent(40, 0)


@pytest.mark.parametrize(("tokens", "cost"), [(4, 30), (25, 90)])
@pytest.mark.parametrize("writes", range(0, 56, 2))
def test_what_ended_in_memory_alone_is_neither_taken_from_others_nor_uncounted(
    store: Store, shared: Shared, tmp_path: Path, tokens: int, cost: int, writes: int
) -> None:
    """It was killed before the store was told, or in the midst of it. What it adds may count twice then."""
    path = tmp_path / "gproxy.db"
    succeed(path, as_seen_by(shared, 0), 0)
    left_open(store, shared, "of another", 1, *EVERYTHING)
    dying, tally, its = left_open(store, shared, "its", 0, *EVERYTHING)
    dying.cells = Mortal(dying.cells, writes)  # type: ignore[assignment]  # as good as a view of memory
    done = False
    with suppress(Killed):
        tally.settle(its, tokens, cost)
        done = True
    assert done or writes < 54
    assert succeed(path, as_seen_by(shared, 1), 0) == 1
    (_, tpm, _, tpd, opened), spent = stands(shared, path, 1)
    assert (opened, spent.held_nano) == (1, 100)
    assert {tpm, tpd} <= ({TOKENS + tokens} if done else {TOKENS + n for n in (3, TOKENS, tokens)})
    assert spent.spent_nano in ([cost] if done else [40, cost, 40 + cost])


def fail_to_settle(run: Any) -> Any:
    def instead(store: Store, works: Any, patience_ms: int | None = None) -> list[Any]:
        if any(isinstance(work, spend.Settling) for work in works):
            raise StoreError("the disk is full")
        found: list[Any] = run(store, works, patience_ms)
        return found

    return instead


@pytest.mark.parametrize("hold", ["[1]", '["noon", ["user/alice"], [], [], 0]'])
def test_what_cannot_be_read_is_dropped_and_all_that_was_open_struck_out(
    store: Store, shared: Shared, tmp_path: Path, hold: str
) -> None:
    path = tmp_path / "gproxy.db"
    left_open(store, shared, "its", 0, *EVERYTHING)
    store.run([lambda db: db.execute("UPDATE reservations SET hold = ?", (hold,))])
    assert succeed(path, as_seen_by(shared, 1), 0) == 0
    (*_, opened), spent = stands(shared, path, 1)
    assert (opened, spent) == (0, Spent(0, 0))
