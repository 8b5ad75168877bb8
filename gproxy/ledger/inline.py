"""Commits on the event loop's own thread: at once or not at all, so that the loop waits for nothing.

What the rows are, and what becomes of what is not written here, is `writer.py`'s.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gproxy.errors import StoreError
from gproxy.ledger.sqlite import connect
from gproxy.ledger.store import Store, Work

MOST_WORKS = 32
"""So many operations are committed at once: some 2 ms, in which the loop does nothing else."""

SLOW_S = 0.01
"""After a commit that takes longer, for a disk that is slow or a machine that is busy, none is made for a while."""

FIRST_PAUSE_S = 0.1
MOST_PAUSE_S = 30.0
"""The pause doubles with each slow commit, and is halved by each that is not."""


class Busy(Exception):
    """Another thread, process or program writes just now; nothing was done."""


class Inline:
    """Writes by a connection of its own, which waits for nobody. For one thread at a time.

    `turn` is held by whoever writes in this process. Raises `StoreError` if the store cannot be opened.
    """

    def __init__(self, path: Path, turn: threading.Lock) -> None:
        connection = connect(path, any_thread=True)
        connection.execute("PRAGMA busy_timeout = 0")
        self.store = Store(connection, path)
        self.store.relieve()
        self._turn = turn
        self._version: int | None = None
        self._not_before = 0.0
        self._pause_s = FIRST_PAUSE_S

    def commit(self, works: Sequence[Work]) -> list[Any] | None:
        """One outcome per work, as `Store.run` tells them. None if the store fails or is slow, so that who can wait
        should do it: nothing was done then. Raises `Busy`.
        """
        began = time.monotonic()
        if began < self._not_before:
            return None
        if not self._turn.acquire(blocking=False):
            raise Busy
        try:
            return self.store.run(works)
        except StoreError as error:
            if "locked" in str(error):
                raise Busy from None
            return None
        finally:
            self._turn.release()
            self._mind(began, time.monotonic())

    def ask(self, query: str, values: Sequence[Any]) -> list[Any]:
        """What the store finds, as it is committed. Raises `StoreError`."""
        return self.store.ask(query, values)

    def overtaken(self) -> bool:
        """Whether another connection has written since this was asked last, or nobody can say."""
        known, self._version = self._version, self.store.version()
        return self._version is None or self._version != known

    def _mind(self, began: float, ended: float) -> None:
        if ended - began > SLOW_S:
            self._not_before = ended + self._pause_s
            self._pause_s = min(self._pause_s * 2, MOST_PAUSE_S)
        else:
            self._pause_s = max(self._pause_s / 2, FIRST_PAUSE_S)

    def close(self) -> None:
        self.store.close()
