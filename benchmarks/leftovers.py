"""What a server has in hand: tasks, connections, what lives for a request, files, and what the store holds open.

Who makes it busy is `soak.py`. The inside is told by the server's processes themselves: `hooked` has Python import a
module of ours as they start, which writes down what it finds when it is sent SIGUSR1. Nothing in gproxy knows of it.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import family

from tests.kit.gateway import ROOT

OF_A_REQUEST = (
    "app.Gateway requests under way",
    "app.Gateway drains",
    "departure.Departure",
    "h1client connections upstream",
    "h1exchange.Exchange",
    "http1 connections of clients",
    "incoming.Incoming",
    "journal.Journal",
    "opened.Opened",
    "reply.Reply",
)
"""What there is none of in a server that has nothing to do and whose idle connections have been closed."""

_FOLDER = "GPROXY_LEFTOVERS"
_TOLD_WITHIN_S = 20.0
_HOOK = "import benchmarks.leftovers\nbenchmarks.leftovers.listen()\n"


def hooked(folder: Path) -> dict[str, str]:
    """The environment of a server whose processes can be asked by `inside`; `folder` is for that alone."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_HOOK)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", _FOLDER: str(folder)}


def listen() -> None:
    """In a process of the server: tell, from now on, when it is asked."""
    signal.signal(signal.SIGUSR1, lambda *_: _tell())


def _tell() -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        found = {}  # a process that serves nothing itself
    else:
        found = _found(loop)
    path = Path(os.environ[_FOLDER]) / f"{os.getpid()}.json"
    path.with_suffix(".new").write_text(json.dumps(found))
    path.with_suffix(".new").replace(path)


def _found(loop: asyncio.AbstractEventLoop) -> dict[str, int]:
    gc.collect()
    counts = Counter(f"task {task.get_coro().__qualname__}" for task in asyncio.all_tasks(loop))
    classes, gateway = _classes()
    for each in gc.get_objects():
        kind = type(each)
        if kind in classes:
            counts[classes[kind]] += 1
        elif kind is gateway:
            counts["app.Gateway requests under way"] += len(each._serving)
            counts["app.Gateway drains"] += len(each._drains)
    return dict(counts)


def _classes() -> tuple[dict[type, str], type]:
    """What is counted, by what name, and the gateway's. Here, since a server begins as it would by itself."""
    from gproxy.server.app import Gateway
    from gproxy.server.engine import http1, repair
    from gproxy.server.request import pipeline
    from gproxy.server.request.incoming import Incoming
    from gproxy.server.request.journal import Journal
    from gproxy.server.request.opened import Opened
    from gproxy.server.request.reply import Reply
    from gproxy.server.transport import h1exchange

    classes: dict[type, str] = {
        h1exchange.Connection: "h1client connections upstream",
        h1exchange.Exchange: "h1exchange.Exchange",
        http1.Connection: "http1 connections of clients",
        repair.ClosingTCPServer: "http1 connections of clients",
        pipeline.Leaving: "departure.Departure",
        Incoming: "incoming.Incoming",
        Journal: "journal.Journal",
        Opened: "opened.Opened",
        Reply: "reply.Reply",
    }
    return classes, Gateway


def inside(pid: int, folder: Path) -> Counter[str]:
    """What the processes of a server tell of themselves, added up. RuntimeError if one does not."""
    asked = [each for each in family(pid) if _hears(each)]
    for each in asked:
        (folder / f"{each}.json").unlink(missing_ok=True)
        os.kill(each, signal.SIGUSR1)
    counts: Counter[str] = Counter()
    end = time.monotonic() + _TOLD_WITHIN_S
    for each in asked:
        while not (path := folder / f"{each}.json").exists():
            if time.monotonic() > end:
                raise RuntimeError(f"process {each} tells nothing")
            time.sleep(0.02)
        counts.update(json.loads(path.read_text()))
    return counts


def _hears(pid: int) -> bool:
    """Whether the process has a handler for the signal, which would end another."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def descriptors(pid: int) -> Counter[str]:
    """Open files of a server's processes: sockets, and others."""
    found: Counter[str] = Counter()
    for each in family(pid):
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{each}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found["sockets" if os.readlink(file).startswith("socket:") else "other files"] += 1
    return found


def stored(database: Path) -> dict[str, int]:
    """What the store says is open: reservations, slots, and nano-dollars that are held."""
    queries = {
        "reservations": "SELECT count(*) FROM reservations",
        "slots": "SELECT total(n) FROM counters WHERE kind = 'concurrency'",
        "nano-dollars held": "SELECT total(held_nano) FROM spend",
    }
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return {name: int(db.execute(query).fetchone()[0]) for name, query in queries.items()}


def left(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, Any]:
    """What there is more of than before, and what of a request's there is at all: name -> (before, now)."""
    return {
        name: (before.get(name, 0), count)
        for name, count in sorted(now.items())
        if count > (0 if name in OF_A_REQUEST else before.get(name, 0))
    }
