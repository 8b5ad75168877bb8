"""Limits and budgets as they are counted: a claim is reserved before a request goes on, and settled when it ends.

Each is one operation inside the writer's transaction (`BEGIN IMMEDIATE`), so what it reads is still true when it
writes, for any number of processes. Which bounds and budgets apply is decided in `routing/limits.py`.

A minute is the 60 seconds before this one and this one, counted by the second: a request at any moment of second s
counts until second s + 60 has passed, so never less than 60 s. A day is the UTC day.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import structs

from gproxy.errors import StoreError
from gproxy.ledger import adjustments, sqlite
from gproxy.ledger.bulk import Bulk, Posting
from gproxy.ledger.periods import DAY_S, KEPT_DAYS, period_key, periods
from gproxy.ledger.rows import MOST_TOKENS
from gproxy.ledger.schema import STEPS
from gproxy.ledger.sqlite import connect_read_only, remedy, sqlite3
from gproxy.ledger.store import Store, open_store
from gproxy.values import Admission, Bound, Claim, Record, Standing, Usage

logger = logging.getLogger(__name__)

WINDOW_S = 61
_SLIDING = frozenset({"rpm", "tpm"})
_BY_TOKENS = frozenset({"tpm", "tpd"})

_USED = """
    SELECT {place}, ifnull(sum(n), 0), max(CASE WHEN n > 0 THEN slot END) FROM counters
    WHERE rule = ? AND kind = ? AND slot BETWEEN ? AND ?
"""
_MOST_COUNTED = 100  # bounds in one statement: a user may have a thousand rules, and SQLite takes 500 parts
_COUNT = """
    INSERT INTO counters (rule, kind, slot, n) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET n = n + excluded.n
"""
_CLOSE = "DELETE FROM reservations WHERE request_id = ? RETURNING hold"
_FORGET = "DELETE FROM counters WHERE rule = ? AND kind = ? AND slot NOT BETWEEN ? AND ?"


@dataclass(frozen=True, slots=True)
class Spent:
    """What one scope has spent and holds in one period, in nano-dollars."""

    spent_nano: int = 0
    held_nano: int = 0


class _Count(NamedTuple):
    """What counts against a bound in its slot `now`, and the last slot in which anything does; what a claim needs."""

    bound: Bound
    now: int
    used: int
    newest: int | None
    need: int = 0


def reserve(db: sqlite3.Connection, claim: Claim, worker: int, pending: bytes) -> Admission:
    """Count and hold all of a claim, or nothing of it.

    With each request let through, what is spent and what the open requests were let through for (their
    estimates; for one that was alone, what was left) are within every budget of it together. So spend passes a
    budget by no more than what requests open side by side cost beyond that.

    `worker` is the slot of the process that serves the request; `pending` the encoded row that is written if
    that process dies, empty for none.
    """
    counts = _counted(db, _needs(claim), claim.at)
    if refusal := _refusal(db, counts, claim):
        return structs.replace(refusal, standings=tuple(_standing(c, claim.at) for c in counts))
    taken = [(c.bound.rule, c.bound.kind, c.now, c.need) for c in counts]
    held = [(b.scope, period_key(b.period, claim.at)) for b in claim.budgets]
    db.executemany(_COUNT, taken)
    # The first of a slot ends those that no longer count, nor will if the clock is set back by hours.
    if firsts := [c for c in counts if c.newest != c.now and c.bound.kind != "concurrency"]:
        db.executemany(_FORGET, [(c.bound.rule, c.bound.kind, *_kept(c.bound.kind, c.now)) for c in firsts])
    bulk = Bulk()
    for scope, period in held:
        bulk.add_spend(scope, period, 0, claim.cost_nano)
    bulk.write(db)
    hold = msgspec.json.encode((claim.at, claim.scopes, taken, held, claim.cost_nano)).decode()
    db.execute("INSERT INTO reservations VALUES (?, ?, ?, ?)", (claim.request_id, worker, hold, pending))
    return Admission(tuple(_standing(_with_claim(c), claim.at) for c in counts))


class Settling(Posting):
    """Puts the truth in the place of what was reserved, and writes the row. Does nothing the second time.

    `cost_nano`, from 0 to `pricing.MOST_NANO`, is added to the spend; None is a price that is not known.
    """

    def __init__(self, request_id: str, tokens: int, cost_nano: int | None, record: Record | None) -> None:
        self._request_id = request_id
        self._tokens = min(max(tokens, 0), MOST_TOKENS)  # an upstream may report anything
        self._cost_nano = cost_nano
        self._record = record

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        found = db.execute(_CLOSE, (self._request_id,)).fetchall()
        if not found:
            return
        at, scopes, taken, held, held_nano = msgspec.json.decode(found[0][0])
        for rule, kind, slot, n in taken:
            if kind in _BY_TOKENS:
                bulk.correct(rule, kind, slot, self._tokens - n)
            elif kind == "concurrency":
                bulk.correct(rule, kind, slot, -n)
        for scope, period in held:
            bulk.add_spend(scope, period, 0, -held_nano)
        charge(bulk, scopes, at, self._cost_nano, self._record)


class Charging(Posting):
    """Adds a cost to the spend and writes the row, for a request that reserved nothing. `at` is when it began."""

    def __init__(
        self, scopes: Sequence[str], at: float, cost_nano: int | None, record: Record | None
    ) -> None:
        self._scopes = scopes
        self._at = at
        self._cost_nano = cost_nano
        self._record = record

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        charge(bulk, self._scopes, self._at, self._cost_nano, self._record)


def charge(
    bulk: Bulk, scopes: Iterable[str], at: float, cost_nano: int | None, record: Record | None
) -> None:
    """Add a cost to the spend, and the row."""
    if cost_nano:
        keys = periods(int(at) // DAY_S)
        pairs = [(scope, period) for scope in scopes for period in keys.values()]
        for scope, period in pairs:
            bulk.add_spend(scope, period, cost_nano, 0)
        _account(bulk, pairs, keys["day"], cost_nano, record)
    if record is not None:
        bulk.add_row(record)


def _account(
    bulk: Bulk, pairs: Iterable[tuple[str, str]], day: str, cost_nano: int, record: Record | None
) -> None:
    """Note where a charge and the row for it come apart: there is no row, or it is of another day."""
    if record is None:
        for scope, period in pairs:
            bulk.adjust(scope, period, adjustments.UNRECORDED, cost_nano, f"{day}T00:00:00.000Z")
    elif not record.started_at.startswith(day):
        for scope, period in pairs:
            if period != "total" and period != (began := record.started_at[: len(period)]):
                bulk.adjust(scope, period, adjustments.MIDNIGHT, cost_nano, record.started_at)
                bulk.adjust(scope, began, adjustments.MIDNIGHT, -cost_nano, record.started_at)


def recover(store: Store, worker: int | None) -> int:
    """Settle what a dead process left open: its requests become `interrupted` rows. Returns how many.

    `worker` is its slot, None for every one, while no process serves. One that cannot be settled is dropped, and
    said so: it keeps no server from starting. Raises `StoreError` if the store cannot be written.
    """
    query = "SELECT request_id, record FROM reservations WHERE ? IS NULL OR worker = ?"
    (left,) = store.run([lambda db: db.execute(query, (worker, worker)).fetchall()])
    outcomes = store.run([_interrupting(name, row) for name, row in left])
    for (name, _), outcome in zip(left, outcomes, strict=True):
        if isinstance(outcome, StoreError):
            logger.warning("What the request %s held cannot be settled and is dropped: %s", name, outcome)
            store.run([partial(_drop, request_id=name)])
    if worker is None:
        # Nothing is open, so nothing counts as open or held, whatever was dropped.
        store.run(
            [
                lambda db: db.execute("UPDATE counters SET n = 0 WHERE kind = 'concurrency'"),
                lambda db: db.execute("UPDATE spend SET held_nano = 0"),
            ]
        )
    return len(left)


def _interrupting(request_id: str, row: bytes) -> Settling:
    record = _read(row)
    tokens, cost = (0, None) if record is None else (record.usage.total_tokens or 0, record.cost_nano)
    return Settling(request_id, tokens, cost, record)


def _drop(db: sqlite3.Connection, request_id: str) -> None:
    db.execute("DELETE FROM reservations WHERE request_id = ?", (request_id,))


def _read(row: bytes) -> Record | None:
    """The row that `pending` made, None if there is none, or if another version of gproxy wrote it so that it cannot
    be read: what it holds is released all the same."""
    try:
        return msgspec.json.decode(row, type=Record) if row else None
    except msgspec.MsgspecError:
        return None


def recover_store(path: Path, worker: int | None) -> int:
    """`recover` on the store at `path`, while nothing writes it for that worker.

    Says what it finds amiss. Raises `StoreError`, also if there is no store for a worker: the server had one.
    """
    if worker is not None and not path.exists():
        raise StoreError(f"The usage store {path} was removed while the server runs: restart the server.")
    has_log = sqlite.has_log(path)
    store = open_store(path)
    try:
        if store.made:
            logger.warning("made a new usage store, %s: what is spent counts from now on", path)
        elif store.in_use and worker is None and not has_log:
            logger.warning(
                "the server before was killed, and %s-wal has been removed since: the last requests, and what they "
                "spent, may be missing from the usage store",
                path,
            )
        return recover(store, worker)
    finally:
        store.close()


def pending(record: Record, usage: Usage | None = None, **instead: object) -> bytes:
    """A row as `reserve` keeps it; with another usage if one is given, and other values `instead` of its own.

    It is short, since what takes more than a quarter of a page takes pages of its own.
    """
    row = structs.replace(record, usage=record.usage if usage is None else usage, **instead)
    return msgspec.json.encode(row)


def spent(path: Path, pairs: Iterable[tuple[str, str]], now: float) -> dict[tuple[str, str], Spent]:
    """What each (scope, period) stands at; zero where there is no store or no row. Raises `StoreError`."""
    with _reading(path) as db:
        return {pair: _spent(db, pair[0], period_key(pair[1], now)) for pair in pairs}


def standings(path: Path, bounds: Iterable[Bound], now: float) -> tuple[Standing, ...]:
    """Where each bound stands now. Raises `StoreError`."""
    needs = [(bound, 0) for bound in bounds]
    steps = [needs[at : at + _MOST_COUNTED] for at in range(0, len(needs), _MOST_COUNTED)]
    with _reading(path) as db:
        return tuple(_standing(count, now) for step in steps for count in _counted(db, step, now))


def foresee(path: Path, claim: Claim) -> Admission:
    """What `reserve` would answer, without counting anything and without standings. Raises `StoreError`."""
    with _reading(path) as db:
        return _refusal(db, _counted(db, _needs(claim), claim.at), claim) or Admission()


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The store for reading; an empty one where there is none."""
    try:
        with closing(connect_read_only(path) if path.exists() else _empty()) as db:
            yield db
    except sqlite3.Error as error:
        raise StoreError(f"What was spent cannot be read from {path} ({error}): {remedy(error)}.") from error


def _empty() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    for _, statements in STEPS:
        for statement in statements:
            db.execute(statement)
    return db


def _counted(db: sqlite3.Connection, needs: Sequence[tuple[Bound, int]], now: float) -> list[_Count]:
    """Where each bound stands, beside what is needed of it."""
    if not needs:
        return []
    slots = [_slot(bound.kind, now) for bound, _ in needs]
    asked: list[str | int] = []
    for (bound, _), slot in zip(needs, slots, strict=True):
        asked += (bound.rule, bound.kind, *_slots(bound.kind, slot))
    found = sorted(db.execute(_used(len(needs)), asked).fetchall())
    return [
        _Count(bound, slot, used, newest, need)
        for (bound, need), slot, (_, used, newest) in zip(needs, slots, found, strict=True)
    ]


@lru_cache(maxsize=64)
def _used(bounds: int) -> str:
    return " UNION ALL ".join(_USED.format(place=place) for place in range(bounds))


def _with_claim(count: _Count) -> _Count:
    """As it stands once what is needed is counted."""
    newest = count.now if count.newest is None else max(count.newest, count.now)
    return _Count(
        count.bound, count.now, count.used + count.need, newest if count.need else count.newest, count.need
    )


def _refusal(db: sqlite3.Connection, counts: Iterable[_Count], claim: Claim) -> Admission | None:
    return _too_many(db, counts, claim.at) or _too_much(db, claim)


def _too_many(db: sqlite3.Connection, counts: Iterable[_Count], now: float) -> Admission | None:
    """The refusal by the bound that will be full for longest: waiting for another would not help."""
    waits = [(_wait(db, c, now), c.bound) for c in counts if c.used + c.need > c.bound.most]
    if not waits:
        return None
    seconds, bound = max(waits, key=itemgetter(0))
    return Admission(refused=bound, retry_after=seconds)


def _too_much(db: sqlite3.Connection, claim: Claim) -> Admission | None:
    """The refusal by the first budget that neither has room beside what is held, nor is free and not yet spent."""
    for budget in claim.budgets:
        stands = _spent(db, budget.scope, period_key(budget.period, claim.at))
        spent = stands.spent_nano + budget.carried_nano
        fits = spent + stands.held_nano + claim.cost_nano <= budget.most_nano
        if not fits and (stands.held_nano > 0 or spent >= budget.most_nano):
            return Admission(refused=budget, fits_alone=spent < budget.most_nano)
    return None


def _needs(claim: Claim) -> list[tuple[Bound, int]]:
    return [(b, min(claim.tokens, b.most) if b.kind in _BY_TOKENS else 1) for b in claim.bounds]


def _slot(kind: str, now: float) -> int:
    if kind == "concurrency":
        return 0
    return int(now) if kind in _SLIDING else int(now) // DAY_S


def _slots(kind: str, slot: int) -> tuple[int, int]:
    """The first and the last slot that count in one.

    A clock set back a little must let nothing more through, so a minute reaches as far ahead. What is later comes
    of a clock that was wrong, and would count until that time comes.
    """
    return (slot - (WINDOW_S - 1), slot + WINDOW_S) if kind in _SLIDING else (slot, slot)


def _kept(kind: str, slot: int) -> tuple[int, int]:
    """The first and the last slot that stay when one begins."""
    return _slots(kind, slot) if kind in _SLIDING else (slot - KEPT_DAYS, slot + KEPT_DAYS)


def _standing(count: _Count, now: float) -> Standing:
    if not count.used:
        resets = 0.0
    elif count.bound.kind in _SLIDING:
        resets = (count.now if count.newest is None else count.newest) + WINDOW_S - now
    else:
        resets = _until_tomorrow(now)
    return Standing(count.bound, max(0, count.bound.most - count.used), resets)


def _until_tomorrow(now: float) -> float:
    return (now // DAY_S + 1) * DAY_S - now


def _wait(db: sqlite3.Connection, count: _Count, now: float) -> float:
    """Seconds until there is room for what is needed, if nothing else comes; a guess for requests at once."""
    kind = count.bound.kind
    if kind == "concurrency":
        return 1.0
    if kind not in _SLIDING:
        return _until_tomorrow(now)
    missing = count.used + count.need - count.bound.most
    query = "SELECT slot, n FROM counters WHERE rule = ? AND kind = ? AND slot BETWEEN ? AND ? ORDER BY slot"
    for slot, n in db.execute(query, (count.bound.rule, kind, *_slots(kind, count.now))).fetchall():
        missing -= n
        if missing <= 0:
            return float(slot + WINDOW_S - now)
    return float(WINDOW_S)


def _spent(db: sqlite3.Connection, scope: str, key: str) -> Spent:
    query = "SELECT spent_nano, held_nano FROM spend WHERE scope = ? AND period = ?"
    row = db.execute(query, (scope, key)).fetchone()
    return Spent(*row) if row else Spent()
