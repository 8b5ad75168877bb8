"""One server to a store: a lock on a file beside it, which ends with the processes that hold it.

What the store holds is `ledger/`'s; its commands read and edit it beside a server, and take no lock here.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gproxy.errors import StoreError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FILE_NAME = "gproxy.lock"

_TRIES, _PAUSE_S = 3, 0.02


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of the store in `folder`. Raises `StoreError` if another server does, or it cannot be had.

    Processes forked inside hold it too, each until it ends: a server that was killed gives way to a new one when
    its last worker has gone. A file that is left behind is no obstacle.
    """
    path = folder / FILE_NAME
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        _lock_soon(descriptor)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError | PermissionError) and descriptor is not None:
            reason = f"another gproxy serves from {folder}: stop it, or choose another data_dir."
        else:
            reason = f"{path} cannot be locked ({error.strerror}): choose another data_dir."
        raise StoreError(reason) from None
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a server holds the lock of the store in `folder`. Raises OSError if that cannot be looked at."""
    try:
        descriptor = os.open(folder / FILE_NAME, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        _lock(descriptor)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_soon(descriptor: int) -> None:
    """`_lock`, a little patient: who looks whether a server runs has the lock for a moment."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError, PermissionError):
            _lock(descriptor)
            return
        time.sleep(_PAUSE_S)
    _lock(descriptor)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError (on Windows PermissionError) if another process has it."""
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
