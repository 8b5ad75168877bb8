"""The files by which the processes of a server tell each other what they have counted, one for each worker's slot.

What is counted is `metrics.py`'s. A file is replaced whole; the successor of a dead worker goes on with its counts,
so they never go down while the server lives, while what the dead one said of the moment no longer holds.
"""

import contextlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

Key = tuple[str, ...]
"""A metric's name, and the values of its labels."""


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """How a process stands at the moment. `config_since`: when its configuration came into force, seconds since the
    epoch. `ledger_queue`: operations that wait to be written."""

    in_flight: int = 0
    ledger_queue: int = 0
    ledger_failing: bool = False
    config_since: float = 0.0
    config_failing: bool = False


class _File(msgspec.Struct, array_like=True):
    pid: int
    counts: list[tuple[list[str], int]]
    gauges: Gauges


def folder_of(store: Path) -> Path:
    """Where the files of the server with that store are."""
    return store.parent / "metrics"


def begin(store: Path) -> None:
    """Forget what another server has left. For the one that holds the lock, before it has workers."""
    shutil.rmtree(folder_of(store), ignore_errors=True)


def write(folder: Path, slot: int, counts: dict[Key, int], gauges: Gauges) -> None:
    """Replace the file of a slot, for its owner's eyes alone. Raises OSError."""
    file = _File(os.getpid(), [(list(key), n) for key, n in counts.items()], gauges)
    path = _path(folder, slot)
    fresh = path.with_suffix(".new")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(msgspec.msgpack.encode(file))
    fresh.replace(path)


def counts_of(folder: Path, slot: int) -> dict[Key, int]:
    """What the last process in a slot has counted; nothing if there was none."""
    file = _read(_path(folder, slot))
    return {} if file is None else {tuple(key): n for key, n in file.counts}


def others(folder: Path, slot: int) -> tuple[list[dict[Key, int]], list[Gauges]]:
    """What the other slots have counted, and how those of them stand that have a live process."""
    files = [_read(path) for path in folder.glob("worker-*.bin") if path != _path(folder, slot)]
    found = [file for file in files if file is not None]
    return (
        [{tuple(key): n for key, n in file.counts} for file in found],
        [file.gauges for file in found if _lives(file.pid)],
    )


def summed(parts: Iterable[dict[Key, int]]) -> dict[Key, int]:
    """The sums of several processes' counts."""
    whole: Counter[Key] = Counter()
    for part in parts:
        whole.update(part)
    return whole


def _path(folder: Path, slot: int) -> Path:
    return folder / f"worker-{slot}.bin"


def _read(path: Path) -> _File | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError):
        return None


def _lives(pid: int) -> bool:
    if sys.platform == "win32":
        return False  # there is one process, and signal 0 would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
