"""Prices rows of the ledger anew, step by step, and notes what they now differ by from what was charged.

Spend stays as it was. Which price is in force is the caller's to say, the arithmetic `pricing.py`'s.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.adjustments import REPRICED, RowChange, adjust_rows
from gproxy.ledger.pricing import Price, settle
from gproxy.ledger.rows import COUNTS, DETAILS, NANO
from gproxy.ledger.sqlite import connect_read_only, remedy, sqlite3
from gproxy.ledger.store import open_store
from gproxy.ledger.when import stamp
from gproxy.values import Usage

STEP_ROWS = 250
PAUSE_S = 0.01
"""After each step that wrote, for the server whose rows wait meanwhile."""

PriceAt = Callable[[str, str, float], tuple[Price | None, Price | None] | None]
"""(provider, model, seconds since the epoch) -> the configured and the built-in price, as `pricing.settle` takes
them; None for a provider of which nothing is known any more."""

_COLUMNS = (
    "id",
    "user",
    "key_id",
    "started_at",
    "provider",
    "model",
    "cost_usd",
    "price_source",
    "service_tier",
)

# A request that was free, such as a refusal, has cost nothing under no price; one of unknown price has no cost.
_PRICED = "provider IS NOT NULL AND model IS NOT NULL AND (price_source IS NOT NULL OR cost_usd IS NULL)"
_UPDATE = (
    "UPDATE usage SET cost_usd = ?, price_source = ? WHERE id = ? AND cost_usd IS ? AND price_source IS ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows: those that started in [since, until), of a provider, of a model by any of its names.

    `reported`: also those whose cost the upstream reported itself.
    """

    since: datetime
    until: datetime | None = None
    provider: str | None = None
    model: str | None = None
    reported: bool = False


@dataclass(slots=True)
class Sum:
    """Of the rows of a model whose cost changes: how many, and what they cost before and after, in nano-dollars.

    `unpriced` of them had no known cost before: `old_nano` is without those, None if it was none's.
    """

    rows: int = 0
    unpriced: int = 0
    old_nano: int | None = None
    new_nano: int = 0

    def add(self, old_nano: int | None, new_nano: int) -> None:
        self.rows += 1
        self.new_nano += new_nano
        if old_nano is None:
            self.unpriced += 1
        else:
            self.old_nano = (self.old_nano or 0) + old_nano


@dataclass(slots=True)
class Outcome:
    """What changes, by (provider, model). `unknown` are rows that stay since no price for them is known, `reported`
    those that stay since the upstream told their cost."""

    sums: dict[tuple[str, str], Sum] = field(default_factory=dict)
    unknown: int = 0
    reported: int = 0


@dataclass(frozen=True, slots=True)
class _Change:
    row: dict[str, Any]
    old_nano: int | None
    new_nano: int
    source: str


def reprice(
    path: Path,
    selection: Selection,
    price_at: PriceAt,
    *,
    write: bool,
    now: datetime,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Outcome:
    """Price the selected rows of the store at `path` anew; without `write` only say what would change.

    Each step is a transaction of its own: a run that is broken off has done what it has done, and another does the
    rest. Rows written after it began are left alone. `told` hears how many ids of how many are done. Raises
    `StoreError`.
    """
    outcome = Outcome()
    if not path.exists():
        return outcome
    with _writing(path, stamp(now)) if write else _looking() as apply, _reading(path) as db:
        first, last, outcome.reported = _extent(db, selection)
        for rows in _steps(db, selection, first, last):
            done = apply([change for row in rows if (change := _change(row, price_at, outcome))])
            for change in done:
                kept = outcome.sums.setdefault((change.row["provider"], change.row["model"]), Sum())
                kept.add(change.old_nano, change.new_nano)
            told(rows[-1]["id"] - first + 1, last - first + 1)
    return outcome


def _change(row: dict[str, Any], price_at: PriceAt, outcome: Outcome) -> _Change | None:
    """What becomes of a row, None if it stays as it is."""
    prices = price_at(row["provider"], row["model"], datetime.fromisoformat(row["started_at"]).timestamp())
    counts = {name: row[name] for name in (*COUNTS, *DETAILS)}
    usage = Usage(service_tier=row["service_tier"], **counts)
    cost, source = (None, None) if prices is None else settle(usage, *prices)
    if cost is None or source is None:
        outcome.unknown += 1
        return None
    old = _nano(row["cost_usd"])
    return None if old == cost else _Change(row, old, cost, source)


def _apply(db: sqlite3.Connection, changes: Iterable[_Change], at: str) -> list[_Change]:
    """Write the changes of rows that are still as they were read; which those are."""
    done = []
    for change in changes:
        row = change.row
        values = (change.new_nano / NANO, change.source, row["id"], row["cost_usd"], row["price_source"])
        if db.execute(_UPDATE, values).rowcount:
            done.append(change)
    less = (
        RowChange(c.row["user"], c.row["key_id"], c.row["started_at"], (c.old_nano or 0) - c.new_nano)
        for c in done
    )
    adjust_rows(db, less, REPRICED, at)
    return done


Apply = Callable[[list[_Change]], list[_Change]]


@contextmanager
def _writing(path: Path, at: str) -> Iterator[Apply]:
    store = open_store(path)

    def apply(changes: list[_Change]) -> list[_Change]:
        if not changes:
            return []
        (done,) = store.run([partial(_apply, changes=changes, at=at)])
        if isinstance(done, StoreError):
            raise done
        time.sleep(PAUSE_S)
        found: list[_Change] = done
        return found

    with closing(store):
        yield apply


@contextmanager
def _looking() -> Iterator[Apply]:
    yield lambda changes: changes


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(connect_read_only(path)) as db:
            yield db
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read ({error}): {remedy(error)}.") from error


def _extent(db: sqlite3.Connection, selection: Selection) -> tuple[int, int, int]:
    """The first and the last id there is to look at, and how many rows stay since the upstream told their cost."""
    where, values = _where(selection)
    query = f"SELECT min(id), max(id), count(*) FILTER (WHERE price_source IS 'upstream') FROM usage WHERE {where}"  # noqa: S608 - constants of this module alone
    first, last, reported = db.execute(query, values).fetchone()
    return first or 0, last or 0, 0 if selection.reported else reported


def _steps(
    db: sqlite3.Connection, selection: Selection, first: int, last: int
) -> Iterator[list[dict[str, Any]]]:
    where, values = _where(selection)
    kept = "" if selection.reported else " AND price_source IS NOT 'upstream'"
    names = (*_COLUMNS, *COUNTS, *DETAILS)
    query = (
        f"SELECT {', '.join(names)} FROM usage LEFT JOIN usage_details ON usage_id = id "  # noqa: S608 - as above
        f"WHERE id BETWEEN :first AND :last AND {where}{kept} ORDER BY id LIMIT {STEP_ROWS}"
    )
    while rows := db.execute(query, {**values, "first": first, "last": last}).fetchall():
        yield [dict(zip(names, row, strict=True)) for row in rows]
        first = rows[-1][0] + 1


def _where(selection: Selection) -> tuple[str, dict[str, str]]:
    given = {
        "since": stamp(selection.since),
        "until": stamp(selection.until) if selection.until else None,
        "provider": selection.provider,
        "model": selection.model,
    }
    clauses = {
        "since": "started_at >= :since",
        "until": "started_at < :until",
        "provider": "provider = :provider",
        "model": ":model IN (model, requested_model, alias)",
    }
    values = {name: value for name, value in given.items() if value is not None}
    return " AND ".join([_PRICED, *(clauses[name] for name in values)]), values


def _nano(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * NANO)
