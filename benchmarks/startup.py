"""How long the start takes and what the process weighs: `python benchmarks/startup.py [--runs 7]`.

Figures are medians. What a request costs is `relay.py`'s to measure.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from common import GPROXY, environment, machine, resident_bytes, table

_ASK = json.dumps({"model": "demo/echo-1", "messages": [{"role": "user", "content": "Hello"}]}).encode()
_KEY = re.compile(r"^key: (\S+)$", re.MULTILINE)
_URL = re.compile(r"http://127\.0\.0\.1:\d+")
_LATER = 50
"""Answers after which memory is looked at again."""


def first_answer(folder: str) -> tuple[float, int, int]:
    """Seconds from the spawn of `gproxy serve --demo` to the end of a chat answer, its resident bytes then, and
    after some more answers."""
    began = time.perf_counter()
    process = subprocess.Popen(
        (*GPROXY, "serve", "--demo", "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment(),
        text=True,
    )
    assert process.stdout is not None
    try:
        said = ""
        while not ((key := _KEY.search(said)) and (url := _URL.search(said))):
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("gproxy serve --demo ended before it printed a key")
            said += line
        headers = {"authorization": f"Bearer {key.group(1)}", "content-type": "application/json"}
        request = urllib.request.Request(f"{url.group()}/v1/chat/completions", _ASK, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def ask() -> None:
            with opener.open(request, timeout=10) as answer:
                answer.read()

        ask()
        seconds, light = time.perf_counter() - began, resident_bytes(process.pid)
        for _ in range(_LATER):
            ask()
        return seconds, light, resident_bytes(process.pid)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def seconds_of(*command: str) -> float:
    """How long one run of a command takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = range(max(5, parser.parse_args().runs))
    with tempfile.TemporaryDirectory() as folder:
        first_answer(folder)  # fills the caches of the disk and of compiled modules
        starts, light, heavy = zip(*(first_answer(folder) for _ in runs), strict=True)
    # In turns, so that what else the machine does falls on both alike.
    pairs = [
        (seconds_of(*GPROXY, "--version"), seconds_of(sys.executable, "-c", "import typer")) for _ in runs
    ]
    version, typer = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(machine())
    rows = [
        ("spawn to first answer (demo)", f"{statistics.median(starts) * 1000:.0f} ms", "under 800 ms"),
        ("resident memory after it", f"{statistics.median(light) / 1e6:.1f} MB", "under 100 MB"),
        (f"and after {_LATER} more", f"{statistics.median(heavy) / 1e6:.1f} MB", "under 100 MB"),
        ("gproxy --version", f"{version * 1000:.0f} ms", f"under {2 * typer * 1000:.0f} ms"),
        ("python -c 'import typer'", f"{typer * 1000:.0f} ms", ""),
    ]
    print(table(("what", "median", "wanted"), rows))


if __name__ == "__main__":
    main()
