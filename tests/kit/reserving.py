"""Limits and budgets counted in the store alone, a transaction to a claim: the model memory is compared with."""

from collections.abc import Sequence

import msgspec
from msgspec import structs

from gproxy.ledger.bulk import Bulk, Entry
from gproxy.ledger.periods import period_key
from gproxy.ledger.spend import charge
from gproxy.ledger.sqlite import sqlite3
from gproxy.ledger.weighing import (
    Count,
    Spent,
    kept_of,
    need_of,
    refusal,
    slots_at,
    slots_of,
    standings,
    tightest,
)
from gproxy.values import Admission, Claim, Record

_WITHIN = "SELECT slot, n FROM counters WHERE rule = ? AND kind = ? AND slot BETWEEN ? AND ? ORDER BY slot"
_SPENT = "SELECT spent_nano, held_nano FROM spend WHERE scope = ? AND period = ?"
_COUNT = """
    INSERT INTO counters (rule, kind, slot, n) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET n = n + excluded.n
"""
_FORGET = "DELETE FROM counters WHERE rule = ? AND kind = ? AND slot NOT BETWEEN ? AND ?"


class _Books:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def within(self, rule: str, kind: str, first: int, last: int) -> list[tuple[int, int]]:
        found = self._db.execute(_WITHIN, (rule, kind, first, last)).fetchall()
        return [(slot, n) for slot, n in found if n > 0]

    def spent(self, scope: str, key: str) -> Spent:
        row = self._db.execute(_SPENT, (scope, key)).fetchone()
        return Spent(*row) if row else Spent()


def reserve(db: sqlite3.Connection, claim: Claim, worker: int, pending: bytes) -> Admission:
    """Count and hold all of a claim, or nothing of it, as a request of that worker that is open until a
    `spend.Settling`; `pending` is its row should the worker die. Also of one that is let
    through it tells where all bounds stand."""
    books = _Books(db)
    counts = []
    for bound in claim.bounds:
        slot = slots_at(int(claim.at))[bound.kind]
        found = books.within(bound.rule, bound.kind, *slots_of(bound.kind, slot))
        newest = found[-1][0] if found else -1
        counts.append(Count(bound, need_of(claim.tokens, bound), slot, sum(n for _, n in found), newest))
    if refused := refusal(books, counts, claim):
        stands = standings(counts, claim.at)
        return structs.replace(refused, told=tightest(stands), standings=stands)
    taken = [(it.bound.rule, it.bound.kind, it.now, it.need) for it in counts]
    held = [(it.scope, period_key(it.period, claim.at)) for it in claim.budgets]
    db.executemany(_COUNT, taken)
    # The first of a slot ends those that no longer count, nor will if the clock is set back by hours.
    firsts = [it for it in counts if it.newest != it.now and it.bound.kind != "concurrency"]
    kept = [(it.bound.rule, it.bound.kind, *kept_of(it.bound.kind, it.now)) for it in firsts]
    db.executemany(_FORGET, kept)
    bulk = Bulk()
    for scope, period in held:
        bulk.add_spend(scope, period, 0, claim.cost_nano)
    bulk.write(db)
    hold = msgspec.json.encode((claim.at, claim.scopes, taken, held, claim.cost_nano)).decode()
    db.execute("INSERT INTO reservations VALUES (?, ?, ?, ?)", (claim.request_id, worker, hold, pending))
    for count in counts:
        count.take()
    stands = standings(counts, claim.at)
    return Admission(tightest(stands), stands)


class Charging(Entry):
    """Adds a cost to the spend and writes the row, for a request that reserved nothing. `at` is when it began."""

    def __init__(
        self, scopes: Sequence[str], at: float, cost_nano: int | None, record: Record | None
    ) -> None:
        super().__init__(record)
        self._charge = (scopes, at, cost_nano)

    def add(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        charge(bulk, *self._charge, self.line)
