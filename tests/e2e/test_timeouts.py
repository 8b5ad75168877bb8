"""Every time limit against its setting: 504 in the dialect before the first byte, its error event after it.

All dialects are asked side by side; a limit may be off by half a second.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.calls import BY_ID
from tests.server.dialects import DIALECTS, Dialect, ends_in_an_error
from tests.server.parts import (
    ALICE,
    Front,
    Script,
    Seen,
    Visit,
    full_listener,
    http,
    peer,
    provider,
    rows,
    serving,
)

LIMIT_S = 0.8
OFF_BY_S = 0.5
_SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n"

FORMS = [(dialect, stream) for dialect in DIALECTS.values() for stream in (False, True)]


def dialect_of(seen: Seen) -> Dialect:
    ends = {"completions": "chat", "responses": "responses", "messages": "messages"}
    return DIALECTS[ends.get(seen.target.rpartition("/")[2], "gemini")]


def is_stream(seen: Seen) -> bool:
    return "stream" in seen.target or seen.json().get("stream") is True


async def forever(writer: asyncio.StreamWriter, data: bytes = b"", every: float = 1.0) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(every)


async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
    await forever(writer)


async def head_alone(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """After some time of its own, a head; then comments, in a stream."""
    await asyncio.sleep(LIMIT_S / 2)
    writer.write(_SSE_HEAD if is_stream(seen) else _JSON_HEAD)
    await forever(writer, b": ping\n\n" if is_stream(seen) else b"", 0.05)


async def begun(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """One event, or some of a body, and nothing more."""
    writer.write(_SSE_HEAD + dialect_of(seen).event if is_stream(seen) else _JSON_HEAD + b'{"id": ')
    await forever(writer)


async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """An event or a space every now and then, for ever."""
    writer.write(_SSE_HEAD if is_stream(seen) else _JSON_HEAD)
    await forever(writer, dialect_of(seen).event if is_stream(seen) else b" ", 0.05)


async def measured(front: Front, dialect: Dialect, stream: bool) -> tuple[Visit, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    visit = await asyncio.wait_for(dialect.ask(front, stream=stream), 20)
    return visit, loop.time() - began


async def asked(
    script: Script, settings: str, folder: Path, secrets: tuple[str, ...] = ("sk-a",)
) -> tuple[list[tuple[Visit, float]], list[dict[str, Any]], int]:
    """What each of FORMS was answered and how long it took; the rows; how many requests the upstream saw."""
    async with (
        peer(script) as up,
        serving(provider(up.url, more=settings, secrets=secrets) + ALICE, folder) as front,
    ):
        found = await asyncio.gather(*(measured(front, dialect, stream) for dialect, stream in FORMS))
        return found, rows(front.path), len(up.seen)


def too_slow(form: tuple[Dialect, bool], visit: Visit, took: float, *, in_stream: bool = False) -> None:
    """A time-out in the dialect, after LIMIT_S; `in_stream`: inside the answer, if it is a stream."""
    dialect, stream = form
    assert abs(took - LIMIT_S) <= OFF_BY_S, (dialect.name, took)
    if stream and in_stream:
        ends_in_an_error(visit, dialect, dialect.too_slow)
    else:
        assert (visit.status, visit.ended) == (504, True), visit.body
        assert visit.header("content-type") == "application/json"
        assert dialect.kind(visit.json()) == dialect.too_slow


async def test_to_connect(tmp_path: Path) -> None:
    with full_listener() as port:
        text = provider(f"http://127.0.0.1:{port}", more=f"connect_timeout_s = {LIMIT_S}") + ALICE
        async with serving(text, tmp_path) as front:
            found = await asyncio.gather(*(measured(front, *form) for form in FORMS))
            for form, (visit, took) in zip(FORMS, found, strict=True):
                too_slow(form, visit, took)
            assert {(row["status"], row["maybe_billed"]) for row in rows(front.path)} == {(504, 0)}


@pytest.mark.parametrize("script", [silent, head_alone])
async def test_to_the_first_byte_of_the_body_or_the_first_event(tmp_path: Path, script: Script) -> None:
    settings = f"first_byte_timeout_s = {LIMIT_S}, idle_timeout_s = 0.1"
    found, ledger, sent = await asked(script, settings, tmp_path, ("sk-a", "sk-b"))
    for form, (visit, took) in zip(FORMS, found, strict=True):
        too_slow(form, visit, took)
    assert {(row["status"], row["outcome"], row["attempts"]) for row in ledger} == {
        (504, "upstream_error", 1)
    }
    assert all(row["maybe_billed"] for row in ledger)
    assert sent == len(FORMS), "what may have been billed is not sent again"


async def test_of_silence(tmp_path: Path) -> None:
    settings = f"first_byte_timeout_s = 20, idle_timeout_s = {LIMIT_S}"
    found, ledger, sent = await asked(begun, settings, tmp_path, ("sk-a", "sk-b"))
    for form, (visit, took) in zip(FORMS, found, strict=True):
        too_slow(form, visit, took, in_stream=True)
    assert sorted(row["status"] for row in ledger) == [200] * 4 + [504] * 4
    assert {row["outcome"] for row in ledger} == {"upstream_error"}
    assert sent == len(FORMS)


@pytest.mark.parametrize("script", [silent, begun, endless])
async def test_over_all(tmp_path: Path, script: Script) -> None:
    settings = f"total_timeout_s = {LIMIT_S}"
    found, _, sent = await asked(script, settings, tmp_path, ("sk-a", "sk-b"))
    for form, (visit, took) in zip(FORMS, found, strict=True):
        too_slow(form, visit, took, in_stream=script is not silent)
    assert sent == len(FORMS)


async def test_over_all_attempts(tmp_path: Path) -> None:
    async def failing(_: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(LIMIT_S * 0.4)
        writer.write(http(status=500))
        await writer.drain()

    settings = f"total_timeout_s = {LIMIT_S}, max_attempts = 9"
    found, ledger, sent = await asked(failing, settings, tmp_path, tuple(f"sk-{n}" for n in range(9)))
    for form, (visit, took) in zip(FORMS, found, strict=True):
        too_slow(form, visit, took)
    assert {row["attempts"] for row in ledger} <= {2, 3}, "the last is cut off, and none follows"
    assert sent == sum(row["attempts"] for row in ledger)


async def test_nothing_else_cuts_a_silence_that_is_allowed(tmp_path: Path) -> None:
    """Neither before the first byte, however short idle_timeout_s is, nor after it, however short the other is."""

    def thoughtful(early: bool) -> Script:
        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            stream, event = is_stream(seen), dialect_of(seen).event
            whole = http(json.dumps(dialect_of(seen).whole).encode())
            cut = len(whole) - 2 if early else whole.index(b"\r\n\r\n") + 4
            writer.write(_SSE_HEAD + event * early if stream else whole[:cut])
            await writer.drain()
            await asyncio.sleep(1)
            writer.write(event if stream else whole[cut:])
            await writer.drain()
            if stream:
                writer.close()

        return script

    for name, early, settings in (
        ("late", False, "idle_timeout_s = 0.2"),
        ("early", True, "connect_timeout_s = 0.3, first_byte_timeout_s = 0.3"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        found, _, _ = await asked(thoughtful(early), settings, folder)
        for (dialect, stream), (visit, _) in zip(FORMS, found, strict=True):
            assert visit.status == 200
            if stream:
                ends_in_an_error(visit, dialect, dialect.upstream_failed)  # cut by the upstream, not by us
            else:
                assert visit.json()


async def test_bytes_that_stop_coming_are_cut_short(tmp_path: Path) -> None:
    async def half(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\nhalf")
        await forever(writer)

    call = BY_ID["speech"]
    async with (
        peer(half) as up,
        serving(provider(up.url, more="idle_timeout_s = 0.5") + ALICE, tmp_path) as front,
    ):
        visit = await front.ask(call.path, call.fields("up/m"))
        (row,) = await front.rows()
    assert (visit.status, visit.body, visit.ended) == (200, b"half", False)
    assert (row["outcome"], row["error"]) == ("upstream_error", "the answer stopped coming")
