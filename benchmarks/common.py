"""What the benchmarks share: a served gateway, and what it costs in CPU time and memory.

What is measured, and how it is told, is each benchmark's own.
"""

import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

GPROXY = (sys.executable, "-m", "gproxy.cli.main")
_ROOT = str(Path(__file__).resolve().parents[1])
sys.path.insert(0, _ROOT)  # of a script that is run by its path only its own folder is there
_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = re.compile(rb"listening on http://127\.0\.0\.1:(\d+)")


@contextmanager
def serving(*arguments: str, cpu: int | None = None) -> Iterator[tuple[int, int]]:
    """Runs `gproxy serve` on a free port, pinned to one CPU if given: its port and process id. RuntimeError if
    it does not come up."""
    process = subprocess.Popen(
        (*GPROXY, "serve", "--port", "0", *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    if cpu is not None:
        os.sched_setaffinity(process.pid, {cpu})
    assert process.stderr is not None
    said: list[bytes] = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := _LISTENING.search(line):
                # The access log must not fill the pipe.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield int(found.group(1)), process.pid
                return
        raise RuntimeError(f"gproxy did not come up: {b''.join(said).decode()}")
    finally:
        process.terminate()
        process.wait(30)


def environment() -> dict[str, str]:
    """This environment, with this checkout as the code that children run, compiled once as installed code is."""
    return os.environ | {"PYTHONPATH": _ROOT, "PYTHONDONTWRITEBYTECODE": ""}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far, user and system."""
    return sum(map(_cpu_ticks, family(pid))) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    return sum(map(_resident, family(pid)))


def family(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        except FileNotFoundError:
            continue
        found += map(int, children.split())
    return found


def _cpu_ticks(pid: int) -> int:
    """utime and stime of a process, and of those of its children that it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, fields[11:15]))


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table with columns of even width."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [headings, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def machine() -> str:
    """One line on what the figures were measured on."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    )
