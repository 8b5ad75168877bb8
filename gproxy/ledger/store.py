"""The usage store: its transactions, its migrations, and how a `Record` becomes a row of the table `usage`.

Which tables there are is `schema.py`'s. When rows are written is `writer.py`'s; reading them is `report.py`'s.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger import sqlite
from gproxy.ledger.presence import Presence
from gproxy.ledger.schema import STEPS
from gproxy.ledger.sqlite import CHECKPOINT_PAGES, MIGRATIONS, connect, remedy, sqlite3
from gproxy.values import Record, Usage

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

MOST_TOKENS = 10**12
"""A count beyond this is an upstream's nonsense; so bounded, millions of rows still sum within 64 bits."""

MIGRATION_SET = "gproxy"

_INSERT = f"INSERT INTO usage VALUES (NULL{', ?' * 31})"  # noqa: S608 - question marks and nothing else

DETAILS = (
    "input_audio_tokens",
    "input_image_tokens",
    "cache_read_audio_tokens",
    "cache_read_image_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "web_searches",
)
"""The counts of `Usage` that have their columns in the table `usage_details`, behind `usage_id, service_tier`."""

_INSERT_DETAILS = f"INSERT INTO usage_details VALUES (?, ?{', ?' * len(DETAILS)})"  # noqa: S608 - as above

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
"""One operation on the store, inside a transaction that others may share."""


class Store:
    """The open usage store at `path`, for one thread at a time. What it writes it writes inside `turn`, if given.

    `made`: there was none before.
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
        self._connection = connection
        self._presence = Presence(path)
        self._turn = turn or contextlib.nullcontext()

    def run(self, works: Sequence[Work], patience_ms: int | None = None) -> list[Any]:
        """Do all of it in one transaction, committed when this returns.

        One outcome per work, in order: what it returned, or a StoreError, and then nothing of this one was done
        (a request id that exists). A work may be called twice: all are undone, and done again apart from each
        other, where one fails. Raises `StoreError` if nothing could be done. `patience_ms`: for how long another
        process's lock is waited for, if not as long as usual.
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
                return self._commit(lambda db: [work(db) for work in works])
            except Exception as error:  # whatever it is, it is found out below whose it is
                if not _is_one_works(error):
                    raise
                return self._commit(lambda db: [_outcome(db, work) for work in works])
        except sqlite3.Error as error:
            raise StoreError(f"The usage store cannot be written ({error}): {remedy(error)}.") from error

    def _commit(self, act: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            outcome = act(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return outcome

    def relieve(self) -> None:
        """A `Checkpointer` works beside it: commits need not bring the write-ahead log into the main file."""
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()

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


def _outcome(db: sqlite3.Connection, work: Work) -> Any:
    """What one work of several comes to, which are not undone with it."""
    db.execute("SAVEPOINT one")
    try:
        outcome = work(db)
    except Exception as error:
        if not _is_one_works(error):
            raise
        db.execute("ROLLBACK TO one")
        outcome = StoreError(f"The usage store refused it: {error}.")
    db.execute("RELEASE one")
    return outcome


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
        raise StoreError(f"{path} could not be brought up to date ({error}): move it away.") from error
    except StoreError:
        connection.close()
        raise
    if made:
        # The cache of this connection's statements is full of those of the steps, and would keep no other: each
        # would be prepared anew, which takes longer than to run it.
        connection.close()
        connection = connect(path, checkpoints=checkpoints)
    return Store(connection, path, turn, made=made)


def insert(db: sqlite3.Connection, record: Record) -> None:
    """Write one row of `usage`, and what a price needs beyond it."""
    written = db.execute(_INSERT, row_of(record))
    details = details_of(record.usage)
    if details is not None:
        db.execute(_INSERT_DETAILS, (written.lastrowid, *details))


def inserting(record: Record) -> Work:
    """The work of writing one row."""
    return partial(insert, record=record)


def row_of(record: Record) -> tuple[Any, ...]:
    """The values of the columns in order, without `id`."""
    usage = record.usage
    return (
        record.request_id,
        record.started_at,
        record.user,
        record.key_label,
        record.key_id,
        record.provider,
        record.credential,
        record.model,
        record.requested_model,
        record.alias,
        record.dialect,
        record.route,
        int(record.stream),
        record.status,
        record.outcome,
        record.attempts,
        _tokens(usage.input_tokens),
        _tokens(usage.output_tokens),
        _tokens(usage.cache_read_tokens),
        _tokens(usage.cache_write_tokens),
        _tokens(usage.cache_write_1h_tokens),
        _tokens(usage.reasoning_tokens),
        _tokens(usage.total_tokens),
        record.usage_source,
        _dollars(record.cost_nano),
        _dollars(record.extra_attempt_cost_nano),
        int(record.maybe_billed),
        record.price_source,
        record.latency_ms,
        record.ttft_ms,
        record.error,
    )


def details_of(usage: Usage) -> tuple[Any, ...] | None:
    """The values of a row of `usage_details` in order, without `usage_id`; None if there are none to keep."""
    counts = [_tokens(getattr(usage, name)) for name in DETAILS]
    return (usage.service_tier, *counts) if usage.service_tier or any(counts) else None


def _tokens(count: int | None) -> int | None:
    return None if count is None else min(max(count, 0), MOST_TOKENS)


def _dollars(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO


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
