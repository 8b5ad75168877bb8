"""The stages in their order, and a row for whatever becomes of a request; through the whole gateway."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from gproxy import errors
from gproxy.errors import GatewayError
from gproxy.ledger import sqlite
from gproxy.ledger.sqlite import connect
from gproxy.server.request import pipeline
from gproxy.server.request.asgi import DROP
from gproxy.server.request.edge import Call
from gproxy.server.request.journal import Journal
from gproxy.server.request.pipeline import outcome_of
from gproxy.server.request.upstream import Attempt
from gproxy.server.transport.h1exchange import Exchange
from tests.server.parts import (
    ALICE,
    GOOD,
    Front,
    Peer,
    Script,
    Seen,
    Visit,
    always,
    chunk,
    data,
    full_listener,
    http,
    peer,
    provider,
    scope,
    serving,
    sse,
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


async def test_what_no_target_can_be_told_is_refused_and_leaves_a_row(tmp_path: Path) -> None:
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


# Clients that leave, where the answer is to be read on.

DRAINING = 'on_disconnect = "drain"'


def drained(up: Peer, folder: Path, more: str = "", secrets: tuple[str, ...] = ("sk-a",)) -> Any:
    return serving(provider(up.url, more=DRAINING + more, secrets=secrets) + ALICE, folder)


class Gated:
    """A script that says `first` at once and `rest` when the gate is open."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self._first, self._rest = first, rest
        self.gate = asyncio.Event()

    async def __call__(self, _: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(self._first)
        await self.gate.wait()
        writer.write(self._rest)
        await writer.drain()


_WHOLE = sse()
_HEAD = _WHOLE.index(b"\r\n\r\n") + 4
_EVENT = _WHOLE.index(b"\n\n", _HEAD) + 2

UNTIL = pytest.mark.parametrize(
    ("until", "stream"),
    [(0, True), (_HEAD, True), (_EVENT, True), (0, False)],
    ids=["silent", "head", "mid", "plain"],
)


@UNTIL
async def test_the_true_usage_is_learnt_though_nobody_hears_it(
    tmp_path: Path, until: int, stream: bool
) -> None:
    whole = _WHOLE if stream else GOOD
    script = Gated(whole[:until], whole[until:])
    async with peer(script) as up, drained(up, tmp_path) as front:
        visit = Visit(json.dumps({"model": "up/m", "messages": [], "stream": stream}).encode())
        task = request(front, visit)
        await when_sent(visit, up)
        if until == _EVENT:
            await visit.until(lambda v: bool(v.body))
        visit.leave()
        await asyncio.sleep(0.05)
        assert not task.done()
        before = len(visit.messages)
        script.gate.set()
        await asyncio.wait_for(task, 5)
        (row,) = await front.rows()
    assert len(visit.messages) == before, "nothing is sent any more"
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "upstream")
    assert (row["input_tokens"], row["output_tokens"], row["maybe_billed"]) == (5, 2, 0)


async def test_no_further_attempt_is_made_for_a_client_that_has_left(tmp_path: Path) -> None:
    script = Gated(b"", http(status=500))
    async with peer(script) as up, drained(up, tmp_path, secrets=("sk-a", "sk-b")) as front:
        visit = streaming()
        task = request(front, visit)
        await when_sent(visit, up)
        visit.leave()
        await asyncio.sleep(0.02)
        script.gate.set()
        await asyncio.wait_for(task, 5)
        (row,) = await front.rows()
    assert len(up.seen) == 1
    assert (row["status"], row["outcome"], row["attempts"]) == (499, "client_closed", 1)
    assert visit.messages == []


async def test_an_answer_is_read_on_only_for_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "DRAIN_SECONDS", 0.2)
    async with peer(half) as up, drained(up, tmp_path) as front:
        visit = streaming()
        task = request(front, visit)
        await when_answered(visit, up)
        visit.leave()
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(task, 5)
        assert 0.19 < asyncio.get_running_loop().time() - began < 2
        await asyncio.wait_for(up.left.wait(), 1)
        (row,) = await front.rows()
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "estimated")
    assert row["maybe_billed"]


async def test_only_so_many_answers_are_read_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOST_DRAINS", 2)
    async with peer(half) as up, drained(up, tmp_path) as front:
        visits = [streaming() for _ in range(3)]
        tasks = [request(front, visit) for visit in visits]
        for visit in visits[:2]:
            await when_answered(visit, up)
            visit.leave()
        await when_answered(visits[2], up)
        visits[2].leave()
        await asyncio.wait_for(tasks[2], 1)
        assert [task.done() for task in tasks] == [False, False, True]
        for task in tasks[:2]:
            task.cancel()
        await asyncio.wait(tasks)
        again = streaming()
        task = request(front, again)
        await when_answered(again, up)
        again.leave()
        await asyncio.sleep(0.05)
        assert not task.done(), "there is room again"
        front.gateway.cut_off()
        await asyncio.wait([task])
        found = await front.rows()
    assert {(row["status"], row["outcome"]) for row in found} == {(499, "client_closed")}


async def test_what_was_not_sent_yet_is_not_waited_for(tmp_path: Path) -> None:
    with full_listener() as port:
        text = provider(f"http://127.0.0.1:{port}", more=DRAINING) + ALICE
        async with serving(text, tmp_path) as front:
            visit = streaming()
            task = request(front, visit)
            await asyncio.sleep(0.1)  # it is connecting
            visit.leave()
            await asyncio.wait_for(task, 1)
            (row,) = await front.rows()
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "none")


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens"])
async def test_what_costs_nothing_is_not_read_on(tmp_path: Path, path: str) -> None:
    async with peer(silent) as up, drained(up, tmp_path) as front:
        visit = Visit(json.dumps({"model": "up/m", "messages": []}).encode())
        task = asyncio.create_task(front.ask(path, visit=visit))
        await when_sent(visit, up)
        visit.leave()
        await asyncio.wait_for(task, 1)


class NonReader(Visit):
    """Takes the head and the first piece of an answer, and then no more."""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await super().send(message)
        if len(self.messages) > 2:
            await asyncio.Event().wait()


async def test_a_client_that_reads_no_more_is_dropped(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def flowing(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        try:
            while True:
                writer.write(chunk("hello there"))
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            gone.set()

    dropped: list[bool] = []
    async with (
        peer(flowing) as up,
        serving(provider(up.url, more="idle_timeout_s = 0.3") + ALICE, tmp_path) as front,
    ):
        visit = NonReader(json.dumps({"model": "up/m", "messages": [], "stream": True}).encode())
        began = asyncio.get_running_loop().time()
        asked = scope(CHAT)
        asked["extensions"][DROP] = lambda: dropped.append(True)
        await asyncio.wait_for(front.gateway(asked, visit.receive, visit.send), 5)
        assert 0.29 < asyncio.get_running_loop().time() - began < 2
        await asyncio.wait_for(gone.wait(), 1)
        (row,) = await front.rows()
    assert dropped
    assert (row["status"], row["outcome"]) == (499, "client_closed")
    assert row["error"] == "the client took nothing for 0.3 s"


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


async def test_a_request_that_is_cut_off_is_told_so_though_its_row_cannot_be_written_now(
    tmp_path: Path,
) -> None:
    async with peer(half) as up, served(up, tmp_path) as front:
        visit = streaming()
        task = request(front, visit)
        await when_answered(visit, up)
        with closing(connect(front.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            front.gateway.cut_off()
            await asyncio.wait([task])
            assert b"overloaded_error" in visit.body
            other.execute("ROLLBACK")
        (row,) = await front.rows()
    assert row["outcome"] == "interrupted"


async def test_a_client_that_reads_no_more_when_it_is_cut_off_is_dropped(tmp_path: Path) -> None:
    dropped: list[bool] = []
    async with peer(half) as up, served(up, tmp_path) as front:
        visit = NonReader(json.dumps({"model": "up/m", "messages": [], "stream": True}).encode())
        asked = scope(CHAT)
        asked["extensions"][DROP] = lambda: dropped.append(True)
        task = asyncio.ensure_future(front.gateway(asked, visit.receive, visit.send))
        await when_answered(visit, up)
        front.gateway.cut_off()
        await asyncio.wait([task], timeout=5)
    assert dropped


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


async def test_a_client_that_leaves_a_translated_stream_ends_the_upstream_and_is_estimated(
    tmp_path: Path,
) -> None:
    async def begun(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk("hello"))
        await writer.drain()
        await asyncio.Event().wait()

    body = {"model": "up/m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with peer(begun) as up:
        text = provider(up.url, protocols=("openai_chat",)) + ALICE
        async with serving(text, tmp_path) as front:
            visit = Visit(json.dumps(body).encode())
            asking = asyncio.create_task(front.ask("/v1/messages", visit=visit))
            await visit.until(lambda v: b"hello" in v.body)
            visit.leave()
            await asking
            await asyncio.wait_for(up.left.wait(), 5)
            (row,) = await front.rows()
    assert b"content_block_delta" in visit.body
    assert (row["status"], row["outcome"], row["usage_source"]) == (499, "client_closed", "estimated")
    assert (row["dialect"], row["output_tokens"]) == ("anthropic_messages", 2)


PRICED = (
    '[[models]]\nprovider_name = "up"\nmodel_id = "m"\n'
    "price_tiers = [{ price_input_tokens = 2.0, price_output_tokens = 8.0 }]\n"
)
START = {
    "type": "message_start",
    "message": {"type": "message", "content": [], "usage": {"input_tokens": 1000, "output_tokens": 1}},
}


@pytest.mark.parametrize(
    ("kind", "cost", "extra"),
    [("overloaded_error", 0, 0.002), ("invalid_request_error", 0.002, None)],
    ids=["tried in vain", "the client's own fault"],
)
async def test_what_an_upstream_had_read_before_it_failed_is_priced(
    tmp_path: Path, kind: str, cost: float, extra: float | None
) -> None:
    failure = {"type": "error", "error": {"type": kind, "message": "no"}}
    async with (
        peer(always(sse(data(START) + data(failure)))) as up,
        serving(provider(up.url) + PRICED + ALICE, tmp_path) as front,
    ):
        body = {"model": "up/m", "max_tokens": 9, "messages": [], "stream": True}
        await front.ask("/v1/messages", body)
        (row,) = await front.rows()
    assert row["cost_usd"] == pytest.approx(cost)
    assert row["extra_attempt_cost_usd"] == (extra and pytest.approx(extra))
    assert row["maybe_billed"] == (extra is not None)


async def hanging(seen: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def breaking(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(sse()[:-40])
    await writer.drain()
    writer.close()


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("script", "more", "status"),
    [
        (always(GOOD), {}, 200),
        (always(http(b"<html>")), {}, 502),
        (always(http(b"{}", 500)), {}, 502),
        (always(b"no HTTP"), {}, 502),
        (hanging, {}, 504),
        (breaking, {"stream": True}, 200),
        (always(GOOD), {"model": "said/m", "n": 2}, 400),
    ],
    ids=["good", "none", "failed", "malformed", "late", "broken", "unsayable"],
)
async def test_nothing_of_a_request_is_left_for_the_collector_of_garbage(
    tmp_path: Path, script: Script, more: dict[str, Any], status: int
) -> None:
    """Its body may be large, and garbage is looked for among thousands of objects."""
    async with peer(script) as up:
        models = provider(up.url, more="first_byte_timeout_s = 0.05")
        others = provider(up.url, "said", protocols=("anthropic_messages",))
        async with serving(models + others + ALICE, tmp_path) as front:
            assert await left_by(front, **more) == (status, [])


async def left_by(front: Front, **more: Any) -> tuple[int, list[object]]:
    """The status of a chat, and what is left of it without a collection."""
    body = {"model": "up/m", "messages": [{"role": "user", "content": "Hello"}], **more}
    gc.collect()
    gc.disable()
    try:
        status = (await front.ask(CHAT, body)).status
        await asyncio.sleep(0.01)
        return status, [it for it in gc.get_objects() if isinstance(it, Call | Journal | Attempt | Exchange)]
    finally:
        gc.enable()


@pytest.mark.parametrize("last", [GOOD, http(b"{}", 500)], ids=["good", "failed"])
async def test_nor_of_one_that_a_later_target_could_not_be_told(tmp_path: Path, last: bytes) -> None:
    async with peer(always(http(b"{}", 500))) as up, peer(always(last)) as spare:
        said = provider(up.url, "said", protocols=("anthropic_messages",))
        targets = ", ".join(f'{{ provider_name = "{name}", model_id = "m" }}' for name in ("said", "spare"))
        alias = '[[model_aliases]]\nalias = "any"\nprovider_name = "up"\nmodel_id = "m"\n'
        alias += f"targets = [{targets}]\n"
        text = provider(up.url) + said + provider(spare.url, "spare") + alias + ALICE
        async with serving(text, tmp_path) as front:
            assert await left_by(front, model="any", n=2) == (200 if last == GOOD else 502, [])


@pytest.mark.parametrize("logged", ["upstream", "downstream"])
async def test_nor_of_one_that_is_logged(tmp_path: Path, logged: str) -> None:
    flag = f"[global]\nenable_{logged}_log = true\n"
    async with peer(always(GOOD)) as up, serving(flag + provider(up.url) + ALICE, tmp_path) as front:
        assert await left_by(front) == (200, [])


@pytest.mark.parametrize("answer", [GOOD, sse()], ids=["whole", "stream"])
async def test_nor_of_one_whose_row_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    async with peer(always(answer)) as up, served(up, tmp_path) as front:
        with closing(connect(front.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await left_by(front, stream=answer != GOOD) == (503, [])
            other.execute("ROLLBACK")
