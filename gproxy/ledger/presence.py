"""Whether the files of an open store are still those at its path: SQLite itself writes on into removed ones.

What a request is told then is `server/`'s.
"""

import os
import time
from pathlib import Path

from gproxy.errors import StoreError

LOOK_EVERY_S = 0.1
"""How long the files are taken to be there after they were seen; three looks take about 5 µs."""


class Presence:
    """The main file, the write-ahead log and its index, as they are while a connection has them open.

    `alone`: the main file and no more, which is the same whoever opens and closes the store.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self._path = path
        files = (path.with_name(f"{path.name}{end}") for end in (("",) if alone else ("", "-wal", "-shm")))
        self._opened = [(str(file), found) for file in files if (found := _identity(str(file))) is not None]
        self._looked = time.monotonic()

    def fault(self) -> str | None:
        """What `look` would raise, None for nothing, and if they were there a moment ago."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return None
        try:
            self.look()
        except StoreError as error:
            return str(error)
        self._looked = now
        return None

    def check(self) -> None:
        """`look`, unless they were there a moment ago."""
        fault = self.fault()
        if fault is not None:
            raise StoreError(fault)

    def look(self) -> None:
        """Raises `StoreError` if one of them was removed, or another put in its place, or the main file emptied."""
        for file, found in self._opened:
            if _identity(file, least=1 if file == str(self._path) else 0) != found:
                raise StoreError(
                    f"The usage store cannot be written ({file} was removed or replaced while the server runs): "
                    "put it back, or restart the server, which goes on with what is there then."
                )


def _identity(file: str, least: int = 0) -> tuple[int, int] | None:
    """None for a file that is not there, or has fewer bytes."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size >= least else None
