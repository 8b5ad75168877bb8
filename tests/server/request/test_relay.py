"""From the upstream's answer to the client's, and the row before its end; through the whole gateway."""

import asyncio
import json
from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger import sqlite
from gproxy.ledger.sqlite import connect
from gproxy.server.request import relay
from tests.server.parts import (
    ALICE,
    COMPLETION,
    DONE,
    GOOD,
    SECRET,
    STREAM,
    USAGE_CHUNK,
    Front,
    Peer,
    Script,
    Seen,
    Visit,
    always,
    chunk,
    data,
    http,
    peer,
    provider,
    rows,
    serving,
    sse,
)


def served(up: Peer, folder: Path, more: str = "") -> AbstractAsyncContextManager[Front]:
    return serving(provider(up.url, more=more) + ALICE, folder)


class Watched(Visit):
    """Notes how many rows there are whenever something goes out."""

    def __init__(self, body: dict[str, Any], path: Path) -> None:
        super().__init__(json.dumps(body).encode())
        self._path = path
        self.counts: list[tuple[bytes, int]] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.counts.append((message.get("body", b""), len(rows(self._path))))
        await super().send(message)


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "up/m", "messages": [], **more}


async def watched(front: Front, **more: Any) -> Watched:
    visit = Watched(asking(**more), front.path)
    await front.ask("/v1/chat/completions", visit=visit)
    return visit


async def test_an_answer_names_the_model_as_the_client_did_and_is_else_unchanged(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m")
    assert answer.status == 200
    assert answer.json() == COMPLETION | {"model": "up/m"}
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.body))


async def test_every_event_names_the_model_as_the_client_did(tmp_path: Path) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    async with peer(always(sse())) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m", **asked)
    assert answer.body == STREAM.replace(b'"model": "m"', b'"model": "up/m"')
    assert answer.ended


async def test_usage_that_the_client_did_not_ask_for_is_kept_back_and_counted(tmp_path: Path) -> None:
    async with peer(always(sse())) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m", stream=True)
        (row,) = await front.rows()
    assert b"usage" not in answer.body
    assert answer.body.endswith(DONE)
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (5, 2, "upstream")


async def test_headers_of_the_account_stay_here_and_the_request_ids_go_on(tmp_path: Path) -> None:
    more = ("x-request-id: u1", "set-cookie: a=b", "openai-organization: o", "retry-after: 3", "server: s")
    async with (
        peer(always(http(json.dumps(COMPLETION).encode(), more=more))) as up,
        served(up, tmp_path) as front,
    ):
        answer = await front.chat("up/m")
    assert answer.header("x-request-id") == "u1"
    assert answer.header("retry-after") == "3"
    for name in ("set-cookie", "openai-organization", "server"):
        assert answer.header(name) is None


async def test_the_row_is_committed_before_a_whole_answer_goes_out(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up, served(up, tmp_path) as front:
        visit = await watched(front)
    assert [count for _, count in visit.counts] == [1, 1]


def in_two(go: asyncio.Event) -> Script:
    """A stream whose second half comes after `go`."""

    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk("hel"))
        await writer.drain()
        await go.wait()
        writer.write(chunk("lo") + chunk(finish="stop") + USAGE_CHUNK + DONE)
        writer.close()

    return script


async def begun(front: Front, visit: Visit) -> asyncio.Task[Visit]:
    """Asks for a stream; returns when its first event has come."""
    task = asyncio.create_task(front.ask("/v1/chat/completions", visit=visit))
    await visit.until(lambda v: b"hel" in v.body)
    return task


async def test_the_row_is_committed_before_the_end_of_a_stream_goes_out(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with peer(in_two(go)) as up, served(up, tmp_path) as front:
        visit = Watched(asking(stream=True), front.path)
        task = await begun(front, visit)
        go.set()
        await task
    for body, count in visit.counts:
        assert count == (1 if b"[DONE]" in body else 0)
    assert visit.body.count(b"[DONE]") == 1


async def test_a_stream_that_is_there_at_once_goes_out_at_once_behind_its_row(tmp_path: Path) -> None:
    async with peer(always(sse())) as up, served(up, tmp_path) as front:
        visit = await watched(front, stream=True)
    assert [(bool(body), count) for body, count in visit.counts] == [(False, 1), (True, 1)]
    assert visit.body.endswith(DONE)


async def test_the_row_is_committed_before_an_error_goes_out(tmp_path: Path) -> None:
    for number, status in enumerate((400, 500)):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with peer(always(http(b'{"error": {}}', status))) as up, served(up, folder) as front:
            visit = await watched(front)
        assert [count for _, count in visit.counts] == [1, 1]


async def test_what_has_come_goes_out_at_once(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with peer(in_two(go)) as up, served(up, tmp_path) as front:
        visit = Visit(json.dumps(asking(stream=True)).encode())
        task = await begun(front, visit)
        assert not visit.ended
        go.set()
        await task
    assert visit.body.endswith(DONE)


@pytest.mark.parametrize("answer", [GOOD, sse()], ids=["whole", "stream"])
async def test_a_store_that_takes_no_row_is_503_while_nothing_has_gone_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    async with peer(always(answer)) as up, served(up, tmp_path) as front:
        with closing(connect(front.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = await front.chat("up/m", stream=answer != GOOD)
            assert (refused.status, refused.json()["error"]["type"]) == (503, "overloaded_error")
            asked_before = len(up.seen)
            assert (await front.chat("up/m")).status == 503
            assert len(up.seen) == asked_before, "no upstream is asked for what could not be accounted for"
            other.execute("ROLLBACK")


async def test_nobody_gets_all_of_a_stream_before_its_row_and_the_row_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    go = asyncio.Event()
    async with peer(in_two(go)) as up, served(up, tmp_path) as front:
        with closing(connect(front.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            task = await begun(front, Visit(json.dumps(asking(stream=True)).encode()))
            go.set()
            answer = await task
            assert front.gateway.not_ready()
            other.execute("ROLLBACK")
        (row,) = await front.rows()
    assert DONE not in answer.body
    assert b'"code":503' in answer.body
    assert answer.ended
    assert (row["status"], row["outcome"], row["usage_source"]) == (200, "error", "upstream")


# Errors of the upstream's.


async def refused(folder: Path, body: bytes, status: int = 400, path: str = "/v1/chat/completions") -> Visit:
    async with peer(always(http(body, status, media="text/x-odd"))) as up, served(up, folder) as front:
        return await front.ask(path, asking(max_tokens=1))


async def test_the_upstreams_own_error_is_passed_on_as_json(tmp_path: Path) -> None:
    body = b'{"error": {"message": "too long", "code": "context_length_exceeded"}}'
    answer = await refused(tmp_path, body)
    assert (answer.status, answer.body) == (400, body)
    assert answer.header("content-type") == "application/json"


async def test_no_secret_of_ours_is_in_what_is_passed_on(tmp_path: Path) -> None:
    answer = await refused(tmp_path, f'{{"error": {{"message": "{SECRET} is no key"}}}}'.encode(), 404)
    assert answer.status == 404
    assert answer.message == "[redacted] is no key"


async def test_a_secret_that_begins_like_another_is_taken_out_whole(tmp_path: Path) -> None:
    body = f'{{"error": {{"message": "{SECRET}-longer is no key"}}}}'.encode()
    async with peer(always(http(body, 404))) as up:
        text = provider(up.url, secrets=(SECRET, f"{SECRET}-longer")) + ALICE
        async with serving(text, tmp_path) as front:
            answer = await front.chat("up/m")
    assert answer.message == "[redacted] is no key"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"detail": "model is loading"}', "model is loading"),
        (b'{"error": "just text"}', "just text"),
        (b'"words"', "words"),
        (b"<html>Bad</html>", "The upstream reported an error (422)."),
        (b"", "The upstream reported an error (422)."),
        (b"\xff\xfe", "The upstream reported an error (422)."),
    ],
)
@pytest.mark.parametrize(("path", "kind"), [("/v1/chat/completions", "code"), ("/v1/messages", "type")])
async def test_an_error_in_no_dialect_is_put_into_the_callers(
    tmp_path: Path, body: bytes, text: str, path: str, kind: str
) -> None:
    answer = await refused(tmp_path, body, 422, path)
    assert answer.status == 422
    assert text in answer.message
    assert kind in answer.json()["error"]
    assert b"<html>" not in answer.body


async def test_an_endless_error_is_cut(tmp_path: Path) -> None:
    answer = await refused(tmp_path, json.dumps({"detail": "x" * 100_000}).encode())
    assert len(answer.body) < 5000


async def test_an_error_inside_an_array_is_the_object_itself(tmp_path: Path) -> None:
    body = b'[{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}]'
    path = "/v1beta/models/up/m:streamGenerateContent"
    async with peer(always(http(body, 400))) as up, served(up, tmp_path) as front:
        answer = await front.ask(path, {"contents": []})
    assert answer.json() == json.loads(body)[0]


# Streams that break.


@pytest.mark.parametrize("first", [chunk("hel"), chunk("hel") + chunk("lo")[:30]], ids=["between", "inside"])
async def test_a_stream_that_breaks_ends_well_with_an_error_and_without_a_good_end(
    tmp_path: Path, first: bytes
) -> None:
    async def breaking(_: Seen, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
        writer.write(head + first)
        writer.close()

    async with peer(breaking) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m", stream=True)
        (row,) = await front.rows()
    assert answer.ended
    events = [json.loads(event.removeprefix(b"data: ")) for event in answer.body.split(b"\n\n")[:-1]]
    assert events[0]["choices"][0]["delta"] == {"content": "hel"}
    assert events[-1]["error"]["type"] == "upstream_error"
    assert b"[DONE]" not in answer.body
    assert (row["status"], row["outcome"], row["usage_source"]) == (200, "upstream_error", "estimated")
    assert row["error"]


async def test_a_stream_that_falls_silent_ends_with_a_time_out(tmp_path: Path) -> None:
    async def stalling(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk("hel"))
        await asyncio.Event().wait()

    async with peer(stalling) as up, served(up, tmp_path, "idle_timeout_s = 0.05") as front:
        answer = await front.chat("up/m", stream=True)
    assert b"timeout_error" in answer.body
    assert answer.ended


async def test_a_stream_that_ends_before_its_end_is_broken(tmp_path: Path) -> None:
    async with peer(always(sse(chunk("hel")))) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m", stream=True)
    assert b"upstream_error" in answer.body


async def test_a_stream_that_finished_without_its_last_line_is_whole(tmp_path: Path) -> None:
    """Some upstreams send no [DONE]: the finish reason shows that the answer is all there."""
    async with peer(always(sse(chunk("hel") + chunk(finish="stop")))) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m", stream=True)
        (row,) = await front.rows()
    assert b"error" not in answer.body
    assert row["outcome"] == "ok"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"message": "busy", "type": "server_error", "code": 500}, "busy"),
        ({"message": f"Incorrect API key: {SECRET}", "code": 401}, "The upstream reported an error (401)."),
        ({"message": f"no room for {SECRET}", "code": 429}, "no room for [redacted]"),
    ],
)
async def test_an_error_event_of_the_upstream_ends_the_stream_in_our_words(
    tmp_path: Path, error: dict[str, Any], told: str
) -> None:
    event = data({"error": error}) + b"data: [DONE]\n\n"
    visit = Visit(json.dumps(asking(stream=True)).encode())

    async def failing(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk("hel"))
        await visit.until(lambda v: b"hel" in v.body)
        writer.write(event)
        writer.close()

    async with peer(failing) as up, served(up, tmp_path) as front:
        await front.ask("/v1/chat/completions", visit=visit)
        (row,) = await front.rows()
    last = json.loads(visit.body.removesuffix(b"\n\n").rpartition(b"data: ")[2])
    assert last["error"]["message"] == told
    assert b"[DONE]" not in visit.body
    assert visit.ended
    assert (row["status"], row["outcome"]) == (200, "upstream_error")


async def test_a_connection_whose_stream_ends_after_its_last_event_is_used_again(tmp_path: Path) -> None:
    visits = [Visit(json.dumps(asking(stream=True)).encode()) for _ in range(3)]
    left = iter(visits)

    async def slowly(_: Seen, writer: asyncio.StreamWriter) -> None:
        visit = next(left)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + f"{len(STREAM):x}\r\n".encode() + STREAM + b"\r\n")
        await visit.until(lambda v: v.ended)
        writer.write(b"0\r\n\r\n")

    async with peer(slowly) as up, served(up, tmp_path) as front:
        for visit in visits:
            await front.ask("/v1/chat/completions", visit=visit)
            await front.tasks.drain(5)  # the upstream's end comes after the client's
    assert [seen.connection for seen in up.seen] == [1, 1, 1]


async def test_an_upstream_that_never_ends_its_stream_does_not_hold_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_LINGER_SECONDS", 0.05)

    async def endless(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + STREAM)
        await asyncio.Event().wait()

    async with peer(endless) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m", stream=True)
        (row,) = await front.rows()
    assert answer.ended
    assert row["outcome"] == "ok"


# Answers that nobody reads.

SPEECH = {"model": "up/m", "input": "hi", "voice": "v"}


async def test_bytes_are_passed_on_as_they_are(tmp_path: Path) -> None:
    async with peer(always(http(bytes(range(256)), media="audio/mpeg"))) as up, served(up, tmp_path) as front:
        answer = await front.ask("/v1/audio/speech", SPEECH)
        (row,) = await front.rows()
    assert (answer.status, answer.body, answer.ended) == (200, bytes(range(256)), True)
    assert answer.header("content-type") == "audio/mpeg"
    assert (row["outcome"], row["usage_source"]) == ("ok", "none")


async def test_bytes_that_break_off_have_no_end(tmp_path: Path) -> None:
    async def breaking(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 10\r\n\r\nhalf")
        writer.close()

    async with peer(breaking) as up, served(up, tmp_path) as front:
        answer = await front.ask("/v1/audio/speech", SPEECH)
        (row,) = await front.rows()
    assert (answer.body, answer.ended) == (b"half", False)
    assert row["outcome"] == "upstream_error"


@pytest.mark.parametrize(("setting", "passed"), [("", False), ("include_usage = false", True)])
async def test_usage_is_withheld_only_if_we_asked_for_it(tmp_path: Path, setting: str, passed: bool) -> None:
    """Some upstreams send it unasked, and then it is the client's."""
    usage = data({"id": "c1", "model": "up/m", "choices": [], "usage": {"prompt_tokens": 3}})
    stream = chunk("hel") + usage + b"data: [DONE]\n\n"
    async with peer(always(sse(stream))) as up, served(up, tmp_path, setting) as front:
        answer = await front.chat("up/m", stream=True)
        (row,) = await front.rows()
    assert (b'"prompt_tokens"' in answer.body) == passed
    assert row["input_tokens"] == 3


async def test_an_answer_that_is_a_crowd_is_passed_on_and_counted_by_its_length(tmp_path: Path) -> None:
    """To make objects of all it holds, so as to count its text, would take gigabytes and a minute."""
    body = b'{"model": "m", "choices": [' + b"{}," * 400_000 + b"{}]}"
    async with peer(always(http(body))) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m")
        (row,) = await front.rows()
    assert answer.body == body.replace(b'"m"', b'"up/m"')
    assert (row["usage_source"], row["output_tokens"]) == ("estimated", -(-len(body) // 4))
