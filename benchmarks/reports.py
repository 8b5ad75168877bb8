"""What a row of the ledger and its roll-up cost, and how long reports take: `python -m benchmarks.reports [rows …]`.

The rows are of 40 users with three keys each, ten models at three providers, over 30 days, drawn evenly: many more
combinations than a real store has, which is the worst case of a roll-up. Prints wall seconds, CPU seconds in
brackets: of the machine as it is, so on a busy one the latter count.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from common import machine

from gproxy.ledger.bulk import Entry
from gproxy.ledger.prune import prune
from gproxy.ledger.report import report
from gproxy.ledger.store import Store, open_store
from gproxy.ledger.verify import verify
from gproxy.values import Record, Usage

START = datetime(2026, 10, 26, tzinfo=UTC)
SPAN = timedelta(days=30)
ROWS = (10_000, 100_000, 1_000_000)
BATCH = 500


def records(count: int) -> Iterator[Record]:
    luck = random.Random(1)
    for number in range(count):
        user, provider, status = (
            luck.randrange(40),
            luck.randrange(3),
            luck.choices((200, 499, 502), (95, 3, 2))[0],
        )
        key, tokens = f"{user}-{luck.randrange(3)}", luck.randrange(100, 20_000)
        at = START + SPAN * number / count
        yield Record(
            request_id=f"{luck.getrandbits(128):032x}",
            started_at=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            user=f"user{user}",
            key_label=f"laptop{key}",
            key_id=f"key{key}",
            provider=f"provider{provider}",
            credential=f"provider{provider}#{luck.randrange(1, 3)}",
            model=f"model-{provider}-{luck.randrange(3 + provider // 2)}",
            requested_model="chat",
            alias="chat",
            dialect="openai_chat",
            route="aggregated",
            stream=bool(number & 1),
            status=status,
            outcome="ok" if status == 200 else "upstream_error",
            attempts=1,
            usage=Usage(input_tokens=tokens, output_tokens=tokens // 8, cache_read_tokens=tokens // 2),
            usage_source="upstream",
            cost_nano=tokens * 1000,
            price_source="config",
            latency_ms=int(luck.lognormvariate(7, 1)),
            ttft_ms=int(luck.lognormvariate(5, 1)),
        )


def fill(path: Path, count: int) -> float:
    """CPU µs for each row, in commits of `BATCH`."""
    store = open_store(path)
    spent, rows = 0.0, records(count)
    for _ in range(0, count, BATCH):
        works = [Entry(row) for _, row in zip(range(BATCH), rows, strict=False)]
        spent += _cpu(lambda store=store, works=works: store.run(works))  # type: ignore[misc]  # bound now
    store.close()
    return spent / count * 1e6


def one_by_one(path: Path, count: int) -> float:
    """CPU µs for each row, a commit each."""
    store: Store = open_store(path)
    works = [Entry(row) for row in records(count)]
    spent = _cpu(lambda: [store.run([work]) for work in works])
    store.close()
    return spent / count * 1e6


def _cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def timed(name: str, work: Callable[[], object]) -> None:
    wall = time.perf_counter()
    cpu = _cpu(work)
    print(f"  {name:28} {time.perf_counter() - wall:7.2f} ({cpu:.2f})", flush=True)


def reports(path: Path) -> None:
    for by in ("model", "user", "key", "status", "day", "hour"):
        timed(f"sums by {by}", lambda by=by: report(path, by=[by]))  # type: ignore[misc]  # bound now
    timed("sums by user, model, day", lambda: report(path, by=["user", "model", "day"]))
    timed("percentiles by key", lambda: report(path, by=["key"], latency=True))
    timed("percentiles by user, model, day", lambda: report(path, by=["user", "model", "day"], latency=True))
    timed("verify", lambda: verify(path))
    timed("prune 1 %", lambda: prune(path, START + SPAN / 100, START + SPAN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "rows", nargs="*", type=int, default=ROWS, help="sizes of stores (10000 100000 1000000)"
    )
    sizes = parser.parse_args().rows
    print(machine())
    for count in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gproxy.db"
            print(f"{count} rows")
            print(f"  µs/row, {BATCH} to a commit     {fill(path, count):7.1f}")
            print(
                f"  µs/row, a commit each        {one_by_one(Path(folder) / 'single.db', min(count, 10_000)):7.1f}"
            )
            print(f"  MB                           {path.stat().st_size / 1e6:7.0f}")
            reports(path)


if __name__ == "__main__":
    main()
