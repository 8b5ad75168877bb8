"""The table of credentials' health: what is written, what a reader learns, and what nobody can."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import credential_state
from gproxy.ledger.credential_state import Key, Reader, Row
from gproxy.ledger.sqlite import connect, connect_read_only, sqlite3
from gproxy.ledger.store import open_store
from gproxy.values import READY, Health

SECRET = "sk-canary-of-the-health-table"
OUT = Health(state="cooling", held="out", until=12.5, failures=2, status=429, error="status 429", at=10.25)
KEY = ("p", "c", "m")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gproxy.db"
    open_store(path).close()
    return path


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path)
    yield connection
    connection.close()


def put(db: sqlite3.Connection, key: Key = KEY, health: Health = OUT, identity: str = SECRET) -> Row:
    row, changed = credential_state.change(db, key=key, identity=identity, step=lambda _: health)
    assert row is not None
    assert changed
    return row


def seen(db: sqlite3.Connection, after: int = 0) -> dict[Key, Health]:
    return {row.key: row.health for row in credential_state.since(db, after)}


def test_what_is_written_is_read_as_it_was(db: sqlite3.Connection, path: Path) -> None:
    assert put(db).health == OUT
    (row,) = credential_state.read(path)
    assert (row.key, row.health) == (KEY, OUT)
    assert row.is_of(SECRET)
    assert not row.is_of("other")
    assert not row.is_of("")


def test_a_step_is_taken_from_where_the_row_stands(db: sqlite3.Connection) -> None:
    put(db)
    row, changed = credential_state.change(
        db, key=KEY, identity=SECRET, step=lambda health: replace(health, failures=health.failures + 1)
    )
    assert row is not None
    assert changed
    assert row.health.failures == 3


def test_no_step_leaves_it_as_it_is_and_says_how_that_is(db: sqlite3.Connection) -> None:
    assert credential_state.change(db, key=KEY, identity=SECRET, step=lambda _: None) == (None, False)
    before = put(db)
    assert credential_state.change(db, key=KEY, identity=SECRET, step=lambda _: None) == (before, False)


def test_what_is_known_of_another_secret_does_not_count(db: sqlite3.Connection) -> None:
    put(db)
    found: list[Health] = []

    def step(health: Health) -> None:
        found.append(health)

    assert credential_state.change(db, key=KEY, identity="other", step=step) == (None, False)
    assert found == [READY]
    put(db, identity="other")
    (row,) = credential_state.since(db, 0)
    assert row.is_of("other")


def test_nothing_of_a_secret_is_in_the_file(db: sqlite3.Connection, path: Path) -> None:
    one, other = put(db), put(db, ("p", "d", ""))
    assert one.digest != other.digest, "the same secret has another digest in each row"
    assert len(one.digest) == 8
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert SECRET.encode() not in path.read_bytes()


def test_every_change_is_news_once(db: sqlite3.Connection, path: Path) -> None:
    reader = Reader(path)
    put(db)
    put(db, ("p", "d", ""))
    (first, second) = reader.since(0)
    assert reader.since(second.version) == []
    put(db)
    (again,) = reader.since(second.version)
    assert (again.key, again.version > second.version) == (first.key, True)
    reader.close()


def test_a_version_is_never_given_twice(db: sqlite3.Connection) -> None:
    last = put(db).version
    db.execute("DELETE FROM credential_state")
    assert put(db).version > last


def test_there_is_nothing_where_there_is_no_store(tmp_path: Path) -> None:
    assert credential_state.read(tmp_path / "gproxy.db") == []
    assert not (tmp_path / "gproxy.db").exists()


def test_a_reader_begins_anew_after_a_failure(path: Path, tmp_path: Path) -> None:
    reader = Reader(path)
    away = path.rename(tmp_path / "away")
    with pytest.raises(StoreError):
        reader.since(0)
    away.rename(path)
    assert reader.since(0) == []
    reader.close()


def test_a_store_of_an_older_version_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    connect(path).close()
    assert credential_state.read(path) == []


def test_a_store_that_cannot_be_read_is_an_error_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError):
        credential_state.read(path)


def test_what_is_not_configured_or_has_another_secret_is_forgotten(db: sqlite3.Connection) -> None:
    for name in ("same", "changed", "gone", "unread"):
        put(db, ("p", name, ""))
        put(db, ("p", name, "m"))
    put(db, ("p", "no key", ""), identity="")
    known = {("p", "same"): SECRET, ("p", "changed"): "other", ("p", "no key"): ""}
    credential_state.keep(db, credentials=known, unread={("p", "unread")})
    left = {key[1] for key in seen(db)}
    assert left == {"same", "unread", "no key"}


def test_a_reset_makes_ready_and_is_news(db: sqlite3.Connection) -> None:
    last = [put(db, key) for key in (("p", "c", ""), ("p", "c", "m"), ("p", "d", ""), ("q", "c", ""))][
        -1
    ].version
    assert credential_state.reset(db, provider="p", credential="c") == 2
    assert seen(db, last) == {("p", "c", ""): READY, ("p", "c", "m"): READY}
    assert credential_state.reset(db, provider="p") == 1
    assert credential_state.reset(db) == 1
    assert set(seen(db).values()) == {READY}
    assert credential_state.reset(db) == 0


def test_rows_are_bounded_and_those_that_say_the_least_go_first(
    db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_state, "MOST_ROWS", 3)
    put(db, ("p", "c", ""), READY)
    put(db, ("p", "c", "ready"), READY)
    put(db, ("p", "c", "soon"), replace(OUT, until=11))
    put(db, ("p", "c", "late"), replace(OUT, until=99))
    assert {key[2] for key in seen(db)} == {"", "soon", "late"}
    put(db, ("p", "c", "later"), replace(OUT, until=100))
    assert {key[2] for key in seen(db)} == {"", "late", "later"}


def test_a_read_only_connection_is_enough(db: sqlite3.Connection, path: Path) -> None:
    put(db)
    reader = connect_read_only(path)
    assert len(credential_state.since(reader, 0)) == 1
    reader.close()
