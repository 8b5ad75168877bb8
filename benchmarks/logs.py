"""What request logs cost: `python benchmarks/logs.py [--seconds 180] [--mb-per-minute 100] [--body-kb 16]`.

The same paced load runs by turns against a gateway with all logs off and one with all of them on, whose four bodies
of a request (in and out, on both sides) come to so many megabytes a minute; the turns add up to so many seconds for
each. Then the logs are cleared beside that server, still under load, and the store must have shrunk back. Load and
upstream have a CPU of their own where there are two.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from common import GPROXY, cpu_seconds, environment, machine, serving, table
from relay import KEY, pin

CONNECTIONS = 8
TURNS = 6
_CONFIG = """
[global]
log_body_max_bytes = 1048576
{flags}
[[providers]]
name = "up"
channel = "openai"
settings = {{ base_url = "http://127.0.0.1:{port}" }}
credentials = [{{ api_key = "sk-upstream-0123456789" }}]

[[users]]
name = "bench"
[[users.keys]]
label = "bench"
api_key = "{key}"

[[permissions]]
user_name = "bench"
model_pattern = "up/*"
"""
_FLAGS = "".join(
    f"enable_{side}_log{body} = true\n" for side in ("upstream", "downstream") for body in ("", "_body")
)
_VOCABULARY = "the of and streaming options token sk-ill opened model says so"
_WORDS = random.Random(7).choices(_VOCABULARY.split(), k=500_000)


def text_of(size: int) -> str:
    return " ".join(_WORDS)[:size]


async def upstream(told: Connection, size: int) -> None:
    """Answers every request with a chat completion of about that size."""
    message = {"role": "assistant", "content": text_of(size)}
    tree = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    body = json.dumps(
        tree | {"usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}}
    ).encode()
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r", 1)[0]))
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def upstream_process(told: Connection, size: int, cpu: int | None) -> None:
    pin(cpu)
    asyncio.run(upstream(told, size))


async def load(port: int, size: int, per_second: float, seconds: float) -> list[float]:
    """Asks so often, spread over the connections; the seconds that each answer took."""
    body = json.dumps({"model": "up/m", "messages": [{"role": "user", "content": text_of(size)}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
    request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    times: list[float] = []
    start = time.perf_counter()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = start + number / per_second
        while due < start + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            await reader.readexactly(int(answer.lower().partition(b"content-length:")[2].split(b"\r", 1)[0]))
            times.append(time.perf_counter() - began)
            due += CONNECTIONS / per_second
        writer.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    return times


def load_process(answers: Connection, cpu: int | None, *order: float) -> None:
    pin(cpu)
    port, size, per_second, seconds = order
    answers.send(asyncio.run(load(int(port), int(size), per_second, seconds)))


@dataclass(frozen=True)
class Result:
    what: str
    times: list[float]
    cpu_us: float

    def row(self) -> tuple[str, ...]:
        ordered = sorted(self.times)
        marks = [ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.9, 0.99)]
        return (self.what, str(len(ordered)), *(f"{mark:.2f}" for mark in marks), f"{self.cpu_us:.0f}")

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)]


def together(results: Sequence[Result]) -> Result:
    """Several turns as one."""
    times = [each for result in results for each in result.times]
    cpu_us = sum(result.cpu_us * len(result.times) for result in results) / len(times)
    return Result(results[0].what, times, cpu_us)


def store_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "data").glob("gproxy.db*"))


class Bench:
    def __init__(self, size: int, per_second: float) -> None:
        self._size = size
        self._per_second = per_second
        self.gateway_cpu, self.other_cpu = (
            (0, 1) if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1 else (None, None)
        )
        self._spawn = multiprocessing.get_context("spawn")

    def upstream(self) -> int:
        got, told = self._spawn.Pipe(duplex=False)
        arguments = (told, self._size, self.other_cpu)
        self._spawn.Process(target=upstream_process, args=arguments, daemon=True).start()
        port: int = got.recv()
        return port

    def start(self, port: int, seconds: float) -> Connection:
        got, told = self._spawn.Pipe(duplex=False)
        order = (told, self.other_cpu, port, self._size, self._per_second, seconds)
        self._spawn.Process(target=load_process, args=order, daemon=True).start()
        return got

    def run(self, what: str, port: int, pid: int, seconds: float) -> Result:
        before = cpu_seconds(pid)
        times = self.start(port, seconds).recv()
        return Result(what, times, (cpu_seconds(pid) - before) / len(times) * 1e6)


def configured(folder: Path, flags: str, upstream_port: int) -> Path:
    folder.mkdir()
    path = folder / "gproxy.toml"
    path.touch(0o600)
    path.write_text(_CONFIG.format(flags=flags, port=upstream_port, key=KEY))
    return path


def clear(path: Path) -> None:
    subprocess.run((*GPROXY, "logs", "clear", "--yes", "--config", str(path)), env=environment(), check=True)


def logged(folder: Path) -> tuple[int, int]:
    """Requests and attempts in the logs. RuntimeError if the store is damaged."""
    connection = sqlite3.connect(f"file:{folder / 'data' / 'gproxy.db'}?mode=ro", uri=True)
    try:
        (state,) = connection.execute("PRAGMA integrity_check").fetchone()
        if state != "ok":
            raise RuntimeError(f"the store is damaged: {state}")
        found: tuple[int, int] = connection.execute(
            "SELECT (SELECT count(*) FROM downstream_log), (SELECT count(*) FROM upstream_log)"
        ).fetchone()
    finally:
        connection.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--mb-per-minute", type=float, default=100.0)
    parser.add_argument("--body-kb", type=int, default=16)
    given = parser.parse_args()
    per_second = given.mb_per_minute * 1e6 / 60 / (4 * given.body_kb * 1024)
    bench = Bench(given.body_kb * 1024, per_second)
    upstream_port = bench.upstream()
    turn_s = given.seconds / TURNS
    with tempfile.TemporaryDirectory() as name:
        off, on = (
            configured(Path(name, what), flags, upstream_port)
            for what, flags in (("off", ""), ("on", _FLAGS))
        )
        cpu = bench.gateway_cpu
        with (
            serving("--config", str(off), cpu=cpu) as (off_port, off_pid),
            serving("--config", str(on), cpu=cpu) as (on_port, on_pid),
        ):
            bench.run("", off_port, off_pid, 3.0)
            bench.run("", on_port, on_pid, 3.0)
            clear(on)
            empty = store_bytes(on.parent)
            turns = [
                (
                    bench.run("logs off", off_port, off_pid, turn_s),
                    bench.run("logs on", on_port, on_pid, turn_s),
                )
                for _ in range(TURNS)
            ]
            results = [together(side) for side in zip(*turns, strict=True)]
            time.sleep(2)  # what has been offered is to be written
            full, rows = store_bytes(on.parent), logged(on.parent)
            under_load = bench.start(on_port, max(10.0, turn_s))
            before = cpu_seconds(on_pid)
            clear(on)
            times = under_load.recv()
            results.append(Result("while cleared", times, (cpu_seconds(on_pid) - before) / len(times) * 1e6))
            time.sleep(2)
            clear(on)
            cleared = store_bytes(on.parent)
            logged(on.parent)
    print(f"{machine()}; {per_second:.1f} requests/s, four bodies of {given.body_kb} KiB each")
    headings = ("what", "requests", "p50 ms", "p90 ms", "p99 ms", "CPU µs each")
    print(table(headings, [result.row() for result in results]))
    print(f"p99 with logs on: {results[1].p99 / results[0].p99:.2f} times that with logs off")
    print(f"logged: {rows[0]} requests and {rows[1]} attempts of {len(results[1].times)}")
    print(f"store: {empty / 1e6:.1f} MB empty, {full / 1e6:.1f} MB full, {cleared / 1e6:.1f} MB cleared")


if __name__ == "__main__":
    main()
