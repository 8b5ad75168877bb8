"""What the request logs hold of requests of every kind, and that no secret is in them."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.scrub import Known, Scrubber
from gproxy.ledger.logs import Downstream, Filters, Upstream, listed, whole
from gproxy.ledger.writer import Writer
from gproxy.server.request import opened
from gproxy.server.request.capture import Seen, recorder
from gproxy.server.request.reply import Reply
from tests.server.parts import (
    ALICE,
    GOOD,
    KEY,
    SECRET,
    STREAM,
    Front,
    Script,
    Visit,
    always,
    by_key,
    chunk,
    http,
    peer,
    provider,
    scope,
    serving,
    snapshot,
    sse,
)

ALL = """[global]
enable_downstream_log = true
enable_downstream_log_body = true
enable_upstream_log = true
enable_upstream_log_body = true
"""
CHAT = "/v1/chat/completions"
NOTHING = Scrubber(Known())


async def logged(front: Front) -> list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """All requests in the logs, in order, each with its attempts."""
    await front.rows()
    names = [
        row["request_id"]
        for kind in (Downstream, Upstream)
        for row in listed(front.path, kind, Filters(), limit=1000)  # type: ignore[arg-type]  # one of the two
    ]
    return [whole(front.path, name) for name in dict.fromkeys(names)]


async def one(front: Front) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    ((request, attempts),) = await logged(front)
    assert request is not None
    return request, attempts


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100), st.booleans())
def test_a_body_is_the_same_in_any_pieces(pieces: list[bytes], most: int, complete: bool) -> None:
    data = b"".join(pieces)
    seen = Seen(most)
    for piece in pieces:
        seen.feed(piece)
    if complete:
        seen.feed(b"", last=True)
    body = seen.body(NOTHING)
    if not data and not complete:
        assert body is None
        return
    assert body is not None
    assert (body.length, body.sha256) == (len(data), sha256(data))
    notes = ["cut"] * (len(data) > most) + ["broken off"] * (not complete)
    assert body.note == (", ".join(notes) or None)
    kept = body.content if isinstance(body.content, bytes) else body.content.encode()
    assert data[:most].startswith(kept)
    assert len(data[:most]) - len(kept) <= 3, "at most the beginning of one character is missing"
    if complete:
        at_once = Seen(most)
        at_once.whole(data)
        assert at_once.body(NOTHING) == body


def test_a_large_body_is_hashed_beside_the_loop() -> None:
    data = bytes(range(256)) * 8192
    seen = Seen(10)
    seen.whole(data)
    body = seen.body(NOTHING)
    assert body is not None
    assert (body.content, body.length, body.sha256) == (data[:10].decode(), len(data), sha256(data))
    assert seen.kept_bytes == 10


async def test_a_request_is_logged_on_both_sides(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up, serving(ALL + provider(up.url) + ALICE, tmp_path) as front:
        visit = await front.ask(CHAT, {"model": "up/m"}, query="a=b", headers=[(b"x-note", b"n")])
        request, attempts = await one(front)
    assert request["request_id"] == visit.header("x-gproxy-request-id")
    assert (request["user"], request["key_label"], request["method"], request["path"]) == (
        "alice",
        "laptop",
        "POST",
        CHAT,
    )
    assert (request["query"], request["requested_model"], request["provider"], request["model"]) == (
        "a=b",
        "up/m",
        "up",
        "m",
    )
    assert (request["status"], request["attempts"], request["error"]) == (200, 1, None)
    assert ["x-note", "n"] in request["request_headers"]
    assert ["authorization", "[redacted]"] in request["request_headers"]
    assert ["x-gproxy-request-id", request["request_id"]] in request["response_headers"]
    assert request["request_body"] == '{"model": "up/m"}'
    assert request["request_sha256"] == sha256(b'{"model": "up/m"}')
    assert request["response_body"].encode() == visit.body
    assert (request["response_bytes"], request["response_note"]) == (len(visit.body), None)
    assert 0 <= request["first_byte_ms"] <= request["total_ms"]

    (attempt,) = attempts
    assert (attempt["attempt"], attempt["provider"], attempt["credential"]) == (1, "up", "up#1")
    assert (attempt["method"], attempt["url"]) == ("POST", f"{up.url}{CHAT}")
    assert ["authorization", "[redacted]"] in attempt["request_headers"]
    assert attempt["request_body"].encode() == up.seen[0].body
    assert (attempt["status"], attempt["error"], attempt["response_note"]) == (200, None, None)
    assert attempt["response_body"].encode() == GOOD.partition(b"\r\n\r\n")[2]
    assert SECRET not in str((request, attempts))


@pytest.mark.parametrize(
    ("flags", "rows", "bodies"),
    [
        ("", (False, False), (False, False)),
        ("enable_downstream_log", (True, False), (False, False)),
        ("enable_upstream_log", (False, True), (False, False)),
        ("enable_downstream_log enable_downstream_log_body", (True, False), (True, False)),
        ("enable_upstream_log enable_upstream_log_body", (False, True), (False, True)),
        ("enable_downstream_log_body enable_upstream_log_body", (False, False), (False, False)),
        ("enable_downstream_log enable_upstream_log enable_upstream_log_body", (True, True), (False, True)),
    ],
)
async def test_each_flag_is_its_own(
    tmp_path: Path, flags: str, rows: tuple[bool, bool], bodies: tuple[bool, bool]
) -> None:
    text = "[global]\n" + "".join(f"{name} = true\n" for name in flags.split())
    async with peer(always(GOOD)) as up, serving(text + provider(up.url) + ALICE, tmp_path) as front:
        await front.chat("up/m")
        found = await logged(front)
    request, attempts = found[0] if found else (None, [])
    assert (request is not None, bool(attempts)) == rows
    if request is not None:
        assert (request["request_body"] is not None, request["response_sha256"] is not None) == (
            bodies[0],
        ) * 2
    if attempts:
        assert (attempts[0]["request_body"] is not None, attempts[0]["response_sha256"] is not None) == (
            bodies[1],
        ) * 2


async def test_flags_act_from_the_next_request_after_a_reload(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up:
        plain = provider(up.url) + ALICE
        async with serving(plain, tmp_path) as front:
            assert recorder(front.gateway.snapshot, front.writer) is None
            await front.chat("up/off")
            front.gateway.swap(snapshot(ALL + plain))
            await front.chat("up/on")
            front.gateway.swap(snapshot(plain))
            await front.chat("up/off")
            request, _ = await one(front)
    assert request["requested_model"] == "up/on"


@pytest.mark.parametrize(
    ("asked", "status", "user", "error"),
    [
        ({"key": None}, 401, None, "no key came"),
        ({"key": "sk-a-stranger"}, 401, None, "the key is unknown, and not of gproxy's form"),
        ({"host": "evil.example"}, 421, None, "Host"),
        ({"method": "GET"}, 405, None, "POST"),
        ({"path": "/nothing/v1/chat/completions"}, 404, "alice", "No such provider"),
        ({"path": "/v1/nowhere"}, 404, None, None),
        ({"body": b"{"}, 400, "alice", "JSON"),
        ({"body": b'{"model": "unheard-of"}'}, 400, "alice", "unheard-of"),
        ({"body": b'{"model": "up/forbidden"}'}, 403, "alice", "forbidden"),
    ],
)
async def test_what_was_refused_is_logged_too(
    tmp_path: Path, asked: dict[str, Any], status: int, user: str | None, error: str | None
) -> None:
    text = ALL + provider("http://127.0.0.1:1") + ALICE.replace('"*"', '"up/allowed"')
    path, body = asked.pop("path", CHAT), asked.pop("body", b'{"model": "up/m"}')
    async with serving(text, tmp_path) as front:
        visit = await front.ask(path, body, **asked)
        assert visit.status == status
        request, attempts = await one(front)
    assert attempts == []
    assert (request["status"], request["user"], request["attempts"]) == (status, user, 0)
    assert (error or "") in (request["error"] or "")
    assert request["response_body"].encode() == visit.body
    if user and path == CHAT:
        assert request["request_body"].encode() == body
    else:
        assert request["request_body"] is None, "nothing of it was read"
    assert "sk-a-stranger" not in str(request)


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/user/usage", "/admin/logs"])
async def test_what_is_asked_of_the_proxy_itself_is_not_logged(tmp_path: Path, path: str) -> None:
    async with serving(ALL + ALICE, tmp_path) as front:
        await front.ask(path, method="GET")
        await front.ask("/v1/models", method="GET")
        request, _ = await one(front)
    assert request["path"] == "/v1/models"


async def test_each_attempt_has_its_row(tmp_path: Path) -> None:
    answers = {"sk-upstream-1": http(b'{"error": {"message": "busy"}}', 503), "sk-upstream-2": GOOD}
    async with peer(by_key(answers)) as up:
        text = ALL + provider("http://127.0.0.1:1", "down") + provider(up.url, secrets=tuple(answers))
        text += (
            '[[model_aliases]]\nalias = "both"\nprovider_name = "down"\nmodel_id = "m"\n'
            'targets = [{ provider_name = "up", model_id = "m" }]\n'
        )
        async with serving(text + ALICE, tmp_path) as front:
            await front.chat("both")
            request, attempts = await one(front)
    assert (request["attempts"], request["provider"], request["status"]) == (3, "up", 200)
    assert [(a["attempt"], a["provider"], a["credential"], a["status"]) for a in attempts] == [
        (1, "down", "down#1", None),
        (2, "up", "up#1", 503),
        (3, "up", "up#2", 200),
    ]
    assert attempts[0]["error"] == "connection refused"
    assert attempts[0]["response_headers"] is None
    assert attempts[1]["response_headers"] is not None


@pytest.mark.parametrize("status", [401, 402, 403, 409, 429, 500, 503, 529])
async def test_what_an_upstream_says_of_a_failure_is_kept_and_told_to_no_client(
    tmp_path: Path, status: int
) -> None:
    said = json.dumps({"error": {"message": f"the project of {SECRET} is closed"}}).encode()
    text = ALL + ALICE
    async with peer(always(http(said, status))) as up, serving(text + provider(up.url), tmp_path) as front:
        visit = await front.chat("up/m")
        _, attempts = await one(front)
    assert "is closed" not in visit.message
    assert {a["status"] for a in attempts} == {status}
    for attempt in attempts:
        assert "is closed" in attempt["response_body"]
        assert SECRET not in attempt["response_body"]
        assert (attempt["response_bytes"], attempt["response_note"]) == (len(said), None)


async def test_the_body_of_a_failure_is_not_waited_for_beyond_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "_ERROR_BODY_SECONDS", 0.05)

    begun = b"HTTP/1.1 503 Busy\r\ncontent-type: text/plain\r\ncontent-length: 99\r\n\r\nso bu"
    async with peer(by_key({"sk-first": begun, "sk-second": GOOD})) as up:
        text = ALL + provider(up.url, secrets=("sk-first", "sk-second")) + ALICE
        async with serving(text, tmp_path) as front:
            assert (await front.chat("up/m")).status == 200
            _, attempts = await one(front)
    assert [a["status"] for a in attempts] == [503, 200]
    assert (attempts[0]["response_body"], attempts[0]["response_note"]) == ("so bu", "broken off")


async def test_a_stream_is_logged_as_it_was_sent(tmp_path: Path) -> None:
    async with peer(always(sse())) as up, serving(ALL + provider(up.url) + ALICE, tmp_path) as front:
        visit = await front.chat("up/m", stream=True)
        request, (attempt,) = await one(front)
    assert request["response_body"].encode() == visit.body
    assert (request["response_sha256"], request["response_note"]) == (sha256(visit.body), None)
    assert attempt["response_body"].encode() == STREAM
    assert (attempt["response_bytes"], attempt["response_note"]) == (len(STREAM), None)


def stuck(first: bytes, asked: asyncio.Event) -> Script:
    async def script(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + first if first else b"")
        asked.set()
        await asyncio.sleep(60)

    return script


@pytest.mark.parametrize("first", [b"", chunk("hel")], ids=["before the head", "inside the stream"])
async def test_a_request_whose_client_left_is_logged_as_far_as_it_came(tmp_path: Path, first: bytes) -> None:
    asked = asyncio.Event()
    async with peer(stuck(first, asked)) as up, serving(ALL + provider(up.url) + ALICE, tmp_path) as front:
        visit = Visit(json.dumps({"model": "up/m", "stream": True}).encode())
        asking = asyncio.create_task(front.ask(CHAT, visit=visit))
        await (visit.until(lambda v: b"hel" in v.body) if first else asked.wait())
        visit.leave()
        await asking
        request, (attempt,) = await one(front)
    assert (request["status"], attempt["status"]) == (499, 200 if first else None)
    assert "left" in request["error"]
    if first:
        assert attempt["response_note"] == request["response_note"] == "broken off"
        assert attempt["response_sha256"] == sha256(first)
        assert request["response_sha256"] == sha256(visit.body)
    else:
        assert attempt["error"] == "called off before it was answered"


async def test_a_request_that_is_cut_off_at_the_end_of_the_server_is_logged(tmp_path: Path) -> None:
    asked = asyncio.Event()
    async with peer(stuck(b"", asked)) as up, serving(ALL + provider(up.url) + ALICE, tmp_path) as front:
        asking = asyncio.create_task(front.chat("up/m"))
        await asked.wait()
        front.gateway.cut_off()
        with pytest.raises(asyncio.CancelledError):
            await asking
        request, _ = await one(front)
    assert request["status"] == 503
    assert "stopping" in request["error"]


class Idle(Visit):
    """Takes the head of its answer, and nothing of the body."""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await super().send(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()


async def test_a_page_that_nobody_takes_is_logged_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reply, "write_timeout_s", 0.05)
    async with serving(ALL + ALICE, tmp_path) as front:
        asking = asyncio.create_task(front.ask("/v1/models", visit=Idle(), method="GET"))
        with pytest.raises(asyncio.CancelledError):
            await asking
        request, _ = await one(front)
    assert (request["status"], request["error"]) == (200, "the client took nothing for 0.05 s")


async def test_a_stream_that_breaks_says_so_on_both_sides(tmp_path: Path) -> None:
    broken = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n" + chunk(
        "hel"
    )

    async def script(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(broken)
        await writer.drain()
        writer.close()

    async with peer(script) as up, serving(ALL + provider(up.url) + ALICE, tmp_path) as front:
        await front.chat("up/m", stream=True)
        request, (attempt,) = await one(front)
    assert attempt["error"] == request["error"] == "the connection ended inside the answer"
    assert (attempt["response_note"], request["response_note"]) == ("broken off", None)


async def test_a_refused_answer_says_why(tmp_path: Path) -> None:
    html = http(b"<html>", media="text/html")
    async with peer(always(html)) as up, serving(ALL + provider(up.url) + ALICE, tmp_path) as front:
        await front.chat("up/m")
        _, attempts = await one(front)
    assert attempts[0]["error"] == "it answered 200 with text/html"


async def test_a_long_body_is_cut_and_no_beginning_of_a_secret_is_left(tmp_path: Path) -> None:
    said = ("x" * 40 + SECRET + "y" * 5000).encode()
    answer = http(json.dumps({"model": "m", "choices": [], "said": said.decode()}).encode())
    at = answer.partition(b"\r\n\r\n")[2].index(SECRET.encode())
    text = ALL + f"log_body_max_bytes = {at + 6}\n"
    async with peer(always(answer)) as up, serving(text + provider(up.url) + ALICE, tmp_path) as front:
        await front.ask(CHAT, {"model": "up/m", "long": "z" * 9000})
        request, (attempt,) = await one(front)
    assert attempt["response_body"].endswith("x[redacted]")
    assert attempt["response_note"] == "cut"
    assert attempt["response_bytes"] == len(answer.partition(b"\r\n\r\n")[2])
    assert len(request["request_body"]) == at + 6
    assert (request["request_note"], request["request_bytes"]) == ("cut", 9000 + 29)


async def test_nothing_of_bodies_is_kept_with_a_limit_of_0(tmp_path: Path) -> None:
    text = ALL + "log_body_max_bytes = 0\n"
    async with peer(always(GOOD)) as up, serving(text + provider(up.url) + ALICE, tmp_path) as front:
        await front.chat("up/m")
        request, _ = await one(front)
    assert (request["request_body"], request["request_note"]) == ("", "cut")
    assert request["request_bytes"] > 0


async def test_a_compressed_body_is_logged_decoded(tmp_path: Path) -> None:
    raw = json.dumps({"model": "up/m", "said": f"my key is {KEY}-and-longer"}).encode()
    text = ALL + provider("http://127.0.0.1:1") + ALICE.replace(KEY, f"{KEY}-and-longer")
    async with serving(text, tmp_path) as front:
        await front.ask(
            CHAT, gzip.compress(raw), key=f"{KEY}-and-longer", headers=[(b"content-encoding", b"gzip")]
        )
        request, _ = await one(front)
    assert json.loads(request["request_body"])["said"] == "my key is [redacted]"
    assert request["request_sha256"] == sha256(raw)


async def test_a_binary_answer_is_kept_as_its_bytes(tmp_path: Path) -> None:
    audio = b"ID3\x00\xff" * 10
    async with (
        peer(always(http(audio, media="audio/mpeg"))) as up,
        serving(ALL + provider(up.url) + ALICE, tmp_path) as front,
    ):
        visit = await front.ask("/v1/audio/speech", {"model": "up/m", "input": "hi", "voice": "v"})
        assert visit.status == 200
        request, _ = await one(front)
    assert "base64" in request["response_body"]
    assert request["response_sha256"] == sha256(audio)


async def test_a_hashed_key_of_the_client_is_taken_out_wherever_it_stands(tmp_path: Path) -> None:
    key = "op_0123456789abcdefghijklmnop"
    stored = f'api_key_hash = "sha256:{sha256(key.encode())}"'
    echo = http(json.dumps({"model": "m", "choices": [], "you": key}).encode(), more=(f"x-echo: {key}",))
    text = ALL + ALICE.replace(f'api_key = "{KEY}"', stored)
    async with peer(always(echo)) as up, serving(text + provider(up.url), tmp_path) as front:
        visit = await front.ask(
            CHAT, {"model": "up/m", "user": key}, key=None, query=f"key={key}&note=say-{key}"
        )
        assert visit.status == 200
        request, attempts = await one(front)
    assert request["query"] == "key=[redacted]&note=say-[redacted]"
    assert "op_01234" not in str((request, attempts))


async def test_logs_that_cannot_be_written_cost_no_request(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up, serving(ALL + provider(up.url) + ALICE, tmp_path) as front:
        await front.writer.run(lambda db: db.execute("DROP TABLE downstream_log"))
        assert (await front.chat("up/m")).status == 200
        assert front.gateway.not_ready() == []
        assert len(await front.rows()) == 1


def test_the_path_of_a_scope_decides(tmp_path: Path) -> None:
    it = recorder(snapshot(ALL + ALICE), Writer(tmp_path / "x.db"))
    assert it is not None
    assert it.trace(scope("/users/v1/chat/completions"), "req") is not None
    assert it.trace(scope("/user/usage"), "req") is None
    assert it.trace(scope("//health"), "req") is None
