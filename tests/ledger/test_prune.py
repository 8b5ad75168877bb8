from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import prune as module
from gproxy.ledger.prune import Old, old_rows, prune
from gproxy.ledger.report import report
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import open_store
from gproxy.ledger.verify import verify
from gproxy.values import Record
from tests.kit.reserving import Charging
from tests.ledger.rows import record

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def charged(path: Path, *records: Record) -> Path:
    store = open_store(path)
    for row in records:
        scopes, at = (
            (f"user/{row.user}", f"key/{row.key_id}"),
            datetime.fromisoformat(row.started_at).timestamp(),
        )
        work = Charging(scopes, at, row.cost_nano, row)
        assert store.run([work]) == [None]
    store.close()
    return path


def select(path: Path, query: str) -> list[Any]:
    with closing(connect(path)) as db:
        return db.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return charged(
        tmp_path / "gproxy.db",
        record("1", started_at="2026-10-01T00:00:00.000Z", cost_nano=5),
        record("2", started_at="2026-11-25T11:59:59.999Z", cost_nano=10**15 - 1),
        record("3", started_at="2026-11-25T12:00:00.000Z", cost_nano=7),
        record("4", started_at="2026-11-01T00:00:00.000Z", cost_nano=None, user="bob", key_id="k2"),
    )


def test_what_is_older_is_told_by_user_and_nothing_is_changed(path: Path) -> None:
    assert old_rows(path, NOON) == [
        Old("alice", 2, 10**15 + 4, "2026-10-01T00:00:00.000Z", "2026-11-25T11:59:59.999Z"),
        Old("bob", 1, None, "2026-11-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z"),
    ]
    assert select(path, "SELECT count(*) FROM usage") == [(4,)]


def test_older_rows_go_from_reports_and_spend_stays_as_it_was(path: Path) -> None:
    before = select(path, "SELECT * FROM spend")
    assert prune(path, NOON, NOW) == 3
    assert select(path, "SELECT request_id FROM usage") == [("3",)]
    assert report(path, by=[]).totals[0] == 1
    assert select(path, "SELECT count(*) FROM usage_groups") == [(1,)]
    assert select(path, "SELECT * FROM spend") == before
    assert verify(path) == []
    assert set(select(path, "SELECT scope, period, reason, delta_nano FROM spend_adjustments")) == {
        (scope, period, "prune", nano)
        for scope in ("user/alice", "key/k1")
        for period, nano in (
            ("total", 10**15 + 4),
            ("2026-10", 5),
            ("2026-11", 10**15 - 1),
            ("2026-11-25", 10**15 - 1),
        )
    }


def test_pruned_twice_is_pruned_once(path: Path) -> None:
    assert (prune(path, NOON, NOW), prune(path, NOON, NOW)) == (3, 0)
    assert verify(path) == []


def test_broken_off_it_has_done_what_it_has_done_and_the_next_does_the_rest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP_ROWS", 1)

    def break_off(removed: int) -> None:
        assert removed == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(path, NOON, NOW, break_off)
    assert select(path, "SELECT count(*) FROM usage") == [(3,)]
    assert verify(path) == []
    assert prune(path, NOON, NOW) == 2
    assert verify(path) == []


def test_the_file_shrinks(tmp_path: Path) -> None:
    path = charged(tmp_path / "gproxy.db", *(record(str(n), error="x" * 4000) for n in range(300)))
    select(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    assert prune(path, NOW, NOW) == 300
    select(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < before / 3


def test_without_a_store_nothing_is_old_and_none_is_made(tmp_path: Path) -> None:
    assert (old_rows(tmp_path / "gproxy.db", NOON), prune(tmp_path / "gproxy.db", NOON, NOW)) == ([], 0)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "gproxy.db")) as db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreError, match="cannot be read"):
        old_rows(tmp_path / "gproxy.db", NOON)
