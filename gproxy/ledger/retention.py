"""Takes old entries out of the request logs, a few at a time, and gives their room back to the file system.

What the logs hold is `logs.py`'s. The table `usage` is never touched here.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.logs import TABLES
from gproxy.ledger.sqlite import connect, connect_read_only, known_fault, remedy, sqlite3
from gproxy.ledger.store import Work
from gproxy.ledger.when import stamp
from gproxy.ledger.writer import Writer

EVERY_S = 600.0
"""How often a server looks for entries that have grown too old."""

PAUSE_S = 0.02
"""Between two steps."""

_STEP_ROWS = 200
_STEP_S = 0.005
"""What a step may take: who has something to commit waits no longer."""

_STEP_PAGES = 256
"""Of 4 KiB: a megabyte."""


def remove(db: sqlite3.Connection, before: str | None) -> bool:
    """Remove a few entries that began before that time, the oldest first (None: any); whether more are left."""
    until = time.monotonic() + _STEP_S
    for table in TABLES:
        old = db.execute(
            f"SELECT id FROM {table} WHERE started_at < ? ORDER BY started_at LIMIT {_STEP_ROWS}",  # noqa: S608 - a table of ours
            (before or "~",),
        ).fetchall()
        for id in old:
            db.execute(f"DELETE FROM {table} WHERE id = ?", id)  # noqa: S608 - a table of ours
            if time.monotonic() >= until:
                return True
        if len(old) == _STEP_ROWS:
            return True
    return False


def shrink(db: sqlite3.Connection) -> bool:
    """Give a megabyte of free pages back; whether there is more.

    A store that was made before `auto_vacuum` was on gives nothing back: see `can_shrink`.
    """
    free = _free(db)
    if free:
        db.execute(f"PRAGMA incremental_vacuum({_STEP_PAGES})").fetchall()
    return 0 < _free(db) < free


def can_shrink(db: sqlite3.Connection) -> bool:
    """Whether the store gives room back step by step; else only `VACUUM` does, which stops all other writing."""
    (mode,) = db.execute("PRAGMA auto_vacuum").fetchone()
    return bool(mode == 2)


def count(path: Path, before: str | None) -> int:
    """How many entries of the store at `path` began before that time (None: ever). Raises `StoreError`."""
    if not path.exists():
        return 0
    with _open(path, connect_read_only) as db:
        return sum(
            db.execute(f"SELECT count(*) FROM {table} WHERE started_at < ?", (before or "~",)).fetchone()[0]  # noqa: S608 - a table of ours
            for table in TABLES
        )


def clear(path: Path, before: str | None) -> bool:
    """Remove what `count` counts, step by step beside a server; whether its room was given back.

    Killed half way, it leaves the rest. Raises `StoreError`.
    """
    with _open(path, connect) as db:
        _step_by_step(db, partial(remove, before=before))
        if not can_shrink(db):
            return False
        _step_by_step(db, shrink)
        if not known_fault():
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return True


def vacuum(path: Path) -> None:
    """Write the store anew, so that it gives room back from now on. Nothing else may use it. Raises `StoreError`."""
    with _open(path, connect) as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _step_by_step(db: sqlite3.Connection, step: Work) -> None:
    more = True
    while more:
        db.execute("BEGIN IMMEDIATE")
        more = step(db)
        db.execute("COMMIT")
        time.sleep(PAUSE_S)


@contextmanager
def _open(path: Path, how: Callable[[Path], sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
    with closing(how(path)) as db:
        try:
            yield db
        except sqlite3.Error as error:
            raise StoreError(
                f"The logs in {path} cannot be read or cleared ({error}): {remedy(error)}."
            ) from error


async def keep(writer: Writer, days: Callable[[], int]) -> None:
    """Until cancelled: keep entries for so many days. For one process of a server; `days` is asked each time."""
    while True:
        before = _before(days())
        for step in (partial(remove, before=before), shrink):
            await _all(writer, step)
        await asyncio.sleep(EVERY_S)


def _before(days: int) -> str:
    """The time before which entries are too old."""
    try:
        return stamp(datetime.now(UTC) - timedelta(days=days))
    except OverflowError:
        return "0"  # before all times: for good


async def _all(writer: Writer, step: Work) -> None:
    more = await _done(writer, step)
    while more:
        await asyncio.sleep(PAUSE_S)
        more = await _done(writer, step)


async def _done(writer: Writer, work: Work) -> Any:
    """What the work returned, None if it could not be done."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Any] = loop.create_future()

    def tell(value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, outcome, value)

    return await outcome if writer.offer(lambda: work, 0, tell) else None


def _resolve(outcome: asyncio.Future[Any], value: Any) -> None:
    if not outcome.done():
        outcome.set_result(value)


def _free(db: sqlite3.Connection) -> int:
    (pages,) = db.execute("PRAGMA freelist_count").fetchone()
    return int(pages)
