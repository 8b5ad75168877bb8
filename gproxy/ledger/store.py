"""The usage store: its transactions and its migrations.

Which tables there are is `schema.py`'s, what of several operations is written together `bulk.py`'s. When rows are
written is `writer.py`'s; reading them is `report.py`'s.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gproxy.errors import RowRefused, StoreError
from gproxy.ledger import sqlite
from gproxy.ledger.bulk import Bulk, Posting
from gproxy.ledger.presence import Presence
from gproxy.ledger.schema import STEPS
from gproxy.ledger.sqlite import CHECKPOINT_PAGES, MIGRATIONS, connect, remedy, sqlite3

logger = logging.getLogger(__name__)

MIGRATION_SET = "gproxy"

_LAST_PATIENCE_MS = 500
"""How long the end of a server waits for another process's lock, to note that it came."""

_ROW_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
)
"""The errors of SQLite that are one row's; any other is the store's."""


Work = Callable[[sqlite3.Connection], Any]
"""One operation on the store, in a transaction that others may share; a `Posting` is one that adds to a `Bulk`."""


class Store:
    """The open usage store at `path`, for one thread at a time. What it writes it writes inside `turn`, if given.

    `made`: there was none before. `rows_refused`: how many requests it has ended without their rows.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        turn: contextlib.AbstractContextManager[object] | None = None,
        *,
        made: bool = False,
    ) -> None:
        self.made = made
        self.rows_refused = 0
        self._connection = connection
        self._cursor = connection.cursor()
        self._presence = Presence(path)
        self._turn = turn or contextlib.nullcontext()

    def run(self, works: Sequence[Work], patience_ms: int | None = None) -> list[Any]:
        """Do all of it in one transaction, committed when this returns.

        One outcome per work, in order: what it returned, or a StoreError, and then nothing of this one was done
        (a request id that exists), or all but its row (`RowRefused`, which is logged). A work may be called twice:
        all are undone, and done again apart from each other, where one fails. Raises `StoreError` if nothing could
        be done. `patience_ms`: for how long another process's lock is waited for, if not as long as usual.
        """
        with self._turn:
            self._presence.check()
            return self._run(works) if patience_ms is None else self._run_patiently(works, patience_ms)

    def _run_patiently(self, works: Sequence[Work], patience_ms: int) -> list[Any]:
        (usual,) = self._connection.execute("PRAGMA busy_timeout").fetchone()
        self._connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
        try:
            return self._run(works)
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {usual}")

    def _run(self, works: Sequence[Work]) -> list[Any]:
        try:
            try:
                return self._commit(_together, works)
            except Exception as error:  # whatever it is, it is found out below whose it is
                if not _is_one_works(error):
                    raise
                return self._commit(_apart, works)
        except sqlite3.Error as error:
            raise StoreError(f"The usage store cannot be written ({error}): {remedy(error)}.") from error

    def _commit(
        self, act: Callable[[sqlite3.Connection, Sequence[Work]], list[Any]], works: Sequence[Work]
    ) -> list[Any]:
        self._cursor.execute("BEGIN IMMEDIATE")
        try:
            outcomes = act(self._connection, works)
            self._cursor.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        for work, outcome in zip(works, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                if not isinstance(outcome, RowRefused):
                    continue
                self.rows_refused += 1
                logger.error("%s", outcome)
            if isinstance(work, Posting):
                work.committed()
        return outcomes

    def relieve(self) -> None:
        """A `Checkpointer` works beside it: commits need not bring the write-ahead log into the main file."""
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()

    def ask(self, query: str, values: Sequence[Any]) -> list[Any]:
        """What a query finds, outside of any transaction. Raises `StoreError`."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"The usage store cannot be read ({error}): {remedy(error)}.") from error

    def version(self) -> int | None:
        """Another number when another connection has written; None if it cannot be asked."""
        try:
            found = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return int(found[0])

    @property
    def in_use(self) -> bool:
        """Whether a server has it open, or did not come to its end."""
        return sqlite.in_use(self._connection)

    def begin_use(self) -> None:
        """Note that a server has it open; if that cannot be noted, it is not."""
        with self._turn, contextlib.suppress(sqlite3.Error):
            sqlite.begin_use(self._connection)

    def end_use(self) -> None:
        """Take the note back."""
        with self._turn, contextlib.suppress(sqlite3.Error, StoreError):
            self._presence.check()
            self._connection.execute(f"PRAGMA busy_timeout = {_LAST_PATIENCE_MS}")
            sqlite.end_use(self._connection)

    def close(self) -> None:
        self._connection.close()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the error that led here is the one to tell
                self._connection.execute("ROLLBACK")


def _is_one_works(error: Exception) -> bool:
    """Whether it says nothing of the store."""
    return not isinstance(error, sqlite3.Error) or isinstance(error, _ROW_FAULTS)


def _together(db: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
    """In their order; what follows each other and only adds is written in one go."""
    bulk = Bulk()
    outcomes: list[Any] = [None] * len(works)
    for place, work in enumerate(works):
        if isinstance(work, Posting):
            work.post(db, bulk)
        else:
            bulk.write(db)
            outcomes[place] = work(db)
    bulk.write(db)
    return outcomes


def _apart(db: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
    """So that one that fails is undone alone."""
    bulk = Bulk()
    return [_outcome(db, work, bulk) for work in works]


def _outcome(db: sqlite3.Connection, work: Work, bulk: Bulk) -> Any:
    outcome, fault = _tried(db, work, bulk)
    if fault is None:
        return outcome
    row = work.forgo(fault) if isinstance(work, Posting) else None
    if row is not None and _tried(db, work, bulk)[1] is None:
        return RowRefused(f"The usage store refused {row} ({fault}): what it cost is spent all the same.")
    return StoreError(f"The usage store refused it: {fault}.")


def _tried(db: sqlite3.Connection, work: Work, bulk: Bulk) -> tuple[Any, Exception | None]:
    """What it returned, or why nothing of it is done."""
    outcome: Any = None
    fault: Exception | None = None
    db.execute("SAVEPOINT one")
    try:
        if isinstance(work, Posting):
            work.post(db, bulk)
            bulk.write(db)
        else:
            outcome = work(db)
    except Exception as error:
        if not _is_one_works(error):
            raise
        db.execute("ROLLBACK TO one")
        bulk.clear()
        fault = error
    db.execute("RELEASE one")
    return outcome, fault


def open_store(
    path: Path,
    turn: contextlib.AbstractContextManager[object] | None = None,
    *,
    checkpoints: bool = False,
) -> Store:
    """Open the store at `path` with today's schema, creating or migrating it; `checkpoints` as for `connect`.

    Raises `StoreError`.
    """
    connection = connect(path, checkpoints=checkpoints, ours=True)
    try:
        made = _migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path} could not be brought up to date ({error}): {remedy(error)}.") from error
    except StoreError:
        connection.close()
        raise
    if made:
        # The cache of this connection's statements is full of those of the steps, and would keep no other: each
        # would be prepared anew, which takes longer than to run it.
        connection.close()
        connection = connect(path, checkpoints=checkpoints)
    return Store(connection, path, turn, made=made)


def _migrate(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether there was nothing to begin with."""
    applied = _applied(connection)
    known = [name for name, _ in STEPS]
    if unknown := [name for name in applied if name not in known]:
        raise StoreError(
            f"{path} was written by a newer gproxy (it has {unknown[0]!r}): "
            "update gproxy, or choose another data_dir."
        )
    if len(applied) == len(known):
        return False
    # 60 ms and 16 MB that a store already up to date need not pay.
    from sqlite_utils import Database, Migrations

    migrations = Migrations(MIGRATION_SET)
    for name, statements in STEPS:
        migrations(name=name)(_step(statements))
    # One transaction around it all, so that of several processes that start together one migrates.
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(Database(connection))
        connection.execute("COMMIT")
    except BaseException:  # Ctrl-C too: half a migration must not stay open
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return not applied


def _step(statements: tuple[str, ...]) -> Callable[[Any], None]:
    def step(db: Any) -> None:
        for statement in statements:
            db.conn.execute(statement)

    return step


def _applied(connection: sqlite3.Connection) -> list[str]:
    exists = "SELECT 1 FROM sqlite_master WHERE name = ?"
    if connection.execute(exists, (MIGRATIONS,)).fetchone() is None:
        return []
    names = "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY rowid"
    return [name for (name,) in connection.execute(names, (MIGRATION_SET,))]
