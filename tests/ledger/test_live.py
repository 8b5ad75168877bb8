"""What is told of a store's moment."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import live, spend
from gproxy.ledger.bulk import Entry
from gproxy.ledger.live import moment
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.when import stamp
from gproxy.values import Claim, Usage
from tests.kit.reserving import reserve
from tests.ledger.rows import record

NOW = datetime(2026, 11, 25, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gproxy.db"


def opened(store: Store, name: str, at: float, pending: bytes = b"") -> None:
    claim = Claim(request_id=name, scopes=(), bounds=(), budgets=(), tokens=0, cost_nano=0, at=at)
    store.run([partial(reserve, claim=claim, worker=0, pending=pending)])


def test_open_requests_are_told_oldest_first_with_what_is_known_of_them(path: Path) -> None:
    store = open_store(path)
    opened(store, "young", NOW.timestamp() - 1.5)
    opened(store, "old", NOW.timestamp() - 9, spend.pending(record("old", stream=True)))
    opened(store, "odd", NOW.timestamp() + 5, b"no json")
    store.close()
    told = moment(path, NOW)
    assert told.in_flight == 3
    assert [(row["request_id"], row["seconds"], row["user"], row["stream"]) for row in told.open] == [
        ("old", 9.0, "alice", True),
        ("young", 1.5, None, None),
        ("odd", 0.0, None, None),
    ]
    assert (told.open[0]["provider"], told.open[0]["requested_model"]) == ("main", "main/large")


def test_no_more_open_requests_are_told_than_the_cap_but_all_are_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_OPEN", 2)
    store = open_store(path)
    for n in range(5):
        opened(store, f"r{n}", time.time())
    store.close()
    told = moment(path, NOW)
    assert (told.in_flight, len(told.open)) == (5, 2)


def test_what_ended_is_counted_of_the_last_minute_and_then_since_the_last_look(path: Path) -> None:
    store = open_store(path)
    times = [stamp(NOW - timedelta(seconds=seconds)) for seconds in (3600, 30, 10)]
    usage = Usage(input_tokens=3, output_tokens=4)
    store.run([Entry(record(f"r{n}", started_at=at, usage=usage)) for n, at in enumerate(times)])
    first = moment(path, NOW)
    assert (first.rows, first.requests, first.tokens) == (3, 2, 14)
    # A long stream counts when it has ended, though it began long before.
    store.run([Entry(record("late", started_at=times[0], usage=usage))])
    store.close()
    second = moment(path, NOW, first.rows)
    assert (second.rows, second.requests, second.tokens) == (4, 1, 7)
    assert moment(path, NOW, second.rows).requests == 0


def test_the_last_errors_are_told_newest_first(path: Path) -> None:
    store = open_store(path)
    rows = [
        record("good"),
        record("bad", status=502, outcome="upstream_error", error="all failed"),
        record("left", status=499, outcome="client_closed"),
        record("cut", status=200, outcome="interrupted"),
    ]
    store.run([Entry(row) for row in rows])
    store.close()
    told = moment(path, NOW).errors
    assert [row["request_id"] for row in told] == ["cut", "left", "bad"]
    assert told[-1]["error"] == "all failed"


def test_a_store_that_is_none_is_told(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        moment(path, NOW)


def test_the_open_requests_of_a_key_are_counted(path: Path) -> None:
    assert live.open_of(path, "k1") == 0
    store = open_store(path)
    opened(store, "hers", 0, spend.pending(record("hers", key_id="k1")))
    opened(store, "his", 0, spend.pending(record("his", key_id="k2")))
    opened(store, "odd", 0, b"no json")
    store.close()
    assert live.open_of(path, "k1") == 1
