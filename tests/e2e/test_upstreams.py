"""Credentials and failover of a served gateway: over its workers, over a restart, over edits and commands."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.calls import BY_ID
from tests.kit.crowd import Answered, Ask, at_once
from tests.kit.gateway import KEY, Gateway, poll
from tests.kit.settings import closed_port, user
from tests.kit.upstream import Script, Upstream

CHAT = BY_ID["chat"]
LIMITED = Script(status=429, headers={"retry-after": "1"}, body=b'{"error": {"message": "slow down"}}')
REFUSED = Script(status=401, body=b'{"error": {"message": "no such key"}}')
SLOW = Script(stop_after=0, then="gate")


def provider(name: str, url: str, *credentials: str) -> str:
    """A provider whose credentials are inline tables, less their braces."""
    rows = ", ".join(f"{{ {row} }}" for row in credentials)
    return (
        f'\n[[providers]]\nname = "{name}"\nchannel = "custom"\n'
        f'settings = {{ base_url = "{url}" }}\ncredentials = [{rows}]\n'
    )


def alias(name: str, *targets: tuple[str, str]) -> str:
    (first, model), *rest = targets
    more = ", ".join(f'{{ provider_name = "{p}", model_id = "{m}" }}' for p, m in rest)
    return (
        f'\n[[model_aliases]]\nalias = "{name}"\nprovider_name = "{first}"\nmodel_id = "{model}"\n'
        f"targets = [{more}]\n"
    )


ONE = 'api_key = "sk-one-canary-1", label = "one"'
TWO = 'api_key = "sk-two-canary-2", label = "two"'
USERS = user("alice", KEY, "*", is_admin=True)


def chat(gateway: Gateway, model: str) -> Any:
    return gateway.post("/v1/chat/completions", CHAT.fields(model))


def crowd(gateway: Gateway, model: str, count: int) -> list[Answered]:
    asks = [Ask("/v1/chat/completions", CHAT.fields(model), KEY)] * count
    return asyncio.run(at_once(gateway, asks))


def credentials(gateway: Gateway) -> dict[tuple[str, str | None], str]:
    rows = json.loads(gateway.cli("credentials", "list", "--json"))
    return {(row["credential"], row["model"]): row["state"] for row in rows}


def keys(upstream: Upstream, model: str) -> list[str]:
    """Which secrets were used for a model, in order."""
    return [
        exchange.headers["authorization"].removeprefix("Bearer ") for exchange in upstream.exchanges(model)
    ]


def within(seconds: float, look: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    poll(lambda: look() or None, what)
    assert time.monotonic() - began < seconds, what


@pytest.mark.parametrize("workers", ["1", "2"])
def test_with_the_first_provider_down_the_second_answers_everybody(
    upstream: Upstream, tmp_path: Path, workers: str
) -> None:
    model = upstream.model()
    down = provider("down", f"http://127.0.0.1:{closed_port()}", ONE)
    text = down + provider("up", upstream.url, TWO) + alias("both", ("down", "x"), ("up", model)) + USERS
    with Gateway(tmp_path, text, "--workers", workers) as gateway:
        found = Counter(answer.status for _ in range(4) for answer in crowd(gateway, "both", 250))
        rows = poll(
            lambda: found_rows if len(found_rows := gateway.rows(model=model)) == 1000 else None, "rows"
        )
    assert found == {200: 1000}
    assert len(upstream.exchanges(model)) == 1000
    assert {(row["provider"], row["credential"], row["outcome"]) for row in rows} == {("up", "two", "ok")}
    tries = Counter(row["attempts"] for row in rows)
    assert set(tries) <= {1, 2}
    assert tries[2] >= 1
    assert tries[1] > tries[2], "what is known to be down is not tried first again and again"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_after_a_rate_limit_one_of_fifty_probes(upstream: Upstream, tmp_path: Path, workers: str) -> None:
    model = upstream.model(LIMITED)
    text = provider("up", upstream.url, ONE) + USERS
    with Gateway(tmp_path, text, "--workers", workers) as gateway:
        refused = chat(gateway, f"up/{model}")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        upstream.model(SLOW, name=model)
        time.sleep(1.7)  # its time is over, and every worker knows of it
        answers: list[Answered] = []

        async def probe() -> None:
            going = asyncio.create_task(asyncio.to_thread(crowd, gateway, f"up/{model}", 50))
            await asyncio.to_thread(upstream.wait_for, model, 2)
            await asyncio.sleep(0.7)
            upstream.open_gate(model)
            answers.extend(await going)

        asyncio.run(probe())
        assert Counter(answer.status for answer in answers) == {429: 49, 200: 1}
        assert {answer.headers["retry-after"] for answer in answers if answer.status == 429} <= {"4", "5"}
        assert len(upstream.exchanges(model)) == 2
        within(2, lambda: {a.status for a in crowd(gateway, f"up/{model}", 20)} == {200}, "all are served")


def test_a_probe_whose_client_leaves_is_made_by_the_next(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model(LIMITED)
    with Gateway(tmp_path, provider("up", upstream.url, ONE) + USERS) as gateway:
        assert chat(gateway, f"up/{model}").status_code == 429
        upstream.model(SLOW, name=model)
        time.sleep(1.1)
        leaving = [Ask("/v1/chat/completions", CHAT.fields(f"up/{model}"), KEY, leave_after=0.3)]
        asyncio.run(at_once(gateway, leaving))
        upstream.wait_for(model, 2)
        upstream.open_gate(model)
        within(2, lambda: chat(gateway, f"up/{model}").status_code == 200, "another one probes")


def test_a_restart_forgets_no_refused_key_and_a_new_secret_needs_none(
    upstream: Upstream, tmp_path: Path
) -> None:
    model = upstream.model(REFUSED)
    text = provider("up", upstream.url, ONE) + USERS
    with Gateway(tmp_path, text) as gateway:
        assert chat(gateway, f"up/{model}").status_code == 502
        gateway.stop()
        gateway = Gateway(tmp_path, text)
        with gateway:
            upstream.model(name=model)
            held = chat(gateway, f"up/{model}")
            assert (held.status_code, len(upstream.exchanges(model))) == (502, 1)
            assert "up (one): not asked, its key was refused" in held.text
            assert credentials(gateway)["one", None] == "disabled"
            gateway.edit(lambda text: text.replace("sk-one-canary-1", "sk-new-canary-3"))
            within(2, lambda: chat(gateway, f"up/{model}").status_code == 200, "the new secret is used")
            assert credentials(gateway)["one", None] == "ready"
    assert set(keys(upstream, model)[1:]) == {"sk-new-canary-3"}


def test_a_killed_server_forgets_no_cool_down(upstream: Upstream, tmp_path: Path) -> None:
    model = upstream.model(Script(status=429, headers={"retry-after": "300"}))
    text = provider("up", upstream.url, ONE) + USERS
    gateway = Gateway(tmp_path, text)
    with gateway:
        assert chat(gateway, f"up/{model}").status_code == 429
        poll(lambda: credentials(gateway).get(("one", model)) == "cooling" or None, "it is written")
        gateway.kill()
    with Gateway(tmp_path, text) as gateway:
        again = chat(gateway, f"up/{model}")
        assert again.status_code == 429
        assert 280 <= int(again.headers["retry-after"]) <= 300
        row = gateway.row(request_id=again.headers["x-gproxy-request-id"])
    assert (row["attempts"], row["status"], row["outcome"]) == (0, 429, "upstream_error")
    assert len(upstream.exchanges(model)) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reset_is_in_force_in_a_running_server(upstream: Upstream, tmp_path: Path, workers: str) -> None:
    model = upstream.model(REFUSED)
    with Gateway(tmp_path, provider("up", upstream.url, ONE, TWO) + USERS, "--workers", workers) as gateway:
        assert chat(gateway, f"up/{model}").status_code == 502
        time.sleep(1)  # every worker knows of it
        assert {answer.status for answer in crowd(gateway, f"up/{model}", 10)} == {502}
        assert len(upstream.exchanges(model)) == 2
        upstream.model(name=model)
        gateway.cli("credentials", "reset", "up", "two")
        began = time.monotonic()
        within(
            2, lambda: {a.status for a in crowd(gateway, f"up/{model}", 10)} == {200}, "the key is used again"
        )
        assert time.monotonic() - began < 2
        assert credentials(gateway) == {("one", None): "disabled", ("two", None): "ready"}
        seen = gateway.get("/admin/credentials").json()
        assert [(row["credential"], row["state"]) for row in seen] == [("one", "disabled"), ("two", "ready")]
        assert "canary" not in json.dumps(seen)
    assert set(keys(upstream, model)[2:]) == {"sk-two-canary-2"}


def test_a_conversation_stays_at_one_credential_over_workers_and_restarts(
    upstream: Upstream, tmp_path: Path
) -> None:
    model = upstream.model()
    text = provider("up", upstream.url, f"{ONE}, weight = 1", f"{TWO}, weight = 1") + USERS
    for _ in range(2):
        with Gateway(tmp_path, text, "--workers", "2") as gateway:
            for n in range(20):
                body = CHAT.fields(f"up/{model}") | {"prompt_cache_key": f"c{n}"}
                found = asyncio.run(at_once(gateway, [Ask("/v1/chat/completions", body, KEY)] * 3))
                assert {answer.status for answer in found} == {200}
    used: dict[str, set[str]] = {}
    for exchange in upstream.exchanges(model):
        used.setdefault(exchange.json()["prompt_cache_key"], set()).add(exchange.headers["authorization"])
    assert len(used) == 20
    assert all(len(found) == 1 for found in used.values())
    assert len(set.union(*used.values())) == 2
