"""Limits and budgets as the store has them: what ends them, what a dead process left open, and how they stand.

Who serves counts in memory (`tally.py`), and the store hears of it a moment later. What fits is decided in
`weighing.py`.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import structs

from gproxy.errors import StoreError
from gproxy.ledger import adjustments, sqlite, weighing
from gproxy.ledger.bulk import Bulk, Entry
from gproxy.ledger.periods import DAY_S, period_key, periods
from gproxy.ledger.rows import MOST_TOKENS, Line
from gproxy.ledger.schema import STEPS
from gproxy.ledger.sqlite import connect_read_only, remedy, sqlite3
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.weighing import (
    BY_TOKENS,
    Count,
    Spent,
    counted,
    held,
    need_of,
    refusal,
    slots_at,
    slots_of,
)
from gproxy.values import Admission, Bound, Claim, Record, Standing, Usage

logger = logging.getLogger(__name__)

_USED = """
    SELECT {place}, ifnull(sum(n), 0), max(CASE WHEN n > 0 THEN slot END) FROM counters
    WHERE rule = ? AND kind = ? AND slot BETWEEN ? AND ?
"""
_MOST_COUNTED = 100  # bounds in one statement: a user may have a thousand rules, and SQLite takes 500 parts
_WITHIN = "SELECT slot, n FROM counters WHERE rule = ? AND kind = ? AND slot BETWEEN ? AND ? ORDER BY slot"
_SPENT = "SELECT spent_nano, held_nano FROM spend WHERE scope = ? AND period = ?"
_CLOSE = "DELETE FROM reservations WHERE request_id = ? RETURNING hold"


class _Books:
    """Where things stand in the store."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def within(self, rule: str, kind: str, first: int, last: int) -> list[tuple[int, int]]:
        return self._db.execute(_WITHIN, (rule, kind, first, last)).fetchall()

    def spent(self, scope: str, key: str) -> Spent:
        row = self._db.execute(_SPENT, (scope, key)).fetchone()
        return Spent(*row) if row else Spent()


class _Held(NamedTuple):
    """What a reservation holds, as it is kept in the store: `taken` is rule, kind, slot and how much."""

    at: float
    scopes: tuple[str, ...]
    taken: Sequence[tuple[str, str, int, int]]
    held: Sequence[tuple[str, str]]
    cost_nano: int


_HELD = msgspec.json.Decoder(_Held)


def reservation(claim: Claim) -> str:
    """What an open request holds, as it is kept."""
    hold = _Held(claim.at, claim.scopes, counted(claim), held(claim), claim.cost_nano)
    return msgspec.json.encode(hold).decode()


class Left(NamedTuple):
    """What settling a request that a dead process left open comes to, for whom counts in memory: the counters that
    are corrected (rule, kind, slot, and how much more), and what is spent."""

    request_id: str
    scopes: tuple[str, ...]
    at: float
    corrected: Sequence[tuple[str, str, int, int]]
    cost_nano: int | None


class Settling(Entry):
    """Puts the truth in the place of what was reserved, and writes the row. Does nothing the second time.

    `cost_nano`, from 0 to `pricing.MOST_NANO`, is added to the spend; None is a price that is not known.
    """

    def __init__(
        self,
        request_id: str,
        tokens: int,
        cost_nano: int | None,
        record: Record | None,
    ) -> None:
        super().__init__(record)
        self._request_id = request_id
        self._tokens = min(max(tokens, 0), MOST_TOKENS)  # an upstream may report anything
        self._cost_nano = cost_nano

    def add(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        found = db.execute(_CLOSE, (self._request_id,)).fetchall()
        if not found:
            return
        hold = _HELD.decode(found[0][0])
        ended = [(rule, kind, slot, -n) for rule, kind, slot, n in hold.taken if kind == "concurrency"]
        for rule, kind, slot, by in (*self._corrected(hold), *ended):
            bulk.correct([(rule, kind, slot)], by)
        for scope, period in hold.held:
            bulk.add_spend(scope, period, 0, -hold.cost_nano)
        charge(bulk, hold.scopes, hold.at, self._cost_nano, self.line)

    def left(self, hold: str) -> Left | None:
        """What this comes to for a request that holds that, None if it cannot be read."""
        try:
            read = _HELD.decode(hold)
        except msgspec.MsgspecError:
            return None
        return Left(self._request_id, read.scopes, read.at, self._corrected(read), self._cost_nano)

    def _corrected(self, hold: _Held) -> list[tuple[str, str, int, int]]:
        return [
            (rule, kind, slot, self._tokens - n) for rule, kind, slot, n in hold.taken if kind in BY_TOKENS
        ]


def charge(bulk: Bulk, scopes: tuple[str, ...], at: float, cost_nano: int | None, line: Line | None) -> None:
    """Add a cost to the spend, and the row."""
    if cost_nano:
        day = int(at) // DAY_S
        bulk.charge(scopes, day, cost_nano)
        began = None if line is None else line[0][1]
        if began is None or not began.startswith(periods(day)["day"]):
            _account(bulk, scopes, day, cost_nano, began)
    if line is not None:
        bulk.add_row(line)


def _account(bulk: Bulk, scopes: Iterable[str], day: int, cost_nano: int, began: str | None) -> None:
    """Note where a charge and the row for it come apart: there is no row, or it is of another day, as it began."""
    keys = periods(day)
    for scope in scopes:
        for period in keys.values():
            if began is None:
                midnight = f"{keys['day']}T00:00:00.000Z"
                bulk.adjust(scope, period, adjustments.UNRECORDED, cost_nano, midnight)
            elif period != "total" and period != (of_row := began[: len(period)]):
                bulk.adjust(scope, period, adjustments.MIDNIGHT, cost_nano, began)
                bulk.adjust(scope, of_row, adjustments.MIDNIGHT, -cost_nano, began)


class Heir(Protocol):
    """Hears of what was left before it is settled in the store, and after."""

    def before(self, left: Sequence[Left]) -> None: ...
    def after(self, left: Sequence[Left]) -> None: ...


def recover(store: Store, worker: int | None, heir: Heir | None = None) -> int:
    """Settle what a dead process left open: its requests become `interrupted` rows. Returns how many
    were settled.

    `worker` is its slot, None for every one, while no process serves. One that cannot be settled is dropped, and
    said so: it keeps no server from starting. Raises `StoreError` if the store cannot be written.
    """
    query = "SELECT request_id, hold, record FROM reservations WHERE ? IS NULL OR worker = ?"
    (found,) = store.run([lambda db: db.execute(query, (worker, worker)).fetchall()])
    endings = [_interrupting(name, row) for name, _, row in found]
    left = [it for ending, (_, hold, _) in zip(endings, found, strict=True) if (it := ending.left(hold))]
    if heir is not None:
        heir.before(left)
    settled = len(found)
    for (name, _, _), outcome in zip(found, store.run(endings), strict=True):
        if isinstance(outcome, StoreError):
            logger.warning("What the request %s held cannot be settled and is dropped: %s", name, outcome)
            store.run([partial(_drop, request_id=name)])
            settled -= 1
    if heir is not None:
        heir.after(left)
    if worker is None:
        # Nothing is open, so nothing counts as open or held, whatever was dropped.
        store.run(
            [
                lambda db: db.execute("UPDATE counters SET n = 0 WHERE kind = 'concurrency'"),
                lambda db: db.execute("UPDATE spend SET held_nano = 0"),
            ]
        )
    return settled


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


def recover_store(path: Path, worker: int | None, heir: Heir | None = None) -> int:
    """`recover` on the store at `path`, while nothing writes it for that worker.

    Says what it finds amiss, and how many were settled. Raises `StoreError`,
    also if there is no store for a worker: the server had one.
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
        if settled := recover(store, worker, heir):
            whose = "the last server" if worker is None else "a worker that died"
            logger.warning("settled %d request%s that %s left open", settled, "s" * (settled > 1), whose)
        return settled
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
        books = _Books(db)
        return {pair: books.spent(pair[0], period_key(pair[1], now)) for pair in pairs}


def ask(path: Path, query: str, values: Sequence[str]) -> list[Any]:
    """What a query of the store at `path` finds, by a connection of its own. Raises `StoreError`."""
    with _reading(path) as db:
        return db.execute(query, values).fetchall()


def standings(path: Path, bounds: Iterable[Bound], now: float) -> tuple[Standing, ...]:
    """Where each bound stands now. Raises `StoreError`."""
    needs = [(bound, 0) for bound in bounds]
    steps = [needs[at : at + _MOST_COUNTED] for at in range(0, len(needs), _MOST_COUNTED)]
    with _reading(path) as db:
        return weighing.standings([count for step in steps for count in _counted(db, step, now)], now)


def foresee(path: Path, claim: Claim) -> Admission:
    """What `reserve` would answer, without counting anything and without standings. Raises `StoreError`."""
    with _reading(path) as db:
        counts = _counted(db, [(bound, need_of(claim.tokens, bound)) for bound in claim.bounds], claim.at)
        return refusal(_Books(db), counts, claim) or Admission()


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


def _counted(db: sqlite3.Connection, needs: Sequence[tuple[Bound, int]], now: float) -> list[Count]:
    """Where each bound stands, beside what is needed of it."""
    if not needs:
        return []
    at = slots_at(int(now))
    slots = [at[bound.kind] for bound, _ in needs]
    asked: list[str | int] = []
    for (bound, _), slot in zip(needs, slots, strict=True):
        asked += (bound.rule, bound.kind, *slots_of(bound.kind, slot))
    found = sorted(db.execute(_used(len(needs)), asked).fetchall())
    return [
        Count(bound, need, slot, used, -1 if newest is None else newest)
        for (bound, need), slot, (_, used, newest) in zip(needs, slots, found, strict=True)
    ]


@lru_cache(maxsize=64)
def _used(bounds: int) -> str:
    return " UNION ALL ".join(_USED.format(place=place) for place in range(bounds))
