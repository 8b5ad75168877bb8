"""Limits are exact: however many ask at once, whatever becomes of the requests, and across restarts and edits."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.kit.calls import BY_ID, Call
from tests.kit.crowd import Answered, Ask, at_once, statuses
from tests.kit.errors import message_of
from tests.kit.gateway import Gateway, poll
from tests.kit.settings import alias, limit, provider, user
from tests.kit.upstream import Script, Upstream

CHAT = BY_ID["chat"]
WORKERS = (1, 2, 4)
FORMS = [
    BY_ID[id]
    for id in ("chat", "chat-stream", "responses", "embeddings", "messages", "messages-stream", "generate")
] + [BY_ID["stream-sse"], BY_ID["stream-array"]]
UNBOUND = "sk-unbound"
OPENAIS = ["openai_chat", "openai_responses", "openai_embeddings"]


def config(url: str) -> str:
    """A user for each kind of test, so that none counts what another did."""
    users = {
        "rpm": limit("rpm", rpm=100),
        "gate": limit("gate", max_concurrency=8),
        "ways": limit("ways", max_concurrency=3),
        "wait": limit("wait", rpm=2),
        "all": limit("all", rpm=1000, rpd=5000, tpm=1_000_000, tpd=2_000_000),
        "one": limit("one", rpm=1),
        "tokens": limit("tokens", tpm=1000),
        "edited": limit("edited", rpm=5),
        "names": limit("names", "*", rpm=9)
        + limit("names", "gpt-5", rpm=1)
        + limit("names", "via-alias", rpm=2),
        "refused": limit("refused", rpm=3, max_concurrency=1),
        "steady": limit("steady", rpm=5),
        "door": limit("door", max_concurrency=6),
        "patient": limit("patient", rpm=1),
        "slowly": limit("slowly", rpm=2),
    }
    return "".join(
        [
            "# Limits.\n[global]\nmax_body_bytes = 1000000\n",
            # Models that no built-in price is looked for.
            provider("oa", "custom", url, protocols=OPENAIS),
            provider("an", "custom", url, protocols=["anthropic_messages"]),
            provider("ge", "custom", url, protocols=["gemini"]),
            alias("roundabout", "oa", "gpt-5"),
            alias("via-alias", "oa", "other"),
            user("unbound", UNBOUND, "*"),
            user("key", "sk-key", "*", more="rpm = 4\nmax_concurrency = 50\n"),
            *(user(name, f"sk-{name}", "*") + rules for name, rules in users.items()),
        ]
    )


@pytest.fixture(scope="module", params=WORKERS, ids=lambda workers: f"workers={workers}")
def exact(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One server for each number of workers."""
    folder = tmp_path_factory.mktemp("policy")
    with Gateway(folder, config(upstream.url), "--workers", str(request.param)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """For what does not depend on the number of workers."""
    with Gateway(tmp_path_factory.mktemp("policy"), config(upstream.url)) as gateway:
        yield gateway


def chats(model: str, key: str, count: int) -> list[Ask]:
    return [Ask("/oa/v1/chat/completions", CHAT.fields(model), key)] * count


def chat(gateway: Gateway, model: str, key: str, **more: object) -> httpx.Response:
    return gateway.post("/oa/v1/chat/completions", CHAT.fields(model) | more, key=key)


def counted(gateway: Gateway, rule: str, kind: str) -> int:
    """What all slots of a counter hold."""
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as db:
        query = "SELECT coalesce(sum(n), 0) FROM counters WHERE rule = ? AND kind = ?"
        found: int = db.execute(query, (rule, kind)).fetchone()[0]
        return found


def open_now(gateway: Gateway) -> int:
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as db:
        found: int = db.execute("SELECT count(*) FROM reservations").fetchone()[0]
        return found


def seconds_pass(gateway: Gateway, rule: str, seconds: int) -> None:
    """Puts what a rule has counted so far into the past."""
    gateway.change("UPDATE counters SET slot = slot - ? WHERE rule = ?", seconds, rule)


# Many at once.


async def test_of_a_thousand_at_once_exactly_as_many_pass_as_may(exact: Gateway, upstream: Upstream) -> None:
    model = upstream.model()
    answers = await at_once(exact, chats(model, "sk-rpm", 1000))
    assert statuses(answers) == {200: 100, 429: 900}
    assert len(upstream.exchanges(model)) == 100
    passed = [answer for answer in answers if answer.status == 200]
    # Each that passed was told its own place.
    left = sorted(int(answer.headers["x-ratelimit-remaining-requests"]) for answer in passed)
    assert left == list(range(100))
    for answer in answers:
        if answer.status == 429:
            assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert counted(exact, "user/rpm/*", "rpm") == 100, "a refused request counts nothing"
    assert len(exact.rows(user="rpm")) == 100
    assert open_now(exact) == 0


async def test_of_two_hundred_at_once_no_more_run_than_may(exact: Gateway, upstream: Upstream) -> None:
    model = upstream.model(Script(stop_after=0, then="gate"))
    refused: list[Answered] = []
    asking = asyncio.create_task(at_once(exact, chats(model, "sk-gate", 200), refused.append))
    async with asyncio.timeout(20):
        while len(refused) < 192 or len(upstream.exchanges(model)) < 8:
            await asyncio.sleep(0.02)
    assert len(upstream.exchanges(model)) == 8
    assert statuses(refused) == {429: 192}
    upstream.open_gate(model)
    assert statuses(await asking) == {200: 8, 429: 192}
    assert chat(exact, model, "sk-gate").status_code == 200
    assert counted(exact, "user/gate/*", "concurrency") == 0


WAYS_OUT = {
    "good": Script(),
    "good stream": Script(),
    "refused by the upstream": Script(status=400, body=b'{"error": {"message": "no"}}'),
    "fault": Script(status=500),
    "no answer": Script(status=200, content_type="text/html", body=b"<html>"),
    "cut stream": Script(stop_after=1, then="cut"),
    "reset stream": Script(stop_after=1, then="reset"),
    "left": Script(silent=True),
    "left in a stream": Script(stop_after=1, then="hang"),
}


@pytest.mark.parametrize("way", WAYS_OUT)
async def test_a_place_is_free_again_on_every_way_out(exact: Gateway, upstream: Upstream, way: str) -> None:
    model = upstream.model(WAYS_OUT[way])
    body = CHAT.fields(model) | {"stream": "stream" in way}
    leave = 0.3 if way.startswith("left") else None
    asks = [Ask("/oa/v1/chat/completions", body, "sk-ways", leave)] * 3
    assert 429 not in statuses(await at_once(exact, asks))
    poll(lambda: counted(exact, "user/ways/*", "concurrency") == 0, "the places are free")
    good = chats(upstream.model(), "sk-ways", 3)
    assert statuses(await at_once(exact, good)) == {200: 3}


async def test_a_place_is_not_taken_by_a_request_that_another_limit_refuses(
    running: Gateway, upstream: Upstream
) -> None:
    model = upstream.model()
    for _ in range(3):
        assert chat(running, model, "sk-refused").status_code == 200
    for _ in range(5):
        assert chat(running, model, "sk-refused").status_code == 429
    assert counted(running, "user/refused/*", "concurrency") == 0
    assert counted(running, "user/refused/*", "rpm") == 3


async def test_a_client_that_leaves_at_the_door_leaves_nothing_behind(
    exact: Gateway, upstream: Upstream
) -> None:
    """The store is busy, so that all are still waiting to be counted when they leave."""
    model = upstream.model()
    with closing(sqlite3.connect(exact.database, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        asks = [Ask("/oa/v1/chat/completions", CHAT.fields(model), "sk-door", 0.5)] * 6
        assert statuses(await at_once(exact, asks)) == {0: 6}
        lock.execute("ROLLBACK")
    # Asked for behind those six in each worker: when it is answered, they have been counted.
    poll(lambda: chat(exact, model, "sk-door").status_code == 200, "there is room")
    poll(lambda: counted(exact, "user/door/*", "concurrency") == 0, "the places are free")
    assert open_now(exact) == 0


# Waiting.


def test_what_was_counted_a_minute_ago_counts_no_more_and_until_then_it_does(
    running: Gateway, upstream: Upstream
) -> None:
    model = upstream.model()
    assert [chat(running, model, "sk-wait").status_code for _ in range(3)] == [200, 200, 429]
    seconds_pass(running, "user/wait/*", 50)

    def short_wait() -> int | None:
        answer = chat(running, model, "sk-wait")
        assert answer.status_code == 429
        wait = int(answer.headers["retry-after"])
        assert wait >= 1
        return wait if wait <= 11 else None

    seconds_pass(running, "user/wait/*", poll(short_wait, "50 seconds less to wait"))
    poll(lambda: chat(running, model, "sk-wait").status_code == 200, "the wait is over")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_over_a_longer_load_no_sixty_seconds_see_more_and_retry_after_is_right(
    upstream: Upstream, tmp_path: Path
) -> None:
    model = upstream.model()
    with Gateway(tmp_path, config(upstream.url), "--workers", "2") as gateway:
        assert chat(gateway, "any", "sk-patient").status_code == 200
        refused = chat(gateway, "any", "sk-patient")
        wait_over: float | None = time.monotonic() + int(refused.headers["retry-after"])
        end = time.monotonic() + 64
        while time.monotonic() < end:
            chat(gateway, model, "sk-steady")
            if wait_over is not None and time.monotonic() >= wait_over:
                assert chat(gateway, "any", "sk-patient").status_code == 200
                wait_over = None
            time.sleep(0.1)
    assert wait_over is None, "a wait is over within a minute"
    arrived = [exchange.arrived_at for exchange in upstream.exchanges(model)]
    assert len(arrived) == 10
    assert all(later - earlier > 60 for earlier, later in zip(arrived, arrived[5:], strict=False))


def test_a_body_that_comes_slowly_counts_when_it_is_there(running: Gateway, upstream: Upstream) -> None:
    """Else a request begun in one minute and sent on in the next would count in neither's sum."""
    model = upstream.model()
    body = httpx.Request("POST", "http://x", json=CHAT.fields(model)).content

    def slowly() -> Iterator[bytes]:
        yield body[:10]
        time.sleep(1.2)
        yield body[10:]

    began = time.time()
    with running.client("sk-slowly") as client:
        headers = {"content-type": "application/json"}
        answer = client.post("/oa/v1/chat/completions", content=slowly(), headers=headers)
    assert answer.status_code == 200
    with closing(sqlite3.connect(f"file:{running.database}?mode=ro", uri=True)) as db:
        (slot,) = db.execute("SELECT slot FROM counters WHERE rule = 'user/slowly/*'").fetchone()
    assert slot >= int(began + 1.2)


# What the client is told.


@pytest.mark.parametrize("call", FORMS, ids=lambda call: call.id)
def test_an_answer_that_passes_tells_what_is_left(running: Gateway, upstream: Upstream, call: Call) -> None:
    model = upstream.model()
    answer = running.post(call.url(model, call.provider), call.fields(model), key="sk-all")
    assert answer.status_code == 200
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
    assert told["x-ratelimit-limit-requests"] == "1000"
    assert int(told["x-ratelimit-remaining-requests"]) < 1000
    assert told["x-ratelimit-limit-tokens"] == "1000000"
    assert int(told["x-ratelimit-remaining-tokens"]) < 1_000_000
    for noun in ("requests", "tokens"):
        assert re.fullmatch(r"\d+s", told[f"x-ratelimit-reset-{noun}"])


def test_what_is_not_limited_tells_nothing_of_limits(running: Gateway, upstream: Upstream) -> None:
    answer = chat(running, upstream.model(), UNBOUND)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit-")]


@pytest.mark.parametrize("call", FORMS, ids=lambda call: call.id)
def test_a_limit_is_told_in_the_dialect(running: Gateway, upstream: Upstream, call: Call) -> None:
    running.post("/oa/v1/chat/completions", CHAT.fields(upstream.model()), key="sk-one")
    model = upstream.model()
    answer = running.post(call.url(model, call.provider), call.fields(model), key="sk-one")
    message = message_of(answer, call.family, 429)
    assert "1 request per minute" in message
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert upstream.exchanges(model) == []
    assert running.rows(model=model) == []


# Which rule, and which tokens.


def test_an_alias_and_a_prefix_are_no_way_round_a_rule(running: Gateway, upstream: Upstream) -> None:
    upstream.model(name="gpt-5")
    ways = [
        ("/v1/chat/completions", "roundabout"),
        ("/v1/chat/completions", "oa/gpt-5"),
        ("/oa/v1/chat/completions", "gpt-5"),
        ("/oa/v1/chat/completions", "oa/gpt-5"),
        ("/oa/v1/chat/completions", "roundabout"),
        ("/v1/chat/completions", "oa/roundabout"),
    ]
    found = [running.post(path, CHAT.fields(name), key="sk-names").status_code for path, name in ways]
    assert found == [200, 429, 429, 429, 429, 429]
    # Other models come under another rule, and an alias under its own.
    assert chat(running, "another", "sk-names").status_code == 200
    named = [
        running.post("/v1/chat/completions", CHAT.fields("via-alias"), key="sk-names").status_code
        for _ in range(3)
    ]
    assert named == [200, 200, 429]


async def test_a_key_s_own_limits_hold_for_it(exact: Gateway, upstream: Upstream) -> None:
    answers = await at_once(exact, chats(upstream.model(), "sk-key", 20))
    assert statuses(answers) == {200: 4, 429: 16}


def test_tokens_are_reserved_by_estimate_and_settled_to_the_truth(
    running: Gateway, upstream: Upstream
) -> None:
    usage = b'{"choices": [], "model": "m", "usage": {"prompt_tokens": 30, "completion_tokens": 20}}'
    model = upstream.model(Script(body=usage))
    first = chat(running, model, "sk-tokens", max_tokens=400)
    held = 1000 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert 400 < held < 500
    assert counted(running, "user/tokens/*", "tpm") == 50
    # More than is left, though not more than there is: refused while the rest is counted.
    answer = chat(running, model, "sk-tokens", max_tokens=990)
    assert "tokens per minute" in message_of(answer, "openai", 429)
    seconds_pass(running, "user/tokens/*", 61)
    # More than there is at all: nobody could ever send it, so it passes alone.
    poll(lambda: chat(running, model, "sk-tokens", max_tokens=5000).status_code == 200, "it passes alone")


def test_each_answer_asked_for_is_reserved(running: Gateway, upstream: Upstream) -> None:
    answer = chat(running, upstream.model(), "sk-all", max_tokens=30_000, n=9)
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) <= 1_000_000 - 270_000
    assert counted(running, "user/all/*", "tpm") < 270_000


# Edits, restarts, kills.


def test_an_edited_limit_holds_from_then_on_and_forgets_nothing(exact: Gateway, upstream: Upstream) -> None:
    model = upstream.model()

    def told() -> object:
        return exact.get("/user/quota", key="sk-edited").json()["limits"][0]["limit"]

    def limited_to(most: int) -> None:
        exact.edit(lambda text: re.sub(r'("edited"\nmodel_pattern = "\*"\nrpm = )\d+', rf"\g<1>{most}", text))
        # So often in a row, that each worker has answered.
        poll(
            lambda: {told() for _ in range(30)} == {most},
            f"the limit has become {most}",
        )

    assert [chat(exact, model, "sk-edited").status_code for _ in range(3)] == [200] * 3
    limited_to(4)
    assert [chat(exact, model, "sk-edited").status_code for _ in range(3)] == [200, 429, 429]
    limited_to(2)
    assert chat(exact, model, "sk-edited").status_code == 429
    limited_to(6)
    assert [chat(exact, model, "sk-edited").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_day_s_count_survives_a_stop_and_a_kill(
    upstream: Upstream, tmp_path: Path, workers: int
) -> None:
    text = provider("oa", "custom", upstream.url, protocols=OPENAIS) + user("daily", "sk-daily", "*")
    text += limit("daily", rpd=12, max_concurrency=5)
    flags = ("--workers", str(workers))
    model = upstream.model()
    hanging = upstream.model(Script(silent=True))
    with Gateway(tmp_path, text, *flags) as gateway:
        assert statuses(await at_once(gateway, chats(model, "sk-daily", 4))) == {200: 4}
    with Gateway(tmp_path, text, *flags) as gateway:
        open_requests = asyncio.create_task(at_once(gateway, chats(hanging, "sk-daily", 3)))
        await asyncio.to_thread(upstream.wait_for, hanging, 3)
        async with asyncio.timeout(10):  # that they are open is written down a moment later
            while open_now(gateway) != 3:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(gateway.kill)
        assert statuses(await open_requests) == {0: 3}
    with Gateway(tmp_path, text, *flags) as gateway:
        # What the kill left open is settled before anything is served.
        gateway.wait_line("settled 3 requests that the last server left open")
        rows = gateway.rows(model=hanging)
        assert [(row["outcome"], row["maybe_billed"]) for row in rows] == [("interrupted", 1)] * 3
        assert open_now(gateway) == 0
        assert counted(gateway, "user/daily/*", "concurrency") == 0
        answers = await at_once(gateway, chats(model, "sk-daily", 5))
        answers += await at_once(gateway, chats(model, "sk-daily", 20))
        assert statuses(answers) == {200: 5, 429: 20}
        until_midnight = 86_400 - time.time() % 86_400
        for answer in answers[5:]:
            assert abs(int(answer.headers["retry-after"]) - until_midnight) < 60
    assert len(upstream.exchanges(model)) == 9


async def test_limits_hold_without_usage_rows(upstream: Upstream, tmp_path: Path) -> None:
    text = "[global]\nenable_usage = false\n" + provider("oa", "custom", upstream.url, protocols=OPENAIS)
    text += user("quiet", "sk-quiet", "*") + limit("quiet", rpm=7)
    with Gateway(tmp_path, text) as gateway:
        answers = await at_once(gateway, chats(upstream.model(), "sk-quiet", 50))
        assert statuses(answers) == {200: 7, 429: 43}
        assert gateway.rows() == []
        assert open_now(gateway) == 0
