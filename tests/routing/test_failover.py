"""The order of attempts, and what the table of upstream answers says of each status."""

from pathlib import Path

import pytest

from gproxy.config.snapshot import Snapshot
from gproxy.config.source import load_text
from gproxy.errors import (
    AnswerBroken,
    ConnectFailed,
    ConnectTimedOut,
    FirstByteTimedOut,
    GatewayError,
    IdleTimedOut,
    RateLimited,
    UpstreamFailed,
    UpstreamFault,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from gproxy.providers.catalog import CHANNELS
from gproxy.routing.failover import Tried, Verdict, attempts, exhausted, judge, may_repeat
from gproxy.values import Route, Target

FILE = b"""
[[providers]]
name = "a"
channel = "custom"
settings = { base_url = "http://a", max_attempts = 3 }
credentials = [{ api_key = "one", label = "one" }, { api_key = "two", label = "two" }]
[[providers]]
name = "b"
channel = "custom"
settings = { base_url = "http://b", max_attempts = 1 }
credentials = [{ api_key = "three" }, { api_key = "four" }]
[[providers]]
name = "bare"
channel = "custom"
settings = { base_url = "http://c" }
"""


@pytest.fixture
def snapshot() -> Snapshot:
    loaded = load_text(FILE, directory=Path(), channels=CHANNELS, environ={})
    assert loaded.snapshot is not None, loaded.errors
    return loaded.snapshot


def order(snapshot: Snapshot, *providers: str, keyless: frozenset[str] = frozenset()) -> list[str]:
    route = Route("x", tuple(Target(name, "x") for name in providers))
    return [f"{t.provider} {c.name}" for t, c in attempts(snapshot, route, keyless)]


def test_every_credential_of_a_target_is_tried_before_the_next_target(snapshot: Snapshot) -> None:
    assert order(snapshot, "a", "b") == ["a one", "a two", "b b#1"]


def test_the_first_targets_provider_bounds_the_attempts_over_all(snapshot: Snapshot) -> None:
    assert order(snapshot, "b", "a") == ["b b#1"]


def test_each_pair_is_tried_once(snapshot: Snapshot) -> None:
    assert order(snapshot, "a") == ["a one", "a two"]


def test_a_provider_without_a_credential_is_called_only_if_it_needs_none(snapshot: Snapshot) -> None:
    assert order(snapshot, "bare") == []
    assert order(snapshot, "bare", keyless=frozenset({"bare"})) == ["bare no key"]
    assert order(snapshot, "bare", "a") == ["a one", "a two"]


def test_a_call_without_a_credential_sends_no_secret(snapshot: Snapshot) -> None:
    route = Route("x", (Target("bare", "x"),))
    assert [c.secret for _, c in attempts(snapshot, route, {"bare"})] == [None]


def test_a_provider_that_needs_no_key_is_called_with_those_it_has(snapshot: Snapshot) -> None:
    assert order(snapshot, "a", keyless=frozenset({"a"})) == ["a one", "a two"]


PASSED = {400, 404, 413, 422}
ELSEWHERE = {301, 302, 303, 304, 307, 308, 401, 402, 403, 405, 408, 409, 418, 429, 500, 502, 503, 504, 529}


@pytest.mark.parametrize("status", sorted({200, 201, 204, 299} | PASSED | ELSEWHERE))
def test_a_status_is_judged_by_the_table(status: int) -> None:
    expected = Verdict.PASS if status in PASSED else Verdict.NEXT if status in ELSEWHERE else Verdict.ANSWER
    assert judge(status) is expected


@pytest.mark.parametrize(
    "body", [b'{"reason":"API_KEY_INVALID"}', b"Incorrect API key", b"incorrect API key"]
)
def test_a_bad_key_that_is_called_a_bad_request_is_tried_elsewhere(body: bytes) -> None:
    assert judge(400, body) is Verdict.NEXT
    assert judge(404, body) is Verdict.PASS


def tried(status: int | None = None, **more: object) -> Tried:
    return Tried("a", "one", "some reason", 12, status, **more)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([], UpstreamFailed),
        ([tried(500)], UpstreamFailed),
        ([tried(401)], UpstreamFailed),
        ([tried()], UpstreamFailed),
        ([tried(429)], RateLimited),
        ([tried(429), tried(402)], RateLimited),
        ([tried(429), tried(500)], UpstreamFailed),
        ([tried(529)], UpstreamOverloaded),
        ([tried(529), tried(529)], UpstreamOverloaded),
        ([tried(529), tried(429)], UpstreamFailed),
        ([tried(timed_out=True)], UpstreamTimeout),
        ([tried(500), tried(timed_out=True)], UpstreamTimeout),
        ([tried(timed_out=True), tried(500)], UpstreamFailed),
    ],
)
def test_what_is_told_when_all_have_failed(story: list[Tried], expected: type[GatewayError]) -> None:
    assert type(exhausted(story)) is expected


def test_every_attempt_is_told_with_its_provider_credential_status_and_time() -> None:
    message = exhausted([tried(500), Tried("b", "b#2", "status 503", 7, 503)]).message
    assert "a (one): some reason, 12 ms" in message
    assert "b (b#2): status 503, 7 ms" in message


def test_the_smallest_hint_is_when_to_come_back() -> None:
    assert exhausted([tried(429, retry_after=9), tried(429), tried(402, retry_after=3)]).headers == (
        ("retry-after", "3"),
    )
    assert exhausted([tried(429)]).headers == ()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (ConnectFailed("x"), True),
        (ConnectTimedOut("x"), True),
        (AnswerBroken("x"), True),
        (FirstByteTimedOut("x"), False),
        (IdleTimedOut("x"), False),
    ],
)
def test_what_may_still_be_running_upstream_is_not_sent_again(fault: UpstreamFault, expected: bool) -> None:
    assert may_repeat(fault) is expected
