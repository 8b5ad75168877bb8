"""Each row of the table of upstream answers, plain and streamed, in every dialect: what the client is told, what the
upstream sees, what the row says, and whether the credential is asked again.

The upstream is a socket that answers by key; requests go through the whole application in this process.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gproxy.ledger import credential_state
from gproxy.routing import credentials as routing_credentials
from tests.kit import answers
from tests.kit.calls import BY_ID, Call
from tests.kit.settings import closed_port
from tests.server.parts import ALICE, Front, Peer, Seen, Visit, http, peer, provider, serving

STREAMS = [BY_ID[id] for id in ("chat-stream", "responses-stream", "messages-stream", "stream-sse")]
CALLS = [BY_ID[id] for id in ("chat", "responses", "messages", "generate")] + STREAMS
BAD, GOOD = "sk-bad-secret", "sk-good-secret"
BAD_LABEL, GOOD_LABEL = "up#1", "up#2"


@dataclass(frozen=True)
class Row:
    """What the upstream answers with its first key, and what follows: how that credential stands then (`whole` or for
    the model), and what the client gets when there is no other."""

    answer: bytes
    stands: str
    alone: int
    whole: bool = False
    after: str | None = None


def error(code: str, status: int, message: str = "SECRET-TEXT", more: tuple[str, ...] = ()) -> bytes:
    tree = {"error": {"message": message, "type": code, "code": code}}
    return http(json.dumps(tree).encode(), status, more=more)


GEMINI_BAD_KEY = {
    "error": {"code": 400, "message": "SECRET-TEXT", "details": [{"reason": "API_KEY_INVALID"}]}
}
GEMINI_RETRY = {"error": {"code": 429, "message": "SECRET-TEXT", "details": [{"retryDelay": "13s"}]}}

TABLE = {
    "401": Row(error("x", 401), "disabled", 502, whole=True),
    "400 bad key": Row(http(json.dumps(GEMINI_BAD_KEY).encode(), 400), "disabled", 502, whole=True),
    "402": Row(error("x", 402), "out", 429, whole=True, after="600"),
    "429 billing": Row(error("insufficient_quota", 429), "out", 429, whole=True, after="600"),
    "400 balance": Row(
        error("x", 400, "Your credit balance is too low"), "out", 429, whole=True, after="600"
    ),
    "429": Row(error("x", 429), "out", 429, after="30"),
    "429 hint": Row(error("x", 429, more=("retry-after: 7",)), "out", 429, after="7"),
    "429 ms": Row(error("x", 429, more=("retry-after-ms: 2500", "retry-after: 7")), "out", 429, after="3"),
    "429 gemini": Row(http(json.dumps(GEMINI_RETRY).encode(), 429), "out", 429, after="13"),
    "429 clamped": Row(error("x", 429, more=("retry-after: 86400",)), "out", 429, after="900"),
    "403": Row(error("x", 403), "back", 502),
    **{str(status): Row(error("x", status), "back", 502) for status in (408, 409, 500, 502, 503, 504)},
    "529": Row(error("x", 529), "back", 529),
    "redirect": Row(http(status=302, more=("location: http://127.0.0.1:9/",)), "back", 502),
    "html": Row(http(b"<html>SECRET-TEXT", media="text/html"), "back", 502),
    "empty": Row(http(b""), "back", 502),
    "cut": Row(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", "back", 502
    ),
    "garbage": Row(b"SECRET-TEXT\r\n\r\n", "back", 502),
}
ROWS = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
IN_EVERY_DIALECT = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)


class Upstream:
    """Answers its first key as told, and every other well."""

    def __init__(self, bad: bytes) -> None:
        self.bad = bad

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if key_of(seen) == BAD:
            writer.write(self.bad)
            await writer.drain()
            if not self.bad.startswith(b"HTTP/1.1 ") or b"content-length: 99" in self.bad:
                writer.close()
            return
        path, _, query = seen.target.partition("?")
        say = answers.BY_PATH.get(path) or answers.BY_ACTION[path.rpartition(":")[2]]
        body = json.loads(seen.body)
        said = say(answers.Ask("u1", "m", body, query, random.Random(1)))
        writer.write(http(b"".join(said.chunks), media=said.content_type))


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not let a cool-down of one second end between two requests of a test."""
    monkeypatch.setattr(routing_credentials, "_SHORT", (30.0, 60.0))


@asynccontextmanager
async def world(answer: bytes, folder: Path, *secrets: str) -> AsyncIterator[tuple[Peer, Front]]:
    """An upstream that answers its first key so, and a gateway that knows these keys of it."""
    keys = secrets or (BAD, GOOD)
    async with peer(Upstream(answer)) as up, serving(provider(up.url, secrets=keys) + ALICE, folder) as front:
        yield up, front


def key_of(seen: Seen) -> str:
    return seen.key or seen.headers.get("x-api-key") or seen.headers["x-goog-api-key"]


async def ask(front: Front, call: Call) -> Visit:
    path, _, query = call.url("m", "up").partition("?")
    return await front.ask(path, call.fields("m"), query=query)


def stands(path: Path, name: str = BAD_LABEL) -> Mapping[str, str]:
    """How a credential stands, by model."""
    rows = [row for row in credential_state.read(path) if row.key[1] == name]
    return {row.key[2]: row.health.held or row.health.state for row in rows}


def kind_of(call: Call, tree: Any) -> str:
    kind: str = tree["error"]["status" if call.family == "gemini" else "type"]
    return kind


KINDS = {
    429: {"openai": "rate_limit_error", "anthropic": "rate_limit_error", "gemini": "RESOURCE_EXHAUSTED"},
    502: {"openai": "upstream_error", "anthropic": "api_error", "gemini": "UNAVAILABLE"},
    504: {"openai": "timeout_error", "anthropic": "timeout_error", "gemini": "DEADLINE_EXCEEDED"},
    529: {"openai": "overloaded_error", "anthropic": "overloaded_error", "gemini": "UNAVAILABLE"},
}


@ROWS
@IN_EVERY_DIALECT
async def test_another_credential_answers_and_is_asked_first_from_then_on(
    call: Call, row: Row, tmp_path: Path
) -> None:
    async with (
        peer(Upstream(row.answer)) as up,
        serving(provider(up.url, secrets=(BAD, GOOD)) + ALICE, tmp_path) as front,
    ):
        first, second = await ask(front, call), await ask(front, call)
        told = await front.rows()
    for answer in (first, second):
        assert (answer.status, answer.ended) == (200, True)
        assert b"SECRET-TEXT" not in answer.body
    assert [key_of(seen) for seen in up.seen] == [BAD, GOOD, GOOD]
    assert [(r["credential"], r["attempts"], r["status"], r["outcome"]) for r in told] == [
        (GOOD_LABEL, 2, 200, "ok"),
        (GOOD_LABEL, 1, 200, "ok"),
    ]
    assert stands(front.path) == {"" if row.whole else "m": row.stands}


@ROWS
@IN_EVERY_DIALECT
async def test_a_credential_that_is_alone_is_left_out_only_where_it_may_be(
    call: Call, row: Row, tmp_path: Path
) -> None:
    async with (
        peer(Upstream(row.answer)) as up,
        serving(provider(up.url, secrets=(BAD,)) + ALICE, tmp_path) as front,
    ):
        first, second = await ask(front, call), await ask(front, call)
        told = await front.rows()
    assert [first.status, second.status] == [row.alone] * 2
    for answer in (first, second):
        assert kind_of(call, answer.json()) == KINDS[row.alone][call.family]
        assert f"up ({BAD_LABEL})" in answer.message
        assert b"SECRET-TEXT" not in answer.body
        assert BAD.encode() not in answer.body
        assert (answer.header("content-type") or "").startswith("application/json")
    assert first.header("retry-after") == row.after
    held = row.stands != "back"
    assert len(up.seen) == (1 if held else 2)
    assert [(r["attempts"], r["status"], r["outcome"]) for r in told] == [
        (1, row.alone, "upstream_error"),
        (0 if held else 1, row.alone, "upstream_error"),
    ]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
@IN_EVERY_DIALECT
async def test_what_the_client_got_wrong_is_passed_and_held_against_nobody(
    call: Call, status: int, tmp_path: Path
) -> None:
    async with world(error("x", status, "no such thing"), tmp_path) as (up, front):
        for _ in range(2):
            answer = await ask(front, call)
            assert (answer.status, "no such thing" in answer.message) == (status, True)
        told = await front.rows()
    assert [key_of(seen) for seen in up.seen] == [BAD, BAD]
    assert [r["attempts"] for r in told] == [1, 1]
    assert stands(front.path) == {}


FIRST_EVENTS = {
    "chat-stream": ({"error": {"message": "SECRET-TEXT", "type": "%s", "code": "%s"}}, "data: "),
    "responses-stream": ({"type": "error", "code": "%s", "message": "SECRET-TEXT"}, "event: error\ndata: "),
    "messages-stream": (
        {"type": "error", "error": {"type": "%s", "message": "SECRET-TEXT"}},
        "event: error\ndata: ",
    ),
    "stream-sse": ({"error": {"code": "%d", "message": "SECRET-TEXT", "status": "%s"}}, "data: "),
}


@pytest.mark.parametrize(
    ("word", "gemini", "number", "held"),
    [
        ("overloaded_error", "UNAVAILABLE", 503, "back"),
        ("rate_limit_error", "RESOURCE_EXHAUSTED", 429, "out"),
    ],
)
@pytest.mark.parametrize("id", FIRST_EVENTS)
async def test_an_error_inside_a_200_is_tried_elsewhere_as_long_as_it_comes_first(
    id: str, word: str, gemini: str, number: int, held: str, tmp_path: Path
) -> None:
    tree, framing = FIRST_EVENTS[id]
    text = json.dumps(tree).replace('"%d"', str(number)).replace("%s", gemini if id == "stream-sse" else word)
    event = f"{framing}{text}\n\n".encode()
    async with world(http(event, media="text/event-stream"), tmp_path) as (up, front):
        answer = await ask(front, BY_ID[id])
        (told,) = await front.rows()
    assert (answer.status, answer.ended, b"SECRET-TEXT" in answer.body) == (200, True, False)
    assert [key_of(seen) for seen in up.seen] == [BAD, GOOD]
    assert (told["credential"], told["attempts"]) == (GOOD_LABEL, 2)
    assert stands(front.path) == {"m": held}


@pytest.mark.parametrize("call", STREAMS, ids=lambda call: call.id)
async def test_after_the_first_event_there_is_no_second_attempt(call: Call, tmp_path: Path) -> None:
    first = {
        "chat-stream": b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',
        "responses-stream": b'event: response.created\ndata: {"type": "response.created", "response": {}}\n\n',
        "messages-stream": b'event: message_start\ndata: {"type": "message_start", "message": {}}\n\n',
        "stream-sse": b'data: {"candidates": []}\n\n',
    }[call.id]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"
    async with world(head + first, tmp_path) as (up, front):
        answer = await ask(front, call)
        (told,) = await front.rows()
    assert [key_of(seen) for seen in up.seen] == [BAD]
    assert answer.body.startswith(first)
    assert b"error" in answer.body
    assert b"[DONE]" not in answer.body
    assert b"message_stop" not in answer.body
    assert (told["outcome"], told["attempts"], told["credential"]) == ("upstream_error", 1, BAD_LABEL)


@IN_EVERY_DIALECT
async def test_an_upstream_that_is_not_there_is_moved_back_as_a_whole(call: Call, tmp_path: Path) -> None:
    text = provider(f"http://127.0.0.1:{closed_port()}", secrets=(BAD,)) + ALICE
    async with serving(text, tmp_path) as front:
        first, second = await ask(front, call), await ask(front, call)
        told = await front.rows()
    assert [first.status, second.status] == [502, 502]
    assert [r["attempts"] for r in told] == [1, 1]
    assert stands(front.path) == {"": "back"}


@IN_EVERY_DIALECT
async def test_an_upstream_that_is_too_slow_is_504_and_may_have_cost(call: Call, tmp_path: Path) -> None:
    async def silent(_: Seen, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    priced = (
        '[[models]]\nprovider_name = "up"\nmodel_id = "m"\nprice_tiers = [{ price_input_tokens = 1000.0 }]\n'
    )
    async with peer(silent) as up:
        text = provider(up.url, more="first_byte_timeout_s = 0.05", secrets=(BAD, GOOD)) + priced + ALICE
        async with serving(text, tmp_path) as front:
            answer = await ask(front, call)
            (told,) = await front.rows()
    assert answer.status == 504
    assert kind_of(call, answer.json()) == KINDS[504][call.family]
    assert len(up.seen) == 1
    assert (told["attempts"], told["maybe_billed"], told["cost_usd"]) == (1, 1, 0)
    assert told["extra_attempt_cost_usd"] > 0
    assert stands(front.path) == {"m": "back"}
