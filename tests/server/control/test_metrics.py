"""What is counted of requests, from served ones."""

from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gproxy import errors
from gproxy.server.control import metrics
from tests.server.parts import (
    ALICE,
    GOOD,
    KEY,
    SECRET,
    USAGE_CHUNK,
    Front,
    Peer,
    Script,
    Seen,
    Visit,
    always,
    by_key,
    chunk,
    http,
    peer,
    provider,
    serving,
    snapshot,
)

ADMIN = '[[users]]\nname = "root"\nis_admin = true\n[[users.keys]]\napi_key = "sk-admin"\n'
LISTED = '[[models]]\nprovider_name = "up"\nmodel_id = "m"\nprice_each_call = 0.5\n'


times = st.integers(0, 700_000) | st.sampled_from(metrics.DURATION_MS)


@given(st.lists(times, min_size=1))
def test_a_time_is_in_the_first_bucket_whose_end_it_does_not_pass(times: list[int]) -> None:
    ends = metrics.DURATION_MS
    found = Counter(bisect_left(ends, it) for it in times)
    assert list(metrics.buckets(ends, times)) == sorted(found.items())


async def scraped(front: Front) -> dict[str, dict[frozenset[str], float]]:
    """Samples by name, and by the values of their labels."""
    answer = await front.ask("/metrics", method="GET", key="sk-admin")
    assert answer.status == 200, answer.body
    assert (answer.header("content-type") or "").startswith("text/plain; version=0.0.4")
    for secret in (KEY, SECRET):
        assert secret.encode() not in answer.body
    found: dict[str, dict[frozenset[str], float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.values())] = sample.value
    return found


def config(up: Peer, more: str = "", **settings: Any) -> str:
    return provider(up.url, **settings) + LISTED + ALICE + ADMIN + more


async def test_a_request_is_counted_with_its_tokens_its_cost_and_its_times(tmp_path: Path) -> None:
    stream = http(
        chunk("hi") + chunk(finish="stop") + USAGE_CHUNK + b"data: [DONE]\n\n", media="text/event-stream"
    )
    async with peer(always(GOOD)) as up, serving(config(up), tmp_path) as front:
        await front.chat("up/m")
        up.script = always(stream)
        await front.chat("up/m", stream=True)
        found = await scraped(front)
    target = {"up", "m"}
    assert found["gproxy_requests_total"] == {frozenset({"openai_chat", *target, "2xx", "ok"}): 2}
    tokens = {"input": 10, "output": 4}
    assert found["gproxy_tokens_total"] == {frozenset({*target, kind}): n for kind, n in tokens.items()}
    assert found["gproxy_cost_usd_total"] == {frozenset(target): 1.0}
    assert found["gproxy_request_duration_seconds_count"] == {frozenset(target): 2}
    assert found["gproxy_time_to_first_token_seconds_count"] == {frozenset(target): 2}
    assert found["gproxy_attempts_total"] == {frozenset({"up", "answered"}): 2}
    assert found["gproxy_requests_in_flight"] == {frozenset(): 0}
    assert found["gproxy_workers"] == {frozenset(): 1}
    assert "gproxy_failovers_total" not in found
    assert "gproxy_unpriced_requests_total" not in found


async def test_so_many_requests_of_one_kind_that_they_are_added_up_before_are_all_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_MOST_OF_A_KIND", 2)
    async with peer(always(GOOD)) as up, serving(config(up), tmp_path) as front:
        for _ in range(5):
            await front.chat("up/m")
        found = await scraped(front)
    assert found["gproxy_requests_total"] == {frozenset({"openai_chat", "up", "m", "2xx", "ok"}): 5}
    assert found["gproxy_cost_usd_total"] == {frozenset({"up", "m"}): 2.5}
    assert found["gproxy_time_to_first_token_seconds_count"] == {frozenset({"up", "m"}): 5}


async def test_what_some_of_a_kind_cost_is_counted_beside_others_whose_price_is_unknown(
    tmp_path: Path,
) -> None:
    async def script(seen: Seen, writer: Any) -> None:
        cost = ', "cost": 0.25' if len(up.seen) % 2 else ""
        writer.write(http(f'{{"usage": {{"prompt_tokens": 5, "completion_tokens": 2{cost}}}}}'.encode()))
        await writer.drain()

    async with peer(script) as up, serving(provider(up.url) + ALICE + ADMIN, tmp_path) as front:
        for _ in range(4):
            await front.chat("up/m")
        found = await scraped(front)
    assert found["gproxy_cost_usd_total"] == {frozenset({"up", "other"}): 0.5}
    assert found["gproxy_unpriced_requests_total"] == {frozenset({"up", "other"}): 2}


async def test_a_failed_attempt_is_counted_by_its_cause_and_as_a_failover_if_another_follows(
    tmp_path: Path,
) -> None:
    limited, good = http(status=429, more=("retry-after: 30",)), GOOD
    script = by_key({"sk-upstream-1": limited, "sk-upstream-2": good})
    async with peer(script) as up:
        text = config(up, secrets=("sk-upstream-1", "sk-upstream-2"))
        async with serving(text, tmp_path) as front:
            assert (await front.chat("up/m")).status == 200
            found = await scraped(front)
            up.script = always(http(status=500))
            assert (await front.chat("up/m")).status == 502
            after = await scraped(front)
    causes = {frozenset({"up", "rate_limited"}): 1, frozenset({"up", "answered"}): 1}
    assert found["gproxy_attempts_total"] == causes
    assert found["gproxy_failovers_total"] == {frozenset({"up", "rate_limited"}): 1}
    assert found["gproxy_credential_models_cooling"][frozenset({"up", "up#1"})] == 1
    assert 0 < found["gproxy_credential_cooldown_seconds"][frozenset({"up", "up#1"})] <= 30
    # The second failed by its only usable credential, and no other followed.
    assert after["gproxy_attempts_total"] == {**causes, frozenset({"up", "trouble"}): 1}
    assert after["gproxy_failovers_total"] == found["gproxy_failovers_total"]
    assert after["gproxy_requests_total"][frozenset({"openai_chat", "up", "m", "5xx", "upstream_error"})] == 1


@pytest.mark.parametrize(
    ("limit", "status", "reason"),
    [
        ('[[rate_limits]]\nuser_name = "alice"\nmodel_pattern = "*"\nrpm = 1\n', 429, "limit"),
        ('[[quotas]]\nuser_name = "alice"\nquota = 0.5\n', 402, "quota"),
    ],
)
async def test_a_limit_and_a_quota_of_ours_are_counted_as_refusals_alone(
    tmp_path: Path, limit: str, status: int, reason: str
) -> None:
    async with peer(always(GOOD)) as up, serving(config(up, limit), tmp_path) as front:
        assert [(await front.chat("up/m")).status for _ in range(3)] == [200, status, status]
        found = await scraped(front)
    assert found["gproxy_refusals_total"] == {frozenset({"openai_chat", reason}): 2}
    assert sum(found["gproxy_requests_total"].values()) == 1


async def test_other_refusals_are_counted_by_their_reason(tmp_path: Path) -> None:
    narrow = ALICE.replace('model_pattern = "*"', 'model_pattern = "up/a"')
    async with serving(provider("http://x") + narrow + ADMIN, tmp_path) as front:
        await front.ask("/v1/messages", {"model": "up/m"}, key="sk-wrong")
        await front.ask("/v1/messages", b"{")
        await front.chat("up/m")
        await front.ask("/v1/nowhere", {}, key="sk-wrong")
        found = await scraped(front)
    assert found["gproxy_refusals_total"] == {
        frozenset({"anthropic_messages", "key"}): 1,
        frozenset({"anthropic_messages", "invalid"}): 1,
        frozenset({"openai_chat", "permission"}): 1,
    }


async def test_names_of_clients_make_no_labels(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up:
        text = provider(up.url) + ALICE + ADMIN
        text += '[[model_aliases]]\nalias = "known"\nprovider_name = "up"\nmodel_id = "aimed"\n'
        async with serving(text, tmp_path) as front:
            for n in range(20):
                await front.chat(f"up/made-up-{n}")
            await front.chat("known")
            found = await scraped(front)
    assert found["gproxy_requests_total"] == {
        frozenset({"openai_chat", "up", "other", "2xx", "ok"}): 20,
        frozenset({"openai_chat", "up", "aimed", "2xx", "ok"}): 1,
    }
    assert found["gproxy_unpriced_requests_total"][frozenset({"up", "other"})] == 20


async def test_beyond_the_cap_configured_names_are_told_together_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_PAIRS", 2)
    names = "abcd"
    listed = "".join(f'[[models]]\nprovider_name = "up"\nmodel_id = "{name}"\n' for name in names)
    async with (
        peer(always(GOOD)) as up,
        serving(provider(up.url) + ALICE + ADMIN + listed, tmp_path) as front,
    ):
        for name in names:
            await front.chat(f"up/{name}")
        found = await scraped(front)
    assert sorted(found["gproxy_unpriced_requests_total"].values()) == [1, 1, 2]


async def test_a_client_that_leaves_is_counted_when_its_accounts_are_closed(tmp_path: Path) -> None:
    async def silent(seen: Seen, writer: Any) -> None:
        visit.leave()
        await up.left.wait()

    script: Script = silent
    async with peer(script) as up, serving(config(up), tmp_path) as front:
        visit = Visit(then_leave=False)
        visit.give(b'{"model": "up/m", "messages": []}')
        await front.ask("/v1/chat/completions", visit=visit)
        await front.tasks.drain(5)
        found = await scraped(front)
    assert found["gproxy_requests_total"] == {
        frozenset({"openai_chat", "up", "m", "4xx", "client_closed"}): 1
    }
    assert found["gproxy_attempts_total"] == {frozenset({"up", "cut_off"}): 1}


async def test_counts_are_those_of_the_rows(tmp_path: Path) -> None:
    given = '"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20}'
    answered = '"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 8}'
    good = http(f'{{"usage": {{{given}, {answered}}}}}'.encode())
    answers = {"ok": good, "no": http(b'{"error": {"message": "no"}}', 400), "bad": http(status=500)}

    async def script(seen: Seen, writer: Any) -> None:
        writer.write(answers[seen.json()["model"]])
        await writer.drain()

    limit = '[[rate_limits]]\nuser_name = "alice"\nmodel_pattern = "limited"\nrpm = 1\n'
    aliases = '[[model_aliases]]\nalias = "limited"\nprovider_name = "up"\nmodel_id = "ok"\n'
    async with peer(script) as up, serving(config(up, limit + aliases), tmp_path) as front:
        front.gateway.swap(snapshot(provider(up.url) + ALICE + ADMIN + limit + aliases))
        for model in ("up/ok", "up/no", "up/bad", "up/ok", "limited", "limited", "nobody/x", "up/ok") * 20:
            await front.chat(model)
        found = await scraped(front)
        rows = await front.rows()
    assert len(rows) > 100
    assert sum(found["gproxy_requests_total"].values()) == len(rows)
    for kind in ("input", "output", "cache_read", "cache_write", "reasoning"):
        counted = sum(n for labels, n in found["gproxy_tokens_total"].items() if kind in labels)
        assert counted > 0
        assert counted == sum(row[f"{kind}_tokens"] or 0 for row in rows)
    assert (
        sum(found["gproxy_attempts_total"].values()) == sum(row["attempts"] for row in rows) == len(up.seen)
    )
    assert sum(found["gproxy_refusals_total"].values()) == 8 * 20 - len(rows)


async def test_the_next_process_of_a_slot_goes_on_with_what_was_told(tmp_path: Path) -> None:
    for told in (1, 2):
        async with peer(always(GOOD)) as up, serving(config(up), tmp_path) as front:
            await front.chat("up/m")
            found = await scraped(front)
        assert sum(found["gproxy_requests_total"].values()) == told


async def test_a_folder_that_cannot_be_written_costs_no_request_and_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics").write_bytes(b"in the way")
    async with peer(always(GOOD)) as up, serving(config(up), tmp_path) as front:
        assert (await front.chat("up/m")).status == 200
        found = await scraped(front)
        await scraped(front)
    assert sum(found["gproxy_requests_total"].values()) == 1
    assert caplog.text.count("cannot be written") == 1


def test_every_reason_is_that_of_an_error() -> None:
    for name in metrics.REASONS:
        assert issubclass(getattr(errors, name), errors.GatewayError)
