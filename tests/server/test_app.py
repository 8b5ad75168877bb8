"""What goes where: models to the pipeline, the rest to Quart; and what every answer has."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gproxy.config.keys import hash_key, make_key
from gproxy.config.schema import RESERVED_NAMES
from gproxy.server.console import LINES
from gproxy.server.engine.exchange import Exchange
from gproxy.server.engine.framing import Heads, Known
from gproxy.server.request import edge
from tests.server.listening import Paper, listening, request
from tests.server.parts import (
    ALICE,
    GOOD,
    KEY,
    SECRET,
    Front,
    Seen,
    Visit,
    always,
    http,
    peer,
    provider,
    scope,
    serving,
    snapshot,
    sse,
)

TEXT = '[[providers]]\nname = "demo"\nchannel = "demo"\n' + ALICE
BODY = {"model": "demo/fast", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", CHAT, 200),
        ("POST", "/demo" + CHAT, 200),
        ("GET", "/health", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", CHAT, 405),
    ],
)
async def test_every_answer_has_one_request_id_and_no_two_the_same(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with serving(TEXT, tmp_path) as front:
        answers = [await front.ask(path, BODY, method=method) for _ in range(2)]
    assert [answer.status for answer in answers] == [status, status]
    ids = {answer.header("x-gproxy-request-id") for answer in answers}
    assert len(ids) == 2
    assert None not in ids


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT"])
@pytest.mark.parametrize("path", [CHAT, "/demo/v1/messages", "/v1beta/models/demo/fast:generateContent"])
async def test_a_model_is_asked_by_post_alone(tmp_path: Path, method: str, path: str) -> None:
    async with serving(TEXT, tmp_path) as front:
        answer = await front.ask(path, BODY, method=method)
        assert await front.rows() == []
    assert (answer.status, answer.header("allow")) == (405, "POST")
    assert answer.message


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (CHAT, "code"),
        ("/demo" + CHAT, "code"),
        ("/v1/messages", "type"),
        ("/v1beta/models/x:generateContent", "status"),
    ],
)
async def test_a_refusal_at_the_door_is_in_the_dialect_of_the_route(
    tmp_path: Path, path: str, field: str
) -> None:
    async with serving(TEXT, tmp_path) as front:
        for more, status in (
            ({"key": "sk-wrong"}, 401),
            ({"key": None}, 401),
            ({"host": "evil.example"}, 421),
            ({"headers": [(b"x", b"y")] * 200}, 431),
            ({"headers": [(b"content-type", b"text/plain")]}, 415),
            ({"headers": [(b"x-gproxy-via", front.gateway.own_id.encode())]}, 508),
        ):
            answer = await front.ask(path, BODY, **more)
            assert answer.status == status
            assert field in answer.json()["error"]
            assert answer.header("content-type") == "application/json"
            assert answer.header("x-gproxy-request-id")


async def test_a_refusal_with_the_body_unread_closes_and_one_after_it_does_not(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        early = await front.ask(CHAT, BODY, key="sk-wrong")
        late = await front.ask(CHAT, {"model": "nothing"})
        none = await front.ask(CHAT, b"", key="sk-wrong")
    assert (early.header("connection"), late.header("connection")) == ("close", None)
    assert none.header("connection") is None, "there was no body"


async def test_a_body_that_was_refused_is_read_all_the_same(tmp_path: Path) -> None:
    """Else the connection would be reset before the client has seen why."""
    visit = Visit(b"{", b" " * 1000, b"}")
    async with serving(TEXT, tmp_path) as front:
        await front.ask(CHAT, visit=visit, key="sk-wrong")
    assert (visit.status, visit.unread) == (401, 0)


async def test_a_client_that_leaves_a_refused_body_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(TEXT, tmp_path) as front:
        await front.ask(CHAT, visit=Visit(b"{", then_leave=True), key="sk-wrong")
        await front.ask(CHAT, visit=Visit(b"{", then_leave=True))
        assert await front.rows() == []
    assert caplog.records == []


async def test_a_websocket_is_refused(tmp_path: Path) -> None:
    visit = Visit()
    async with serving(TEXT, tmp_path) as front:
        await front.gateway(scope("/v1/realtime") | {"type": "websocket"}, visit.receive, visit.send)
    start, body = visit.messages
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert json.loads(body["body"])["error"]["code"] == 404


async def test_a_start_and_a_stop_are_answered(tmp_path: Path) -> None:
    said: list[str] = []
    told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(told)

    async def send(message: Any) -> None:
        said.append(message["type"])

    async with serving(TEXT, tmp_path) as front:
        at = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        await front.gateway(at, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_request_is_served_to_its_end_under_the_configuration_it_came_under(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def slowly(*given: Any) -> None:
        await go.wait()
        await always(GOOD)(*given)

    async with peer(slowly) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        running = asyncio.create_task(front.chat("up/m"))
        while not up.seen:
            await asyncio.sleep(0)
        front.gateway.swap(snapshot(TEXT))
        assert (await front.chat("up/m")).status == 400, "there is no such provider any more"
        go.set()
        assert (await running).status == 200


async def test_what_is_being_served_is_cut_off_and_what_is_over_is_left_alone(tmp_path: Path) -> None:
    async def silent(*_: Any) -> None:
        await asyncio.Event().wait()

    async with peer(silent) as up, serving(TEXT + provider(up.url), tmp_path) as front:
        assert (await front.ask(CHAT, BODY)).status == 200
        running = asyncio.create_task(front.chat("up/m"))
        while not up.seen:
            await asyncio.sleep(0)
        front.gateway.cut_off()
        await asyncio.sleep(0)
        await asyncio.wait([running])
        assert running.cancelled()


async def test_what_begins_when_all_was_cut_off_ends_so_too(tmp_path: Path) -> None:
    async with peer(always(http(b"{}"))) as up, serving(TEXT + provider(up.url), tmp_path) as front:
        front.gateway.cut_off()
        running = asyncio.create_task(front.chat("up/m"))
        await asyncio.wait([running])
        assert running.cancelled()
        assert [row["outcome"] for row in await front.rows()] == ["interrupted"]


async def test_a_new_configuration_holds_from_the_next_request_on(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        assert (await front.ask(CHAT, BODY)).status == 200
        front.gateway.swap(snapshot(TEXT.replace(KEY, "sk-other")))
        assert (await front.ask(CHAT, BODY)).status == 401
        assert (await front.ask(CHAT, BODY, key="sk-other")).status == 200


async def test_a_head_that_is_known_lets_nobody_in_whose_key_is_no_longer_good(tmp_path: Path) -> None:
    asked = request(
        f"authorization: Bearer {KEY}", line=f"POST {CHAT} HTTP/1.1", body=json.dumps(BODY).encode()
    )
    async with serving(TEXT, tmp_path) as front, listening(front.gateway) as served:
        for text, status in ((None, 200), (None, 200), (TEXT.replace(KEY, "sk-other"), 401), (TEXT, 200)):
            if text is not None:
                front.gateway.swap(snapshot(text))
            wire = await served.connect()
            wire.write(asked)
            assert (await wire.answer()).status == status
            wire.close()


async def test_a_provider_that_refused_to_be_asked_for_usage_is_asked_again_after_a_reload(
    tmp_path: Path,
) -> None:
    async def picky(seen: Seen, writer: asyncio.StreamWriter) -> None:
        refusal = http(b'{"error": {"message": "stream_options"}}', 400)
        writer.write(refusal if b"stream_options" in seen.body else sse())

    async with peer(picky) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        for _ in range(2):
            await front.chat("up/m", stream=True)
        front.gateway.swap(snapshot(provider(up.url) + ALICE))
        await front.chat("up/m", stream=True)
    assert [b"stream_options" in seen.body for seen in up.seen] == [True, False, False, True, False]


async def test_an_upstreams_list_is_asked_for_again_after_a_reload(tmp_path: Path) -> None:
    listing = http(b'{"data": [{"id": "m"}]}')
    async with peer(always(listing)) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        for _ in range(2):
            await front.ask("/v1/models", method="GET")
        front.gateway.swap(snapshot(provider(up.url) + ALICE))
        await front.ask("/v1/models", method="GET")
    assert len(up.seen) == 2


async def test_what_keeps_it_from_being_ready_is_told(tmp_path: Path) -> None:
    async with serving(TEXT, tmp_path) as front:
        assert front.gateway.not_ready() == []
        front.gateway.reload_failure = "a bad edit"
        front.gateway.draining = True
        assert front.gateway.not_ready() == ["a bad edit", "the server is stopping"]


@pytest.mark.parametrize("first", sorted(RESERVED_NAMES))
async def test_a_segment_of_ours_is_never_taken_for_a_provider(tmp_path: Path, first: str) -> None:
    async with serving(TEXT, tmp_path) as front:
        assert (await front.ask(f"/{first}{CHAT}", BODY)).status in (404, 405)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/demo/../v1/messages",
        "/%2e%2e/x",
        "//v1/models",
        "//health",
        "/v1//models",
        "/v1/models/",
    ],
)
async def test_a_path_that_is_not_exactly_a_route_is_none_and_leads_nowhere(
    tmp_path: Path, path: str, method: str
) -> None:
    async with serving(TEXT, tmp_path) as front:
        answer = await front.ask(path, BODY, method=method)
    assert answer.status == 404
    assert answer.header("location") is None
    assert answer.message


MADE = make_key()
HASHED = "team-key-4711"
KEYS = ALICE.replace(f'api_key = "{KEY}"', f'api_key_hash = "{hash_key(MADE)}"') + (
    '[[users]]\nname = "bob"\n[[users.keys]]\nlabel = "b"\n' + f'api_key_hash = "{hash_key(HASHED)}"\n'
)
LOGGED = "[global]\nenable_downstream_log = true\nenable_downstream_log_body = true\n"


def in_the_store(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())


@pytest.mark.parametrize(
    "key", [MADE, make_key(), HASHED, SECRET], ids=["own", "other", "hashed", "provider"]
)
@pytest.mark.parametrize("scoped", ["", "/up"])
async def test_a_name_that_holds_a_key_is_refused_in_every_dialect_and_stands_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, scoped: str
) -> None:
    async with peer(always(GOOD)) as up, serving(LOGGED + provider(up.url) + KEYS, tmp_path) as front:
        name = key if scoped else f"up/{key}"
        answers = [
            await front.ask(f"{scoped}{path}", {"model": name}, key=MADE)
            for path in (CHAT, "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/rerank")
        ]
        for model in (name, name.replace("_", "%5F"), name.replace("-", "%2D")):
            answers.append(
                await front.ask(f"{scoped}/v1beta/models/{model}:generateContent", {}, key=MADE),
            )
        assert await front.rows() == []
    assert up.seen == []
    assert [answer.status for answer in answers] == [400] * 8
    assert all("holds an API key" in answer.message for answer in answers)
    assert all(key not in answer.body.decode() for answer in answers)
    LINES.close()
    told = capsys.readouterr().err
    assert told.count(" 400 ") == 8
    if key != HASHED:  # of which nothing but the hash is known: in another's path it is a word like any other
        assert key[5:] not in told
        assert key[5:].encode() not in in_the_store(front.path)


async def test_a_key_that_is_a_name_in_the_file_is_no_secret(tmp_path: Path) -> None:
    text = provider("http://127.0.0.1:1", name="lm-studio", secrets=("lm-studio",))
    async with serving(text + ALICE.replace(KEY, "lm-studio"), tmp_path) as front:
        answer = await front.ask(CHAT, {"model": "lm-studio/x"}, key="lm-studio")
        assert answer.status == 502, "it went on to the upstream, which is none"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/{key}/v1/chat/completions", {}),
        ("/{key}/v1/chat/completions", {"method": "GET"}),
        ("/v1/chat/completions", {"query": "a={key}&key={key}", "host": "evil.example"}),
        ("/v1beta/models/{key}:generateContent", {"host": "evil.example"}),
        ("/v1beta/models/{key}:generateContent", {"key": "sk-a-stranger"}),
        ("/v1/{key}/x", {}),
        ("/v1/models/{key}", {"method": "DELETE", "query": "x={key}"}),
    ],
)
@pytest.mark.parametrize("key", [MADE, "sk-somebody/elses-4711"], ids=["made", "foreign"])
async def test_a_key_in_a_path_is_in_no_log_whatever_became_of_the_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, asked: dict[str, Any], key: str
) -> None:
    given = {"key": key} | asked
    given["query"] = given.get("query", "").format(key=key)
    own = [(b"x-api-key", key.encode())] if given["key"] != key else []
    async with serving(LOGGED + KEYS, tmp_path) as front:
        answer = await front.ask(path.format(key=key), b"{}", headers=own, **given)
        assert answer.status in (401, 404, 405, 421)
        await front.rows()
    LINES.close()
    assert key[5:] not in capsys.readouterr().err
    assert key[5:].encode() not in in_the_store(front.path)


# What is kept of a head.

PAGES = "[global]\ncors_origins = ['https://page']\nallowed_hosts = ['elsewhere']\n"
NARROW = "[global]\nmax_body_bytes = 1024\n"
HEADS = [
    (line, *headers)
    for line, *headers in [
        (f"POST {CHAT}", "host: localhost", f"authorization: Bearer {KEY}"),
        (f"POST /up{CHAT}", "host: localhost", f"x-api-key: {KEY}"),
        (f"POST {CHAT}?key={KEY}", "host: localhost", "origin: https://page"),
        ("POST /v1/messages", "host: elsewhere", f"x-api-key: {KEY}", "content-type: application/json"),
        (f"POST /v1beta/models/up/m:generateContent?key={KEY}&a=b", "host: localhost"),
        (f"POST /else{CHAT}", "host: localhost", f"authorization: Bearer {KEY}"),
        (f"POST {CHAT}", "host: localhost", f"authorization: Bearer {KEY}", "content-type: text/plain"),
        (f"POST {CHAT}", "host: localhost", f"authorization: Bearer {KEY}", "content-encoding: gzip"),
        (f"POST {CHAT}", "host: localhost", "authorization: Bearer sk-another-client"),
        (f"PUT {CHAT}", "host: localhost", f"authorization: Bearer {KEY}"),
        ("POST /nowhere", "host: localhost", f"authorization: Bearer {KEY}"),
    ]
]
BODIES = [
    b'{"model": "up/m", "messages": []}',
    json.dumps({"model": "up/m", "messages": [], "user": "long" * 256}).encode(),
    json.dumps({"model": f"up/{KEY}"}).encode(),
    b'{"model": "up/m"',
]


async def over(front: Front, heads: Heads, head: tuple[str, ...], body: bytes) -> bytes:
    """The answer that a connection gets which has sent what `heads` has read, but for its id and time."""
    line, *headers = head
    raw = "\r\n".join([f"{line} HTTP/1.1", *headers, f"content-length: {len(body)}", "", ""]).encode()
    paper = Paper()
    exchange = Exchange(paper, *heads.read(raw))
    exchange.feed(body)
    exchange.task = asyncio.create_task(front.gateway.answer(exchange))
    await exchange.task
    assert exchange.ended
    return re.sub(rb"req_[0-9a-f]{24}|date: [^\r]+|chatcmpl-\w+|\"created\":\d+", b"", paper.text)


@pytest.mark.parametrize("head", HEADS, ids=[str(n) for n in range(len(HEADS))])
async def test_a_head_that_comes_again_is_answered_as_one_that_comes_alone(
    tmp_path: Path, head: tuple[str, ...]
) -> None:
    """Under whichever configuration, the one before not forgotten, and between others."""
    statuses = set()
    async with peer(always(GOOD)) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        heads, stranger = Heads(Known()), ALICE.replace(KEY, "sk-another-client")
        for settings, users in (("", ALICE), (PAGES, ALICE), (NARROW, stranger), ("", ALICE)):
            front.gateway.swap(snapshot(settings + provider(up.url) + users))
            for other in (head, HEADS[0], head):
                for body in BODIES:
                    found = await over(front, heads, other, body)
                    assert found == await over(front, Heads(Known()), other, body)
                    statuses.add(found.split(b" ", 2)[1])
    assert b"401" in statuses or head[0].startswith(("PUT", "POST /nowhere"))


async def test_the_second_of_two_like_heads_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    guard = edge.guard
    monkeypatch.setattr(edge, "guard", lambda *given: looked.append(given) or guard(*given))
    async with peer(always(GOOD)) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        heads = Heads(Known())
        for body in BODIES[:2]:
            assert (await over(front, heads, HEADS[0], body)).startswith(b"HTTP/1.1 200")
    assert len(looked) == 1


async def test_what_goes_upstream_for_a_head_that_comes_again_is_the_configurations_of_now(
    tmp_path: Path,
) -> None:
    secrets = ("sk-upstream-1", "sk-upstream-2", "sk-upstream-1")
    async with peer(always(GOOD)) as up, serving(provider(up.url) + ALICE, tmp_path) as front:
        heads = Heads(Known())
        for secret in secrets:
            more = f'headers = {{ "x-team" = "{secret[-1]}" }}'
            front.gateway.swap(snapshot(provider(up.url, more=more, secrets=(secret,)) + ALICE))
            for body in BODIES[:2]:
                await over(front, heads, HEADS[0], body)
    assert [(seen.key, seen.headers["x-team"]) for seen in up.seen] == [
        (secret, secret[-1]) for secret in secrets for _ in range(2)
    ]
