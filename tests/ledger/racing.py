"""Processes that count in one memory, forked by a program of its own: `python -m tests.ledger.racing SCENE FOLDER`.

Prints what came of it as JSON.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

from gproxy.errors import StoreError
from gproxy.ledger import accounts, plans
from gproxy.ledger import memory as module
from gproxy.ledger.accounts import Accounts
from gproxy.ledger.ahead import LEADER, OPEN, USED
from gproxy.ledger.memory import Shared
from gproxy.ledger.rows import line_of
from gproxy.ledger.sqlite import connect_read_only
from gproxy.ledger.store import open_store
from gproxy.ledger.succession import succeed
from gproxy.ledger.tally import Tally
from gproxy.ledger.verify import verify
from gproxy.ledger.writer import Writer
from gproxy.values import Bound, Budget, Claim
from tests.ledger.claims import claim, used
from tests.ledger.rows import record

LIMITS: dict[str, tuple[Bound | Budget, int]] = {
    "rpm": (Bound("rule", "rpm", 25), 25),
    "rpd": (Bound("rule", "rpd", 25), 25),
    "tpd": (Bound("rule", "tpd", 250), 25),
    "concurrency": (Bound("rule", "concurrency", 25), 25),
    "quota": (Budget("user/alice", "total", 1000), 10),
    "quota of the day": (Budget("user/alice", "day", 1000), 10),
}


HANGS_S = 30.0
"""A turn that is waited for longer will never come, however busy the machine is."""

STOPPED_S = 1.0
"""How long a turn is waited for that is known not to come."""


def forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def ended(pids: list[int]) -> bool:
    """Whether all of them ended well."""
    return all(os.waitpid(pid, 0)[1] == 0 for pid in pids)


async def asked(path: Path, memory: Shared, worker: int, told: int, name: str, *, end: bool) -> None:
    """Some requests side by side; tells by a byte of each that was let through. The store is asked anew as often as
    may be."""
    accounts.MANY_LOOK_S = accounts._LOOK_SHARE = 0
    succeed(path, memory, worker)
    writer = Writer(path, worker)
    writer.start()
    books = Accounts(writer, memory)
    limit, _ = LIMITS[name]

    async def one(number: int) -> None:
        asking = claim(f"{name}-{worker}-{number}", limit)
        if (await books.reserve(asking, lambda: b"")).refused is None:
            os.write(told, b"x")
            await asyncio.sleep(0)
            if end:
                started = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
                row = record(asking.request_id, cost_nano=100, started_at=started)
                await writer.run(books.settle(asking, 10, 100, line_of(row)))

    for first in range(0, 60, 5):
        await asyncio.gather(*(one(number) for number in range(first, first + 5)))
    if not end:
        while books._noting._young:
            await asyncio.sleep(0.01)
    writer.close()


def exactly(folder: Path, name: str) -> dict[str, Any]:
    """Four processes, and no more than a limit lets through. What ends is settled; of concurrency nothing does."""
    path = folder / "gproxy.db"
    open_store(path).close()
    end = name != "concurrency"
    hear, told = os.pipe()
    with closing(Shared(4)) as memory:
        work = [
            lambda it=it: asyncio.run(asked(path, memory, it, told, name, end=end))  # type: ignore[misc]  # bound now
            for it in range(4)
        ]
        well = ended([forked(it) for it in work])
        os.close(told)
        found = {"well": well, "passed": len(os.read(hear, 10_000)), "exactly": LIMITS[name][1]}
        for worker in range(4):
            found["settled"] = found.get("settled", 0) + succeed(path, memory, worker)
    with closing(connect_read_only(path)) as db:
        counted = db.execute("SELECT sum(n) FROM counters WHERE kind != 'concurrency'").fetchone()[0]
        held = db.execute("SELECT ifnull(sum(held_nano), 0) FROM spend").fetchone()[0]
        opened = db.execute("SELECT ifnull(sum(n), 0) FROM counters WHERE kind = 'concurrency'").fetchone()[0]
    return {**found, "counted": counted, "left": held + opened, "verify": verify(path)}


EVERYTHING = (
    *(Bound("rule", kind, 10**9) for kind in ("rpm", "tpm", "rpd", "tpd")),
    Bound("rule", "concurrency", 5),
    Budget("user/alice", "total", 10**15),
    Budget("key/k1", "month", 10**15),
)


def ask(query: str, values: tuple[str, ...]) -> list[Any]:
    return []


def opened(memory: Shared, window: int) -> int:
    """How many are open by a window, and by the plan that is ahead of it."""
    with memory.turn:
        plan = memory.cells[window + LEADER] + OPEN
        ahead = memory.cells[plan : plan + memory.workers] if plan > OPEN else ()
        return memory.cells[window + USED] + sum(ahead)


def go_on(memory: Shared, worker: int, hear: int, told: int) -> NoReturn:
    """Requests until it is killed, some of them open at once; a byte for each that was let through. When nobody
    hears of it any more, it ends."""
    os.close(hear)
    memory.begin(worker)
    memory.strike()
    tally, luck = Tally(memory, ask), random.Random(os.getpid())
    open_now: list[Claim] = []
    while True:
        asking = claim(f"{os.getpid()}-{luck.random()}", *EVERYTHING)
        admission = tally.reserve(asking)
        if opened(memory, tally._window("rule", "concurrency").at) > 5:
            os.write(told, b"!")
        if admission.refused is None:
            os.write(told, b"x")
            open_now.append(asking)
        if len(open_now) > 2 or (open_now and admission.refused):
            tally.settle(open_now.pop(luck.randrange(len(open_now))), 7, 90)
        time.sleep(0.0001)


def kills(folder: Path, rounds: str) -> dict[str, Any]:
    """Three processes that are killed at any time, and go on in the same place. Plans are ahead whenever they can."""
    plans._CALM = 0
    hear, told = os.pipe()
    os.set_blocking(hear, False)
    luck = random.Random(7)
    heard = b""

    def listen() -> bytes:
        with suppress(BlockingIOError):
            return os.read(hear, 1 << 16)
        return b""

    with closing(Shared(4)) as memory:

        def begin(slot: int) -> int:
            return forked(lambda: go_on(memory, slot, hear, told))

        memory.begin(3)
        tally = Tally(memory, ask)
        pids = [begin(slot) for slot in range(3)]
        for _ in range(int(rounds)):
            until = time.monotonic() + luck.uniform(0.001, 0.006)
            while time.monotonic() < until:
                heard += listen()
                asking = claim(str(time.monotonic()), *EVERYTHING[:4])
                assert tally.reserve(asking).refused is None
                tally.settle(asking, 7, 90)
                heard += b"x"
            slot = luck.randrange(3)
            os.kill(pids[slot], signal.SIGKILL)
            os.waitpid(pids[slot], 0)
            pids[slot] = begin(slot)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        while more := listen():
            heard += more
        for slot in range(3):
            memory.begin(slot)
            memory.strike()
        assert (
            tally.reserve(claim("alone", Bound("rule", "concurrency", 1), *EVERYTHING[-2:])).refused is None
        )
        counted, opened = used(tally, Bound("rule", "rpd", 10**9), Bound("rule", "concurrency", 1))
        return {
            "kills": int(rounds) + 3,
            "passed": heard.count(b"x"),
            "counted": counted,
            "beyond": heard.count(b"!"),
            "open": opened,
            "held": tally.spent("user/alice", "total").held_nano,
        }


def stopped(folder: Path, how: str) -> dict[str, Any]:
    """One that is stopped in its turn, and goes on or is killed."""
    ready, tell = os.pipe()
    with closing(Shared(2)) as memory:

        def stop() -> None:
            memory.begin(1)
            tally = Tally(memory, ask)
            tally.reserve(claim("its", *EVERYTHING))
            with memory.turn:
                os.write(tell, b"x")
                os.kill(os.getpid(), signal.SIGSTOP)

        memory.begin(0)
        tally = Tally(memory, ask)
        mine = claim("mine", *EVERYTHING)
        tally.reserve(mine)
        pid = forked(stop)
        os.read(ready, 1)
        os.waitpid(pid, os.WUNTRACED)
        took = []
        for name, patience in (("a", STOPPED_S), ("b", HANGS_S)):
            module.PATIENCE_S = patience
            began = time.monotonic()
            with suppress(StoreError):
                tally.reserve(claim(name, *EVERYTHING))
                took.append(-1.0)
            took.append(time.monotonic() - began)
        settled = tally.settle(mine, 4, 50)
        late = bool(tally.late)
        tally.catch_up()
        still = bool(tally.late)
        os.kill(pid, signal.SIGCONT if how == "continued" else signal.SIGKILL)
        os.waitpid(pid, 0)
        tally.catch_up()
        corrected = [by for *_, by in settled] if settled else []
        tally.reserve(claim("next", *EVERYTHING, tokens=0))
        spent = tally.spent("user/alice", "total")
        return {
            "took": took,
            "late": [late, still, bool(tally.late)],
            "corrected": corrected,
            "used": used(tally, *EVERYTHING[:5]),
            "spent": [spent.spent_nano, spent.held_nano],
        }


if __name__ == "__main__":
    module.PATIENCE_S = HANGS_S
    scenes = {scene.__name__: scene for scene in (exactly, kills, stopped)}
    print(json.dumps(scenes[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])))
