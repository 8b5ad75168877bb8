"""What comes under which limits and budgets, and that nothing stays held, whatever becomes of a request.

Through the whole gateway; the counting itself is held by `tests/ledger/test_spend.py`.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gproxy.errors import QuotaExceeded, StoreError, Unavailable
from gproxy.ledger import sqlite, writer
from gproxy.ledger.pricebook import RETRY_S, PriceBook
from gproxy.ledger.spend import spent
from gproxy.ledger.sqlite import connect, connect_read_only
from gproxy.ledger.weighing import Spent
from gproxy.protocols.anthropic_messages import COUNT_TOKENS
from gproxy.protocols.openai_chat import CHAT as CHAT_COMPLETIONS
from gproxy.protocols.openai_embeddings import EMBEDDINGS
from gproxy.protocols.passthrough import SPEECH as SPEECH_OF_TEXT
from gproxy.routing import failover
from gproxy.routing.limits import bounds_for
from gproxy.server.request.admission import Doorkeeper
from gproxy.server.request.course import Course, Terms
from gproxy.server.request.journal import Journal
from gproxy.server.request.prices import Prices
from gproxy.server.tasks import Tasks
from gproxy.values import Bound, Budget, Claim, Route, Target, Usage
from tests.server.parts import (
    ALICE,
    GOOD,
    KEY,
    Front,
    Peer,
    Script,
    Seen,
    Visit,
    always,
    call,
    http,
    peer,
    provider,
    serving,
    snapshot,
    table_price,
)

PRICED = """
[[models]]
provider_name = "up"
model_id = "priced"
price_tiers = [{ price_input_tokens = 100.0, price_output_tokens = 1000.0 }]
[[models]]
provider_name = "up"
model_id = "m"
"""
# 5 tokens in and 2 out, as the peer reports.
COST = 2_500_000
BODY = {"messages": [{"role": "user", "content": "0123456789abcdef"}], "max_tokens": 10}
CHAT = "/v1/chat/completions"
SCOPE = "user/alice"


def limit(**bounds: int) -> str:
    rows = "\n".join(f"{name} = {most}" for name, most in bounds.items())
    return f'[[rate_limits]]\nuser_name = "alice"\nmodel_pattern = "*"\n{rows}\n'


def quota(dollars: float, more: str = "") -> str:
    return f'[[quotas]]\nuser_name = "alice"\nquota = {dollars}\n{more}\n'


@asynccontextmanager
async def governed(
    folder: Path, policy: str, script: Script | None = None, settings: str = "", alice: str = ALICE
) -> AsyncIterator[tuple[Front, Peer]]:
    """A gateway whose alice comes under `policy`, before a peer that answers well."""
    async with peer(script or always(GOOD)) as up:
        text = f"[global]\n{settings}\n{provider(up.url)}{PRICED}{alice}{policy}"
        async with serving(text, folder) as front:
            yield front, up


def table(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(connect_read_only(path)) as db:
        return db.execute(query).fetchall()


def spend_of(front: Front, scope: str = SCOPE, period: str = "total") -> Spent:
    return spent(front.path, [(scope, period)], time.time())[scope, period]


async def nothing_held(front: Front) -> None:
    """After all that is on its way has been written."""
    await front.tasks.drain(5)
    front.writer.close()
    assert table(front.path, "SELECT * FROM reservations") == []
    assert table(front.path, "SELECT * FROM spend WHERE held_nano != 0") == []
    assert table(front.path, "SELECT * FROM counters WHERE kind = 'concurrency' AND n != 0") == []


async def silent(_: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def held(front: Front) -> None:
    """Until a request holds what it asked for."""
    async with asyncio.timeout(5):
        while not front.path.exists() or not table(front.path, "SELECT * FROM reservations"):
            await asyncio.sleep(0.005)


async def test_beyond_a_limit_is_429_with_its_headers_no_row_and_no_call(tmp_path: Path) -> None:
    async with governed(tmp_path, limit(rpm=2, rpd=5, tpm=1000)) as (front, up):
        first, second, third = [await front.chat("up/m", **BODY) for _ in range(3)]
        assert (first.status, second.status, third.status, len(up.seen)) == (200, 200, 429, 2)
        assert first.header("x-ratelimit-limit-requests") == "2"
        assert [v.header("x-ratelimit-remaining-requests") for v in (first, second, third)] == ["1", "0", "0"]
        assert [v.header("x-ratelimit-reset-requests") for v in (first, third)] == ["61s", "61s"]
        assert first.header("x-ratelimit-limit-tokens") == "1000"
        assert third.header("x-ratelimit-remaining-tokens") == str(1000 - 14)
        assert 59 <= int(third.header("retry-after") or 0) <= 61
        assert third.json()["error"]["type"] == "rate_limit_error"
        assert len(await front.rows()) == 2
        assert table(front.path, "SELECT kind, sum(n) FROM counters GROUP BY kind") == [
            ("rpd", 2),
            ("rpm", 2),
            ("tpm", 14),
        ]
        await nothing_held(front)


async def test_of_many_at_once_exactly_as_many_pass_as_the_limit_says(tmp_path: Path) -> None:
    async with governed(tmp_path, limit(rpm=20)) as (front, up):
        answers = await asyncio.gather(*(front.chat("up/m") for _ in range(100)))
        assert sorted(answer.status for answer in answers) == [200] * 20 + [429] * 80
        assert len(up.seen) == 20
        await nothing_held(front)


async def test_a_users_rule_and_a_keys_own_bound_both_hold(tmp_path: Path) -> None:
    alice = ALICE.replace(f'api_key = "{KEY}"', f'api_key = "{KEY}"\nrpd = 1')
    async with governed(tmp_path, limit(rpm=2), alice=alice) as (front, _):
        first, second = [await front.chat("up/m") for _ in range(2)]
    assert (first.status, second.status) == (200, 429)
    assert "1 request per day is reached for this key" in second.message


async def test_an_alias_is_no_way_round_a_rule_of_its_model(tmp_path: Path) -> None:
    alias = '[[model_aliases]]\nalias = "chat"\nprovider_name = "up"\nmodel_id = "m"\n'
    rule = limit(rpm=1).replace('"*"', '"up/m"')
    async with governed(tmp_path, alias + rule) as (front, _):
        statuses = [(await front.chat(name)).status for name in ("chat", "up/m", "chat", "m", "up/priced")]
    assert statuses == [200, 429, 429, 429, 200]


async def test_requests_at_once_are_bounded_and_freed_when_one_ends(tmp_path: Path) -> None:
    async with governed(tmp_path, limit(max_concurrency=1), script=silent) as (front, _):
        visit = Visit(b'{"model": "up/m", "messages": []}')
        task = asyncio.create_task(front.ask(CHAT, visit=visit))
        await held(front)
        beside = await front.chat("up/m")
        assert (beside.status, beside.header("retry-after")) == (429, "1")
        visit.leave()
        await task
        await nothing_held(front)


# Money.


async def test_the_estimate_is_held_and_the_real_cost_is_settled(tmp_path: Path) -> None:
    holding = asyncio.Event()

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await holding.wait()
        await always(GOOD)(seen, writer)

    async with governed(tmp_path, quota(1), script=slow) as (front, _):
        task = asyncio.create_task(front.chat("up/priced", **BODY))
        await held(front)
        during = spend_of(front)
        assert during.spent_nano == 0
        tokens_in, rest = divmod(during.held_nano - 10 * 1_000_000, 100_000)
        assert (4 <= tokens_in <= 10, rest) == (True, 0)
        holding.set()
        assert (await task).status == 200
        assert spend_of(front) == Spent(COST, 0)
        assert spend_of(front, period="day") == spend_of(front, period="month") == Spent(COST, 0)
        assert (await front.rows())[0]["cost_usd"] == COST / 1e9
        await nothing_held(front)


@pytest.mark.parametrize("served_in", ["priority", "default"])
async def test_the_class_of_service_asked_for_is_held_and_the_one_that_served_is_paid(
    tmp_path: Path, served_in: str
) -> None:
    tiers = (
        "price_tiers = [{ price_input_tokens = 100.0, price_output_tokens = 1000.0 }]\n"
        "priority_price_tiers = [{ price_input_tokens = 200.0, price_output_tokens = 2000.0 }]"
    )
    fast = f'[[models]]\nprovider_name = "up"\nmodel_id = "fast"\n{tiers}\n'
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    answer = json.dumps({"choices": [], "service_tier": served_in, "usage": usage}).encode()
    holding = asyncio.Event()

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await holding.wait()
        await always(http(answer))(seen, writer)

    async with governed(tmp_path, fast + quota(1), script=slow) as (front, _):
        task = asyncio.create_task(front.chat("up/fast", service_tier="priority", **BODY))
        await held(front)
        assert spend_of(front).held_nano >= 10 * 2_000_000
        holding.set()
        assert (await task).status == 200
        cost = COST * (2 if served_in == "priority" else 1)
        assert spend_of(front) == Spent(cost, 0)
        await nothing_held(front)
    details = table(front.path, "SELECT service_tier FROM usage_details")
    assert details == ([("priority",)] if served_in == "priority" else [])


@pytest.mark.parametrize(("settings", "status"), [("", 402), ("quota_status = 429", 429)])
async def test_a_spent_quota_is_told_as_configured_without_a_row(
    tmp_path: Path, settings: str, status: int
) -> None:
    async with governed(tmp_path, quota(COST / 1e9), settings=settings) as (front, up):
        first, second = [await front.chat("up/priced", **BODY) for _ in range(2)]
        assert (first.status, second.status, len(up.seen)) == (200, status, 1)
        assert second.json()["error"]["type"] == "quota_exceeded"
        assert second.json()["error"]["code"] == status
        assert second.header("x-should-retry") == "false"
        assert len(await front.rows()) == 1


async def test_spend_from_elsewhere_counts(tmp_path: Path) -> None:
    async with governed(tmp_path, quota(1, "cost_used = 1.0")) as (front, up):
        assert (await front.chat("up/priced", **BODY)).status == 402
        assert up.seen == []


async def test_requests_side_by_side_never_overspend(tmp_path: Path) -> None:
    """Ten tokens at $1000 a million are asked for, two are used: the quota is never passed on the way."""
    async with governed(tmp_path, quota(0.1)) as (front, up):
        answers = await asyncio.gather(*(front.chat("up/priced", **BODY) for _ in range(50)))
        passed = sum(answer.status == 200 for answer in answers)
        assert passed == len(up.seen) >= 5
        assert {answer.status for answer in answers} <= {200, 402}
        assert spend_of(front) == Spent(passed * COST, 0)
        await nothing_held(front)


async def test_a_model_without_a_price_is_refused_under_a_quota_with_the_way_out(tmp_path: Path) -> None:
    async with governed(tmp_path, quota(1)) as (front, up):
        answer = await front.chat("up/m", **BODY)
        assert (answer.status, up.seen) == (402, [])
        assert answer.header("x-should-retry") == "false"
        command = "`gproxy models price up/m --input USD --output USD`"
        for word in ('"up/m"', command, "price_tiers", "price_each_call", "allow_unpriced"):
            assert word in answer.message
        assert await front.rows() == []
        await nothing_held(front)


async def test_a_model_without_a_price_is_served_if_that_is_allowed(tmp_path: Path) -> None:
    async with governed(tmp_path, quota(1), settings="allow_unpriced = true") as (front, _):
        assert (await front.chat("up/m", **BODY)).status == 200
        assert (await front.rows())[0]["cost_usd"] is None
        assert spend_of(front) == Spent(0, 0)
        await nothing_held(front)


def chat(first: str, then: str) -> str:
    """An alias of two, tried one after the other."""
    head = f'[[model_aliases]]\nalias = "chat"\nprovider_name = "up"\nmodel_id = "{first}"\n'
    return f'{head}targets = [{{ provider_name = "up", model_id = "{then}" }}]\n'


@pytest.mark.parametrize("models", [("priced", "m"), ("m", "priced")])
async def test_a_model_without_a_price_is_no_way_on_under_a_quota(
    tmp_path: Path, models: tuple[str, str]
) -> None:
    script = always(http(b"{}", 500))
    async with governed(tmp_path, quota(1) + chat(*models), script=script) as (front, up):
        assert (await front.chat("chat", **BODY)).status == 502
        assert {seen.json()["model"] for seen in up.seen} == {"priced"}
        await nothing_held(front)


@pytest.mark.parametrize("models", [("priced", "cheap"), ("cheap", "priced")])
async def test_what_is_held_is_enough_for_the_dearest_that_may_serve(
    tmp_path: Path, models: tuple[str, str]
) -> None:
    cheap = '[[models]]\nprovider_name = "up"\nmodel_id = "cheap"\nprice_each_call = 0.000001\n'
    async with governed(tmp_path, quota(1) + cheap + chat(*models), script=silent) as (front, _):
        task = asyncio.create_task(front.chat("chat", **BODY))
        await held(front)
        assert spend_of(front).held_nano > 10 * 1_000_000
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await nothing_held(front)


async def test_a_count_of_tokens_is_free_of_the_quota_and_still_a_request(tmp_path: Path) -> None:
    script = always(http(b'{"input_tokens": 3}'))
    async with governed(tmp_path, quota(1, "cost_used = 1.0") + limit(rpm=1), script=script) as (front, _):
        count = "/v1/messages/count_tokens"
        statuses = [(await front.ask(count, {"model": "up/priced", "messages": []})).status for _ in range(2)]
        assert statuses == [200, 429]


async def test_with_usage_switched_off_limits_and_quotas_hold_all_the_same(tmp_path: Path) -> None:
    policy = limit(rpm=2) + quota(COST / 1e9)
    async with governed(tmp_path, policy, settings="enable_usage = false") as (front, _):
        statuses = [(await front.chat("up/priced", **BODY)).status for _ in range(3)]
        assert statuses == [200, 402, 402]
        assert spend_of(front).spent_nano == COST
        assert await front.rows() == []
        await nothing_held(front)


async def test_spend_is_kept_where_nothing_limits_it(tmp_path: Path) -> None:
    """So a quota that comes later finds it."""
    async with governed(tmp_path, "") as (front, _):
        answer = await front.chat("up/priced", **BODY)
        assert answer.status == 200
        assert not [n for n, _ in answer.messages[0]["headers"] if n.startswith(b"x-ratelimit")]
        await front.rows()
        assert spend_of(front) == Spent(COST, 0)
        await nothing_held(front)


# Ways out.


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (http(status=500), 502),
        (http(b'{"error": {"message": "no"}}', status=400), 400),
        (http(b"<html>", media="text/html"), 502),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{", 502),
    ],
)
async def test_nothing_stays_held_after_an_error(tmp_path: Path, answer: bytes, status: int) -> None:
    async def script(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    policy = limit(rpm=9, tpm=999, max_concurrency=1) + quota(1)
    async with governed(tmp_path, policy, script=script) as (front, _):
        assert (await front.chat("up/priced", **BODY)).status == status
        await nothing_held(front)


async def test_a_client_that_leaves_while_its_claim_is_being_committed_leaves_nothing_held(
    tmp_path: Path,
) -> None:
    policy = limit(rpm=9, tpm=999, max_concurrency=1) + quota(1)
    async with governed(tmp_path, policy) as (front, up):
        visit = Visit(b'{"model": "up/priced", "messages": []}')
        with closing(connect(front.path)) as other:
            other.execute("BEGIN IMMEDIATE")  # the commit waits for it
            task = asyncio.create_task(front.ask(CHAT, visit=visit))
            await asyncio.sleep(0.05)
            visit.leave()
            await task
            other.execute("ROLLBACK")
        (row,) = await front.rows()
        assert (row["status"], row["outcome"], up.seen) == (499, "client_closed", [])
        await nothing_held(front)


async def test_a_store_that_cannot_be_written_lets_nothing_through_and_is_told_as_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    async with governed(tmp_path, limit(rpm=9)) as (front, up):
        with closing(connect(front.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = await front.chat("up/m")
            assert (answer.status, up.seen) == (503, [])
            other.execute("ROLLBACK")
        (row,) = await front.rows()
        assert (row["status"], row["attempts"]) == (503, 0)
        assert table(front.path, "SELECT * FROM counters WHERE n != 0") == []
        await nothing_held(front)


async def test_a_store_that_cannot_be_written_at_the_end_is_503_now_and_settled_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    locks: list[Any] = []

    async def lock_and_answer(seen: Seen, stream: asyncio.StreamWriter) -> None:
        locks[0].execute("BEGIN IMMEDIATE")
        await always(GOOD)(seen, stream)

    policy = limit(rpm=9, tpm=999, max_concurrency=1) + quota(1)
    async with governed(tmp_path, policy, script=lock_and_answer) as (front, _):
        with closing(connect(front.path)) as other:
            locks.append(other)
            answer = await front.chat("up/priced", **BODY)
            assert answer.status == 503
            other.execute("ROLLBACK")
        (row,) = await front.rows()
        assert (row["status"], row["input_tokens"], row["cost_usd"]) == (503, 5, COST / 1e9)
        assert spend_of(front) == Spent(COST, 0)
        await nothing_held(front)


async def test_a_request_cut_off_while_the_store_fails_to_settle_it_is_settled_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is on its way to a task that is cancelled before it can hear of it."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    async with governed(tmp_path, "") as (front, _):
        settlement, target = front.gateway.settlement, Target("up", "priced")
        journal = Journal(
            call(front.gateway.snapshot, b'{"model": "m", "messages": []}'), Route("m", (target,))
        )
        claim = Claim(
            request_id=journal.call.request_id,
            scopes=(SCOPE,),
            bounds=(Bound("rule", "concurrency", 1),),
            budgets=(Budget(SCOPE, "total", 10**9),),
            tokens=0,
            cost_nano=1000,
            at=time.time(),
        )
        await front.gateway._accounts.reserve(claim, lambda: b"")
        journal.claim = claim
        journal.attempt(target, "up#1")
        journal.observed(Usage(input_tokens=5, output_tokens=2), whole=True)
        journal.ended(200, "ok")
        with closing(connect(front.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            settling = asyncio.create_task(settlement.settle(journal))
            while not journal.settled:
                await asyncio.sleep(0)
            while not front.writer._unwritten:  # the loop meets the lock, and leaves it to the thread
                await asyncio.sleep(0.001)
            while not front.writer.failure:
                time.sleep(0.001)  # not asyncio's: the loop is to hear of nothing
            settling.cancel()
            await asyncio.wait([settling])
            other.execute("ROLLBACK")
        settlement.settle_late(journal)
        assert len(await front.rows()) == 1
        assert spend_of(front) == Spent(COST, 0)
        await nothing_held(front)


async def test_a_body_that_comes_slowly_counts_when_it_is_through(tmp_path: Path) -> None:
    """Else many that began together, a minute ago, could all go on in one second."""
    async with governed(tmp_path, limit(rpm=1)) as (front, _):
        slow = Visit(b'{"model": "up/m", ', b'"messages": []}')
        pieces, go_on = slow.receive, asyncio.Event()

        async def receive() -> Any:
            if len(slow._pieces) == 1:
                await go_on.wait()
            return await pieces()

        slow.receive = receive  # type: ignore[method-assign]  # the same client, slower
        task = asyncio.create_task(front.ask(CHAT, visit=slow))
        await asyncio.sleep(1.1)
        began = int(time.time())
        go_on.set()
        await task
        ((slot,),) = table(front.path, "SELECT slot FROM counters")
        assert slot >= began


async def test_a_request_that_nothing_limits_is_written_down_as_open_only_if_it_stays_so(
    tmp_path: Path,
) -> None:
    """What a process that is killed had open is told by it; a short request leaves no trace but its row."""
    gate = asyncio.Event()

    async def slow(_: Seen, to: asyncio.StreamWriter) -> None:
        await gate.wait()
        to.write(GOOD)

    async with governed(tmp_path, "", slow) as (front, _):
        asked = asyncio.create_task(front.chat("up/priced", **BODY))
        async with asyncio.timeout(5):
            while not table(front.path, "SELECT * FROM reservations"):
                await asyncio.sleep(0.01)
        gate.set()
        assert (await asked).status == 200
        assert (await front.chat("up/priced", **BODY)).status == 200
        await nothing_held(front)
        rows = await front.rows()
    assert [row["status"] for row in rows] == [200, 200]
    assert spent(front.path, [(SCOPE, "total")], time.time())[SCOPE, "total"] == Spent(2 * COST, 0)


@pytest.mark.parametrize("policy", ["", limit(rpm=9), limit(tpm=10**6), quota(1.0)])
async def test_what_is_left_of_a_killed_request_tells_its_input_and_its_cost_whatever_limits_it(
    tmp_path: Path, policy: str
) -> None:
    async with governed(tmp_path, policy, silent) as (front, _):
        asked = asyncio.create_task(front.chat("up/priced", **BODY))
        await held(front)
        ((row,),) = table(front.path, "SELECT record FROM reservations")
        asked.cancel()
        await asyncio.wait([asked])
    told = json.loads(row)
    assert told["usage"]["input_tokens"] > 0
    assert told["cost_nano"] > 0
    assert told["price_source"] == "config"


async def test_nothing_is_kept_of_an_open_request_but_what_it_holds_where_usage_is_switched_off(
    tmp_path: Path,
) -> None:
    async with governed(tmp_path, quota(1.0), silent, "enable_usage = false") as (front, _):
        asked = asyncio.create_task(front.chat("up/priced", **BODY))
        await held(front)
        assert table(front.path, "SELECT record FROM reservations") == [(b"",)]
        asked.cancel()
        await asyncio.wait([asked])


SPEECH = "/v1/audio/speech"


async def test_what_cannot_be_estimated_needs_a_price_by_the_call_under_a_quota(tmp_path: Path) -> None:
    sound = http(b"RIFF", media="audio/wav")
    per_call = '[[models]]\nprovider_name = "up"\nmodel_id = "voice"\nprice_each_call = 0.4\n'
    async with governed(tmp_path, per_call + quota(1.0), always(sound)) as (front, _):
        refused = await front.ask(SPEECH, {"model": "up/priced", "input": "hello"})
        answers = await asyncio.gather(
            *(front.ask(SPEECH, {"model": "up/voice", "input": "hello"}) for _ in range(10))
        )
        await nothing_held(front)
    assert refused.status == 402
    assert "`gproxy models price up/priced --each-call USD`, or set price_each_call" in refused.message
    assert sorted(answer.status for answer in answers) == [200, 200] + [402] * 8
    assert spent(front.path, [(SCOPE, "total")], time.time())[SCOPE, "total"] == Spent(800_000_000, 0)


async def test_an_embedding_reserves_no_output(tmp_path: Path) -> None:
    vector = http(b'{"object": "list", "data": [], "usage": {"prompt_tokens": 2, "total_tokens": 2}}')
    async with governed(tmp_path, limit(tpm=100), always(vector)) as (front, _):
        answers = await asyncio.gather(
            *(front.ask("/v1/embeddings", {"model": "up/m", "input": "hi"}) for _ in range(10))
        )
    assert [answer.status for answer in answers] == [200] * 10


async def test_a_target_that_cannot_be_tried_is_not_whose_limit_counts(tmp_path: Path) -> None:
    keyless = (
        '[[providers]]\nname = "bare"\nchannel = "openai"\n'
        '[[model_aliases]]\nalias = "chat"\nprovider_name = "bare"\nmodel_id = "x"\n'
        'targets = [{ provider_name = "up", model_id = "m" }]\n'
    )
    rule = '[[rate_limits]]\nuser_name = "alice"\nmodel_pattern = "m"\nrpm = 1\n'
    async with governed(tmp_path, keyless + rule) as (front, _):
        answers = [(await front.chat("chat", **BODY)).status for _ in range(3)]
    assert answers == [200, 429, 429]


MANY = snapshot(
    provider("http://127.0.0.1:9")
    + PRICED
    + '[[models]]\nprovider_name = "up"\nmodel_id = "voice"\nprice_each_call = 0.4\n'
    + "".join(
        f'[[users]]\nname = "{user}"\n'
        + "".join(
            f'[[users.keys]]\nlabel = "{label}"\napi_key = "sk-{user}-{label}"\n{own}\n'
            for label, own in (("a", ""), ("b", "rpm = 5"), ("c", "quota = 1.0"))
        )
        for user in ("alice", "bob", "carol")
    )
    + limit(rpm=9, tpm=99)
    + limit(rpm=8).replace('"*"', '"pric*"')
    + limit(rpd=7).replace("alice", "bob").replace('"*"', '"chat"')
    + quota(1).replace("alice", "bob")
)
CLIENTS = tuple(MANY.clients.values())
PROTOCOLS = (CHAT_COMPLETIONS, SPEECH_OF_TEXT, EMBEDDINGS, COUNT_TOKENS)
PLACES = [Target("up", model) for model in ("priced", "m", "voice")]
TARGETS = [(*PLACES,), (*reversed(PLACES),), *((place,) for place in PLACES), (PLACES[0], PLACES[0])]


def course(route: Route) -> Course:
    return Course(route, failover.Plan((), 1, 0.0), native=True, straight=False, in_order=True, beside=False)


async def terms_of(door: Doorkeeper, journal: Journal, its: Course) -> Terms | None:
    """What is asked of a request, None if no target is left to it."""
    try:
        known = its.terms.get(journal.route.targets)
        return known or await door._terms(journal, journal.route, its)
    except QuotaExceeded:
        return None


async def test_what_is_asked_of_a_request_is_remembered_with_its_course_for_its_targets() -> None:
    prices = Prices(PriceBook(), Tasks())

    def door() -> Doorkeeper:
        return Doorkeeper(None, prices, MANY)  # type: ignore[arg-type]  # nothing is counted

    one = door()
    base = call(snapshot(provider("http://127.0.0.1:9") + ALICE), b'{"model": "m", "messages": []}')
    asked = list(product(CLIENTS, PROTOCOLS, TARGETS, (None, "chat")))
    known = 0
    courses: dict[tuple[str, str, str | None], Course] = {}
    for client, protocol, targets, alias in (*asked, *reversed(asked)):
        made = structs.replace(base, client=client, protocol=protocol)
        journal = Journal(made, Route("m", targets, alias))
        fresh = course(journal.route)
        its = courses.setdefault((client.key_id, protocol.operation, alias), fresh)
        known += targets in its.terms
        terms = await terms_of(one, journal, its)
        assert terms == await terms_of(door(), journal, course(journal.route))
        if terms is not None:
            assert terms.bounds == bounds_for(client, terms.targets[0], alias)
            if terms.budgets:
                assert terms.prices == tuple(prices.configured(MANY, target) for target in terms.targets)
                assert None not in terms.prices
    assert known > len(asked) // 2


class Counting:
    """Accounts that keep the claims and cannot write them."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []

    async def reserve(self, claim: Claim, _pending: object) -> None:
        self.claims.append(claim)
        raise StoreError("it cannot be written")


async def test_a_route_in_another_order_than_its_course_has_is_counted_by_its_own_first_target() -> None:
    accounts, prices = Counting(), Prices(PriceBook(), Tasks())
    door = Doorkeeper(accounts, prices, MANY)  # type: ignore[arg-type]  # no more is asked of them
    base = call(snapshot(provider("http://127.0.0.1:9") + ALICE), b'{"model": "m", "messages": []}')
    found: list[tuple[Bound, ...]] = []
    for client in CLIENTS:
        made = structs.replace(base, client=client)
        routes = [Route("m", (PLACES[0], PLACES[1]), None), Route("m", (PLACES[1], PLACES[0]), None)]
        if client.budgets or not all(bounds_for(client, route.targets[0], None) for route in routes):
            continue
        its = course(routes[0])
        for route in (*routes, *routes):
            with pytest.raises(Unavailable):
                await door.admit(Journal(made, route), route, its)
            assert accounts.claims[-1].bounds == bounds_for(client, route.targets[0], None)
            found.append(accounts.claims[-1].bounds)
    assert len(set(found)) > 1


async def test_a_price_that_changes_is_held_by_from_then_on(tmp_path: Path) -> None:
    told, clock = tmp_path / "answer", [1000.0]
    program = f"import sys\nfor _ in sys.stdin: print(open({str(told)!r}).read())"
    book = PriceBook((sys.executable, "-Sc", program), clock=lambda: clock[0])
    channel = '[[providers]]\nname = "up"\nchannel = "openai"\ncredentials = [{ api_key = "sk-u" }]\n'
    here = snapshot(channel + ALICE + quota(1))
    door = Doorkeeper(None, Prices(book, Tasks()), here)  # type: ignore[arg-type]  # nothing is counted
    made = call(here, b'{"model": "m", "messages": []}')
    courses = {name: course(Route(name, (Target("up", name),))) for name in ("dear", "cheap")}

    async def price(model: str) -> int | None:
        """For a million tokens of input."""
        its = courses[model]
        terms = await terms_of(door, Journal(made, its.route), its)
        if terms is None:
            return None
        (found,) = terms.prices
        assert found is not None
        return found.rates.tiers[0].input

    def tell(nano: int, until: float | None) -> None:
        told.write_text(table_price(nano).replace('"until": null', f'"until": {json.dumps(until)}'))

    told.write_text("no price")
    assert await price("dear") is None
    tell(7, 2000.0)
    assert await price("dear") is None, "as long as a look-up that failed counts"
    clock[0] += RETRY_S
    assert [await price("dear"), await price("dear")] == [7, 7]
    tell(8, None)
    assert [await price("cheap"), await price("dear")] == [8, 7]
    tell(9, None)
    clock[0] = 2000.0
    assert [await price(name) for name in ("dear", "cheap", "dear")] == [9, 8, 9]
    clock[0] = 1999.0
    assert [await price(name) for name in ("dear", "cheap")] == [7, 8]
