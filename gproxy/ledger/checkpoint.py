"""Brings what was written into the store's main file, in a thread of its own: the writer's would stop for the disk.

SQLite does it itself, inside a commit, when nobody has done it before; what is written is `writer.py`'s.
"""

import contextlib
import threading
from contextlib import closing
from pathlib import Path

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect, known_fault, sqlite3

EVERY_BYTES = 8 * 1024 * 1024
"""A quarter of where a commit of the server's would do it itself (`sqlite.CHECKPOINT_PAGES`)."""

LEAST_TRUST, MOST_TRUST = 0.5, 3.0
"""How far what was told of the bytes is believed to be off, at most: several processes may write one log."""

_FRAME_BYTES = 4096 + 24


class Checkpointer:
    """Does its work in the background once enough was written. `wrote` is for any thread, `close` for one, after all.

    The thread is started by the first need. A failure is none: it is tried again, and in the end a commit does it.
    `turn` is held by whoever writes in this process.
    """

    def __init__(self, path: Path, turn: contextlib.AbstractContextManager[object]) -> None:
        self._path = path
        self._turn = turn
        self._told = 0  # of bytes, since the log began anew
        self._enough: float = EVERY_BYTES
        self._left_to_commits = known_fault() is not None  # with which no second connection may do it
        self._counting = threading.Lock()
        self._due = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def wrote(self, size: int) -> None:
        """So many bytes more stand in the write-ahead log, about. How many do is seen when it is worked on."""
        with self._counting:
            self._told += size
            if self._told < self._enough or self._left_to_commits:
                return
            self._enough = self._told + EVERY_BYTES
            self._due.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Finish what is under way."""
        if self._thread is not None:
            self._closing = True
            self._due.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._closing:
            self._due.wait()
            try:
                db = connect(self._path)
            except StoreError:  # no descriptor may be left just now
                self._due.clear()
            else:
                with closing(db):
                    self._serve(db)

    def _serve(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA busy_timeout = 0")
        while not self._closing:
            self._due.wait()
            self._due.clear()
            with contextlib.suppress(sqlite3.Error):
                self._work(db)

    def _work(self, db: sqlite3.Connection) -> None:
        """Most of it beside those who write. While they do, the log only grows: so that it begins anew, they wait for
        the rest, and for the first write after it, which waits for the disk.
        """
        _, frames, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        off = self._told / max(1, frames * _FRAME_BYTES)
        with self._turn:
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            db.execute("PRAGMA application_id = 0")  # what it has been
        if not busy:
            with self._counting:
                self._told = 0
                self._enough = EVERY_BYTES * min(max(off, LEAST_TRUST), MOST_TRUST)
