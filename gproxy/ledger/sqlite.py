"""Which SQLite is used, and how a connection to the usage store is opened: the one place for both.

What is in the store is `store.py`'s.
"""

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

from gproxy.errors import StoreError

__all__ = [
    "BUSY_TIMEOUT_MS",
    "CHECKPOINT_PAGES",
    "MIGRATIONS",
    "begin_use",
    "connect",
    "connect_read_only",
    "end_use",
    "has_log",
    "in_use",
    "known_fault",
    "remedy",
    "sqlite3",
    "version",
]

BUSY_TIMEOUT_MS = 5000
"""How long a statement waits for another process's lock."""

WAL_BYTES = 16 * 1024 * 1024
"""To what the write-ahead log is cut back once it has grown larger."""

CHECKPOINT_PAGES = 8192
"""With so many in the write-ahead log, 32 MiB, a commit of the server's brings them into the main file itself, which
stops for the disk: only if the thread whose work that is (`checkpoint.py`) has not done it."""

_PAUSE_S = 0.005

MIGRATIONS = "_sqlite_migrations"
"""The table of sqlite-utils that is in every store from the first."""

_INCREMENTAL = 2

_IN_USE = 1
"""The `user_version` of a store that a server has open."""

_OWNER_ONLY_FILE = 0o600
_OWNER_ONLY_FOLDER = 0o700

# For None, as for any value but a number and a text, the module asks each time what it is to be stored as; without an
# answer it looks on for 0.7 µs, and a row of `usage` has eight of them.
sqlite3.register_adapter(type(None), {None: None}.get)


def connect(
    path: Path, *, any_thread: bool = False, checkpoints: bool = False, ours: bool = False
) -> sqlite3.Connection:
    """Open the store for writing, creating it and its folder if need be, readable by its owner alone.

    A new one gives back the room of what is deleted, step by step (`auto_vacuum = INCREMENTAL`). WAL,
    `synchronous = NORMAL`, foreign keys, autocommit: a transaction begins where the caller says so. The
    connection belongs to the calling thread, with `any_thread` to one at a time. `checkpoints`: it is the server's
    writer, the only one that brings the write-ahead log into the main file where SQLite has a `known_fault`.
    `ours`: a database that is no store is refused before anything is written to it. Raises `StoreError`.
    """
    _refuse_orphaned_log(path)
    connection = None
    try:
        _make_private(path)
        patience_s = BUSY_TIMEOUT_MS / 1000
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=patience_s, check_same_thread=not any_thread
        )
        if ours:
            _refuse_foreign(connection, path)
        if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):  # to set it is to write
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before there is anything in it
        _write_ahead(connection)
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        if known_fault() and not checkpoints:
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    except (OSError, sqlite3.Error) as error:
        if connection is not None:
            connection.close()
        raise StoreError(_why(path, error)) from error
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a store that exists, for reading alone. Raises `StoreError`."""
    _refuse_orphaned_log(path)
    connection = None
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
        connection.execute("SELECT count(*) FROM sqlite_master")
    except (OSError, sqlite3.Error) as error:
        if connection is not None:
            connection.close()
        raise StoreError(_why(path, error)) from error
    return connection


def version() -> tuple[str, str]:
    """The SQLite in use, `3.53.4`, and the module that brought it: `pysqlite3`, or `sqlite3` of Python."""
    return sqlite3.sqlite_version, sqlite3.__name__.partition(".")[0]


def known_fault() -> str | None:
    """A warning if the SQLite in use can lose committed rows when two processes write, else None.

    It is the WAL-reset race (https://sqlite.org/wal.html): of two connections one checkpoints while the other writes.
    Such a SQLite is used all the same, with one connection of the server that checkpoints.
    """
    found = sqlite3.sqlite_version_info
    if found >= (3, 51, 3) or (3, 50, 7) <= found < (3, 51) or (3, 44, 6) <= found < (3, 45):
        return None
    return (
        f"SQLite {sqlite3.sqlite_version} can lose committed rows when two processes write; "
        "install pysqlite3 0.6.1 or newer, or a Python with SQLite 3.51.3 or newer."
    )


def begin_use(connection: sqlite3.Connection) -> None:
    """Note in the main file that a server has the store open, outside of any transaction."""
    if not in_use(connection):
        connection.execute(f"PRAGMA user_version = {_IN_USE}")
        if not known_fault():
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def end_use(connection: sqlite3.Connection) -> None:
    """Take the note of `begin_use` back: all that was written is in the main file once the store is closed."""
    connection.execute("PRAGMA user_version = 0")


def in_use(connection: sqlite3.Connection) -> bool:
    """Whether a server has the store open, or did not come to its end."""
    return bool(connection.execute("PRAGMA user_version").fetchone() == (_IN_USE,))


def has_log(path: Path) -> bool:
    """Whether a write-ahead log stands beside the store."""
    return _size(_log_of(path)) > 0


_REMEDIES = {
    "no such table": "`gproxy serve` brings an older store up to date",
    "no such column": "`gproxy serve` brings an older store up to date",
    "is full": "free some room on its disk first",
    "malformed": "the file is damaged; put a copy in its place, or save what can be read by `sqlite3 FILE .recover`",
    "not a database": "move it away, or choose another data_dir",
    "locked": "close the program that holds it, then try again",
    "busy": "close the program that holds it, then try again",
    "readonly": "make it writable, and its folder",
    "disk I/O error": "see that its disk is sound and has room",
}


def remedy(error: Exception) -> str:
    """What to do about a store that could be opened but not read or written."""
    text = str(error)
    found = (told for sign, told in _REMEDIES.items() if sign in text)
    return next(found, "see that it is a usage store, and its disk is sound")


def _refuse_orphaned_log(path: Path) -> None:
    """SQLite would remove a log whose main file is gone or empty, and what is in it may be all there is."""
    if not _size(path) and has_log(path):
        raise StoreError(
            f"The usage store {path} is missing or empty, but its write-ahead log is there: "
            f"put the store back from a copy, or move {_log_of(path).name} away to begin a new one."
        )


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Somebody else's database is left as it is, its journal mode and `user_version` too."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if names and MIGRATIONS not in names:
        connection.close()
        raise StoreError(f"{path} is no usage store of gproxy's: move it away, or choose another data_dir.")


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _size(path: Path) -> int:
    """0 for what is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _make_private(path: Path) -> None:
    """Create the folder and the file, or narrow what exists; a new `-wal` and `-shm` take the file's mode."""
    path.parent.mkdir(_OWNER_ONLY_FOLDER, exist_ok=True)
    # One that exists is not opened: closed again, it would take with it the locks that this process has on the file
    # by other connections, and another process would take itself for the last one and remove the write-ahead log.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _OWNER_ONLY_FILE))
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(name).chmod(_OWNER_ONLY_FILE)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Of processes that open a new store together SQLite lets some fail at once, without waiting."""
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def _why(path: Path, error: Exception) -> str:
    """One sentence and what to do next."""
    text = str(error)
    if isinstance(error, sqlite3.Error):
        if "not a database" in text or "malformed" in text:
            return f"{path} is not a usable SQLite database: move it away, or choose another data_dir."
        if "locked" in text or "busy" in text:
            return f"{path} is locked by another program: close that program, then try again."
        if "is full" in text or "disk I/O" in text:
            return f"Cannot open the usage store {path} ({text}): {remedy(error)}."
        return f"Cannot open the usage store {path} ({text}): see that its folder exists and is writable."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else text
    return f"Cannot open the usage store {path} ({reason}): make it writable, or choose another data_dir."
