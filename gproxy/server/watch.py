"""Notices that the configuration file has changed, and puts what it now says in force, or says why not.

What a change means is `config/`'s; the file is only looked at here.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from gproxy.config.snapshot import Snapshot
from gproxy.config.source import Loaded
from gproxy.server.console import say

POLL_SECONDS = 0.25

Seen = tuple[int, int, int] | None
"""What a file is told by, as long as there is one."""


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
    read when two polls have found it the same, so that a half-written one is seldom read, and never kept.
    """
    current = used
    while True:
        await asyncio.sleep(POLL_SECONDS)
        last, current = current, look(path)
        if current == used or current != last:
            continue
        used = current
        loaded = await asyncio.to_thread(load)  # a keyring may take its time
        for problem in loaded.problems:
            tell(problem.render(path.name))
        if loaded.snapshot is None:
            first = loaded.errors[0].render(path.name)
            fail(f"the last edit of the configuration is not in force: {first}")
            tell("the edit is not in force; the configuration before it is.")
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
