"""Limits and budgets hold whatever comes in whatever order; on a real store, with time as an argument."""

import math
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gproxy.errors import StoreError
from gproxy.ledger import spend
from gproxy.ledger.bulk import Entry
from gproxy.ledger.periods import period_key
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.weighing import WINDOW_S, Spent
from gproxy.values import Admission, Bound, Budget, Claim, Usage
from tests.kit.reserving import Charging, reserve
from tests.ledger.rows import record

NOON = 1_795_608_000.25
"""2026-11-25 12:00 UTC and a quarter of a second."""
DAY = 86_400
DOLLAR = 10**9


class Books:
    """A store, and requests against it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: Store = open_store(path)
        self._ids = count()

    def do(self, work: Callable[[Any], Any]) -> Any:
        (outcome,) = self.store.run([work])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def clear(self) -> None:
        self.store._connection.executescript(
            "DELETE FROM spend; DELETE FROM counters; DELETE FROM reservations; DELETE FROM usage;"
            "DELETE FROM spend_adjustments"
        )

    def reserve(
        self,
        *limits: Bound | Budget,
        at: float = NOON,
        tokens: int = 0,
        cost: int = 0,
        scopes: tuple[str, ...] = ("user/a", "key/k"),
        worker: int = 0,
        request_id: str = "",
        pending: bool = True,
    ) -> tuple[str, Admission]:
        """The id of the request and what became of its claim."""
        name = request_id or f"r{next(self._ids)}"
        claim = Claim(
            request_id=name,
            scopes=scopes,
            bounds=tuple(it for it in limits if isinstance(it, Bound)),
            budgets=tuple(it for it in limits if isinstance(it, Budget)),
            tokens=tokens,
            cost_nano=cost,
            at=at,
        )
        row = spend.pending(record(name, outcome="interrupted", cost_nano=None)) if pending else b""
        admission: Admission = self.do(lambda db: reserve(db, claim, worker, row))
        return name, admission

    def passes(self, *limits: Bound | Budget, **claim: Any) -> bool:
        """Whether a claim would be admitted; nothing stays of it."""
        seen: list[Admission] = []

        def try_it(db: Any) -> None:
            inner = Claim(
                request_id="tried",
                scopes=(),
                bounds=tuple(it for it in limits if isinstance(it, Bound)),
                budgets=tuple(it for it in limits if isinstance(it, Budget)),
                **{"tokens": 0, "cost_nano": 0, "at": NOON, **claim},
            )
            seen.append(reserve(db, inner, 0, b""))
            raise LookupError("to be rolled back")

        with pytest.raises(StoreError, match="rolled back"):
            self.do(try_it)
        return seen[0].refused is None

    def settle(self, name: str, *, tokens: int = 0, cost: int | None = 0, row: bool = True) -> None:
        what = record(name, cost_nano=cost) if row else None
        self.do(spend.Settling(name, tokens, cost, what))

    def recover(self, worker: int | None = None) -> int:
        return spend.recover(self.store, worker)

    def spent(self, scope: str = "user/a", period: str = "total", now: float = NOON) -> Spent:
        return spend.spent(self.path, [(scope, period)], now)[scope, period]

    def used(self, bound: Bound, now: float = NOON) -> int:
        (standing,) = spend.standings(self.path, [bound], now)
        return bound.most - standing.left

    def table(self, name: str) -> list[tuple[Any, ...]]:
        with closing(connect(self.path)) as db:
            return db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()  # noqa: S608 - our own names


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    it = Books(tmp_path / "gproxy.db")
    yield it
    it.store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """For property tests, which clear it before each example."""
    it = Books(tmp_path_factory.mktemp("spend") / "gproxy.db")
    it.store._connection.execute("PRAGMA synchronous = OFF")
    yield it
    it.store.close()


def passed(outcome: tuple[str, Admission]) -> bool:
    return outcome[1].refused is None


# Requests and tokens a minute.

GAPS = st.one_of(
    st.sampled_from([0.0, 0.25, 0.75, 1.0, 30.0, 59.0, 59.75, 60.0, 60.5, 61.0]),
    st.floats(0, 90, allow_nan=False).map(lambda gap: round(gap, 3)),
)


@settings(deadline=None)
@given(st.sampled_from(["rpm", "tpm"]), st.integers(1, 6), st.lists(st.tuples(GAPS, st.integers(0, 9))))
def test_no_sixty_seconds_hold_more_than_the_limit_and_retry_after_is_never_too_early(
    shared: Books, kind: str, most: int, arrivals: list[tuple[float, int]]
) -> None:
    """Against a plain list of what was let through, and when."""
    shared.clear()
    bound = Bound("rule", kind, most)
    let_through: list[tuple[float, int]] = []
    now = NOON
    for gap, tokens in arrivals:
        now += gap
        need = min(tokens, most) if kind == "tpm" else 1
        _, admission = shared.reserve(bound, at=now, tokens=tokens)
        within = sum(n for at, n in let_through if at >= now - 60)
        if admission.refused is None:
            assert within + need <= most
            let_through.append((now, need))
        else:
            # Only the rounding to whole seconds may refuse what sixty seconds would have let pass.
            assert sum(n for at, n in let_through if at > now - 61) + need > most
            assert 0 < admission.retry_after <= 61
            assert shared.passes(bound, at=now + math.ceil(admission.retry_after), tokens=tokens)


def test_a_request_counts_for_at_least_sixty_seconds_from_any_moment_of_its_second(books: Books) -> None:
    bound = Bound("rule", "rpm", 1)
    start = math.floor(NOON) + 0.999
    assert passed(books.reserve(bound, at=start))
    _, refused = books.reserve(bound, at=start + 60)
    assert refused.refused == bound
    assert refused.retry_after == pytest.approx(0.001, abs=1e-6)
    assert passed(books.reserve(bound, at=start + 60.002))


def test_a_minute_takes_no_more_rows_than_it_has_seconds(books: Books) -> None:
    bound = Bound("rule", "rpm", 10**6)
    for second in range(200):
        books.reserve(bound, at=NOON + second)
    assert len(books.table("counters")) == WINDOW_S
    assert books.used(bound, NOON + 199) == 61


def test_a_clock_that_is_set_back_lets_nothing_more_through(books: Books) -> None:
    bound = Bound("rule", "rpm", 1)
    assert passed(books.reserve(bound, at=NOON))
    assert not passed(books.reserve(bound, at=NOON - 30))


@pytest.mark.parametrize("kind", ["rpm", "tpm", "rpd", "tpd"])
@pytest.mark.parametrize("ahead", [3 * DAY, 400 * DAY])
def test_a_clock_that_was_once_ahead_keeps_nobody_out(books: Books, kind: str, ahead: float) -> None:
    bound = Bound("rule", kind, 1)
    name, _ = books.reserve(bound, at=NOON + ahead, tokens=1)
    assert books.used(bound) == 0
    assert passed(books.reserve(bound, tokens=1))
    assert len(books.table("counters")) == 1, "it does not stay to count when its time comes"
    books.settle(name, tokens=1)
    assert books.used(bound) == 1


def test_tokens_are_reserved_and_settled_to_the_truth(books: Books) -> None:
    bound = Bound("rule", "tpm", 100)
    name, _ = books.reserve(bound, tokens=60)
    assert not passed(books.reserve(bound, tokens=41))
    books.settle(name, tokens=10)
    assert books.used(bound) == 10
    name, admission = books.reserve(bound, tokens=90)
    assert admission.refused is None
    books.settle(name, tokens=500)
    assert books.used(bound) == 100
    assert books.table("counters")[0][-1] == 510


def test_a_request_of_more_tokens_than_the_limit_passes_alone(books: Books) -> None:
    bound = Bound("rule", "tpm", 100)
    assert passed(books.reserve(bound, tokens=5000))
    assert not passed(books.reserve(bound, tokens=1))
    assert passed(books.reserve(bound, tokens=5000, at=NOON + 61))


@pytest.mark.parametrize("reported", [10**30, -(10**30), -5])
def test_nonsense_of_an_upstream_about_tokens_is_settled_all_the_same(books: Books, reported: int) -> None:
    bounds = (Bound("rule", "tpm", 100), Bound("rule", "tpd", 100), Bound("rule", "concurrency", 1))
    other, _ = books.reserve(*bounds[:2], tokens=10)
    name, _ = books.reserve(*bounds, tokens=20)
    books.settle(name, tokens=reported)
    assert books.used(bounds[2]) == 0
    assert books.used(bounds[0]) == books.used(bounds[1]) == (100 if reported > 0 else 10)
    assert [row[0] for row in books.table("reservations")] == [other]


def test_tokens_that_come_after_their_minute_count_nowhere(books: Books) -> None:
    bound = Bound("rule", "tpm", 100)
    late, _ = books.reserve(bound, tokens=50)
    assert passed(books.reserve(bound, tokens=100, at=NOON + 100))
    books.settle(late, tokens=90)
    assert books.used(bound, NOON + 100) == 100


# Days.


@pytest.mark.parametrize(("kind", "tokens"), [("rpd", 0), ("tpd", 5)])
def test_a_day_is_the_utc_day_and_survives_a_restart(tmp_path: Path, kind: str, tokens: int) -> None:
    bound = Bound("rule", kind, 1 if kind == "rpd" else 5)
    first = Books(tmp_path / "gproxy.db")
    assert passed(first.reserve(bound, tokens=tokens, request_id="first"))
    first.store.close()
    books = Books(tmp_path / "gproxy.db")
    midnight = (NOON // DAY + 1) * DAY
    _, refused = books.reserve(bound, at=midnight - 0.5, tokens=tokens)
    assert (refused.refused, refused.retry_after) == (bound, 0.5)
    assert passed(books.reserve(bound, at=midnight, tokens=tokens))
    assert not passed(books.reserve(bound, at=midnight + DAY - 0.001, tokens=tokens))
    books.store.close()


@pytest.mark.parametrize(("kind", "tokens"), [("rpd", 0), ("tpd", 5)])
@pytest.mark.parametrize("hours", [-36, -1, 1, 36])
def test_a_clock_that_is_wrong_by_hours_and_set_right_forgets_no_day(
    books: Books, kind: str, tokens: int, hours: int
) -> None:
    """Whether midnight, or two of them, come between or not."""
    bound = Bound("rule", kind, 2 * max(1, tokens))
    midnight = (NOON // DAY + 1) * DAY
    right, wrong = midnight - 60, midnight - 60 + hours * 3600
    assert passed(books.reserve(bound, at=right, tokens=tokens))
    assert passed(books.reserve(bound, at=wrong, tokens=tokens))
    assert passed(books.reserve(bound, at=right, tokens=tokens)) == (hours != -1)
    assert not passed(books.reserve(bound, at=right, tokens=tokens))


def test_days_that_are_well_past_are_forgotten(books: Books) -> None:
    bound = Bound("rule", "rpd", 9)
    for day in range(20):
        books.reserve(bound, at=NOON + day * DAY)
    assert {row[2] for row in books.table("counters")} == {int(NOON // DAY) + day for day in (17, 18, 19)}


def test_tokens_of_a_request_over_midnight_are_of_the_day_it_began(books: Books) -> None:
    bound = Bound("rule", "tpd", 100)
    name, _ = books.reserve(bound, tokens=10)
    books.settle(name, tokens=70)
    assert (books.used(bound), books.used(bound, NOON + DAY)) == (70, 0)


# Requests at once.


@settings(deadline=None)
@given(st.integers(1, 4), st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=40))
def test_requests_at_once_are_never_more_and_end_at_zero(
    shared: Books, most: int, moves: list[int | None]
) -> None:
    """A move is a request, or the end of one of those open."""
    shared.clear()
    bound = Bound("rule", "concurrency", most)
    open_now: list[str] = []
    for move in moves:
        if move is None:
            name, admission = shared.reserve(bound)
            assert (admission.refused is None) == (len(open_now) < most)
            if admission.refused is None:
                open_now.append(name)
        elif open_now:
            shared.settle(open_now.pop(move % len(open_now)), row=False)
        assert shared.used(bound) == len(open_now)
    shared.recover()
    assert shared.used(bound) == 0


# What is refused.


def test_a_refusal_counts_nothing_in_any_counter(books: Books) -> None:
    bounds = [Bound("rule", kind, 1) for kind in ("rpm", "rpd", "tpm", "tpd", "concurrency")]
    full = Bound("key/k", "rpm", 1)
    budget = Budget("user/a", "total", DOLLAR)
    books.reserve(full)
    before = (books.table("counters"), books.table("spend"), books.table("reservations"))
    assert not passed(books.reserve(*bounds, budget, full, tokens=1, cost=5))
    assert not passed(books.reserve(*bounds, replace(budget, carried_nano=DOLLAR), tokens=1, cost=5))
    assert (books.table("counters"), books.table("spend"), books.table("reservations")) == before
    assert passed(books.reserve(*bounds, budget, tokens=1, cost=5))


def test_what_stands_is_told_with_this_request_if_it_passes_and_without_if_not(books: Books) -> None:
    minute, day, key = Bound("rule", "rpm", 3), Bound("rule", "rpd", 10), Bound("key/k", "rpm", 1)
    _, first = books.reserve(minute, day, key)
    assert [(s.left, s.resets_in) for s in first.standings] == [(2, 60.75), (9, DAY / 2 - 0.25), (0, 60.75)]
    _, second = books.reserve(minute, day, key)
    assert second.refused == key
    assert [s.left for s in second.standings] == [2, 9, 0]


def test_of_several_full_bounds_the_one_that_is_full_for_longest_refuses(books: Books) -> None:
    """Who waits as long as told must get through."""
    minute, day, other = Bound("rule", "rpm", 1), Bound("rule", "rpd", 1), Bound("key/k", "rpm", 1)
    books.reserve(minute, day)
    books.reserve(other, at=NOON + 20)
    _, refused = books.reserve(minute, other, day, at=NOON + 30)
    assert refused.refused == day
    _, refused = books.reserve(minute, other, at=NOON + 30)
    assert refused.refused == other
    assert passed(books.reserve(minute, other, at=NOON + 30 + math.ceil(refused.retry_after)))


# Money.

BUDGETS = (
    Budget("user/a", "total", 100, carried_nano=10),
    Budget("user/a", "day", 60),
    Budget("key/k", "total", 80),
    Budget("user/a", "month", 95),
)
RESERVE = st.tuples(st.just("reserve"), st.integers(0, 50), st.integers(0, 15))
SETTLE = st.tuples(st.just("settle"), st.integers(0, 70), st.integers(0, 20))
MOVES = st.one_of(
    RESERVE,
    RESERVE,
    SETTLE,
    SETTLE,
    st.tuples(st.just("unpriced"), st.just(0), st.integers(0, 20)),
    st.tuples(st.just("recover"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("time"), st.integers(0, 2 * DAY), st.just(0)),
)


Key = tuple[str, str]


def key_of(budget: Budget, now: float) -> Key:
    return budget.scope, period_key(budget.period, now)


@dataclass(frozen=True)
class Asked:
    """An open request: its estimate, where that is held, and how much of each budget it was admitted for."""

    cost: int
    keys: set[Key]
    allowed: dict[Key, int]


@settings(deadline=None, max_examples=200)
@given(st.lists(MOVES, max_size=40))
def test_no_interleaving_passes_the_bound_or_leaves_something_held(
    shared: Books, moves: list[tuple[str, int, int]]
) -> None:
    """The bound, for each budget: whenever a request is admitted, the spend and all that open requests were
    admitted for (an estimate; for one that was alone, what was left) are within the quota together. So the
    spend passes it by no more than what requests open side by side cost beyond what they were admitted for.
    """
    shared.clear()
    now = NOON
    open_now: dict[str, Asked] = {}
    over: dict[Key, int] = {}
    last: dict[Key, int] = {}

    def spent(budget: Budget, at: float) -> Spent:
        return shared.spent(budget.scope, budget.period, at)

    def end(name: str, cost: int) -> None:
        for key, allowed in open_now.pop(name).allowed.items():
            over[key] = over.get(key, 0) + max(0, cost - allowed)

    for move, amount, which in moves:
        if move == "time":
            now += amount
        elif move == "reserve":
            budgets = [b for index, b in enumerate(BUDGETS) if which >> index & 1]
            lefts = {b: b.most_nano - b.carried_nano - spent(b, now).spent_nano for b in budgets}
            held = {b: spent(b, now).held_nano for b in budgets}
            name, admission = shared.reserve(*budgets, at=now, cost=amount, worker=len(open_now) % 2)
            fitting = [held[b] + amount <= lefts[b] or (held[b] == 0 and lefts[b] > 0) for b in budgets]
            assert (admission.refused is None) == all(fitting)
            if admission.refused is None:
                # What a request spends that comes under no budget, all of it is beyond.
                allowed = {key_of(b, now): min(amount, lefts[b]) if b in budgets else 0 for b in BUDGETS}
                open_now[name] = Asked(amount, {key_of(b, now) for b in budgets}, allowed)
                over.update(dict.fromkeys(open_now[name].keys, 0))
        elif move == "recover":
            # One of two workers has died: nothing is known of what its requests cost.
            names = {row[0] for row in shared.table("reservations") if row[1] == which}
            assert shared.recover(which) == len(names)
            for name in names:
                end(name, 0)
        elif open_now:
            name = list(open_now)[which % len(open_now)]
            shared.settle(name, cost=None if move == "unpriced" else amount)
            end(name, amount)
        for budget in BUDGETS:
            it, key = spent(budget, now), key_of(budget, now)
            assert it.held_nano == sum(asked.cost for asked in open_now.values() if key in asked.keys)
            if key in over:
                assert it.spent_nano + budget.carried_nano <= budget.most_nano + over[key]
            assert it.spent_nano >= last.get(key, 0) >= 0
            last[key] = it.spent_nano
    shared.recover()
    assert all(held == 0 for _, _, _, held in shared.table("spend"))
    assert shared.table("reservations") == []


def test_the_last_dollar_can_be_spent_by_a_request_that_is_alone(books: Books) -> None:
    budget = Budget("user/a", "total", 100)
    name, admission = books.reserve(budget, cost=5000)
    assert admission.refused is None
    _, beside = books.reserve(budget, cost=1)
    assert (beside.refused, beside.fits_alone) == (budget, True)
    books.settle(name, cost=99)
    name, admission = books.reserve(budget, cost=5000)
    assert admission.refused is None
    books.settle(name, cost=7)
    _, spent = books.reserve(budget, cost=0)
    assert (spent.refused, spent.fits_alone) == (budget, False)
    assert books.spent() == Spent(106, 0)


def test_requests_side_by_side_are_admitted_as_far_as_their_estimates_fit(books: Books) -> None:
    budget = Budget("user/a", "total", DOLLAR)
    names = [
        name
        for name, admission in (books.reserve(budget, cost=DOLLAR // 10) for _ in range(200))
        if admission.refused is None
    ]
    assert len(names) == 10
    for name in names:
        books.settle(name, cost=DOLLAR // 10)
    assert books.spent() == Spent(DOLLAR, 0)
    assert not passed(books.reserve(budget, cost=1))


def test_a_cost_adds_to_every_period_of_the_user_and_the_key_also_without_a_quota(books: Books) -> None:
    """So a quota that is set later finds what was spent before."""
    name, _ = books.reserve(pending=False)
    books.settle(name, cost=7, row=False)
    assert books.table("usage") == []
    for scope in ("user/a", "key/k"):
        assert [books.spent(scope, period).spent_nano for period in ("total", "day", "month")] == [7, 7, 7]


def test_days_and_months_begin_anew_and_totals_do_not(books: Books) -> None:
    day, month = Budget("user/a", "day", 10), Budget("user/a", "month", 20)
    total = Budget("user/a", "total", 30)
    spent_until: list[float] = []
    for at in (NOON, NOON + DAY, NOON + 2 * DAY, NOON + 10 * DAY, NOON + 60 * DAY):
        name, admission = books.reserve(day, month, total, at=at, cost=10)
        if admission.refused is None:
            books.settle(name, cost=10)
            spent_until.append(at)
    assert spent_until == [NOON, NOON + DAY, NOON + 10 * DAY]


def test_what_is_charged_without_a_row_is_noted_by_the_day(books: Books) -> None:
    for at in (NOON, NOON + 60, NOON + DAY):
        name, _ = books.reserve(at=at, scopes=("user/a",))
        books.settle(name, cost=7, row=False)
    midnight = "2026-11-25T00:00:00.000Z"
    next_midnight = "2026-11-26T00:00:00.000Z"
    assert books.table("spend_adjustments") == [
        ("user/a", "2026-11", "unrecorded", midnight, 14),
        ("user/a", "2026-11", "unrecorded", next_midnight, 7),
        ("user/a", "2026-11-25", "unrecorded", midnight, 14),
        ("user/a", "2026-11-26", "unrecorded", next_midnight, 7),
        ("user/a", "total", "unrecorded", midnight, 14),
        ("user/a", "total", "unrecorded", next_midnight, 7),
    ]


def test_a_row_of_the_day_it_is_charged_in_is_its_own_explanation(books: Books) -> None:
    for at, started_at in ((NOON, "2026-11-25T00:00:00.000Z"), (NOON + DAY, "2026-11-25T23:59:59.999Z")):
        row = record(started_at, started_at=started_at, cost_nano=7)
        books.do(Charging(("user/a",), at, 7, row))
    assert books.table("spend_adjustments") == [
        ("user/a", "2026-11-25", "midnight", "2026-11-25T23:59:59.999Z", -7),
        ("user/a", "2026-11-26", "midnight", "2026-11-25T23:59:59.999Z", 7),
    ]


def test_a_new_day_or_month_ends_those_well_before_it_of_its_scope(books: Books) -> None:
    for days in (0, 1, 10, 11, 12, 13, 40):
        name, _ = books.reserve(at=NOON + days * DAY)
        books.settle(name, cost=7)
        if days == 13:
            kept = {row[1] for row in books.table("spend")}
            assert kept == {"total", "2026-11", "2026-12", "2026-12-06", "2026-12-07", "2026-12-08"}
    for scope in ("user/a", "key/k"):
        assert {row[1:] for row in books.table("spend") if row[0] == scope} == {
            ("total", 49, 0),
            ("2026-12", 28, 0),
            ("2027-01", 7, 0),
            ("2027-01-04", 7, 0),
        }


@pytest.mark.parametrize("period", ["day", "month"])
@pytest.mark.parametrize("hours", [-1, 1, 36])
def test_a_clock_that_is_wrong_by_hours_and_set_right_forgets_no_spend(
    books: Books, period: str, hours: int
) -> None:
    """Over the end of a month, which is that of a day."""
    budget = Budget("user/a", period, 10)
    right = datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp()
    for at in (right, right + hours * 3600):
        name, _ = books.reserve(budget, at=at, cost=5)
        books.settle(name, cost=5)
    spent_then = 10 if hours < 0 else 5
    assert books.spent(period=period, now=right) == Spent(spent_then, 0)
    name, admission = books.reserve(budget, at=right, cost=5)
    assert (admission.refused is None) == (hours > 0)


def test_a_request_over_midnight_is_settled_in_the_day_it_began(books: Books) -> None:
    budget = Budget("user/a", "day", 100)
    early, _ = books.reserve(budget, cost=40, scopes=("user/a", "key/k"))
    first, _ = books.reserve(budget, cost=10, at=NOON + DAY, scopes=("user/a", "key/k"))
    books.settle(first, cost=10)
    assert books.spent(period="day") == Spent(0, 40)
    books.settle(early, cost=30)
    assert books.spent(period="day") == books.spent("key/k", "day") == Spent(30, 0)
    later = NOON + DAY
    assert books.spent(period="day", now=later) == books.spent("key/k", "day", later) == Spent(10, 0)
    assert books.spent() == Spent(40, 0)
    last, _ = books.reserve(at=NOON + 9 * DAY)
    books.settle(last, cost=1)
    assert {row[1] for row in books.table("spend")} == {"total", "2026-11", "2026-12", "2026-12-04"}


def test_spend_never_leaves_what_an_integer_of_sqlite_can_hold(books: Books) -> None:
    books.do(lambda db: db.execute("INSERT INTO spend VALUES ('user/a', 'total', 9000000000000000000, 0)"))
    name, _ = books.reserve()
    books.settle(name, cost=10**15)
    assert books.spent().spent_nano == 9 * 10**18


# Once, and after a death.


def everything() -> tuple[Bound | Budget, ...]:
    bounds = (Bound("rule", kind, 100) for kind in ("rpm", "rpd", "tpm", "tpd", "concurrency"))
    return (*bounds, Budget("user/a", "total", DOLLAR), Budget("key/k", "day", DOLLAR))


def tables(books: Books) -> list[list[tuple[Any, ...]]]:
    return [books.table(name) for name in ("counters", "spend", "reservations", "usage")]


@pytest.mark.parametrize("first", ["settle", "recover"])
def test_what_comes_after_the_end_of_a_request_changes_nothing(books: Books, first: str) -> None:
    name, _ = books.reserve(*everything(), tokens=40, cost=50)
    if first == "settle":
        books.settle(name, tokens=30, cost=60)
    else:
        assert books.recover() == 1
    ended = tables(books)
    books.settle(name, tokens=99, cost=99)
    assert books.recover() == 0
    assert tables(books) == ended
    assert len(books.table("usage")) == 1
    assert books.used(Bound("rule", "concurrency", 100)) == 0


def test_what_a_dead_process_left_is_settled_as_interrupted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = Books(tmp_path / "gproxy.db")
    row = record("dead", outcome="interrupted", status=503, cost_nano=None, usage=Usage(input_tokens=9))
    claim = Claim(
        request_id="dead",
        scopes=("user/a",),
        bounds=(Bound("rule", "tpd", 100), Bound("rule", "rpd", 100)),
        budgets=(Budget("user/a", "total", 100),),
        tokens=50,
        cost_nano=70,
        at=NOON,
    )
    before.do(lambda db: reserve(db, claim, 1, spend.pending(row)))
    before.reserve(request_id="alive", worker=0)
    before.reserve(request_id="silent", worker=1, pending=False)
    before.store.close()
    assert spend.recover_store(tmp_path / "gproxy.db", 1) == 2
    books = Books(tmp_path / "gproxy.db")
    assert [row[0] for row in books.table("reservations")] == ["alive"]
    ((_, request_id, *_),) = books.table("usage")
    assert request_id == "dead"
    assert books.spent() == Spent(0, 0)
    assert [books.used(bound) for bound in claim.bounds] == [9, 1]
    books.store.close()
    assert spend.recover_store(tmp_path / "gproxy.db", None) == 1
    assert spend.recover_store(tmp_path / "gproxy.db", None) == 0
    assert [line.getMessage() for line in caplog.records] == [
        "settled 2 requests that a worker that died left open",
        "settled 1 request that the last server left open",
    ]


def test_a_row_comes_back_as_it_was_kept(books: Books) -> None:
    row = record("kept", usage=Usage(input_tokens=3), error="ä 🙂", cost_nano=None, alias="fast", ttft_ms=4)
    claim = Claim(request_id="kept", scopes=(), bounds=(), budgets=(), tokens=0, cost_nano=0, at=NOON)
    books.do(lambda db: reserve(db, claim, 0, spend.pending(row)))
    books.recover()
    books.do(Entry(structs.replace(row, request_id="plain")))
    recovered, plain = books.table("usage")
    assert recovered[2:] == plain[2:]


def test_a_reservation_fits_its_page(books: Books) -> None:
    """Beyond a quarter of a page it would take one more, to be written twice and given back."""
    row = record("kept", usage=Usage(input_tokens=3), error="the process that served it ended", ttft_ms=4)
    kinds = ("rpm", "rpd", "tpm", "tpd", "concurrency")
    claim = Claim(
        request_id="req_0123456789abcdef01234567",
        scopes=("user/alice", "key/0123456789ab"),
        bounds=tuple(Bound("user/alice/*", kind, 10**9) for kind in kinds),
        budgets=(Budget("user/alice", "month", 10**12),),
        tokens=100_000,
        cost_nano=10**9,
        at=NOON,
    )
    books.do(lambda db: reserve(db, claim, 0, spend.pending(row)))
    ((*_, hold, kept),) = books.table("reservations")
    assert len(hold) + len(kept) < 950


UNREADABLE = [
    "{",
    "[1]",
    "null",
    '[1, ["user/a"], [["r", "tpd"]], [], 0]',
    '[1, ["user/a"], [["r", "tpd", "today", 1]], [], 0]',
    '["noon", ["user/a"], [], [], 0]',
    '[1, "user/a", [], [], 0]',
    '[1, ["user/a"], [], ["to"], 0]',
]


@pytest.mark.parametrize("hold", UNREADABLE)
def test_what_cannot_be_read_is_dropped_and_the_rest_recovered(
    books: Books, hold: str, caplog: pytest.LogCaptureFixture
) -> None:
    slots = Bound("rule", "concurrency", 100)
    for name in ("before", "broken", "later"):
        books.reserve(slots, Budget("user/a", "total", DOLLAR), request_id=name, cost=9)
    books.do(lambda db: db.execute("UPDATE reservations SET hold = ? WHERE request_id = 'broken'", (hold,)))
    assert spend.recover_store(books.path, None) == 2
    assert books.table("reservations") == []
    assert [row[1] for row in books.table("usage")] == ["before", "later"]
    assert books.used(slots) == 0
    assert books.spent() == Spent()
    (level, message), (_, settled) = [(line.levelname, line.getMessage()) for line in caplog.records]
    assert level == "WARNING"
    assert "broken" in message
    assert settled == "settled 2 requests that the last server left open"


def test_a_store_that_is_made_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "gproxy.db"
    spend.recover_store(path, None)
    assert "made a new usage store" in caplog.text
    caplog.clear()
    spend.recover_store(path, None)
    assert not caplog.text


def test_a_worker_begins_no_store_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="removed while the server runs: restart the server"):
        spend.recover_store(tmp_path / "gproxy.db", 0)
    assert not (tmp_path / "gproxy.db").exists()


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_log_that_a_killed_server_left_and_somebody_removed_is_missed(
    tmp_path: Path, ends_well: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gproxy.db"
    spend.recover_store(path, None)
    store = open_store(path)
    store.begin_use()
    if ends_well:
        store.end_use()
    store.close()  # which removes the log
    caplog.clear()
    spend.recover_store(path, None)
    assert ("gproxy.db-wal has been removed" in caplog.text) == (not ends_well)


def test_what_is_foreseen_is_what_then_happens_and_counts_nothing(books: Books) -> None:
    minute, day, budget = Bound("rule", "rpm", 1), Bound("rule", "rpd", 1), Budget("user/a", "total", 10)
    books.reserve(minute, day)
    for limits in ((minute, day), (minute,), (budget,), (replace(budget, carried_nano=10),)):
        claim = Claim(
            request_id="x",
            scopes=(),
            bounds=tuple(it for it in limits if isinstance(it, Bound)),
            budgets=tuple(it for it in limits if isinstance(it, Budget)),
            tokens=1,
            cost_nano=1,
            at=NOON,
        )
        before = tables(books)
        foreseen = spend.foresee(books.path, claim)
        assert tables(books) == before
        _, admission = books.reserve(*limits, tokens=1, cost=1)
        assert structs.replace(admission, told=(), standings=()) == foreseen


def test_without_a_store_nothing_is_spent_and_all_is_left(tmp_path: Path) -> None:
    path, bound = tmp_path / "none.db", Bound("rule", "rpm", 7)
    assert spend.spent(path, [("user/a", "day")], NOON) == {("user/a", "day"): Spent()}
    (standing,) = spend.standings(path, [bound], NOON)
    assert (standing.left, standing.resets_in) == (7, 0)
    assert not path.exists()


def test_however_many_bounds_there_are_each_is_told_where_it_stands(tmp_path: Path) -> None:
    bounds = [Bound(f"rule {number}", "rpd", number) for number in range(1201)]
    standings = spend.standings(tmp_path / "none.db", bounds, NOON)
    assert [(standing.bound, standing.left) for standing in standings] == [(b, b.most) for b in bounds]


# Several processes.


def _hammer(path: Path, process: int, limit: Bound | Budget, requests: int, end: bool) -> tuple[int, int]:
    """How many were let through, and the most that was ever seen in use by a request that was."""
    books = Books(path)
    through = most = 0
    for number in range(requests):
        name, admission = books.reserve(limit, cost=DOLLAR // 10, request_id=f"{process}-{number}")
        if admission.refused is None:
            through += 1
            most = max([most, *(s.bound.most - s.left for s in admission.standings)])
            if end:
                books.settle(name, cost=DOLLAR // 10)
    books.store.close()
    return through, most


@pytest.mark.parametrize(
    ("limit", "end", "exactly"),
    [
        (Bound("rule", "rpm", 25), True, 25),
        (Bound("rule", "rpd", 25), True, 25),
        (Bound("rule", "concurrency", 25), False, 25),
        (Budget("user/a", "total", DOLLAR), True, 10),
        (Budget("user/a", "total", DOLLAR), False, 10),
    ],
    ids=["rpm", "rpd", "concurrency", "quota-settled", "quota-held"],
)
def test_exactly_as_many_pass_in_several_processes(
    tmp_path: Path, limit: Bound | Budget, end: bool, exactly: int
) -> None:
    path = tmp_path / "gproxy.db"
    open_store(path).close()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        results = pool.starmap(_hammer, [(path, process, limit, 40, end) for process in range(3)])
    assert sum(through for through, _ in results) == exactly
    books = Books(path)
    assert books.recover() == (0 if end else exactly)
    assert books.spent() == Spent(exactly * DOLLAR // 10 if end else 0, 0)
    assert books.used(Bound("rule", "concurrency", 25)) == 0
    books.store.close()


def test_a_row_that_cannot_be_read_is_released_without_one(books: Books) -> None:
    """As another version of gproxy may have left it."""
    books.reserve(*everything(), tokens=40, cost=50)
    books.do(lambda db: db.execute("UPDATE reservations SET record = ?", (b'{"shape": "of old"}',)))
    assert books.recover() == 1
    assert books.table("usage") == []
    assert books.used(Bound("rule", "concurrency", 100)) == 0
