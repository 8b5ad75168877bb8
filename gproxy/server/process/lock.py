"""One server to a store: a lock on its folder and on a file in it, which ends with the processes that hold it.

The folder's cannot be taken away by removing a file. The file's says who holds it, and is all there is where folders
cannot be locked (Windows, some network file systems). What the store holds is `ledger/`'s; its commands read and edit
it beside a server, and take no lock here.
"""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gproxy.errors import StoreError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FILE_NAME = "gproxy.lock"

_TRIES, _PAUSE_S = 3, 0.02

_MOST_DIGITS = 20


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of the store in `folder`. Raises `StoreError` if another server does, or it cannot be had.

    Processes forked inside hold it too, each until it ends: a server that was killed gives way to a new one when
    its last worker has gone. A file that is left behind is no obstacle, and one that is removed lets nobody in.
    """
    path = folder / FILE_NAME
    with ExitStack() as opened:
        try:
            file = _opened(path, os.O_RDWR | os.O_CREAT, opened)
            _lock_soon(file, _lock)
            for descriptor in _folders(folder, opened):
                _lock_soon(descriptor, _lock_folder)
        except BlockingIOError:
            reason = f"another gproxy serves from {folder}{_who(file)}: stop it, or choose another data_dir."
            raise StoreError(reason) from None
        except OSError as error:
            raise StoreError(
                f"{path} cannot be locked ({error.strerror}): choose another data_dir."
            ) from None
        with suppress(OSError):  # on a full disk a refusal does without the number
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
        yield


def is_held(folder: Path) -> bool:
    """Whether a server holds the lock of the store in `folder`. Raises OSError if that cannot be looked at."""
    with ExitStack() as opened:
        try:
            for descriptor in _folders(folder, opened):
                _lock_folder(descriptor)
            _lock(_opened(folder / FILE_NAME, os.O_RDWR, opened))
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
    return False


def _opened(path: Path, flags: int, opened: ExitStack) -> int:
    descriptor = os.open(path, flags, 0o600)
    opened.callback(os.close, descriptor)
    return descriptor


def _folders(folder: Path, opened: ExitStack) -> list[int]:
    """The folder, to be locked; nothing where that cannot be done."""
    return [] if sys.platform == "win32" else [_opened(folder, os.O_RDONLY | os.O_DIRECTORY, opened)]


def _who(file: int) -> str:
    """Who holds the lock of a file, if that is written there and still true."""
    if sys.platform != "win32":  # where it cannot be asked whether a process is there
        with suppress(OSError, ValueError):
            process = int(os.read(file, _MOST_DIGITS))
            os.kill(process, 0)
            return f" (process {process})"
    return ""


def _lock_soon(descriptor: int, lock: Callable[[int], None]) -> None:
    """`lock`, a little patient: who looks whether a server runs has it for a moment."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            lock(descriptor)
            return
        time.sleep(_PAUSE_S)
    lock(descriptor)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError if another process has it."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from None
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_folder(descriptor: int) -> None:
    """`_lock`, but for file systems that lock only what is open for writing (NFS), as no folder can be."""
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP):
            raise
