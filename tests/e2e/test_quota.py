"""Budgets are exact: side by side nobody overspends, the last dollar can be spent, and nothing stays held."""

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors

from tests.kit.calls import BY_ID, Call
from tests.kit.crowd import Ask, at_once, statuses
from tests.kit.errors import message_of
from tests.kit.gateway import Gateway, poll
from tests.kit.settings import alias, limit, model, provider, quota, user
from tests.kit.upstream import Script, Upstream

CHAT = BY_ID["chat"]
WORKERS = (1, 2, 4)
CENT = 10_000_000
"""In nano-dollars."""

FAMILIES = [BY_ID["chat"], BY_ID["chat-stream"], BY_ID["messages"], BY_ID["messages-stream"]]
FAMILIES += [BY_ID["generate"], BY_ID["stream-sse"]]
DIME = "price_each_call = 0.1\n"
TOKENS = "price_tiers = [{ price_input_tokens = 100.0, price_output_tokens = 100.0 }]\n"
LUCK = {
    "good": Script(),
    "refused": Script(status=400, body=b'{"error": {"message": "no"}}'),
    "fault": Script(status=500),
    "cut": Script(stop_after=1, then="cut"),
    "left": Script(silent=True),
    "left-in-stream": Script(stop_after=1, then="hang"),
}


def then(provider_name: str, model_id: str) -> str:
    """The second target of an alias."""
    return f'targets = [{{ provider_name = "{provider_name}", model_id = "{model_id}" }}]\n'


def config(url: str, upstream_models: dict[str, str], more: str = "") -> str:
    """Three providers that each sell `dime`, for 0.10 a call, and the given models of one of them."""
    users = {
        "crowd": quota("crowd", 1.0),
        "mixed": quota("mixed", 3.0),
        "last": quota("last", 0.25),
        "spent": quota("spent", 0.1),
        "beside": quota("beside", 0.15),
        "periods": quota("periods", 5.0) + quota("periods", 0.3, "day") + quota("periods", 9.0, "month"),
        "carried": quota("carried", 1.0, more="cost_used = 0.85\n"),
        "liar": quota("liar", 1000.0),
        "free": quota("free", 1.0),
        "dear": quota("dear", 5.0),
        "raised": quota("raised", 0.1),
        "both": quota("both", 100.0) + limit("both", rpm=1000),
    }
    aliases = [
        alias("failing-over", "oa", "failing") + then("open", "nobody-knows-its-price"),
        alias("dime-last", "open", "nobody-knows-its-price") + then("oa", "dime"),
        alias("dear-last", "oa", "waits-too") + then("oa", "dear"),
    ]
    parts = [f"# Budgets.\n[global]\n{more}"]
    for name, channel in (("oa", "openai"), ("an", "anthropic"), ("ge", "gemini")):
        parts += [provider(name, channel, url), model(name, "dime", DIME)]
    parts += [model("oa", id, price) for id, price in upstream_models.items()]
    parts += [
        *(aliases if upstream_models else []),
        provider("open", "openai", url),
        user("unbound", "sk-unbound", "*"),
        user("key", "sk-key", "*", more="quota = 0.3\n"),
        *(user(name, f"sk-{name}", "*") + rows for name, rows in users.items()),
    ]
    return "".join(parts)


MODELS = {f"dime-{way}": DIME for way in LUCK} | {
    "tokens": TOKENS,
    "waits": DIME,
    "waits-too": DIME,
    "failing": DIME,
}
MODELS["dear"] = "price_each_call = 0.9\n"


def scripted(upstream: Upstream) -> None:
    for way, script in LUCK.items():
        upstream.model(script, f"dime-{way}")
    upstream.model(Script(stop_after=0, then="gate"), "waits")
    upstream.model(Script(stop_after=0, then="gate"), "waits-too")
    upstream.model(Script(status=500), "failing")


@pytest.fixture(scope="module", params=WORKERS, ids=lambda workers: f"workers={workers}")
def exact(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One server for each number of workers."""
    scripted(upstream)
    folder = tmp_path_factory.mktemp("quota")
    with Gateway(folder, config(upstream.url, MODELS), "--workers", str(request.param)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """For what does not depend on the number of workers."""
    scripted(upstream)
    with Gateway(tmp_path_factory.mktemp("quota"), config(upstream.url, MODELS)) as gateway:
        yield gateway


def ask(name: str, key: str, leave: float | None = None, **more: object) -> Ask:
    return Ask("/oa/v1/chat/completions", CHAT.fields(name) | more, key, leave)


def chat(gateway: Gateway, name: str, key: str, **more: object) -> httpx.Response:
    return gateway.post("/oa/v1/chat/completions", CHAT.fields(name) | more, key=key)


def stands(gateway: Gateway, scope: str, period: str = "total") -> tuple[int, int]:
    """(spent, held) in nano-dollars."""
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as db:
        query = "SELECT spent_nano, held_nano FROM spend WHERE scope = ? AND period = ?"
        found: tuple[int, int] = db.execute(query, (scope, period)).fetchone() or (0, 0)
        return found


async def comes_to_stand(gateway: Gateway, scope: str, expected: tuple[int, int]) -> None:
    """What an open request holds is written down a moment after it was opened."""
    async with asyncio.timeout(10):
        while stands(gateway, scope) != expected:
            await asyncio.sleep(0.01)


def held_anywhere(gateway: Gateway) -> int:
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as db:
        query = "SELECT (SELECT sum(held_nano) FROM spend) + (SELECT count(*) FROM reservations)"
        found: int = db.execute(query).fetchone()[0]
        return found


def told_by_rows(gateway: Gateway, name: str) -> int:
    """What the ledger's rows of a user cost together, in nano-dollars."""
    return sum(round((row["cost_usd"] or 0) * 1e9) for row in gateway.rows(user=name))


# Side by side.


async def test_two_hundred_at_once_spend_the_quota_and_no_more(exact: Gateway, upstream: Upstream) -> None:
    before = len(upstream.exchanges("dime"))
    answers = await at_once(exact, [ask("dime", "sk-crowd")] * 200)
    counts = statuses(answers)
    assert counts[200] + counts[402] == 200
    spent, held = stands(exact, "user/crowd")
    assert 90 * CENT <= spent <= 100 * CENT
    assert (spent, held) == (counts[200] * 10 * CENT, 0)
    assert len(upstream.exchanges("dime")) - before == counts[200]
    # What was refused beside what others held can be spent after them.
    while chat(exact, "dime", "sk-crowd").status_code == 200:
        pass
    assert stands(exact, "user/crowd") == (100 * CENT, 0)
    assert told_by_rows(exact, "crowd") == 100 * CENT


async def test_nothing_stays_held_after_mixed_outcomes_and_the_rows_add_up(
    exact: Gateway, upstream: Upstream
) -> None:
    rng = random.Random(11)
    asks = []
    for _ in range(300):
        way = rng.choice(list(LUCK))
        leave = rng.uniform(0.05, 0.5) if way.startswith("left") else None
        stream = way in ("cut", "left-in-stream") or rng.random() < 0.5
        asks.append(ask(f"dime-{way}", "sk-mixed", leave, stream=stream))
    for start in range(0, len(asks), 50):
        await at_once(exact, asks[start : start + 50])
    poll(lambda: held_anywhere(exact) == 0, "nothing is held")
    spent, _ = stands(exact, "user/mixed")
    assert 0 < spent <= 300 * CENT
    assert told_by_rows(exact, "mixed") == spent
    assert stands(exact, "user/mixed", time.strftime("%Y-%m", time.gmtime()))[0] == spent


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_kill_leaves_nothing_held_and_the_spend_as_it_was(
    upstream: Upstream, tmp_path: Path, workers: int
) -> None:
    scripted(upstream)
    text = config(upstream.url, MODELS)
    flags = ("--workers", str(workers))
    with Gateway(tmp_path, text, *flags) as gateway:
        assert statuses(await at_once(gateway, [ask("dime", "sk-mixed")] * 8)) == {200: 8}
        seen = len(upstream.exchanges("dime-left"))
        hanging = asyncio.create_task(at_once(gateway, [ask("dime-left", "sk-mixed")] * 5))
        await asyncio.to_thread(upstream.wait_for, "dime-left", seen + 5)
        await comes_to_stand(gateway, "user/mixed", (80 * CENT, 50 * CENT))
        await asyncio.to_thread(gateway.kill)
        await hanging
    with Gateway(tmp_path, text, *flags) as gateway:
        assert held_anywhere(gateway) == 0
        assert len(gateway.rows(outcome="interrupted")) == 5
        assert stands(gateway, "user/mixed") == (told_by_rows(gateway, "mixed"), 0)
        before, _ = stands(gateway, "user/mixed")
        assert before >= 80 * CENT
        answers = await at_once(gateway, [ask("dime", "sk-mixed")] * 60)
        spent, held = stands(gateway, "user/mixed")
        assert (spent - before, held) == (statuses(answers)[200] * 10 * CENT, 0)
        assert spent <= 300 * CENT


async def test_what_others_hold_is_not_what_is_spent(running: Gateway, upstream: Upstream) -> None:
    seen = len(upstream.exchanges("waits"))
    waiting = asyncio.create_task(at_once(running, [ask("waits", "sk-beside")]))
    await asyncio.to_thread(upstream.wait_for, "waits", seen + 1)
    answer = await asyncio.to_thread(chat, running, "dime", "sk-beside")
    assert "does not fit" in message_of(answer, "openai", 402)
    upstream.open_gate("waits")
    assert statuses(await waiting) == {200: 1}
    assert chat(running, "dime", "sk-beside").status_code == 200
    assert "is spent" in message_of(chat(running, "dime", "sk-beside"), "openai", 402)


# One after the other.


def test_the_last_dollar_can_be_spent(running: Gateway) -> None:
    assert [chat(running, "dime", "sk-last").status_code for _ in range(4)] == [200, 200, 200, 402]
    assert stands(running, "user/last") == (30 * CENT, 0), "one request's own excess is the bound"


def test_each_period_has_a_quota_of_its_own(running: Gateway) -> None:
    assert [chat(running, "dime", "sk-periods").status_code for _ in range(4)] == [200, 200, 200, 402]
    assert "for today" in chat(running, "dime", "sk-periods").json()["error"]["message"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    running.change("DELETE FROM spend WHERE scope = 'user/periods' AND period = ?", today)
    poll(lambda: chat(running, "dime", "sk-periods").status_code == 200, "today has begun anew")
    assert stands(running, "user/periods") == (40 * CENT, 0)


def test_spend_from_elsewhere_counts(running: Gateway) -> None:
    assert [chat(running, "dime", "sk-carried").status_code for _ in range(3)] == [200, 200, 402]


def test_a_key_s_quota_is_its_own(running: Gateway) -> None:
    assert [chat(running, "dime", "sk-key").status_code for _ in range(4)] == [200, 200, 200, 402]
    assert "this key" in chat(running, "dime", "sk-key").json()["error"]["message"]


def test_a_raised_quota_lets_requests_through_again(running: Gateway) -> None:
    assert [chat(running, "dime", "sk-raised").status_code for _ in range(2)] == [200, 402]
    running.edit(lambda text: text.replace(quota("raised", 0.1), quota("raised", 0.2)))
    poll(lambda: chat(running, "dime", "sk-raised").status_code == 200, "the edit is in force", within=2)
    assert chat(running, "dime", "sk-raised").status_code == 402


def test_what_is_left_is_told_to_its_key(running: Gateway) -> None:
    chat(running, "dime", "sk-both")
    told = running.get("/user/quota", key="sk-both").json()
    assert told["user"] == "both"
    (row,) = told["quotas"]
    assert (row["scope"], row["period"], row["quota_usd"]) == ("user", "total", 100.0)
    assert (row["held_usd"], row["left_usd"]) == (0, 100 - row["spent_usd"])
    (bound,) = told["limits"]
    assert (bound["kind"], bound["limit"]) == ("rpm", 1000)
    used = running.get("/user/usage?since=1h", key="sk-both").json()
    assert used["totals"]["cost_usd"] == row["spent_usd"]
    assert {part["model"] for part in used["rows"]} == {"dime"}


# What an upstream reports.

LIES = {
    "negative": {"prompt_tokens": -5_000_000, "completion_tokens": -1},
    "nan": {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
    "text": {"prompt_tokens": "many", "completion_tokens": None},
    "huge": {"prompt_tokens": 10**30, "completion_tokens": 10**30},
    "cost": {"prompt_tokens": 1, "completion_tokens": 1, "cost": -50.0},
    "cached": {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -9}},
}


@pytest.mark.parametrize("lie", LIES)
def test_spend_never_goes_down_whatever_an_upstream_reports(
    running: Gateway, upstream: Upstream, lie: str
) -> None:
    body = json.dumps({"model": "tokens", "choices": [], "usage": LIES[lie]}).encode()
    upstream.model(Script(body=body), "tokens")
    before, _ = stands(running, "user/liar")
    answer = chat(running, "tokens", "sk-liar", max_tokens=10)
    # What is no JSON is no answer.
    assert answer.status_code in (200, 402, *([502] if lie == "nan" else [])), answer.text
    after, held = stands(running, "user/liar")
    assert isinstance(after, int)
    assert 0 <= before <= after
    assert held == 0


def test_what_fails_costs_nothing(running: Gateway) -> None:
    for _ in range(3):
        assert chat(running, "failing", "sk-free").status_code == 502
        assert chat(running, "dime-refused", "sk-free").status_code == 400
    assert stands(running, "user/free") == (0, 0)


# Prices that nobody knows.


def test_an_unknown_price_is_refused_under_a_quota_with_the_way_out(
    running: Gateway, upstream: Upstream
) -> None:
    for key in ("sk-free", "sk-key"):
        answer = running.post("/open/v1/chat/completions", CHAT.fields("nobody-knows-its-price"), key=key)
        message = message_of(answer, "openai", 402)
        for way in ("price_tiers", "price_each_call", "allow_unpriced"):
            assert way in message
    assert upstream.exchanges("nobody-knows-its-price") == []


def test_failover_does_not_lead_to_a_target_of_unknown_price(running: Gateway, upstream: Upstream) -> None:
    """What is tried after a failure is held to the same rule as what is tried first."""
    answer = running.post("/v1/chat/completions", CHAT.fields("failing-over"), key="sk-free")
    assert answer.status_code == 502
    assert upstream.exchanges("nobody-knows-its-price") == []
    answer = running.post("/v1/chat/completions", CHAT.fields("failing-over"), key="sk-unbound")
    assert answer.status_code == 200
    assert len(upstream.exchanges("nobody-knows-its-price")) == 1
    # The other way round, the one that has a price is left.
    answer = running.post("/v1/chat/completions", CHAT.fields("dime-last"), key="sk-free")
    assert answer.status_code == 200
    assert running.row(request_id=answer.headers["x-gproxy-request-id"])["model"] == "dime"


async def test_the_dearest_target_is_what_is_held(running: Gateway, upstream: Upstream) -> None:
    seen = len(upstream.exchanges("waits-too"))
    ask_first = Ask("/v1/chat/completions", CHAT.fields("dear-last"), "sk-dear")
    waiting = asyncio.create_task(at_once(running, [ask_first]))
    await asyncio.to_thread(upstream.wait_for, "waits-too", seen + 1)
    await comes_to_stand(running, "user/dear", (0, 90 * CENT))
    upstream.open_gate("waits-too")
    assert statuses(await waiting) == {200: 1}
    assert stands(running, "user/dear") == (10 * CENT, 0)


def test_an_unknown_price_is_served_if_that_is_allowed(upstream: Upstream, tmp_path: Path) -> None:
    text = config(upstream.url, {}, more="allow_unpriced = true\n")
    with Gateway(tmp_path, text) as gateway:
        name = upstream.model()
        answer = gateway.post("/open/v1/chat/completions", CHAT.fields(name), key="sk-free")
        assert answer.status_code == 200
        assert gateway.row(model=name)["cost_usd"] is None
        assert stands(gateway, "user/free") == (0, 0)


# How it is told.


@pytest.mark.parametrize("call", FAMILIES, ids=lambda call: call.id)
def test_a_spent_quota_is_told_in_the_dialect(running: Gateway, call: Call) -> None:
    chat(running, "dime", "sk-spent")
    answer = running.post(call.url("dime", call.provider), call.fields("dime"), key="sk-spent")
    assert "$0.10" in message_of(answer, call.family, 402)
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert len(running.rows(user="spent")) == 1


@pytest.fixture(scope="module")
def as_429(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = config(upstream.url, {}, more="quota_status = 429\n") + user("fast", "sk-fast", "*")
    with Gateway(tmp_path_factory.mktemp("as-429"), text + limit("fast", rpm=1)) as gateway:
        for key in ("sk-spent", "sk-fast"):
            assert chat(gateway, "dime", key).status_code == 200
        yield gateway


def test_a_spent_quota_can_be_told_as_429_that_is_not_to_be_retried(as_429: Gateway) -> None:
    for call in FAMILIES:
        answer = as_429.post(call.url("dime", call.provider), call.fields("dime"), key="sk-spent")
        assert answer.status_code == 429
        assert answer.headers["x-should-retry"] == "false"
        assert "is spent" in answer.json()["error"]["message"]


HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("key", ["sk-spent", "sk-fast"])
def test_official_clients_raise_their_own_rate_limit_errors(as_429: Gateway, key: str) -> None:
    retries = 2 if key == "sk-spent" else 0  # told not to, it does not
    began = time.monotonic()
    with (
        openai.OpenAI(api_key=key, base_url=f"{as_429.url}/v1", max_retries=retries) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(model="oa/dime", messages=HELLO)  # type: ignore[arg-type]  # a plain dict
    with (
        anthropic.Anthropic(api_key=key, base_url=as_429.url, max_retries=retries) as other,
        pytest.raises(anthropic.RateLimitError),
    ):
        other.messages.create(model="an/dime", max_tokens=9, messages=HELLO)  # type: ignore[arg-type]  # as above
    google = genai.Client(api_key=key, http_options={"base_url": as_429.url})
    with pytest.raises(genai_errors.ClientError) as caught:
        google.models.generate_content(model="ge/dime", contents="Hello")
    assert caught.value.code == 429
    google.close()
    assert time.monotonic() - began < 5


def test_official_clients_raise_status_errors_for_a_spent_quota(running: Gateway) -> None:
    chat(running, "dime", "sk-spent")
    with (
        openai.OpenAI(api_key="sk-spent", base_url=f"{running.url}/v1") as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(model="oa/dime", messages=HELLO)  # type: ignore[arg-type]  # a plain dict
    assert (caught.value.status_code, caught.value.type) == (402, "quota_exceeded")
    with (
        anthropic.Anthropic(api_key="sk-spent", base_url=running.url) as other,
        pytest.raises(anthropic.APIStatusError) as also,
    ):
        other.messages.create(model="an/dime", max_tokens=9, messages=HELLO)  # type: ignore[arg-type]  # as above
    assert also.value.status_code == 402
