"""The store agrees with itself whatever happens to it in the ways that gproxy has, and with no other."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.errors import StoreError
from gproxy.ledger import spend
from gproxy.ledger.bulk import Entry
from gproxy.ledger.pricing import Price, Rates
from gproxy.ledger.prune import prune
from gproxy.ledger.reprice import Selection, reprice
from gproxy.ledger.sqlite import connect, sqlite3
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.verify import CHECKS, Difference, verify
from gproxy.ledger.when import stamp
from gproxy.protocols.answers import consistent
from gproxy.values import Bound, Budget, Claim, Usage
from tests.kit import reserving
from tests.ledger.rows import record

NOON = 1_795_608_000.25
"""2026-11-25 12:00 UTC and a quarter of a second."""
MIDNIGHT = 1_795_651_200.0
OLDEST = datetime(2020, 1, 1, tzinfo=UTC)


def reserve(store: Store, name: str, user: str, at: float, cost: int = 9) -> None:
    scope = f"user/{user}"
    claim = Claim(
        request_id=name,
        scopes=(scope, f"key/{user}"),
        bounds=(Bound(scope, "concurrency", 1000), Bound(scope, "rpm", 1000), Bound(scope, "tpd", 10**9)),
        budgets=(Budget(scope, "total", 10**18), Budget(f"key/{user}", "day", 10**18)),
        tokens=3,
        cost_nano=cost,
        at=at,
    )
    row = record(
        name, user=user, key_id=user, started_at=moment(at - 1), cost_nano=cost, outcome="interrupted"
    )
    store.run([partial(reserving.reserve, claim=claim, worker=0, pending=spend.pending(row))])


def moment(at: float) -> str:
    return stamp(datetime.fromtimestamp(at, UTC))


def charge(
    store: Store, name: str, user: str, at: float, cost: int | None, *, row: bool, began: float
) -> None:
    written = record(name, user=user, key_id=user, started_at=moment(began), cost_nano=cost) if row else None
    scopes = (f"user/{user}", f"key/{user}")
    store.run([reserving.Charging(scopes, at, cost, written)])


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


STEP = st.tuples(
    st.sampled_from(["reserve", "settle", "charge", "charge", "unrecorded", "prune", "reprice", "recover"]),
    st.sampled_from(["a", "b"]),
    # Around two midnights, one of which ends a month.
    st.sampled_from([0.0, 43_199.0, 43_200.5, 86_400.0, 475_199.9, 475_200.4]),
    st.none() | st.integers(0, 10**15),
)


@settings(deadline=None, max_examples=60)  # an example is a store on a disk
@given(steps=st.lists(STEP, max_size=25))
def test_whatever_happens_the_ledger_adds_up(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, float, int | None]]
) -> None:
    path = tmp_path_factory.mktemp("verify") / "gproxy.db"
    store = open_store(path)
    open_requests: list[tuple[str, str, float]] = []
    for number, (what, user, after, cost) in enumerate(steps):
        name, now = f"r{number}", NOON + after
        if what == "reserve":
            reserve(store, name, user, now, cost or 0)
            open_requests.append((name, user, now))
        elif what == "settle" and open_requests:
            settled, whose, began = open_requests.pop(0)
            row = record(settled, user=whose, key_id=whose, started_at=moment(began - 1), cost_nano=cost)
            store.run([spend.Settling(settled, 5, cost, row if number % 3 else None)] * 2)
        elif what == "charge":
            charge(store, name, user, now, cost, row=True, began=now - 1)
        elif what == "unrecorded":
            charge(store, name, user, now, cost, row=False, began=now)
        elif what == "prune":
            prune(path, at(now), at(now))
        elif what == "reprice":
            new = None if cost is None else Price("config", Rates(per_call=cost))
            reprice(path, Selection(since=at(now)), lambda *_, new=new: (new, None), write=True, now=at(now))
        elif what == "recover":
            spend.recover(store, 0 if number % 2 else None)
            open_requests.clear()
        assert verify(path) == []
    store.close()


@pytest.fixture
def books(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """Something of everything, and a connection to tamper with it."""
    path = tmp_path / "gproxy.db"
    store = open_store(path)
    charge(store, "1", "a", NOON, 70, row=True, began=NOON)
    charge(store, "2", "a", NOON, 30, row=False, began=NOON)
    charge(store, "3", "b", MIDNIGHT + 1, 5, row=True, began=MIDNIGHT - 1)
    reserve(store, "4", "a", NOON)
    store.close()
    with closing(connect(path)) as db:
        yield path, db


TAMPERING = {
    "UPDATE usage SET cost_usd = cost_usd + 1e-9 WHERE request_id = '1'": "spend",
    "DELETE FROM usage WHERE request_id = '1'": "spend",
    "UPDATE usage SET started_at = '2026-11-26T12:00:00.000Z' WHERE request_id = '1'": "spend",
    "UPDATE usage SET user = 'c' WHERE request_id = '1'": "spend",
    "UPDATE spend SET spent_nano = spent_nano + 1 WHERE scope = 'user/a' AND period = 'total'": "spend",
    "UPDATE spend SET spent_nano = spent_nano - 1 WHERE scope = 'key/a' AND period = '2026-11-25'": "spend",
    "DELETE FROM spend WHERE scope = 'key/a'": "spend",
    "DELETE FROM spend WHERE scope = 'user/a' AND period = '2026-11-25'": "spend",
    "DELETE FROM spend WHERE scope = 'user/a' AND period = '2026-11'": "spend",
    "INSERT INTO spend VALUES ('user/z', 'total', 1, 0)": "spend",
    "DELETE FROM spend_adjustments WHERE reason = 'unrecorded'": "spend",
    "DELETE FROM spend_adjustments WHERE reason = 'midnight'": "spend",
    "INSERT INTO spend_adjustments VALUES ('user/z', 'total', 'prune', '', 1)": "spend",
    "UPDATE spend SET held_nano = held_nano + 1 WHERE scope = 'user/a' AND period = 'total'": "held",
    "DELETE FROM reservations": "held",
    "UPDATE reservations SET hold = '{'": "held",
    "UPDATE counters SET n = 0 WHERE kind = 'concurrency'": "held",
    "UPDATE counters SET n = -1 WHERE kind = 'rpm'": "counters",
    "UPDATE counters SET kind = 'rph' WHERE kind = 'rpm'": "counters",
    "UPDATE spend SET spent_nano = -1 WHERE scope = 'user/a'": "counters",
    "UPDATE usage_days SET input_tokens = 0": "roll-up",
    "DELETE FROM usage_groups WHERE user = 'b'": "file",
    "UPDATE usage SET output_tokens = -1": "rows",
    "UPDATE usage SET cost_usd = -1": "rows",
    "UPDATE usage SET cost_usd = 9e999": "rows",
    "UPDATE usage SET cost_usd = 9e999, user = 'a', key_id = 'a'": "rows",
    "UPDATE usage SET total_tokens = total_tokens + 1": "rows",
    "UPDATE usage SET input_tokens = NULL": "rows",
    "UPDATE usage SET started_at = 'yesterday'": "rows",
    "UPDATE usage SET cache_read_tokens = input_tokens + 1": "rows",
    "UPDATE usage SET cache_read_tokens = 7, cache_write_tokens = 6": "rows",
    "UPDATE usage SET cache_write_1h_tokens = 1": "rows",
    "UPDATE usage SET reasoning_tokens = output_tokens + 1": "rows",
    "UPDATE usage SET reasoning_tokens = -1": "rows",
    "UPDATE usage SET status = 99": "rows",
    "UPDATE usage SET status = 600": "rows",
    "UPDATE usage SET outcome = 'fine'": "rows",
    "UPDATE usage SET usage_source = 'guess'": "rows",
    "UPDATE usage SET route = ''": "rows",
    "UPDATE usage SET stream = 2": "rows",
    "UPDATE usage SET latency_ms = -5": "rows",
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_tampering_is_found_and_told_with_both_figures(
    books: tuple[Path, sqlite3.Connection], tampering: str
) -> None:
    path, db = books
    assert verify(path) == []
    db.execute("PRAGMA foreign_keys = OFF")
    assert db.execute(tampering).rowcount > 0
    found = verify(path)
    assert TAMPERING[tampering] in {it.check for it in found}
    assert all(it.expected != it.found for it in found)


def test_a_difference_names_whose_it_is_and_by_how_much(books: tuple[Path, sqlite3.Connection]) -> None:
    path, db = books
    db.execute("UPDATE spend SET spent_nano = 1 WHERE scope = 'user/a' AND period = 'total'")
    assert verify(path) == [Difference("spend", "nano-dollars spent by user/a in total", 100, 1)]


def test_an_index_that_lost_a_row_is_found(books: tuple[Path, sqlite3.Connection]) -> None:
    path, db = books
    db.execute("PRAGMA writable_schema = ON")
    db.execute(
        "UPDATE sqlite_master SET sql = replace(sql, '(started_at)', '(request_id)') WHERE name = 'usage_started_at'"
    )
    db.execute("PRAGMA writable_schema = RESET")
    assert "file" in {it.check for it in verify(path)}


def test_all_of_it_is_of_one_moment_while_others_write(books: tuple[Path, sqlite3.Connection]) -> None:
    path, _ = books
    store = open_store(path)
    heard: list[Any] = []

    def write(check: str) -> None:
        heard.append(check)
        charge(store, check, "a", NOON, 3, row=True, began=NOON)
        reserve(store, f"{check} open", "b", NOON)

    assert verify(path, write) == []
    assert heard == list(CHECKS)
    assert verify(path) == []
    store.close()


def test_a_store_that_is_not_there_and_a_file_that_is_none_are_said(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    with pytest.raises(StoreError, match="no usage store"):
        verify(path)
    assert not path.exists()
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreError, match="cannot be verified"):
        verify(path)


def test_nonsense_of_an_upstream_is_bounded_to_what_is_possible(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    huge = consistent(Usage(input_tokens=1, cache_read_tokens=2**53, cache_write_tokens=2**53))
    store = open_store(path)
    assert store.run([Entry(record("1", usage=huge, cost_nano=0))]) == [None]
    store.close()
    assert verify(path) == []
