"""Notices that the configuration file has changed, and puts what it now says in force, or says why not.

What a change means is `config/`'s; the file is only looked at here.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gproxy.config import schema
from gproxy.config.problems import Problem
from gproxy.config.snapshot import Snapshot
from gproxy.config.source import Loaded
from gproxy.server.console import say

POLL_SECONDS = 0.25

Seen = tuple[int, int, int] | None
"""What a file is told by, as long as there is one."""


_EMPTY = Loaded(None, None, (Problem("error", 0, "", "is empty"),))
"""An editor or a shell has emptied the file, to write it next: nobody means to end all service so."""

NOT_IN_FORCE = "the edit is not in force; the configuration before it is."


class Load(Protocol):
    """Reads the file, with its secrets or without them; raises nothing."""

    def __call__(self, *, with_secrets: bool = True) -> Loaded: ...


class LastGood:
    """The last good version of the file at `path` (None: of none), without its secrets.

    A parent keeps it for the workers that it may have to fork while the file is bad. A version that was replaced
    by a bad one before it was looked at is not known here.
    """

    def __init__(self, first: Loaded, load: Load, path: Path | None) -> None:
        self.loaded = first
        self._load, self._path = load, path
        self._seen: Seen = None

    @property
    def settings(self) -> schema.Global:
        assert self.loaded.config is not None
        return self.loaded.config.globals

    def look(self) -> None:
        """Read the file, if it looks otherwise than the last time; kept is what is good."""
        if self._path is None or (seen := look(self._path)) == self._seen:
            return
        loaded = _EMPTY if _is_empty(seen) else self._load(with_secrets=False)
        self._seen = None if loaded.unread else seen
        if loaded.config is not None:
            self.loaded = loaded


def failure(loaded: Loaded, name: str) -> str:
    """Why a version with errors, of the file of that name, is not in force, as anybody may hear it: without names."""
    place = loaded.errors[0].place(name)
    return f"the last edit of the configuration is not in force: error at {place}; see the server's log"


async def watch(
    path: Path,
    used: Seen,
    load: Callable[[], Loaded],
    swap: Callable[[Snapshot], None],
    fail: Callable[[str | None], None],
    tell: Callable[[str], None] = say,
) -> None:
    """Runs until it is cancelled. `swap` gets each good version; `fail` a reason, and None when it is gone.

    `used` is how the file looked before the configuration in force was read. `tell` gets what people should read.

    The file is polled: editors replace it by renaming another, and a poll sees that on every file system. It is
    read when two polls have found it the same, so that a half-written one is seldom read, and never kept. One that
    cannot be read, for want of a descriptor or of rights, looks the same when it can: it is tried again each time.
    """
    current = used
    unread = False
    while True:
        await asyncio.sleep(POLL_SECONDS)
        last, current = current, look(path)
        if current != last or (current == used and not unread):
            continue
        # A keyring may take its time.
        loaded = _EMPTY if _is_empty(current) else await asyncio.to_thread(load)
        if loaded.unread and unread and current == used:
            continue  # it is told already
        used, unread = current, loaded.unread
        for problem in loaded.problems:
            tell(problem.render(path.name))
        if loaded.snapshot is None:
            fail(failure(loaded, path.name))
            tell(NOT_IN_FORCE)
        else:
            swap(loaded.snapshot)
            fail(None)
            tell("configuration reloaded")


def look(path: Path) -> Seen:
    """How the file looks now, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _is_empty(seen: Seen) -> bool:
    return seen is not None and seen[1] == 0
