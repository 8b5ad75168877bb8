"""Many clients at once, good and bad luck mixed: no answer goes astray, and the ledger adds up at the end."""

import asyncio
import random
from collections import Counter

import httpx
import pytest

from tests.kit.calls import BY_ID, Call
from tests.kit.gateway import KEY, Gateway, poll
from tests.kit.upstream import Script, Upstream

GOOD = [
    BY_ID[id]
    for id in ("chat", "chat-stream", "responses-stream", "messages", "messages-stream", "stream-sse")
]
STREAMS = [call for call in GOOD if call.stream]
LUCK = {
    "good": Script(),
    "slow": Script(delay_s=0.01),
    "pieces": Script(cut_every=40),
    "broken": Script(stop_after=1, then="cut"),
    "reset": Script(stop_after=1, then="reset"),
    "error": Script(status=500),
    "left": Script(stop_after=1, then="hang"),
    "left-waiting": Script(silent=True),
}
REQUESTS = 600
AT_ONCE = 60


async def one(
    client: httpx.AsyncClient, upstream: Upstream, call: Call, model: str, luck: str
) -> httpx.Response | None:
    """One request of one client; None if the client left."""
    url, body = call.url(model, call.provider), call.fields(model)
    if luck == "left":
        async with client.stream("POST", url, json=body) as answer:
            async for _ in answer.aiter_bytes():
                return None
    if luck == "left-waiting":
        waiting = asyncio.ensure_future(client.post(url, json=body))
        await asyncio.to_thread(upstream.wait_for, model)
        waiting.cancel()
        await asyncio.wait({waiting})
        return None
    return await client.post(url, json=body)


@pytest.mark.timeout(240)
async def test_the_ledger_adds_up_after_mixed_load(gateway: Gateway, upstream: Upstream) -> None:
    rng = random.Random(5)
    plan = []
    for _ in range(REQUESTS):
        luck = rng.choices(list(LUCK), weights=[8, 3, 2, 1, 1, 1, 1, 1])[0]
        call = rng.choice(STREAMS if luck in ("broken", "reset", "left") else GOOD)
        plan.append((call, upstream.model(LUCK[luck]), luck))
    room = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)

    async with httpx.AsyncClient(
        base_url=gateway.url,
        headers={"authorization": f"Bearer {KEY}"},
        trust_env=False,
        timeout=20,
        limits=limits,
    ) as client:

        async def run(call: Call, model: str, luck: str) -> httpx.Response | None:
            async with room:
                return await one(client, upstream, call, model, luck)

        answers = await asyncio.gather(*(run(*step) for step in plan))

    wrong: list[object] = []
    for (call, model, luck), answer in zip(plan, answers, strict=True):
        row = poll(lambda model=model: gateway.rows(model=model) or None, f"the row of {model}")  # type: ignore[misc]  # bound now
        exchange = upstream.only(model)
        left = luck.startswith("left")
        status = 499 if left else 502 if luck == "error" else 200
        good = luck in ("good", "slow", "pieces")
        if len(row) != 1 or row[0]["status"] != status or (row[0]["outcome"] == "ok") != good:
            wrong.append((luck, call.id, row))
        if good and (
            answer is None
            or exchange.uid not in answer.text
            or call.names_in(answer.content) != {model}
            or exchange.told.differs_from(row[0])
        ):
            wrong.append((luck, call.id, answer and answer.text, row))
    assert wrong == []
    assert Counter(luck for _, _, luck in plan).keys() == LUCK.keys()
    # What was left behind takes nothing away from those who come after.
    after = gateway.post("/oa/v1/chat/completions", BY_ID["chat"].fields(upstream.model()))
    assert after.status_code == 200
