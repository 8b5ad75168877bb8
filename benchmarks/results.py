"""The figures of `compare.py` as Markdown: targets beside what was measured, then every table.

Nothing is measured here.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from common import machine, table
from paced import Result as Paced
from paced import as_table, most_without_stall

BARE = "no gateway"
OURS = "gproxy"
UVICORN = "uvicorn + aiohttp"


@dataclass(frozen=True)
class Cell:
    """One way of asking. `size` is that of the request's body in bytes, 0 for the usual 540."""

    stream: bool
    connections: int
    size: int = 0


@dataclass(frozen=True)
class Medians:
    """Answers a second, milliseconds, and the gateway's CPU microseconds per answer (None without a gateway)."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None


@dataclass(frozen=True)
class Start:
    """Seconds from the spawn to the first answer, and the resident bytes then."""

    seconds: float
    resident: float


@dataclass
class Figures:
    """All that was measured, by the gateway's name."""

    cells: dict[tuple[str, Cell], Medians] = field(default_factory=dict)
    failed: dict[tuple[str, Cell], str] = field(default_factory=dict)
    wrk: dict[str, float] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)
    workers: dict[tuple[str, int, Cell], Medians] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    paced: list[tuple[Paced, Paced]] = field(default_factory=list)
    minutes: float = 0.0

    def rate(self, name: str, cell: Cell) -> float | None:
        found = self.cells.get((name, cell))
        return found.per_second if found else None


CHAT_16 = Cell(False, 16)
ONE = Cell(False, 1)


@dataclass(frozen=True)
class Target:
    """What is `needed` and the `goal`; more is better, or less with `least`."""

    what: str
    needed: float
    goal: float
    value: float | None
    unit: str = ""
    least: bool = False

    def row(self) -> tuple[str, ...]:
        digits = 2 if self.needed < 5 else 0
        unit = f" {self.unit}" if self.unit else ""
        wanted = [f"{each:g}{unit}" for each in (self.needed, self.goal)]
        if self.value is None:
            return (self.what, *wanted, "not measured", "")
        reached = [
            self.value <= each if self.least else self.value >= each for each in (self.needed, self.goal)
        ]
        verdict = "goal reached" if reached[1] else "needed reached" if reached[0] else "**missed**"
        return (self.what, *wanted, f"{self.value:.{digits}f}{unit}", verdict)


def targets(figures: Figures) -> list[Target]:
    def of(above: float | None, below: float | None) -> float | None:
        return above / below if above is not None and below else None

    def rate(name: str, cell: Cell) -> float | None:
        return figures.rate(name, cell)

    def added(which: Callable[[Medians], float]) -> float | None:
        found, bare = (figures.cells.get((name, ONE)) for name in (OURS, BARE))
        return which(found) - which(bare) if found and bare else None

    def cpu(name: str) -> float | None:
        found = figures.cells.get((name, CHAT_16))
        return found.cpu_us if found else None

    def workers(count: int) -> float | None:
        found = figures.workers.get((OURS, count, Cell(False, 64)))
        return found.per_second if found else None

    def first(streams: int) -> float | None:
        """Milliseconds added to the first event."""
        found = (
            through.first_p50_ms - bare.first_p50_ms for bare, through in paced if through.streams == streams
        )
        return next(found, None)

    paced = figures.paced
    heavy = next((through.megabytes for _, through in paced if through.streams == 256), None)
    ours = rate(OURS, CHAT_16)
    stream = Cell(True, 16)
    start = figures.starts.get(OURS)
    return [
        Target("requests/s at 16 connections, of nginx's", 0.12, 0.20, of(ours, rate("nginx", CHAT_16))),
        Target("of LiteLLM's", 60, 100, of(ours, rate("LiteLLM", CHAT_16))),
        Target("of Portkey's", 10, 15, of(ours, rate("Portkey", CHAT_16))),
        Target("CPU per request, of uvicorn + aiohttp's", 0.75, 0.5, of(cpu(OURS), cpu(UVICORN)), least=True),
        Target(
            "requests/s at 256 connections, of those at 16", 0.9, 1.0, of(rate(OURS, Cell(False, 256)), ours)
        ),
        Target("streams/s, of nginx's", 0.25, 0.40, of(rate(OURS, stream), rate("nginx", stream))),
        Target("paced streams at once, stall-free", 256, 512, most_without_stall(paced) if paced else None),
        Target("added time to first token at 100 paced streams, p50", 3, 1.5, first(100), "ms", least=True),
        Target("added p50 at one connection", 0.6, 0.4, added(lambda one: one.p50_ms), "ms", least=True),
        Target("added p99 at one connection", 5, 3, added(lambda one: one.p99_ms), "ms", least=True),
        Target("memory idle", 100, 75, start.resident / 1e6 if start else None, "MB", least=True),
        Target("memory with 256 streams", 160, 120, heavy, "MB", least=True),
        Target("start to first answer", 0.8, 0.5, start.seconds if start else None, "s", least=True),
        Target("two workers, of one", 1.3, 1.6, of(workers(2), workers(1))),
    ]


def text(figures: Figures, command: str, runs: int, seconds: float) -> str:
    """The whole of RESULTS.md."""
    names = list(dict.fromkeys(name for name, _ in figures.cells))
    chat = [cell for _, cell in figures.cells if not cell.stream and not cell.size]
    streams = [cell for _, cell in figures.cells if cell.stream]
    sizes = [cell for _, cell in figures.cells if cell.size]
    parts = [
        _HEAD.format(
            day=datetime.now(UTC).date(), command=command, runs=runs, seconds=seconds, minutes=figures.minutes
        ),
        f"- {machine()}; {_cpu()}; {platform.release()}",
        *(f"- {name}: {version}" for name, version in figures.versions.items()),
        "\n## Targets\n",
        table(("what", "needed", "goal", "measured", ""), [each.row() for each in targets(figures)]),
        "\n## Chat: requests a second\n",
        _grid(figures, names, chat, _columns, lambda one: f"{one.per_second:.0f}"),
        "\n## Chat: CPU µs a request\n",
        _grid(figures, names, chat, _columns, _cpu_us),
        "\n## Chat: milliseconds, p50 / p99\n",
        _grid(figures, names, chat, _columns, lambda one: f"{one.p50_ms:.2f} / {one.p99_ms:.2f}"),
        "\n## Streams of 63 events, sent in one go: a second, and CPU µs each\n",
        _grid(figures, names, streams, _columns, lambda one: f"{one.per_second:.0f} ({_cpu_us(one)})"),
        "\n## Bodies of a size, 16 connections: requests a second, and CPU µs each\n",
        _grid(figures, names, sizes, _sizes, lambda one: f"{one.per_second:.0f} ({_cpu_us(one)})"),
        *_more(figures),
    ]
    return "\n".join(parts).rstrip() + "\n"


_HEAD = """\
# Results

Written by `{command}` on {day}, in {minutes:.0f} minutes: medians of {runs} runs of {seconds:g} s, in turns. The
gateway has one CPU, load and upstream share the other. gproxy has everything on: key, permission, limits of every
kind, quota, ledger. Every answer had an id that was checked, and there was a row for each in the ledger. How to run
this and what the others do for a request: [README.md](README.md).
"""


def _more(figures: Figures) -> list[str]:
    """Second opinion, workers, starts, paced streams, and what failed."""
    parts = []
    if figures.wrk:
        rows = [(name, f"{rate:.0f}") for name, rate in figures.wrk.items()]
        parts += ["\n## By wrk, 16 connections\n", table(("gateway", "requests/s"), rows)]
    if figures.workers:
        rows = [
            (name, str(count), str(cell.connections), f"{one.per_second:.0f}", _cpu_us(one))
            for (name, count, cell), one in figures.workers.items()
        ]
        headings = ("gateway", "workers", "connections", "requests/s", "CPU µs each")
        parts += ["\n## Workers, where all share both CPUs\n", table(headings, rows)]
    if figures.starts:
        rows = [
            (name, f"{start.seconds * 1000:.0f}", f"{start.resident / 1e6:.1f}")
            for name, start in figures.starts.items()
        ]
        parts += [
            "\n## Start and memory\n",
            table(("gateway", "ms to the first answer", "resident MB"), rows),
        ]
    if figures.paced:
        parts += ["\n## Paced streams of gproxy: 64 events, one every 20 ms\n", as_table(figures.paced)]
    if figures.failed:
        parts.append("\n## What failed\n")
        parts += [
            f"- {name}, {'streams' if cell.stream else 'chat'} at {cell.connections}: `{' '.join(why.split())}`"
            for (name, cell), why in figures.failed.items()
        ]
    return parts


def _grid(
    figures: Figures,
    names: list[str],
    cells: list[Cell],
    heading: Callable[[Cell], str],
    shown: Callable[[Medians], str],
) -> str:
    columns = list(dict.fromkeys(cells))
    rows = [
        (name, *(shown(found) if (found := figures.cells.get((name, cell))) else "-" for cell in columns))
        for name in names
        if any((name, cell) in figures.cells for cell in columns)
    ]
    return table(("gateway", *map(heading, columns)), rows)


def _columns(cell: Cell) -> str:
    return "1 connection" if cell.connections == 1 else str(cell.connections)


def _sizes(cell: Cell) -> str:
    return f"{cell.size >> 10} KiB" if cell.size < 1 << 20 else f"{cell.size >> 20} MiB"


def _cpu_us(one: Medians) -> str:
    return "-" if one.cpu_us is None else f"{one.cpu_us:.0f}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
