"""In memory one process and several decide as the store alone does, and leave the same in it."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gproxy.errors import StoreError
from gproxy.ledger import plans, spend
from gproxy.ledger import tally as module
from gproxy.ledger.ahead import LEADER
from gproxy.ledger.bulk import MOST_SPENT_NANO, Bulk, Posting
from gproxy.ledger.cells import Memory, Own
from gproxy.ledger.memory import Shared
from gproxy.ledger.periods import kept_from
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.tally import Changes, Tally
from gproxy.ledger.weighing import Spent
from gproxy.values import Admission, Bound, Budget, Claim
from tests.kit.reserving import reserve
from tests.ledger import claims
from tests.ledger.memories import as_seen_by

NOON = 1_795_608_000.25
DAY = 86_400
SCOPES = ("user/a", "key/k")
claim = partial(claims.claim, scopes=SCOPES, at=NOON, tokens=0, cost=0)
BOUNDS = (
    *(Bound("user/a/*", kind, most) for kind, most in (("rpm", 3), ("rpd", 6), ("tpm", 50), ("tpd", 90))),
    Bound("user/a/*", "concurrency", 2),
    Bound("key/k", "rpm", 2),
    Bound("key/k", "tpm", 20),
)
BUDGETS = (
    Budget("user/a", "total", 200, 5),
    Budget("user/a", "day", 90),
    Budget("user/a", "month", 150),
    Budget("key/k", "total", 120),
)
TABLES = {
    "counters": "kind != 'concurrency' AND n != 0",
    "spend": "spent_nano != 0",
    "spend_adjustments": "1",
}


class Charge(Posting):
    """What a request costs, as its entry writes it."""

    def __init__(self, at: float, cost: int) -> None:
        self.at, self.cost = at, cost

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        spend.charge(bulk, SCOPES, self.at, self.cost, None)


class Correction(Posting):
    """What a request's tokens came to, as its entry writes it."""

    def __init__(self, tally: Tally, corrected: Sequence[plans.Correction]) -> None:
        self.tally, self.corrected = tally, corrected

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        for slots, by in self.corrected:
            bulk.correct(slots, by)

    def committed(self) -> None:
        self.tally.written()


class Both:
    """The same requests, counted in a store and in memory beside another: in that of one process, or of several."""

    def __init__(self, store: Store, beside: Store, workers: int) -> None:
        self.store, self.beside = store, beside
        self.workers = workers
        self.shared: Shared | None = None

    def restart(self) -> None:
        """Whatever is in memory and not written is lost."""
        self.under_way: list[Posting] = []
        self.served_by: dict[str, Tally] = {}
        memories: list[Memory] = [Own()]
        if self.workers > 1:
            self.close()
            self.shared = Shared(self.workers)
            memories = [as_seen_by(self.shared, worker) for worker in range(self.workers)]
        self.tallies = [Tally(memory, self.ask) for memory in memories]
        self.tally, self.memory = self.tallies[0], memories[0]

    def close(self) -> None:
        if self.shared is not None:
            self.shared.close()

    def ask(self, query: str, values: tuple[str, ...]) -> list[Any]:
        return self.beside._connection.execute(query, values).fetchall()

    def clear(self) -> None:
        for store in (self.store, self.beside):
            store._connection.executescript(
                "DELETE FROM spend; DELETE FROM counters; DELETE FROM reservations; DELETE FROM spend_adjustments"
            )
        self.restart()

    def reserve(self, claim: Claim, worker: int = 0) -> tuple[Admission, Admission]:
        (there,) = self.store.run([lambda db: reserve(db, claim, 0, b"")])
        tally = self.served_by[claim.request_id] = self.tallies[worker % self.workers]
        return there, tally.reserve(claim)

    def settle(self, claim: Claim, tokens: int, cost: int) -> None:
        assert self.store.run([spend.Settling(claim.request_id, tokens, cost, None)]) == [None]
        tally = self.served_by[claim.request_id]
        settled = tally.settle(claim, tokens, cost)
        assert settled is not None
        if changes := tally.changes():
            self.under_way.append(changes)
        self.under_way.append(Correction(tally, settled))
        assert self.beside.run([Charge(claim.at, cost)]) == [None]

    def write(self, undone: bool) -> None:
        """What was counted, by a commit that may come to nothing the first time."""
        self.under_way += filter(None, [tally.changes() for tally in self.tallies])
        works: list[Any] = list(self.under_way)
        if undone:
            with pytest.raises(StoreError):
                self.beside.run([*works, fail])
            return
        assert self.beside.run(works) == [None] * len(works)
        self.under_way.clear()

    def tables(self) -> list[dict[str, list[tuple[Any, ...]]]]:
        """Of both, but for days and months that are well past: what is counted in one then may stay or not."""
        found = [
            {
                name: store._connection.execute(f"SELECT * FROM {name} WHERE {which}").fetchall()  # noqa: S608 - constants
                for name, which in TABLES.items()
            }
            for store in (self.store, self.beside)
        ]
        latest: dict[int, str] = {}
        for store in (self.store, self.beside):  # one that holds alone begins a day, too
            for (period,) in store._connection.execute("SELECT period FROM spend"):
                latest[len(period)] = max(period, latest.get(len(period), ""))
        for tables in found:
            for name in ("spend", "spend_adjustments"):
                tables[name] = [row for row in tables[name] if row[1] >= kept_from(latest[len(row[1])])]
        return found


def told(there: Admission) -> Admission:
    """What is told in memory: of a request that is let through no more than the tightest bounds."""
    return there if there.refused else structs.replace(there, standings=())


def fail(db: sqlite3.Connection) -> None:
    raise sqlite3.OperationalError("the disk is full")


@pytest.fixture(scope="module", params=[1, 3], ids=["alone", "of three"])
def both(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("tally")
    it = Both(open_store(folder / "a.db"), open_store(folder / "b.db"), request.param)
    for store in (it.store, it.beside):
        store._connection.execute("PRAGMA synchronous = OFF")
    it.clear()
    yield it
    it.close()
    it.store.close()
    it.beside.close()


@pytest.fixture(autouse=True, scope="module")
def calm() -> Iterator[None]:
    """Plans run ahead with the second claim."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "_CALM", 1)
        yield


MOVES = st.lists(
    st.one_of(
        st.tuples(
            st.just("time"),
            st.sampled_from(
                [0.25, 0.75, 1.0, 30.0, 60.0, 61.0, -0.5, -30.0, 3600.0, -3600.0, DAY, 3 * DAY, -DAY]
            ),
        ),
        st.tuples(
            st.just("reserve"),
            st.integers(0, 127) | st.sampled_from([31, 127]),
            st.integers(0, 15),
            st.integers(0, 60),
            st.integers(0, 90),
        ),
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(-5, 70), st.integers(0, 90)),
        st.tuples(st.just("write"), st.booleans()),
        st.tuples(st.just("restart")),
        st.tuples(st.just("reread")),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(MOVES)
@example(  # what was corrected below nothing is not made up for by another
    [
        ("reserve", 64, 0, 4, 0),
        ("time", DAY),
        ("reserve", 64, 0, 0, 0),
        ("time", -DAY),
        ("reserve", 64, 0, 0, 0),
    ]
)
@example(
    [
        ("reserve", 0, 0, 0, 0),
        ("time", 3 * DAY),
        ("settle", 0, 0, 1),
        ("reserve", 0, 2, 0, 1),
        ("settle", 0, 0, 0),
    ]
)
@example(  # a window of which nothing was written yet
    [("reserve", 1, 0, 0, 0), ("time", 61.0), ("time", 61.0), ("reserve", 1, 0, 0, 0)]
)
@example(  # one that a commit was to write which came to nothing
    [
        ("reserve", 1, 0, 0, 0),
        ("write", True),
        ("time", 61.0),
        ("time", 61.0),
        ("reserve", 1, 0, 0, 0),
    ]
)
@example(  # a plan is ahead of its windows when another counts in one of them
    [*[("reserve", 14, 0, 4, 0)] * 3, ("reserve", 2, 0, 0, 0), *[("reserve", 14, 0, 4, 0)] * 3]
)
@example(  # what is spent after the store was asked anew is added to what it said
    [
        *[("reserve", 0, 1, 0, 0), ("settle", 0, 0, 90), ("reread",)],
        *[("reserve", 0, 1, 0, 0), ("settle", 0, 0, 90)] * 2,
        ("reserve", 0, 1, 0, 0),
    ]
)
def test_it_decides_as_the_store_does_and_leaves_the_same_in_it(
    both: Both, moves: list[tuple[Any, ...]]
) -> None:
    both.clear()
    now = NOON
    names = count()
    open_now: list[Claim] = []

    def settle(which: int, tokens: int, cost: int) -> None:
        both.settle(open_now.pop(which % len(open_now)), tokens, cost)

    for what, *values in moves:
        if what == "time":
            if not -30 < values[0] < (3600 if both.workers == 1 else 30):
                # What a commit finds counted before a jump and after it may be off by the tokens of a request; what
                # one process finds gone, another may still have to write.
                both.write(undone=False)
            now += values[0]
        elif what == "reserve":
            bounds, budgets, tokens, cost = values
            limits = [
                *(it for place, it in enumerate(BOUNDS) if bounds >> place & 1),
                *(it for place, it in enumerate(BUDGETS) if budgets >> place & 1),
            ]
            asked = claim(f"r{next(names)}", *limits, at=now, tokens=tokens, cost=cost)
            there, here = both.reserve(asked, tokens + len(open_now))
            assert here == told(there)
            if here.refused is None:
                open_now.append(asked)
        elif what == "settle" and open_now:
            settle(*values)
        elif what == "write":
            both.write(*values)
        elif what == "reread":
            both.write(undone=False)
            both.tallies[-1].overtaken()
            both.tallies[-1].reread()
            assert not both.memory.unwritten()
        elif what == "restart":
            while open_now:
                settle(0, 7, 5)
            both.write(undone=False)
            both.restart()
    while open_now:
        settle(0, 3, 9)
    both.write(undone=False)
    there, here = both.tables()
    assert here == there


def test_what_was_undone_counts_nowhere(both: Both) -> None:
    both.clear()
    tally = both.tally
    limits = (*BOUNDS, *BUDGETS)
    assert tally.reserve(claim("a", *limits, tokens=20, cost=100)).refused is None
    assert tally.reserve(claim("b", *limits, tokens=20, cost=100)).refused == BOUNDS[-1]
    tally.undo("a")
    assert tally.spent("user/a", "total") == Spent(0, 0)
    assert tally.reserve(claim("b", *limits, tokens=20, cost=100)).refused is None


def test_what_a_plan_has_counted_ahead_of_its_windows_is_undone_alike(both: Both) -> None:
    both.clear()
    limits = (Bound("user/a/*", "rpm", 9), Bound("user/a/*", "tpd", 90), Bound("user/a/*", "concurrency", 5))
    for name in "abcde":
        told = both.tally.reserve(claim(name, *limits, tokens=10)).told
    assert [it.left for it in told] == [4, 40]
    both.tally.undo("c")
    told = both.tally.reserve(claim("f", *limits, tokens=10)).told
    assert [it.left for it in told] == [4, 40]
    assert both.tally.reserve(claim("g", *limits, tokens=10)).refused == limits[2]


def test_the_widest_bounds_are_told_as_they_stand(both: Both) -> None:
    both.clear()
    limits = [Bound("user/a/*", kind, 2**63 - 1 - n) for n, kind in enumerate(("tpm", "tpd"))]
    for n in range(5):
        told = both.tally.reserve(claim(str(n), *limits, tokens=10)).told
        assert [(it.bound, it.left) for it in told] == [(limits[1], 2**63 - 12 - 10 * n)]
        both.tally.settle(claim(str(n), *limits, tokens=10), 10, 0)


def test_bounds_that_are_alike_are_counted_by_one_plan(both: Both) -> None:
    both.clear()
    for name in "ab":
        assert both.tally.reserve(claim(name, Bound("user/a/*", "rpm", 3))).refused is None
    assert len(set(both.tally._plans.values())) == 1


def test_what_one_process_has_counted_the_others_see_at_once() -> None:
    shared = Shared(2)
    here, there = (Tally(as_seen_by(shared, it), lambda query, values: []) for it in range(2))
    limits = (Bound("user/a/*", "rpm", 9), Bound("user/a/*", "tpd", 90), Bound("user/a/*", "concurrency", 9))
    for name in "abcde":
        here.reserve(claim(name, *limits, tokens=10))
    here.settle(claim("a", *limits, tokens=10), 20, 0)
    assert [it.left for it in there.reserve(claim("f", *limits, tokens=10)).told] == [3, 20]
    shared.close()


def test_who_has_other_limits_by_now_goes_by_them_while_others_are_ahead_by_the_old_ones() -> None:
    shared = Shared(2)
    here, there = (Tally(as_seen_by(shared, it), lambda query, values: []) for it in range(2))
    old, new = (Bound("user/a/*", "rpm", 99), Bound("user/a/*", "rpm", 6))
    for name in "abcd":
        assert here.reserve(claim(name, old)).refused is None
    assert [there.reserve(claim(name, new)).told[0].left for name in "ef"] == [1, 0]
    assert there.reserve(claim("g", new)).refused == new
    assert here.reserve(claim("h", old)).told[0].left == 92
    shared.close()


def test_others_may_be_ahead_by_a_plan_that_stands_in_memory_which_this_process_has_not_mapped_yet() -> None:
    shared = Shared(2)
    seen = [as_seen_by(shared, it) for it in range(2)]
    here, there = (Tally(it, lambda query, values: []) for it in seen)
    limits = (
        Bound("user/a/*", "rpm", 99),
        Bound("user/a/*", "tpd", 900),
        Bound("user/a/*", "concurrency", 99),
    )
    here.reserve(claim("a", *limits, tokens=10))
    with seen[1].turn:
        seen[1].place("much", 10**5)
    for name in "bcdef":
        there.reserve(claim(name, *limits, Bound("key/k", "rpm", 999), tokens=10))
    assert seen[1].cells[seen[1].place("window rpm user/a/*", 0) + LEADER] >= len(seen[0].cells)
    assert [it.left for it in here.reserve(claim("g", *limits, tokens=10)).told] == [92, 830]
    shared.close()


def test_nothing_comes_to_be_where_limits_are_that_are_known_by_their_place() -> None:
    """As after a reload, which makes all limits anew, most of them alike: what nobody keeps makes room for others."""
    tally = Tally(Own(), lambda query, values: [])
    places: set[int] = set()
    for _ in range(100):
        bounds, budgets = (Bound("user/a/*", "rpm", 999),), (Budget("user/a", "day", 999),)
        asked = structs.replace(claim("a"), bounds=bounds, budgets=budgets)
        assert tally.reserve(asked).refused is None
        tally.settle(asked, 0, 0)
        places |= {id(bounds), id(budgets)}
        del bounds, budgets, asked
    others = [(Bound("key/k", "rpm", 999),) for _ in range(1000)]
    assert places.isdisjoint(map(id, others))


def test_a_request_that_is_not_open_has_nothing_to_settle(both: Both) -> None:
    both.clear()
    both.tally.reserve(claim("a", *BOUNDS, cost=5))
    asked = claim("a", *BOUNDS, cost=5)
    assert both.tally.settle(asked, 5, 0) is not None
    assert both.tally.settle(asked, 5, 0) is None


def test_what_the_store_cannot_tell_lets_nothing_through_and_is_asked_again(both: Both) -> None:
    both.clear()
    answers: list[Any] = [StoreError("locked"), [], StoreError("locked"), [(7,)]]

    def ask(query: str, values: tuple[str, ...]) -> list[Any]:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return list(answer)

    tally = Tally(Own(), ask)
    asked = claim("a", BOUNDS[0], BUDGETS[3], cost=1)
    for _ in range(2):
        with pytest.raises(StoreError):
            tally.reserve(asked)
    assert tally.reserve(asked).told[0].left == 2, "the refusals have counted nothing"
    assert tally.spent("key/k", "total") == Spent(7, 1)


def test_a_charge_that_the_store_cannot_be_asked_about_is_seen_once_it_is_written() -> None:
    stands: list[int] = []

    def ask(query: str, values: tuple[str, ...]) -> list[Any]:
        if not stands:
            raise StoreError("locked")
        return [(stands[0],)]

    tally = Tally(Own(), ask)
    tally.settle(claim("a"), 0, 5)
    stands.append(5)  # by who wrote it
    assert tally.spent("user/a", "total") == Spent(5, 0)


def test_spend_stays_within_an_integer_of_sqlite() -> None:
    tally = Tally(Own(), lambda query, values: [])
    for _ in range(2):
        tally.settle(claim("a"), 0, MOST_SPENT_NANO)
    assert tally.spent("user/a", "total") == Spent(MOST_SPENT_NANO, 0)


def test_what_is_counted_while_changes_are_written_goes_with_the_next(both: Both) -> None:
    both.clear()
    tally = both.tally
    tally.reserve(claim("a", BOUNDS[0]))
    first = tally.changes()
    assert first is not None
    assert tally.changes() is None, "that one will take what comes until then"
    tally.reserve(claim("b", BOUNDS[0]))
    both.beside.run([first])
    tally.reserve(claim("c", BOUNDS[0]))
    second = tally.changes()
    assert second is not None
    query = "SELECT n FROM counters"
    assert both.beside._connection.execute(query).fetchall() == [(2,)]
    both.beside.run([second])
    assert both.beside._connection.execute(query).fetchall() == [(3,)]


def test_what_is_undone_while_the_store_fails_is_written_behind_what_it_undoes(both: Both) -> None:
    """Nothing in the store goes below 0, so what comes first must not take away what comes later."""
    both.clear()
    tally = both.tally
    tally.reserve(claim("a", BOUNDS[0]))
    first = tally.changes()
    assert first is not None
    taken: list[Changes] = []

    def meanwhile(db: sqlite3.Connection) -> None:
        tally.reserve(claim("b", BOUNDS[0]))
        taken.extend(filter(None, [tally.changes()]))

    with pytest.raises(StoreError):
        both.beside.run([first, meanwhile, fail])
    (second,) = taken
    with pytest.raises(StoreError):
        both.beside.run([second, fail])
    for name in "ab":
        tally.undo(name)
    third = tally.changes()
    assert third is not None
    for changes in (first, second, third):
        both.beside.run([changes])
    assert both.beside._connection.execute("SELECT n FROM counters").fetchall() == [(0,)]


@pytest.mark.parametrize("kind", ["rpm", "tpm"])
def test_a_refusal_tells_when_the_last_of_a_window_ends_as_the_store_does(both: Both, kind: str) -> None:
    """By a second that has been looked at already, and by one whose tokens were given back."""
    both.clear()
    bound = Bound("user/a/*", kind, 20)
    requests = [claim(f"r{n}", bound, at=NOON + n // 2 * 0.5, tokens=5) for n in range(30)]
    open_now = []
    for number, asked in enumerate(requests):
        there, here = both.reserve(asked)
        assert here == told(there)
        if here.refused is None:
            open_now.append(asked)
        if number % 4 == 3 and open_now:
            both.settle(open_now.pop(), 0, 0)
    assert len(open_now) < len(requests) - 7


def test_of_many_some_are_asked_for_anew_at_a_time_and_all_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_STALE", 10)
    stands = 1
    tally = Tally(Own(), lambda query, values: [(stands,)])
    scopes = [f"user/{number}" for number in range(24)]
    assert [tally.spent(scope, "total") for scope in scopes] == [Spent(1, 0)] * 24
    tally.reread()
    stands = 2
    tally.overtaken()
    told = []
    for _ in range(4):
        told.append(sum(tally.spent(scope, "total").spent_nano == 2 for scope in scopes))
        tally.reread()
    assert told == [0, 10, 20, 24]
    stands = 3
    assert {tally.spent(scope, "total").spent_nano for scope in scopes} == {2}


def test_what_somebody_has_changed_in_the_store_is_seen_by_a_plan_that_is_ahead_of_its_windows() -> None:
    rows: list[tuple[int, int]] = []
    memory = Own()
    tally = Tally(memory, lambda query, values: rows)
    bound, today = Bound("user/a/*", "rpd", 100), int(NOON) // DAY
    for n in range(5):
        assert tally.reserve(claim(f"r{n}", bound)).told[0].left == 99 - n
    rows.append((today, 97))
    tally.overtaken()
    tally.reread()
    for left in (2, 1, 0):
        assert tally.reserve(claim(f"left {left}", bound)).told[0].left == left
        assert memory.cells[memory.place("window rpd user/a/*", 0) + LEADER], "it runs ahead at once again"
    assert tally.reserve(claim("last", bound)).refused == bound


def test_what_another_has_yet_to_write_is_waited_for_before_the_store_is_asked_anew() -> None:
    shared = Shared(2)
    memory, other = as_seen_by(shared, 0), as_seen_by(shared, 1)
    stands = 1
    tally = Tally(memory, lambda query, values: [(stands,)])
    assert tally.spent("user/a", "total") == Spent(1, 0)
    other.handed()
    stands = 2
    tally.overtaken()
    tally.reread()
    assert tally.spent("user/a", "total") == Spent(1, 0)
    other.written(1)
    tally.reread()
    assert tally.spent("user/a", "total") == Spent(2, 0)
    shared.close()


@pytest.mark.parametrize("forgotten", ["before", "after"])
def test_what_one_could_not_count_off_yet_is_not_counted_off_twice_for_what_the_store_says(
    monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """The store is told of it by then, and another asks that anew, or who counts it off late does."""
    shared = Shared(2)
    rows: list[tuple[int, int]] = []
    one, other = (Tally(as_seen_by(shared, it), lambda query, values: rows) for it in (0, 1))
    bound, today = Bound("user/a/*", "tpd", 100), int(NOON) // DAY
    its = claim("its", bound, tokens=60)
    one.reserve(its)
    rows.append((today, 60))
    one.written(one.take()[2])
    if forgotten == "before":
        other.overtaken()
        other.reread()
    with monkeypatch.context() as patched:
        patched.setattr(Shared, "turn", property(lambda memory: Stopped()))
        settled = one.settle(its, 40, 0)
    assert settled == [([("user/a/*", "tpd", today)], -20)]
    rows[0] = (today, 40)
    one.written()
    if forgotten == "after":
        other.overtaken()
        other.reread()
        assert other.reserve(claim("refused", bound, tokens=70)).standings[0].left == 40
    one.catch_up()
    assert other.reserve(claim("refused", bound, tokens=70)).standings[0].left == 60
    one.written(one.take()[2])
    other.reread()
    assert other.reserve(claim("refused", bound, tokens=70)).standings[0].left == 60
    assert not shared.unwritten()
    shared.close()


class Stopped:
    """A turn that cannot be had."""

    def __enter__(self) -> None:
        raise StoreError("another worker has its turn for too long")

    def __exit__(self, *of: object) -> None:
        pass


@pytest.mark.parametrize("how", ["settle", "undo"])
def test_what_ended_while_no_turn_could_be_had_is_counted_off_by_whatever_comes_next(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    memory = Own()
    tally = Tally(memory, lambda query, values: [])
    limits = (Bound("user/a/*", "concurrency", 1), Budget("user/a", "total", 200))
    its = claim("its", *limits, cost=100)
    assert tally.reserve(its).refused is None
    with monkeypatch.context() as patched:
        patched.setattr(memory, "turn", Stopped())
        with pytest.raises(StoreError):
            tally.reserve(claim("other", *limits, cost=100))
        if how == "settle":
            tally.settle(its, 0, 40)
        else:
            tally.undo("its")
        tally.catch_up()
        assert tally.late
    assert tally.reserve(claim("next", *limits, cost=100)).refused is None
    assert not tally.late
    assert tally.spent("user/a", "total") == Spent(40 * (how == "settle"), 100)
