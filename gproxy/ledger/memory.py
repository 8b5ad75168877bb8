"""The memory that the processes of one server count in, and the lock by which each has its turn.

It is made before they are forked, has no name in any folder, and is gone with the last of them. What its cells mean
is `windows.py`'s, `ahead.py`'s and `purses.py`'s, what becomes of a dead process's requests `succession.py`'s.
"""

import contextlib
import errno
import mmap
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import BinaryIO

from gproxy.errors import StoreError
from gproxy.ledger import ahead, purses, windows

if sys.platform != "win32":
    import fcntl

PATIENCE_S = 1.0
"""How long a turn is waited for. Each takes microseconds, and that of a process that was killed ends with it: who has
its turn for longer was stopped, or there are many times more processes at work than CPUs."""

_YIELDS, _PAUSE_S = 100, 0.00005

_STRUCK = 1000
"""Names in one turn, some half a millisecond."""

_STEP = 256 * 1024
"""Bytes by which it grows, and a quarter of what it has."""

_CELL = 8
_DIRTY, _END, _WRITING = 0, 1, 2
"""Whether somebody has its turn; where the next name comes; for each process, how much it has counted and how much of
that is written. Names follow, each with its cells: how many there are in all, the bytes of the name, the name, and
what it has a place for."""

_BUSY = (errno.EACCES, errno.EAGAIN)


class Shared:
    """A `cells.Memory`. One is made by the parent of `workers` processes; each says by `begin` which it is.

    It is its own `turn`, for one thread of each process. The lock is another file than the memory: who closes any
    descriptor of a file gives up its locks, and to map it anew is to do that.
    """

    alone = False

    def __init__(self, workers: int) -> None:
        self.worker, self.workers = 0, workers
        self.changing = threading.Lock()
        self._lock, self._file = _unnamed(), _unnamed()
        self._fd = self._lock.fileno()
        self._places: dict[str, int] = {}
        self._writing = _WRITING
        self._first = self._read = _WRITING + 2 * workers
        self._waited = False
        self._grow(_STEP)
        self.cells[_END] = self._first

    def begin(self, worker: int) -> None:
        """This process is that worker. What the one before had counted may be written or not: until `strike`, nobody
        knows."""
        self.worker = worker
        self._writing = _WRITING + 2 * worker
        self.cells[self._writing + 1] = -1  # which is less than it has counted

    def close(self) -> None:
        """This process needs it no more."""
        self._lock.close()
        self._file.close()

    @property
    def turn(self) -> "Shared":
        return self

    def __enter__(self) -> None:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._waited = False
        except OSError as error:
            self._wait(error)
        try:
            self._follow()
            if self.cells[_DIRTY]:
                self._mend()
        except StoreError:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
            raise
        self.cells[_DIRTY] = 1
        self.changing.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.changing.release()
        if kind is None or issubclass(kind, StoreError):  # else nobody knows what was left undone
            self.cells[_DIRTY] = 0
        fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def strike(self) -> None:
        """This process has nothing open and holds nothing: what there is was of the one before in its slot.

        Has turns of its own, between which others have theirs. Raises `StoreError`.
        """
        with self:
            places = self.places()
        for first in range(0, len(places), _STRUCK):
            with self:
                for name, at in places[first : first + _STRUCK]:
                    windows.strike(self, name, at)
                    purses.strike(self, name, at)
            time.sleep(_PAUSE_S)
        self.cells[self._writing], self.cells[self._writing + 1] = 0, 0

    def handed(self) -> None:
        self.cells[self._writing] += 1

    def written(self, by: int) -> None:
        with self.changing:
            self.cells[self._writing + 1] += by

    def unwritten(self) -> bool:
        counted = range(_WRITING, self._first, 2)
        return any(self.cells[at] != self.cells[at + 1] for at in counted)

    def _mend(self) -> None:
        """Somebody was killed in his turn: make anew what follows from the rest."""
        places = self.places()
        for name, at in places:
            ahead.mend(self, name, at)
        for name, at in places:
            windows.mend(self, name, at)
            purses.mend(self, name, at)

    def _wait(self, error: OSError) -> None:
        """Raises `StoreError`; where that is so, the next does not wait at all."""
        deadline = time.monotonic() + (0 if self._waited else PATIENCE_S)
        tries = 0
        while error.errno in _BUSY and (tries < _YIELDS or time.monotonic() < deadline):
            tries += 1
            if tries <= _YIELDS:
                os.sched_yield()
            else:
                time.sleep(_PAUSE_S)
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._waited = False
                return
            except OSError as again:
                error = again
        self._waited = True
        why = f"another worker has its turn for too long ({error.strerror})"
        raise StoreError(f"The limits cannot be counted: {why}.")

    def place(self, name: str, size: int) -> int:
        at = self._places.get(name)
        if at is None:
            self._read_on()
            at = self._places.get(name)
        return self._append(name, size) if at is None else at

    def places(self) -> Sequence[tuple[str, int]]:
        self._read_on()
        return list(self._places.items())

    def _follow(self) -> None:
        """Map what others have added: a plan that is ahead of a window here may be one of them."""
        if self.cells[_END] > len(self.cells):
            self._map()

    def _read_on(self) -> None:
        """What names others have added."""
        self._follow()
        end = self.cells[_END]
        while self._read < end:
            at = self._read
            size, length = self.cells[at], self.cells[at + 1]
            name = bytes(self._bytes[(at + 2) * _CELL :][:length])
            self._places[name.decode("utf-8", "surrogatepass")] = at + 2 + _cells(length)
            self._read += size

    def _append(self, name: str, size: int) -> int:
        """It is there with the last that is written."""
        written = name.encode("utf-8", "surrogatepass")
        at = self.cells[_END]
        place = at + 2 + _cells(len(written))
        end = place + size
        if end > len(self.cells):
            have = len(self.cells) * _CELL
            self._grow(max(end * _CELL, have + max(_STEP, have // 4)))
        self._bytes[(at + 2) * _CELL : (at + 2) * _CELL + len(written)] = written
        for cell in range(place, end):  # of one who was killed before it was there
            self.cells[cell] = 0
        self.cells[at], self.cells[at + 1] = end - at, len(written)
        self.cells[_END] = end
        self._read = end
        self._places[name] = place
        return place

    def _grow(self, size: int) -> None:
        size += -size % mmap.PAGESIZE
        with _no_memory():
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
        self._map()

    def _map(self) -> None:
        """It takes a descriptor, which there may be none of."""
        with _no_memory():
            size = os.fstat(self._file.fileno()).st_size
            self._bytes = memoryview(mmap.mmap(self._file.fileno(), size))
        self.cells = self._bytes.cast("q")


@contextlib.contextmanager
def _no_memory() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"The limits cannot be counted: no memory for them ({error.strerror}).") from error


def _cells(length: int) -> int:
    return -(-length // _CELL)


def _unnamed() -> BinaryIO:
    """A file that nobody else can open."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a sandbox may not know it
            return open(os.memfd_create("gproxy"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
