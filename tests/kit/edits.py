"""Edits the configuration of a server under load, well and badly, and tells what its clients saw of it.

Version N has one model, `m-N`, for N + 1 thousandths of a dollar a call, and the alias `now` for it.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.kit.calls import BY_ID
from tests.kit.gateway import KEY, Gateway, poll
from tests.kit.settings import alias, model, provider, user
from tests.kit.upstream import Script, Upstream

CLIENTS = 8
_CALLS = (BY_ID["chat"], BY_ID["chat-stream"])


def version(upstream: Upstream, number: int) -> str:
    """The text of gproxy.toml. Its answers take a moment, so that edits come in the midst of them."""
    name = upstream.model(Script(cut_every=500, delay_s=0.02), f"m-{number}")
    price = f"price_each_call = {(number + 1) / 1000}\n"
    return (
        provider("oa", "openai", upstream.url)
        + model("oa", name, price)
        + alias("now", "oa", name)
        + user("alice", KEY, "*")
    )


def price(name: str) -> float:
    """What the version has it for that has this model."""
    return (int(name.removeprefix("m-")) + 1) / 1000


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o600)
    fresh.replace(path)


def _in_place(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _crlf(path: Path, text: str) -> None:
    path.write_bytes(text.replace("\n", "\r\n").encode())


def _link(path: Path, text: str) -> None:
    """As orchestrators do it: a link to a folder that is swapped for another."""
    target = path.with_name(f"at-{hash(text) & 0xFFFF:x}.toml")
    target.write_text(text, encoding="utf-8")
    target.chmod(0o600)
    link = path.with_suffix(".link")
    link.symlink_to(target.name)
    link.replace(path)


GOOD: dict[str, Callable[[Path, str], None]] = {
    "replaced": _replace,
    "in place": _in_place,
    "CRLF": _crlf,
    "a link swapped": _link,
}


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path, str], None]:
    return lambda path, text: _put(path, change(text.encode()))


def _put(path: Path, text: bytes) -> None:
    path.unlink()
    path.write_bytes(text)
    path.chmod(0o600)


BROKEN: dict[str, Callable[[Path, str], object]] = {
    "half written": _bytes(lambda text: text[: len(text) // 2]),
    "empty": _bytes(lambda text: b""),
    "NUL": _bytes(lambda text: text + b"\0"),
    "a byte-order mark": _bytes(lambda text: b"\xef\xbb\xbf" + text),
    "UTF-16": _bytes(lambda text: text.decode().encode("utf-16")),
    "no UTF-8": _bytes(lambda text: text + b"# \xff\n"),
    "50 MB": _bytes(lambda text: text + b"# " + bytes(50_000_000).replace(b"\0", b"x")),
    "a dangling name": _bytes(
        lambda text: text.replace(b'provider_name = "oa"', b'provider_name = "nobody"')
    ),
    "removed": lambda path, text: path.unlink(),
    "a folder": lambda path, text: (path.unlink(), path.mkdir()),
    "a pipe": lambda path, text: (path.unlink(), os.mkfifo(path)),
    "a link to nothing": lambda path, text: (path.unlink(), path.symlink_to("nowhere.toml")),
}
if os.geteuid():
    BROKEN["unreadable"] = lambda path, text: (_put(path, text.encode()), path.chmod(0))


@dataclass
class Seen:
    """`failed`: what a client got that was no whole good answer, and in `spans` from when to when it waited for it
    (monotonic). `mixed`: rows with the model of one version and the price of another."""

    requests: int = 0
    failed: list[str] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    mixed: int = 0


def edit(gateway: Gateway, upstream: Upstream, number: int) -> None:
    """Put a version in force, in one of the ways, and wait until it is."""
    seen = len(gateway.lines)
    way = list(GOOD.values())[number % len(GOOD)]
    if gateway.path.is_dir():
        gateway.path.rmdir()
    elif not gateway.path.is_file() or gateway.path.is_symlink():  # what would be written through
        gateway.path.unlink(missing_ok=True)
    way(gateway.path, version(upstream, number))
    gateway.wait_line("configuration reloaded", since=seen)


def damage(gateway: Gateway, kind: str) -> None:
    """Break the file, and wait until the server has said that it goes on without it."""
    seen, good = len(gateway.lines), gateway.path.read_text(encoding="utf-8")
    BROKEN[kind](gateway.path, good)
    gateway.wait_line(r"gproxy\.toml.*: error: ", since=seen)
    gateway.wait_line("the edit is not in force", since=seen)
    poll(lambda: gateway.get("/ready", key=None).status_code == 503, "/ready says so")


@contextmanager
def watched(gateway: Gateway) -> Iterator[Seen]:
    """Load from entry to exit; what was seen is complete after it."""
    seen, over = Seen(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_load(gateway, seen, over)))
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    rows = gateway.rows()
    seen.mixed += sum(row["cost_usd"] != price(row["model"]) for row in rows if row["status"] == 200)


async def _load(gateway: Gateway, seen: Seen, over: threading.Event) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(gateway.url, connector=connector, headers=headers) as session:

        async def client(number: int) -> None:
            call = _CALLS[number % 2]
            while not over.is_set():
                seen.requests += 1
                began, why = time.monotonic(), ""
                try:
                    async with session.post("/v1/chat/completions", json=call.fields("now")) as answer:
                        body = await answer.read()
                    whole = not call.stream or body.endswith(b"data: [DONE]\n\n")
                    if answer.status != 200 or not whole or b'"m-' in body:
                        why = f"{answer.status} {body[-200:]!r}"
                except aiohttp.ClientError as error:
                    why = repr(error)
                if why:
                    seen.failed.append(why)
                    seen.spans.append((began, time.monotonic()))

        await asyncio.gather(*map(client, range(CLIENTS)))
