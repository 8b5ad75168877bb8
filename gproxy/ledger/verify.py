"""Whether the store agrees with itself: rows, roll-up, spend, what is held, counters, and the file. Only reads.

All of it is of one moment, so it is right while a server writes.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gproxy.errors import StoreError
from gproxy.ledger import rollup
from gproxy.ledger.bulk import MOST_SPENT_NANO
from gproxy.ledger.rows import COUNTS, MOST_TOKENS
from gproxy.ledger.sqlite import connect_read_only, remedy, sqlite3

OUTCOMES = ("ok", "upstream_error", "client_closed", "interrupted", "refused", "error")
USAGE_SOURCES = ("upstream", "partial", "estimated", "none")
ROUTES = ("aggregated", "scoped")
"""What these columns of `usage` may hold, as docs/ledger.md has it."""

_IMPOSSIBLE = {
    **{
        f"rows with {name} out of bounds": f"{name} NOT BETWEEN 0 AND {MOST_TOKENS}"
        for name in (*COUNTS, "total_tokens")
    },
    "rows whose total is not that of input and output": f"""
        total_tokens IS NOT min(
            {MOST_TOKENS},
            coalesce(input_tokens + output_tokens, input_tokens, output_tokens)
        )
    """,
    "rows with more cached than input": f"""
        min(
            {MOST_TOKENS}, max(0, ifnull(cache_read_tokens, 0)) + max(0, ifnull(cache_write_tokens, 0))
        ) > ifnull(input_tokens, 0)
    """,
    "rows with more one-hour cache writes than writes": (
        "ifnull(cache_write_1h_tokens, 0) > ifnull(cache_write_tokens, 0)"
    ),
    "rows with more reasoning than output": "ifnull(reasoning_tokens, 0) > ifnull(output_tokens, 0)",
    "rows with a status that is none": "status NOT BETWEEN 100 AND 599",
    "rows with an unknown outcome": f"outcome NOT IN {OUTCOMES}",
    "rows with an unknown source of usage": f"usage_source NOT IN {USAGE_SOURCES}",
    "rows with an unknown route": f"route NOT IN {ROUTES}",
    "rows with a flag that is neither 0 nor 1": "stream NOT IN (0, 1) OR maybe_billed NOT IN (0, 1)",
    "rows with a cost below zero or above a million dollars": "cost_usd NOT BETWEEN 0 AND 1e6",
    "rows with a negative cost of other attempts": "extra_attempt_cost_usd < 0",
    "rows with negative milliseconds or attempts": "min(latency_ms, ifnull(ttft_ms, 0), attempts) < 0",
    "rows with a time that is none": "strftime('%Y-%m-%dT%H:%M:%fZ', started_at) IS NOT started_at",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """What should be and what is, of one thing: money in nano-dollars, else a count or a text."""

    check: str
    what: str
    expected: int | str
    found: int | str


Check = Callable[[sqlite3.Connection], Iterator[Difference]]


def verify(path: Path, told: Callable[[str], None] = lambda check: None) -> list[Difference]:
    """Every difference in the store at `path`. `told` hears each check as it begins.

    Raises `StoreError` where there is none, and for a file that cannot be read at all or that an older gproxy wrote.
    """
    if not path.exists():
        raise StoreError(f"There is no usage store at {path}: see `data_dir`; `gproxy serve` makes one.")
    found: list[Difference] = []
    try:
        with closing(connect_read_only(path)) as db:
            db.execute("BEGIN")
            for name, check in CHECKS.items():
                told(name)
                try:
                    found += check(db)
                except sqlite3.OperationalError as error:
                    if "integer overflow" not in str(error):
                        raise
                    found.append(Difference(name, "a sum", "within 64 bits", str(error)))
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be verified ({error}): {remedy(error)}.") from error
    return found


def _file(db: sqlite3.Connection) -> Iterator[Difference]:
    for (line,) in db.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield Difference("file", "PRAGMA integrity_check", "ok", line)
    for table, row, parent, _ in db.execute("PRAGMA foreign_key_check"):
        yield Difference("file", f"row {row} of {table}", f"one of {parent}", "none")


def _rows(db: sqlite3.Connection) -> Iterator[Difference]:
    names = list(_IMPOSSIBLE)
    sums = ", ".join(f"count(*) FILTER (WHERE {_IMPOSSIBLE[name]})" for name in names)
    counts = db.execute(f"SELECT {sums} FROM usage").fetchone()  # noqa: S608 - constants of this module
    for name, count in zip(names, counts, strict=True):
        if count:
            yield Difference("rows", name, 0, count)


def _rollup(db: sqlite3.Connection) -> Iterator[Difference]:
    for day, group, measure, true, kept in rollup.differences(db):
        yield Difference("roll-up", f"{measure} of {day}, group {group}", true, kept)


def _spend(db: sqlite3.Connection) -> Iterator[Difference]:
    """Spend against rows and adjustments: in total, and for the latest day and month of each scope."""
    spent = {
        (scope, period): nano
        for scope, period, nano in db.execute("SELECT scope, period, spent_nano FROM spend")
    }
    expected: dict[tuple[str, str], int] = defaultdict(int)
    by_day = """
        SELECT user, key_id, substr(started_at, 1, 10), sum(CAST(round(cost_usd * 1e9) AS INTEGER))
        FROM usage WHERE cost_usd != 0 GROUP BY 1, 2, 3
    """
    for user, key_id, day, nano in db.execute(by_day):
        for scope in (f"user/{user}", f"key/{key_id}"):
            for period in ("total", day, day[:7]):
                expected[scope, period] += nano
    for scope, period, nano in db.execute("SELECT scope, period, delta_nano FROM spend_adjustments"):
        expected[scope, period] += nano
    latest: dict[tuple[str, int], str] = {}
    compared = {pair for pair in expected if pair[1] == "total"}
    for known in (spent, expected):
        for scope, period in known:
            latest[scope, len(period)] = max(period, latest.get((scope, len(period)), ""))
        compared |= {(scope, period) for (scope, _), period in latest.items()}
    for pair in sorted(compared):
        should, stands = min(expected[pair], MOST_SPENT_NANO), spent.get(pair, 0)
        if should != stands:
            yield Difference("spend", f"nano-dollars spent by {pair[0]} in {pair[1]}", should, stands)


def _held(db: sqlite3.Connection) -> Iterator[Difference]:
    """What is held against what open requests hold, and what they count as open."""
    held: dict[tuple[str, str], int] = defaultdict(int)
    slots: dict[str, int] = defaultdict(int)
    for request_id, text in db.execute("SELECT request_id, hold FROM reservations"):
        try:
            _, _, taken, pairs, nano = json.loads(text)
            for scope, period in pairs:
                held[scope, period] += nano
            for rule, kind, _, count in taken:
                slots[rule] += count if kind == "concurrency" else 0
        except (ValueError, TypeError) as error:
            yield Difference("held", f"the reservation of {request_id}", "what it holds", str(error))
    query = "SELECT scope, period, held_nano FROM spend WHERE held_nano != 0"
    stands = {(scope, period): nano for scope, period, nano in db.execute(query)}
    for pair in sorted({*held, *stands}):
        if held[pair] != stands.get(pair, 0):
            what = f"nano-dollars held for {pair[0]} in {pair[1]}"
            yield Difference("held", what, held[pair], stands.get(pair, 0))
    query = "SELECT rule, n FROM counters WHERE kind = 'concurrency' AND n != 0"
    counted = dict(db.execute(query).fetchall())
    for rule in sorted({*slots, *counted}):
        if slots[rule] != counted.get(rule, 0):
            yield Difference("held", f"open requests of {rule}", slots[rule], counted.get(rule, 0))


def _counters(db: sqlite3.Connection) -> Iterator[Difference]:
    query = """
        SELECT rule, kind, slot, n FROM counters
        WHERE n < 0 OR kind NOT IN ('rpm', 'rpd', 'tpm', 'tpd', 'concurrency')
    """
    for rule, kind, slot, n in db.execute(query):
        yield Difference("counters", f"{kind} of {rule} in slot {slot}", "a known kind, from 0", n)
    query = "SELECT scope, period, min(spent_nano, held_nano) AS least FROM spend WHERE least < 0"
    for scope, period, nano in db.execute(query):
        yield Difference("counters", f"spend or held of {scope} in {period}", "from 0", nano)


CHECKS: dict[str, Check] = {
    "file": _file,
    "rows": _rows,
    "roll-up": _rollup,
    "spend": _spend,
    "held": _held,
    "counters": _counters,
}
"""What is checked, in order."""
