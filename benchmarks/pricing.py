"""What pricing adds to a request, and what `gproxy usage reprice` does to a server's writes meanwhile.

Prints the CPU time of reading a usage object, of looking its price up and of pricing it; then, for a store of `n`
rows (200 000), how long pricing them anew takes and how long commits of one row beside it wait.
`python -m benchmarks.pricing [n]`
"""

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from common import machine
from ledger import record

from gproxy.ledger.bulk import Entry
from gproxy.ledger.pricebook import PriceBook
from gproxy.ledger.pricing import Price, Rates, Tier, most_nano, settle
from gproxy.ledger.reprice import Selection, reprice
from gproxy.ledger.store import open_store
from gproxy.protocols.anthropic_messages import MESSAGES
from gproxy.protocols.gemini import GENERATE
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.values import Usage

CALLS = 20_000
ROUNDS = 9
PACE_S = 0.005
"""Between two commits of the server that writes beside `reprice`."""

USED = Usage(input_tokens=1200, output_tokens=340, cache_read_tokens=1000, reasoning_tokens=100)
PRICE = Price("table", Rates((Tier(None, 10**9, 10**10, 10**8, 10**9, 10**9),)))

ANSWERS = {
    CHAT: b'{"choices":[],"service_tier":"default","usage":{"prompt_tokens":2006,"completion_tokens":300,'
    b'"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":0}}}',
    RESPONSES: b'{"output":[],"service_tier":"default","usage":{"input_tokens":2006,"output_tokens":300,'
    b'"input_tokens_details":{"cached_tokens":1920},"output_tokens_details":{"reasoning_tokens":192}}}',
    MESSAGES: b'{"type":"message","usage":{"input_tokens":2048,"cache_read_input_tokens":1800,'
    b'"cache_creation_input_tokens":248,"output_tokens":503,"service_tier":"standard"}}',
    GENERATE: b'{"usageMetadata":{"promptTokenCount":5000,"candidatesTokenCount":100,"thoughtsTokenCount":50,'
    b'"promptTokensDetails":[{"modality":"TEXT","tokenCount":5000}]}}',
}


def cpu_us(call: Callable[[], object]) -> float:
    """CPU time of one call, the best of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            call()
        rounds.append((time.process_time() - began) / CALLS * 1e6)
    return min(rounds)


def print_costs() -> None:
    book = PriceBook()
    asyncio.run(book.warm([("openai", "gpt-5")]))
    for protocol, answer in ANSWERS.items():
        print(
            f"{protocol.name:20} usage read {cpu_us(lambda p=protocol, a=answer: p.usage_in_body(a)):6.2f} us"
        )
    print(f"price looked up      {cpu_us(lambda: book.cached('openai', 'gpt-5', 0.0)):17.2f} us")
    print(f"priced at the end    {cpu_us(lambda: settle(USED, None, PRICE)):17.2f} us")
    print(f"priced beforehand    {cpu_us(lambda: most_nano(1200, 340, None, PRICE)):17.2f} us")


def waits(path: Path, until: threading.Event) -> list[float]:
    """Milliseconds that commits of one row take."""
    store, found, number = open_store(path), [], 10**9
    while not until.is_set():
        number += 1
        began = time.perf_counter()
        store.run([Entry(record(number))])
        found.append((time.perf_counter() - began) * 1000)
        until.wait(PACE_S)
    store.close()
    return found


def shown(milliseconds: list[float]) -> str:
    cuts = statistics.quantiles(milliseconds, n=100)
    return f"p50 {cuts[49]:.1f} p99 {cuts[98]:.1f} most {max(milliseconds):.1f} ms"


def print_reprice(rows: int, folder: Path) -> None:
    path = folder / "gproxy.db"
    store = open_store(path)
    for first in range(0, rows, 5000):
        store.run([Entry(record(number)) for number in range(first, min(first + 5000, rows))])
    store.close()
    alone, beside = threading.Event(), threading.Event()
    threading.Timer(3, alone.set).start()
    print(f"a commit alone       {shown(waits(path, alone))}")
    # Another process, as the command is one: a thread would be waited for by more than its transactions.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        done = pool.submit(priced_anew, path)
        done.add_done_callback(lambda _: beside.set())
        print(f"a commit beside it   {shown(waits(path, beside))}")
        changed, took = done.result()
    print(f"reprice              {changed} rows in {took:.1f} s")


def priced_anew(path: Path) -> tuple[int, float]:
    """How many rows were, and in how many seconds."""
    selection = Selection(since=datetime(2020, 1, 1, tzinfo=UTC))
    new = replace(PRICE, source="config")
    began = time.perf_counter()
    outcome = reprice(path, selection, lambda *_: (new, None), write=True, now=datetime.now(UTC))
    return sum(kept.rows for kept in outcome.sums.values()), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=200_000, help="of the store (200000)")
    rows = parser.parse_args().rows
    print(machine())
    print_costs()
    with tempfile.TemporaryDirectory() as folder:
        print_reprice(rows, Path(folder))


if __name__ == "__main__":
    main()
