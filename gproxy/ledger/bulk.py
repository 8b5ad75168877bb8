"""What several operations of one commit add to the store, summed up, so that it is written by few statements.

What an operation adds is `spend.py`'s and `tally.py`'s to say; transactions are `store.py`'s.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gproxy.ledger import rollup
from gproxy.ledger.adjustments import adjust, forget
from gproxy.ledger.periods import kept_from, periods
from gproxy.ledger.rows import DETAILS, INSERT, Line, Row, line_of
from gproxy.ledger.sqlite import sqlite3
from gproxy.values import Record

MOST_SPENT_NANO = 9_000_000_000_000_000_000
"""Spend is kept at this at most, so that it fits an integer of SQLite, whatever upstreams report."""

_DETAILS = f"INSERT INTO usage_details SELECT id, ?{', ?' * len(DETAILS)} FROM usage WHERE request_id = ?"  # noqa: S608 - question marks and nothing else
_IS_THERE = "UNIQUE constraint failed: usage.request_id"
_CORRECT = "UPDATE counters SET n = max(?, n + ?) WHERE rule = ? AND kind = ? AND slot = ?"
_FORGET = "DELETE FROM counters WHERE rule = ? AND kind = ? AND slot NOT BETWEEN ? AND ?"
_COUNT = """
    INSERT INTO counters (rule, kind, slot, n) VALUES (?, ?, ?, max(?4, ?5))
    ON CONFLICT DO UPDATE SET n = max(?4, n + ?5)
"""
_CLOSE = "DELETE FROM reservations WHERE request_id = ?"
_SPEND = f"""
    UPDATE spend SET spent_nano = min(spent_nano + ?, {MOST_SPENT_NANO}), held_nano = max(0, held_nano + ?)
    WHERE scope = ? AND period = ?
"""  # noqa: S608 - a constant
# The month stands in its day, and no other month or day does.
_CHARGE = f"""
    UPDATE spend SET spent_nano = min(spent_nano + ?, {MOST_SPENT_NANO})
    WHERE scope = ? AND instr('total ' || ?, period)
"""  # noqa: S608 - a constant
_BEGIN = "INSERT INTO spend (spent_nano, held_nano, scope, period) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
# Days are compared with days and months with months. What is held is released where it was held.
_END = """
    DELETE FROM spend
    WHERE scope = ? AND period < ? AND length(period) = length(?) AND held_nano = 0
"""


Slot = tuple[str, str, int]
"""Rule, kind and slot of a counter."""

Counts = dict[Slot, int]


@dataclass(slots=True)
class _Correction:
    """Changes of the same slots, one behind the other: each then has `least` at least, and so much more."""

    slots: Sequence[Slot]
    least: int = 0
    by: int = 0


@dataclass(slots=True)
class _Charge:
    """What is spent of each of the scopes on a day."""

    scopes: tuple[str, ...]
    day: int
    cost_nano: int


class Bulk:
    """Gathers, and writes what it has gathered in the caller's transaction."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what was gathered."""
        self._rows: list[Row] = []
        self._details: list[Row] = []
        self._corrections: list[_Correction] = []
        self._forgotten: list[tuple[str, str, int, int]] = []
        self._counts: Counts = defaultdict(int)
        self._closed: list[tuple[str]] = []
        self._charges: list[_Charge] = []
        self._spends: dict[tuple[str, str], list[int]] = {}
        self._adjustments: dict[tuple[str, str, str, str], int] = defaultdict(int)

    def add_row(self, line: Line) -> None:
        """One row of `usage`, what a price needs beyond it, and its part in the roll-up."""
        row, details = line
        self._rows.append(row)
        if details is not None:
            self._details.append((*details, row[0]))

    def correct(self, slots: Sequence[Slot], by: int) -> None:
        """Change what is counted in each of the slots, if anything still is, by so much; never below 0, not by any of
        several changes. Those of requests that are alike are the same ones, and are added up first."""
        corrections = self._corrections
        last = corrections[-1] if corrections else None
        if last is None or last.slots is not slots:
            last = _Correction(slots)
            corrections.append(last)
        least = last.least + by
        last.least = least if least > 0 else 0
        last.by += by

    def count(self, rule: str, kind: str, slot: int, by: int) -> None:
        """Count in a slot, whether or not anything was; never below 0."""
        self._counts[rule, kind, slot] += by

    def forget_beside(self, rule: str, kind: str, first: int, last: int) -> None:
        """What was counted in other slots than those from the first to the last is gone; what comes after begins
        anew."""

        def gone(slot: Slot) -> bool:
            return slot[:2] == (rule, kind) and not first <= slot[2] <= last

        for slot in [it for it in self._counts if gone(it)]:
            del self._counts[slot]
        for correction in self._corrections:
            correction.slots = [it for it in correction.slots if not gone(it)]
        self._forgotten.append((rule, kind, first, last))

    def close(self, request_id: str) -> None:
        """Take out the reservation of a request."""
        self._closed.append((request_id,))

    def charge(self, scopes: tuple[str, ...], day: int, cost_nano: int) -> None:
        """Spend so much of each scope, in every period that a UTC day (so many after 1970-01-01) is in. What requests
        that are alike spend is added up first."""
        charges = self._charges
        if charges and (last := charges[-1]).scopes is scopes and last.day == day:
            last.cost_nano += cost_nano
        else:
            charges.append(_Charge(scopes, day, cost_nano))

    def add_spend(self, scope: str, period: str, spent_nano: int, held_nano: int) -> None:
        """Spend more, and hold more or (below 0) less, of a period of a scope."""
        sums = self._spends.get((scope, period))
        if sums is None:
            self._spends[scope, period] = [spent_nano, held_nano]
        else:
            sums[0] += spent_nano
            sums[1] += held_nano

    def adjust(self, scope: str, period: str, reason: str, delta_nano: int, at: str) -> None:
        """As `adjustments.adjust`."""
        self._adjustments[scope, period, reason, at] += delta_nano

    def write(self, db: sqlite3.Connection) -> None:
        """All that was gathered since the last time. After an error it is to be undone, and `clear`ed."""
        cursor = db.cursor()  # one for all: each call of the connection's own methods makes another
        if self._rows:
            cursor.executemany(INSERT, self._rows)
            rollup.write(cursor, self._rows)
            self._rows.clear()
        if self._details:
            cursor.executemany(_DETAILS, self._details)
            self._details.clear()
        if self._forgotten:
            cursor.executemany(_FORGET, self._forgotten)
            self._forgotten.clear()
        corrected = _of_each(self._corrections)
        self._corrections.clear()
        if self._counts:
            counted = []
            for slot, n in self._counts.items():
                least, by = corrected.pop(slot, (0, 0))
                counted.append((*slot, least, n + by))
            cursor.executemany(_COUNT, counted)
            self._counts.clear()
        if corrected:
            cursor.executemany(_CORRECT, [(*by, *slot) for slot, by in corrected.items()])
        if self._closed:
            cursor.executemany(_CLOSE, self._closed)
            self._closed.clear()
        if self._charges:
            costs: dict[tuple[str, int], int] = defaultdict(int)
            for charge in self._charges:
                for scope in charge.scopes:
                    costs[scope, charge.day] += charge.cost_nano
            for (scope, day), cost_nano in costs.items():
                _charge(db, cursor, scope, day, cost_nano)
            self._charges.clear()
        if self._spends:
            _spend(db, cursor, self._spends)
            self._spends.clear()
        if self._adjustments:
            for (scope, period, reason, at), delta in self._adjustments.items():
                adjust(db, scope, period, reason, delta, at)
            self._adjustments.clear()


def _of_each(corrections: Iterable[_Correction]) -> dict[Slot, tuple[int, int]]:
    """What all of them make of each slot: the least that is left, and how much more."""
    found: dict[Slot, tuple[int, int]] = {}
    for it in corrections:
        for slot in it.slots:
            least, by = found.get(slot, (0, 0))
            found[slot] = (max(it.least, least + it.by), by + it.by)
    return found


def _spend(db: sqlite3.Connection, cursor: sqlite3.Cursor, spends: dict[tuple[str, str], list[int]]) -> None:
    rows = [(min(spent, MOST_SPENT_NANO), held, *pair) for pair, (spent, held) in spends.items()]
    if cursor.executemany(_SPEND, rows).rowcount == len(rows):
        return
    for spent, held, scope, period in rows:
        if spent > 0 or held > 0:
            _begin(db, scope, period, spent, max(0, held))


def _charge(db: sqlite3.Connection, cursor: sqlite3.Cursor, scope: str, day: int, cost_nano: int) -> None:
    of_day, spent = periods(day), min(cost_nano, MOST_SPENT_NANO)
    if cursor.execute(_CHARGE, (spent, scope, of_day["day"])).rowcount != len(of_day):
        for period in of_day.values():
            _begin(db, scope, period, spent, 0)


def _begin(db: sqlite3.Connection, scope: str, period: str, spent: int, held: int) -> None:
    """If nothing is kept of the period yet. The first of a new day or month ends those well before it, for no budget
    asks for them, nor will one if the clock is set back by hours."""
    if db.execute(_BEGIN, (spent, held, scope, period)).rowcount:
        oldest = kept_from(period)
        db.execute(_END, (scope, oldest, oldest))
        forget(db, scope, oldest)


class Posting:
    """An operation that adds to the store and asks little of it, so that it is done with others in one go."""

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        """Add to `bulk` what is to be written. May be called again if that was undone."""
        raise NotImplementedError

    def forgo(self, fault: Exception) -> str | None:
        """The store refuses it so: leave out what can be done without, that the rest may be written. What that is,
        None for nothing."""

    def committed(self) -> None:
        """It is written for good, if not without what was forgone. Called in the thread that wrote it."""

    def __call__(self, db: sqlite3.Connection) -> None:
        bulk = Bulk()
        self.post(db, bulk)
        bulk.write(db)


class Entry(Posting):
    """The end of a request. Handed over again, because nobody knows whether it was written, it is written once.

    `line` is what is kept of it, None for nothing; another may be put in its place until it is written.
    """

    line: Line | None = None
    _bulk: Bulk | None = None
    _written = False

    def __init__(self, record: Record | None) -> None:
        if record is not None:
            self.line = line_of(record)

    def post(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        if not self._written and self._bulk is not bulk:
            self._bulk = bulk
            self.add(db, bulk)

    def add(self, db: sqlite3.Connection, bulk: Bulk) -> None:
        """What is to be written of it."""
        if self.line is not None:
            bulk.add_row(self.line)

    def forgo(self, fault: Exception) -> str | None:
        """The row: what it cost is spent all the same. Where it is there already, so is that."""
        if self.line is None or _IS_THERE in str(fault):
            return None
        (row, _), self.line, self._bulk = self.line, None, None
        return f"the row of {row[0]}"

    def committed(self) -> None:
        self._written = True
        self._bulk = None
