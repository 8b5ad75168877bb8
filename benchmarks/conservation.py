"""Whether the ledger adds up to what the upstreams said: `python -m benchmarks.conservation [--requests 20000]`.

Two users, three dialects, two credentials by weight at each provider, streams cut at random; good answers, errors,
limits, broken streams, clients that leave, and aliases whose first target fails. Sums by user, model and credential
must equal the upstream's own ledger; where they cannot, for an answer that never came to its end, the rows must be
marked as estimated. Then `gproxy usage verify`. Prints what was compared; exit 1 on any difference.
"""

import argparse
import asyncio
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from common import GPROXY, environment, machine

from tests.kit.answers import Told
from tests.kit.calls import BY_ID, Call
from tests.kit.gateway import Gateway
from tests.kit.settings import provider, user
from tests.kit.upstream import Exchange, Script, Upstream

AT_ONCE = 32
USERS = {"alice": "sk-conserve-alice", "bob": "sk-conserve-bob"}
SECRETS = {"sk-up-first-credential": "first", "sk-up-second-credential": "second"}
CALLS = [
    BY_ID[id]
    for id in (
        "chat",
        "chat-stream",
        "responses-stream",
        "messages",
        "messages-stream",
        "generate",
        "stream-sse",
    )
]
GOOD = {"whole": Script(), "pieces": Script(cut_every=23), "crumbs": Script(cut_every=7)}
BAD = {
    "missing": Script(status=404, body=b'{"error":{"message":"no such model"}}'),
    "failing": Script(status=500),
    "limited": Script(status=429, headers={"retry-after": "1"}),
    "cut": Script(stop_after=1, then="cut"),
    "reset": Script(stop_after=1, then="reset"),
    "left": Script(stop_after=1, then="hang"),
}
LUCK = {"whole": 6, "pieces": 4, "crumbs": 2, "over": 2, **dict.fromkeys(BAD, 1)}
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

Group = tuple[str, str, str]
"""A user, an upstream model, a credential."""


def configuration(url: str) -> str:
    text = ""
    for name, channel in (("oa", "openai"), ("an", "anthropic"), ("ge", "gemini")):
        one = provider(name, channel, url, idle_timeout_s=5)
        head, _, _ = one.partition("credentials")
        secrets = ", ".join(
            f'{{ api_key = "{secret}", label = "{label}", weight = 1 }}' for secret, label in SECRETS.items()
        )
        text += f"{head}credentials = [{secrets}]\n"
        text += (
            f'\n[[model_aliases]]\nalias = "over-{name}"\nprovider_name = "{name}"\nmodel_id = "failing"\n'
            f'targets = [{{ provider_name = "{name}", model_id = "whole" }}]\n'
        )
    return text + "".join(user(name, key, "*") for name, key in USERS.items())


def marked(call: Call, name: str, who: str) -> dict[str, Any]:
    """The body of a call, with its user in a place that the upstream sees."""
    body = call.fields(name)
    place = {"openai": "user", "anthropic": "metadata", "gemini": "labels"}[call.family]
    return body | {place: who if place == "user" else {"who": who}}


def who_asked(exchange: Exchange) -> str:
    body = exchange.json()
    found = body.get("user") or (body.get("metadata") or body.get("labels") or {}).get("who")
    assert isinstance(found, str)
    return found


def credential_of(exchange: Exchange) -> str:
    sent = [exchange.headers.get(name, "") for name in ("authorization", "x-api-key", "x-goog-api-key")]
    return next(label for secret, label in SECRETS.items() if any(value.endswith(secret) for value in sent))


async def one(session: aiohttp.ClientSession, call: Call, luck: str, who: str) -> str:
    """One request of one client; what came of it."""
    name = f"over-{call.provider}" if luck == "over" else f"{call.provider}/{luck}"
    headers = {"authorization": f"Bearer {USERS[who]}"}
    async with session.post(call.url(name), json=marked(call, name, who), headers=headers) as answer:
        if luck == "left":
            await answer.content.readany()
            answer.close()
            return "left"
        try:
            await answer.read()
        except aiohttp.ClientPayloadError:
            return "cut short"
        return str(answer.status)


async def crowd(url: str, requests: int) -> Counter[tuple[str, str]]:
    rng = random.Random(20)
    told: Counter[tuple[str, str]] = Counter()
    plan = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:

        async def client() -> None:
            for _ in plan:
                luck = rng.choices(list(LUCK), weights=list(LUCK.values()))[0]
                streams = luck in ("cut", "reset", "left")
                call = rng.choice([call for call in CALLS if call.stream or not streams])
                told[luck, await one(session, call, luck, rng.choice(list(USERS)))] += 1

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return told


def sums_told(ledger: list[Exchange]) -> dict[Group, Counter[str]]:
    """What the upstream said of every answer that it brought to its end."""
    sums: dict[Group, Counter[str]] = defaultdict(Counter)
    for exchange in ledger:
        if exchange.model in GOOD and exchange.told != Told():
            group = who_asked(exchange), exchange.model, credential_of(exchange)
            sums[group]["requests"] += 1
            for count in COUNTS:
                sums[group][count] += getattr(exchange.told, count) or 0
    return sums


def sums_kept(rows: list[Mapping[str, Any]]) -> dict[Group, Counter[str]]:
    """What the rows say that are not marked."""
    sums: dict[Group, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["usage_source"] == "upstream":
            group = row["user"], row["model"], row["credential"]
            sums[group]["requests"] += 1
            for count in COUNTS:
                sums[group][count] += row[count] or 0
    return sums


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # that a peer is gone is part of the plan
    with tempfile.TemporaryDirectory() as folder, Upstream() as upstream:
        for name, script in {**GOOD, **BAD}.items():
            upstream.model(script, name)
        flags = ("--workers", str(options.workers))
        with Gateway(Path(folder), configuration(upstream.url), *flags) as gateway:
            began = time.monotonic()
            told = asyncio.run(crowd(gateway.url, options.requests))
            took = time.monotonic() - began
            deadline = time.monotonic() + 30
            while len(rows := gateway.rows()) < options.requests and time.monotonic() < deadline:
                time.sleep(0.2)
            command = (*GPROXY, "usage", "verify", "--config", str(gateway.path))
            verified = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        said, kept = sums_told(upstream.ledger), sums_kept(rows)
    differ = {
        group: (said.get(group), kept.get(group))
        for group in {*said, *kept}
        if said.get(group) != kept.get(group)
    }
    # An answer that did not come to its end is never taken for one that did.
    unmarked = [row for row in rows if row["model"] in BAD and row["usage_source"] == "upstream"]
    sources = Counter(row["usage_source"] for row in rows)
    print(f"{options.requests} requests, {options.workers} worker(s), {took:.0f} s; {machine()}")
    print(
        "answers:", json.dumps({f"{luck}: {what}": n for (luck, what), n in sorted(told.items())}, indent=2)
    )
    print(
        f"rows: {len(rows)}, of them {dict(sources)}; over two attempts: {sum(r['attempts'] > 1 for r in rows)}"
    )
    print(f"groups of user, model and credential: {len(said)}; that differ: {len(differ)}")
    tokens = [sum(group[count] for group in sums.values() for count in COUNTS) for sums in (said, kept)]
    print(f"tokens: {tokens[0]} told, {tokens[1]} kept")
    print(f"usage verify: exit {verified.returncode}: {(verified.stdout + verified.stderr).strip()}")
    for group, pair in differ.items():
        print("DIFFERS", group, pair)
    for row in unmarked[:5]:
        print("NOT MARKED", dict(row))
    return int(bool(differ or unmarked or len(rows) != options.requests or verified.returncode))


if __name__ == "__main__":
    sys.exit(main())
