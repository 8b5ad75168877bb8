"""gproxy beside other gateways: `python benchmarks/compare.py [--quick]`; writes `RESULTS.md`, unless `--quick`.

The gateway has CPU 0; load and upstream are processes of their own on CPU 1 (`relay.py`'s: every answer has an id
that is checked). Each figure is the median of some runs. The gateways take turns, and so does what is asked of them:
what else the machine does falls on all alike. Those that are not installed are left out; `README.md` beside this file
says how to have them. What the figures look like on paper is `results.py`'s.
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import gateways
import paced
from common import cpu_seconds, resident_bytes
from gateways import Gateway, Running
from policy import check
from relay import Asking, Bench, machinery
from results import BARE, Cell, Figures, Medians, Start, text

HERE = Path(__file__).parent
CHAT = tuple(Cell(False, connections) for connections in (1, 16, 64, 256))
STREAMS = tuple(Cell(True, connections) for connections in (1, 16, 64))
BODIES = tuple(Cell(False, 16, size) for size in (1 << 10, 100 << 10, 1 << 20))
SLOW = (Cell(False, 1), Cell(False, 16), Cell(True, 16))
"""What is asked of the gateways that take milliseconds a request."""
WORKERS = (Cell(False, 16), Cell(False, 64))


def main() -> None:
    given = _arguments()
    began = time.monotonic()
    runs, seconds = (2, 0.3) if given.quick else (given.runs, given.seconds)
    apart = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1
    own, other = (0, 1) if apart else (None, None)
    fast, slow = _found(given)
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with machinery(other) as (upstream, orders):
            bench = partial(Bench, orders, seconds)
            say("chat, streams and bodies, in turns")
            fast_cells(figures, fast, upstream, bench, folder, own, runs)
            for gateway in slow:
                say(gateway.name)
                slow_cells(figures, gateway, upstream, bench, folder, own, runs)
            if given.wrk:
                say("wrk")
                by_wrk(figures, fast, upstream, folder, (own, other), runs, seconds, given.wrk)
            say("starts")
            starts(figures, (*fast, *slow), upstream, folder, own, runs)
        say("workers")
        with machinery(None) as (upstream, orders):
            several_workers(figures, fast, upstream, partial(Bench, orders, seconds), folder, runs)
    say("paced streams")
    counts = (100, 256) if given.quick else paced.COUNTS
    figures.paced = paced.measure(counts, 2.0 if given.quick else 5.0)
    figures.versions = versions(given)
    figures.minutes = (time.monotonic() - began) / 60
    command = " ".join(("python", "benchmarks/compare.py", *(["--quick"] if given.quick else [])))
    written = text(figures, command, runs, seconds)
    if given.output:
        given.output.write_text(written)
    print(written)


def say(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    environ = os.environ.get
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="of each figure, whose median counts")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each run")
    parser.add_argument("--quick", action="store_true", help="two short runs of each: a look, not a result")
    parser.add_argument("--output", type=Path, help="RESULTS.md beside this script, with --quick no file")
    parser.add_argument("--nginx", default=environ("BENCH_NGINX") or shutil.which("nginx") or "")
    parser.add_argument("--wrk", default=environ("BENCH_WRK") or shutil.which("wrk") or "")
    parser.add_argument(
        "--python", default=environ("BENCH_PYTHON") or sys.executable, help="with uvicorn and aiohttp"
    )
    parser.add_argument("--litellm", default=environ("BENCH_LITELLM", ""), help="its command")
    parser.add_argument("--portkey", default=environ("BENCH_PORTKEY", ""), help="its build/start-server.js")
    parser.add_argument("--lm-proxy", default=environ("BENCH_LM_PROXY", ""), help="its command")
    given = parser.parse_args()
    if given.output is None and not given.quick:
        given.output = HERE / "RESULTS.md"
    return given


def _found(given: argparse.Namespace) -> tuple[list[Gateway], list[Gateway]]:
    """The gateways that are here: those that every cell is asked of, and the slow ones."""
    fast = [gateways.nginx(given.nginx)] if given.nginx else []
    if gateways.has_baseline(given.python):
        fast.append(gateways.baseline(given.python))
    fast.append(gateways.gproxy())
    makers = (
        (given.litellm, gateways.litellm),
        (given.portkey, gateways.portkey),
        (given.lm_proxy, gateways.lm_proxy),
    )
    return fast, [make(path) for path, make in makers if path]


def measured(
    bench: Bench, asking: Asking, cell: Cell, runs: Iterable[int], pid: int | None = None
) -> list[Medians]:
    """One figure for each run. RuntimeError on a wrong answer."""
    asked = Asking(asking.port, asking.model, asking.headers, cell.size, asking.exact)
    found = []
    for _ in runs:
        result = bench.ask(asked, cell.stream, cell.connections, partial(cpu_seconds, pid) if pid else None)
        found.append(Medians(result.per_second, result.p50_ms, result.p99_ms, result.cpu_us))
    return found


def median(found: list[Medians]) -> Medians:
    def of(values: Iterable[float]) -> float:
        return statistics.median(values)

    cpu = [each.cpu_us for each in found if each.cpu_us is not None]
    return Medians(
        of(each.per_second for each in found),
        of(each.p50_ms for each in found),
        of(each.p99_ms for each in found),
        of(cpu) if cpu else None,
    )


def fast_cells(
    figures: Figures,
    fast: list[Gateway],
    upstream: int,
    bench: "partial[Bench]",
    folder: Path,
    cpu: int | None,
    runs: int,
) -> None:
    """Every cell, of the bare upstream and of each gateway in turns. RuntimeError if a ledger has other rows than
    there were answers."""
    with ExitStack() as stack:
        running = [stack.enter_context(each.running(upstream, folder / each.name, cpu)) for each in fast]
        benches = {each.name: bench() for each in running}
        bare = bench()
        found: defaultdict[tuple[str, Cell], list[Medians]] = defaultdict(list)
        for run in range(runs):
            for cell in (*CHAT, *STREAMS, *BODIES):  # in turns too: some are compared with each other
                found[BARE, cell] += measured(bare, Asking(upstream, "bench"), cell, (run,))
                for each in running:
                    found[each.name, cell] += measured(
                        benches[each.name], each.asking, cell, (run,), each.pid
                    )
        figures.cells |= {which: median(values) for which, values in found.items()}
        # The first answer of a gateway is no bench's.
        check(folder / "gproxy" / "data" / "gproxy.db", benches["gproxy"].answers + 1)
    _check_baseline(folder, benches)


def _check_baseline(folder: Path, benches: dict[str, Bench]) -> None:
    name = "uvicorn + aiohttp"
    if name in benches:
        connection = sqlite3.connect(folder / name / "baseline.db")
        (rows,) = connection.execute("SELECT count(*) FROM usage WHERE input = 90 AND output = 60").fetchone()
        connection.close()
        if rows != benches[name].answers + 1:
            raise RuntimeError(f"{benches[name].answers + 1} answers of {name}, but {rows} rows")


def slow_cells(
    figures: Figures,
    gateway: Gateway,
    upstream: int,
    bench: "partial[Bench]",
    folder: Path,
    cpu: int | None,
    runs: int,
) -> None:
    """A gateway of others alone; what it cannot do is told as that."""
    try:
        with gateway.running(upstream, folder / gateway.name, cpu) as running:
            for cell in SLOW:
                try:
                    found = measured(bench(), running.asking, cell, range(runs), running.pid)
                except RuntimeError as error:
                    figures.failed[gateway.name, cell] = str(error)[:300]
                else:
                    figures.cells[gateway.name, cell] = median(found)
    except RuntimeError as error:
        figures.failed[gateway.name, SLOW[0]] = str(error)[-300:]


def by_wrk(
    figures: Figures,
    fast: list[Gateway],
    upstream: int,
    folder: Path,
    cpus: tuple[int | None, int | None],
    runs: int,
    seconds: float,
    wrk: str,
) -> None:
    """Rates at 16 connections by another load generator. RuntimeError on a wrong answer."""
    own, other = cpus
    for gateway in fast:
        with gateway.running(upstream, folder / f"{gateway.name} wrk", own) as running:
            rates = [wrk_rate(running.asking, seconds, other, wrk) for _ in range(runs)]
        figures.wrk[gateway.name] = statistics.median(rates)
    rates = [wrk_rate(Asking(upstream, "bench"), seconds, other, wrk) for _ in range(runs)]
    figures.wrk[BARE] = statistics.median(rates)


def wrk_rate(asking: Asking, seconds: float, cpu: int | None, wrk: str) -> float:
    url = f"http://127.0.0.1:{asking.port}/v1/chat/completions"
    # wrk knows whole seconds alone.
    told = subprocess.run(
        (wrk, "-t1", "-c16", f"-d{max(1, round(seconds))}s", "-s", str(HERE / "wrk.lua"), url),
        env=os.environ | {"MODEL": asking.model},
        preexec_fn=None if cpu is None else partial(os.sched_setaffinity, 0, {cpu}),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    _, answers, _, wrong, _, microseconds = told.splitlines()[-1].split()
    if int(wrong):
        raise RuntimeError(f"{wrong} of {answers} answers to wrk were wrong")
    return int(answers) / int(microseconds) * 1e6


def starts(
    figures: Figures, all_of_them: Iterable[Gateway], upstream: int, folder: Path, cpu: int | None, runs: int
) -> None:
    """From the spawn to the first answer, and the resident memory then: of later starts, and of gproxy's first."""
    for gateway in all_of_them:
        if (gateway.name, SLOW[0]) in figures.failed:
            continue
        if gateway.name == "gproxy":
            new = [_start(gateway, upstream, folder / f"new {run}", None) for run in range(runs)]
            figures.starts["gproxy, new store"] = _median_start(new)
        place = folder / f"{gateway.name} start"
        _start(gateway, upstream, place, None)
        again = [
            _start(gateway, upstream, place, None) for _ in range(min(runs, 3) if gateway.slow else runs)
        ]
        figures.starts[gateway.name] = _median_start(again)


def _start(gateway: Gateway, upstream: int, folder: Path, cpu: int | None) -> Start:
    with gateway.running(upstream, folder, cpu) as running:
        return Start(running.first_s, resident_bytes(running.pid))


def _median_start(found: list[Start]) -> Start:
    return Start(
        statistics.median(each.seconds for each in found), statistics.median(each.resident for each in found)
    )


def several_workers(
    figures: Figures, fast: list[Gateway], upstream: int, bench: "partial[Bench]", folder: Path, runs: int
) -> None:
    """One worker and two, where all processes share both CPUs, in turns."""
    for gateway in fast:
        if gateway.most_workers < 2:
            continue
        with ExitStack() as stack:
            running: dict[int, Running] = {
                count: stack.enter_context(
                    gateway.running(upstream, folder / f"{gateway.name} {count}", None, count)
                )
                for count in (1, 2)
            }
            for cell in WORKERS:
                found: dict[int, list[Medians]] = {1: [], 2: []}
                for run in range(runs):
                    for count, each in running.items():
                        found[count] += measured(bench(), each.asking, cell, (run,), each.pid)
                for count, values in found.items():
                    figures.workers[gateway.name, count, cell] = median(values)


def versions(given: argparse.Namespace) -> dict[str, str]:
    """What was measured, by name."""

    def said(*command: str) -> str:
        ran = subprocess.run(command, capture_output=True, text=True)
        return (ran.stdout + ran.stderr).strip()

    def package(python: str, *names: str) -> str:
        program = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
        found = said(python, "-c", program, *names).split()
        return ", ".join(f"{name} {each}" for name, each in zip(names, found, strict=True))

    def beside(command: str) -> str:
        return str(Path(command).with_name("python"))

    commit = said("git", "-C", str(HERE), "log", "-1", "--format=%h of %cs")
    found = {"gproxy": f"{said(*gateways.GPROXY, '--version')} ({commit})"}
    if given.nginx:
        found["nginx"] = said(given.nginx, "-v").rpartition("/")[2]
    if given.wrk:
        found["wrk"] = said(given.wrk, "-v").split(" ", 2)[1]
    if gateways.has_baseline(given.python):
        found["uvicorn + aiohttp"] = package(given.python, "uvicorn", "httptools", "uvloop", "aiohttp")
    if given.litellm:
        found["LiteLLM"] = package(beside(given.litellm), "litellm")
    if given.portkey:
        package_json = Path(given.portkey).parents[1] / "package.json"
        found["Portkey"] = said("node", "-p", f"require({str(package_json)!r}).version")
        found["Portkey"] += f" on Node {said('node', '--version')}"
    if given.lm_proxy:
        found["lm-proxy"] = package(beside(given.lm_proxy), "lm-proxy")
    return found


if __name__ == "__main__":
    main()
