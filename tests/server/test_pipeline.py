"""The stages in their order, and a row for whatever becomes of a request; through the whole gateway."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from gproxy import errors
from gproxy.errors import GatewayError
from gproxy.server.pipeline import outcome_of
from tests.server.parts import (
    ALICE,
    GOOD,
    Front,
    Peer,
    Seen,
    Visit,
    always,
    chunk,
    http,
    peer,
    provider,
    serving,
)

LIMITED = ALICE.replace('"*"', '"good-*"')
CHAT = "/v1/chat/completions"


def served(up: Peer, folder: Path, users: str = ALICE) -> AbstractAsyncContextManager[Front]:
    models = '[[models]]\nprovider_name = "few"\nmodel_id = "only"\n'
    return serving(provider(up.url) + provider(up.url, "few") + models + users, folder)


@pytest.mark.parametrize(
    ("model", "users", "status"),
    [
        ("nothing", ALICE, 400),
        ("up/bad", LIMITED, 403),
        ("few/bad", LIMITED, 403),
        ("few/other", ALICE, 404),
        ("nobody/x", ALICE, 400),
    ],
)
async def test_a_name_that_leads_nowhere_is_refused_and_leaves_no_row(
    tmp_path: Path, model: str, users: str, status: int
) -> None:
    async with peer(always(GOOD)) as up, served(up, tmp_path, users) as front:
        answer = await front.chat(model)
        assert (answer.status, up.seen, await front.rows()) == (status, [], [])


async def test_permission_is_asked_before_existence(tmp_path: Path) -> None:
    """Else a key could find out what there is: the words must not differ either."""
    async with peer(always(GOOD)) as up, served(up, tmp_path, LIMITED) as front:
        there = await front.ask("/few" + CHAT, {"model": "only"})
        not_there = await front.ask("/few" + CHAT, {"model": "other"})
    assert (there.status, not_there.status) == (403, 403)
    assert there.message.replace("only", "other") == not_there.message


async def test_a_dialect_that_no_target_speaks_is_refused_and_leaves_a_row(tmp_path: Path) -> None:
    text = (
        '[[providers]]\nname = "up"\nchannel = "custom"\n'
        'settings = { base_url = "http://x", protocols = ["gemini"] }\n' + ALICE
    )
    async with serving(text, tmp_path) as front:
        answer = await front.chat("up/m")
        (row,) = await front.rows()
    assert answer.status == 400
    assert (row["status"], row["outcome"], row["attempts"], row["provider"]) == (400, "refused", 0, None)
    assert row["cost_usd"] == 0


async def test_a_row_says_what_the_answer_said(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up, served(up, tmp_path) as front:
        answer = await front.ask("/up" + CHAT, {"model": "m", "messages": []})
        (row,) = await front.rows()
    assert row["request_id"] == answer.header("x-gproxy-request-id")
    assert (row["route"], row["status"], row["outcome"]) == ("scoped", 200, "ok")
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (5, 2, 7)


async def test_when_every_attempt_failed_there_is_a_row_too(tmp_path: Path) -> None:
    async with peer(always(http(status=500))) as up, served(up, tmp_path) as front:
        answer = await front.chat("up/m")
        (row,) = await front.rows()
    assert (answer.status, row["status"], row["outcome"]) == (502, 502, "upstream_error")
    assert row["error"] == answer.message
    assert (row["usage_source"], row["cost_usd"]) == ("none", 0)


# Clients that leave.


async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def half(_: Seen, writer: asyncio.StreamWriter) -> None:
    """A stream that begins."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk("hello there"))
    await silent(_, writer)


Begun = Callable[[Visit, Peer], Awaitable[None]]


async def when_sent(visit: Visit, up: Peer) -> None:
    while not up.seen:
        await asyncio.sleep(0)


async def when_answered(visit: Visit, up: Peer) -> None:
    await visit.until(lambda v: b"hello" in v.body)


CUT = pytest.mark.parametrize(
    ("script", "begun"), [(silent, when_sent), (half, when_answered)], ids=["waiting", "streaming"]
)


def request(front: Front, visit: Visit) -> asyncio.Task[Visit]:
    return asyncio.create_task(front.ask(CHAT, visit=visit))


def streaming() -> Visit:
    content = [{"role": "user", "content": "0123456789abcdef"}]
    return Visit(json.dumps({"model": "up/m", "messages": content, "stream": True}).encode())


@CUT
async def test_a_client_that_leaves_ends_the_upstream_and_leaves_a_499(
    tmp_path: Path, script: Any, begun: Begun
) -> None:
    async with peer(script) as up, served(up, tmp_path) as front:
        visit = streaming()
        task = request(front, visit)
        await begun(visit, up)
        visit.leave()
        await asyncio.wait_for(task, 5)
        await asyncio.wait_for(up.left.wait(), 1)
        (row,) = await front.rows()
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "estimated")
    assert row["maybe_billed"]
    assert row["input_tokens"] >= 4
    assert (row["output_tokens"] > 0) == (script is half)


async def test_a_client_that_has_left_already_is_not_answered(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up, served(up, tmp_path) as front:
        visit = streaming()
        visit.leave()
        await front.ask(CHAT, visit=visit)
        (row,) = await front.rows()
    assert visit.messages == []
    assert (row["status"], row["outcome"]) == (499, "client_closed")


# The end of the process.


@CUT
async def test_a_request_that_is_cut_off_tells_its_client_and_leaves_a_row(
    tmp_path: Path, script: Any, begun: Begun
) -> None:
    async with peer(script) as up, served(up, tmp_path) as front:
        visit = streaming()
        task = request(front, visit)
        await begun(visit, up)
        front.gateway.cut_off()
        await asyncio.wait([task])
        (row,) = await front.rows()
    assert visit.ended
    assert b"overloaded_error" in visit.body
    assert visit.status == (503 if script is silent else 200)
    assert (row["status"], row["outcome"]) == (visit.status, "interrupted")
    assert row["usage_source"] == "estimated"


# Faults of ours.


async def test_a_fault_of_ours_is_500_in_the_dialect_with_a_row_and_in_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with peer(always(GOOD)) as up, served(up, tmp_path) as front:

        def broken(_: Any) -> None:
            raise RuntimeError("inner-detail")

        front.gateway._version[1].opener.foresee = broken
        answer = await front.ask("/v1/messages", {"model": "up/m", "messages": [], "max_tokens": 1})
        (row,) = await front.rows()
    assert answer.status == 500
    assert answer.json()["error"]["type"] == "api_error"
    assert b"inner-detail" not in answer.body
    assert "inner-detail" in caplog.text
    assert (row["status"], row["outcome"]) == (500, "error")


@pytest.mark.parametrize(
    ("kind", "attempts", "outcome"),
    [
        (errors.BadRequest, 0, "refused"),
        (errors.NotFound, 1, "refused"),
        (errors.RateLimited, 0, "refused"),
        (errors.RateLimited, 1, "upstream_error"),
        (errors.UpstreamFailed, 2, "upstream_error"),
        (errors.UpstreamTimeout, 1, "upstream_error"),
        (errors.UpstreamOverloaded, 1, "upstream_error"),
        (errors.InternalFault, 1, "error"),
        (errors.Unavailable, 0, "error"),
    ],
)
def test_how_a_request_ended_is_one_of_few_words(
    kind: type[GatewayError], attempts: int, outcome: str
) -> None:
    assert outcome_of(kind("x"), attempts) == outcome
