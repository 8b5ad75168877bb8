import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gproxy.errors import StoreError
from gproxy.ledger import sqlite
from gproxy.ledger.sqlite import connect, connect_read_only, known_fault, remedy, sqlite3, version


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def guarded_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not write: root gives up its rights for the time."""
    tmp_path.chmod(0o555)
    above = [folder for folder in tmp_path.parents if folder.stat().st_uid == os.geteuid()]
    modes = [(folder, stat.S_IMODE(folder.stat().st_mode)) for folder in above if folder != Path("/")]
    root = os.geteuid() == 0
    if root:
        for folder, mode in modes:
            folder.chmod(mode | 0o055)
        os.seteuid(65534)
    yield tmp_path
    if root:
        os.seteuid(0)
        for folder, mode in modes:
            folder.chmod(mode)
    tmp_path.chmod(0o755)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_whatever_the_umask_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "gproxy.db"
    connection = connect(path)
    connection.execute("CREATE TABLE t (a)")
    assert {file.name: mode(file) for file in path.parent.iterdir()} == {
        "gproxy.db": 0o600,
        "gproxy.db-wal": 0o600,
        "gproxy.db-shm": 0o600,
    }
    assert mode(path.parent) == 0o700
    connection.close()


def test_a_switch_to_wal_that_sqlite_lets_fail_at_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does, whatever the timeout, where several processes open a new store together."""
    faults = [sqlite3.OperationalError("database is locked")]

    class Contended(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if "journal_mode = WAL" in sql and faults:
                raise faults.pop()
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Contended))
    connection = connect(tmp_path / "gproxy.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not faults
    connection.close()


def test_a_store_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    path.touch()
    path.chmod(0o666)
    connect(path).close()
    assert mode(path) == 0o600


def test_a_connection_writes_ahead_and_syncs_as_promised(tmp_path: Path) -> None:
    connection = connect(tmp_path / "gproxy.db")
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    }
    connection.close()
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "busy_timeout": sqlite.BUSY_TIMEOUT_MS,
    }


def test_a_file_that_is_no_database_is_said_to_be_none_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    path.write_text("a letter to my aunt, " * 100)
    for opening in (connect, connect_read_only):
        with pytest.raises(StoreError, match="not a usable SQLite database: move it away"):
            opening(path)
    assert path.read_text().startswith("a letter")


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "gproxy.db").mkdir()
    with pytest.raises(StoreError, match=r"gproxy\.db .*directory"):
        connect(tmp_path / "gproxy.db")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="choose another data_dir"):
        connect(tmp_path / "file" / "gproxy.db")


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(guarded_folder: Path) -> None:
    with pytest.raises(StoreError, match=r"Permission denied.*make it writable"):
        connect(guarded_folder / "gproxy.db")


def test_a_locked_store_is_said_to_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "gproxy.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (a)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked by another program"):
        connect(path)
    holder.close()


def test_reading_makes_no_store_and_changes_none(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    with pytest.raises(StoreError, match="Cannot open"):
        connect_read_only(path)
    assert not path.exists()
    connect(path).close()
    connection = connect_read_only(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("CREATE TABLE t (a)")
    connection.close()


@pytest.mark.parametrize(
    ("version", "faulty"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
    ],
)
def test_a_sqlite_that_can_lose_rows_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], faulty: bool
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert (known_fault() is not None) == faulty


def test_where_sqlite_is_faulty_only_the_servers_writer_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every(path: Path, **given: bool) -> int:
        with closing(connect(path, **given)) as db:
            (pages,) = db.execute("PRAGMA wal_autocheckpoint").fetchone()
            return int(pages)

    assert every(tmp_path / "gproxy.db") == every(tmp_path / "gproxy.db", checkpoints=True) == 1000
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert every(tmp_path / "gproxy.db") == 0
    assert every(tmp_path / "gproxy.db", checkpoints=True) == 1000


def test_the_version_names_the_module_that_brought_it() -> None:
    assert version() == (sqlite3.sqlite_version, sqlite3.__name__.partition(".")[0])
    assert version()[1] in ("pysqlite3", "sqlite3")


@pytest.mark.parametrize("emptied", [True, False])
def test_a_log_whose_main_file_is_gone_is_kept_and_told_of(tmp_path: Path, emptied: bool) -> None:
    path = tmp_path / "gproxy.db"
    log = path.with_name("gproxy.db-wal")
    if emptied:
        path.touch()
    log.write_bytes(b"what was spent")
    for opening in (connect, connect_read_only):
        with pytest.raises(
            StoreError, match=r"missing or empty, but its write-ahead log.*move gproxy\.db-wal"
        ):
            opening(path)
    assert log.read_bytes() == b"what was spent"


LOCK_OF_READERS = (510, 0x40000002)
"""Length and start of what every connection in WAL mode holds shared; see `SHARED_FIRST` in SQLite's os.h."""


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_second_connection_of_a_process_leaves_the_lock_of_the_first(tmp_path: Path) -> None:
    """A file that is closed takes all locks of its process along, and the next one to close the store, of another
    process, takes itself for the last and removes the write-ahead log."""
    path = tmp_path / "gproxy.db"
    with closing(connect(path)) as first:
        first.execute("CREATE TABLE t (x)")
        connect(path).close()
        take = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, *{})"
        other = (sys.executable, "-c", take.format(LOCK_OF_READERS), str(path))
        done = subprocess.run(other, capture_output=True, text=True)
    assert "BlockingIOError" in done.stderr


def grown(path: Path) -> None:
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t (a)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,)] * 20)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    grown(path)
    with closing(connect(path)) as db:
        db.execute("PRAGMA max_page_count = 1").fetchall()
        with pytest.raises(sqlite3.OperationalError) as told:
            db.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,)] * 20)
    assert remedy(told.value) == "free some room on its disk first"


def test_a_damaged_page_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.db"
    grown(path)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096 * 10)
    with closing(connect_read_only(path)) as db, pytest.raises(sqlite3.DatabaseError) as told:
        db.execute("SELECT count(a) FROM t WHERE a > 'a'").fetchall()
    assert remedy(told.value).startswith("the file is damaged")


def test_only_a_store_that_lacks_something_is_called_an_older_one(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "gproxy.db")) as db:
        for query in ("SELECT 1 FROM nowhere", "SELECT missing FROM sqlite_master"):
            with pytest.raises(sqlite3.OperationalError) as told:
                db.execute(query)
            assert "gproxy serve" in remedy(told.value)
    assert "gproxy serve" not in remedy(sqlite3.OperationalError("something else"))


def test_none_is_stored_as_null_without_a_search_for_what_else_it_might_be(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "x.db")) as db:
        assert db.execute("SELECT typeof(?), ? IS NULL", (None, None)).fetchone() == ("null", 1)
    assert (type(None), sqlite3.PrepareProtocol) in sqlite3.adapters
