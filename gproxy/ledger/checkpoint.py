"""Brings what was written into the store's main file, in a thread of its own: the writer's would stop for the disk.

SQLite does it itself, inside a commit, when nobody has done it before; what is written is `writer.py`'s.
"""

import contextlib
import threading
from contextlib import closing
from pathlib import Path

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect, known_fault, sqlite3

EVERY_BYTES = 1024 * 1024
"""A quarter of where SQLite begins to do it inside a commit."""


class Checkpointer:
    """Does its work in the background once enough was written. `wrote` is for any thread, `close` for one, after all.

    The thread is started by the first need. A failure is none: the next commit then does the work.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = 0
        self._left_to_commits = known_fault() is not None  # with which no second connection may do it
        self._counting = threading.Lock()
        self._due = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def wrote(self, size: int) -> None:
        """So many bytes more stand in the write-ahead log, about."""
        with self._counting:
            self._bytes += size
            if self._bytes < EVERY_BYTES or self._left_to_commits:
                return
            self._bytes = 0
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
        with contextlib.suppress(sqlite3.Error, StoreError), closing(connect(self._path)) as db:
            while not self._closing:
                self._due.wait()
                self._due.clear()
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
