"""The order of attempts over all targets, and what is told when all have failed."""

from collections import Counter
from pathlib import Path

import pytest

from gproxy.config.snapshot import Snapshot
from gproxy.config.source import load_text
from gproxy.errors import (
    GatewayError,
    LoopDetected,
    RateLimited,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from gproxy.providers.catalog import CHANNELS
from gproxy.routing import failover
from gproxy.routing.credentials import Cause, Condition, State
from gproxy.routing.failover import Skipped, Tried, candidates, choose, exhausted
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
name = "heavy"
channel = "custom"
settings = { base_url = "http://b", max_attempts = 1 }
credentials = [{ api_key = "five", label = "five" }, { api_key = "six", label = "six", weight = 3 }]
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


READY, PROBE, REFUSED = Condition(), Condition(State.PROBE), Condition(State.REFUSED)


def back(seconds: float) -> Condition:
    return Condition(State.BACK, seconds)


def out(seconds: float) -> Condition:
    return Condition(State.OUT, seconds)


def unasked() -> bytes:
    raise AssertionError("nothing is to be drawn")


def route(*providers: str, strategy: str = "failover") -> Route:
    return Route("x", tuple(Target(name, "x") for name in providers), strategy=strategy)


def order(snapshot: Snapshot, *providers: str, keyless: frozenset[str] = frozenset()) -> list[str]:
    found = candidates(snapshot, route(*providers), keyless, unasked)
    return [f"{target.provider} {credential.name}" for target, credential in found]


@pytest.mark.parametrize("providers", [["a"], ["a", "b"], ["b", "bare", "a"], ["bare"], ["a", "a"]])
def test_a_plan_is_what_every_request_would_find(snapshot: Snapshot, providers: list[str]) -> None:
    it, keyless = route(*providers), frozenset({"bare"})
    plan = failover.plan(snapshot, it, keyless)
    assert plan.candidates == tuple(candidates(snapshot, it, keyless, unasked))
    first = snapshot.providers[providers[0]].settings
    assert (plan.most, plan.total_s) == (first.max_attempts, first.total_timeout_s)


def test_a_plan_leaves_open_what_is_drawn_for_each_conversation(snapshot: Snapshot) -> None:
    assert failover.plan(snapshot, route("heavy"), ()).candidates is None
    assert failover.plan(snapshot, route("a", "heavy"), ()).candidates is None


def test_every_credential_of_a_target_comes_before_the_next_target(snapshot: Snapshot) -> None:
    assert order(snapshot, "a", "b") == ["a one", "a two", "b b#1", "b b#2"]


def test_the_first_targets_provider_bounds_the_attempts_over_all(snapshot: Snapshot) -> None:
    assert failover.max_attempts(snapshot, route("b", "a")) == 1
    assert failover.max_attempts(snapshot, route("a", "b")) == 3


def test_each_pair_is_tried_once(snapshot: Snapshot) -> None:
    assert order(snapshot, "a", "b", "a") == ["a one", "a two", "b b#1", "b b#2"]
    twice = Route("x", (Target("a", "x"), Target("a", "x", weight=3)), strategy="weighted")
    assert [credential.name for _, credential in candidates(snapshot, twice, (), unasked)] == ["one", "two"]


def test_a_provider_without_a_credential_is_called_only_if_it_needs_none(snapshot: Snapshot) -> None:
    assert order(snapshot, "bare") == []
    assert order(snapshot, "bare", keyless=frozenset({"bare"})) == ["bare no key"]
    assert order(snapshot, "bare", "a") == ["a one", "a two"]


def test_a_call_without_a_credential_sends_no_secret(snapshot: Snapshot) -> None:
    found = candidates(snapshot, route("bare"), {"bare"}, unasked)
    assert [credential.secret for _, credential in found] == [None]


def test_a_provider_that_needs_no_key_is_called_with_those_it_has(snapshot: Snapshot) -> None:
    assert order(snapshot, "a", keyless=frozenset({"a"})) == ["a one", "a two"]


def test_one_weight_makes_the_order_of_its_provider_one_by_weight(snapshot: Snapshot) -> None:
    first: Counter[str] = Counter()
    for n in range(10_000):
        found = candidates(snapshot, route("heavy", "a"), (), str(n).encode)
        assert [c.name for _, c in found[2:]] == ["one", "two"]
        first[found[0][1].name] += 1
    assert 0.735 <= first["six"] / 10_000 <= 0.765


# Targets.


def test_targets_are_drawn_by_weight_under_that_strategy_alone() -> None:
    targets = (Target("a", "x", 3), Target("b", "x"), Target("b", "y", 0))
    by_order = Route("x", targets)
    assert failover.order_targets(by_order, unasked, bool) == by_order
    weighted = Route("x", targets, alias="x", strategy="weighted")
    drawn = [failover.order_targets(weighted, str(n).encode, bool).targets for n in range(10_000)]
    assert {found[2] for found in drawn} == {targets[2]}
    assert 0.735 <= Counter(found[0] for found in drawn)[targets[0]] / 10_000 <= 0.765


def test_a_single_target_needs_no_draw() -> None:
    alone = route("a", strategy="weighted")
    assert failover.order_targets(alone, unasked, bool) == alone


def test_where_nothing_is_drawn_the_heaviest_comes_first() -> None:
    targets = tuple(Target("a", str(weight), weight) for weight in (0, 1, 3, 2))
    found = failover.order_targets(Route("x", targets, strategy="weighted"), bytes, bool)
    assert [target.weight for target in found.targets] == [3, 2, 1, 0]


def test_targets_that_cannot_be_asked_now_come_last() -> None:
    found = failover.order_targets(route("a", "b", "bare"), unasked, lambda target: target.provider != "a")
    assert [target.provider for target in found.targets] == ["b", "bare", "a"]


def test_a_target_can_be_asked_while_one_of_its_credentials_can(snapshot: Snapshot) -> None:
    one_left = {"one": out(1), "two": back(9)}
    assert failover.usable(snapshot, Target("a", "x"), lambda c: one_left[c[1].name])
    none_left = {"one": out(1), "two": REFUSED, "no key": out(1)}
    assert not failover.usable(snapshot, Target("a", "x"), lambda c: none_left[c[1].name])
    assert not failover.usable(snapshot, Target("bare", "x"), lambda c: none_left[c[1].name])


def test_after_an_overload_the_other_providers_come_first(snapshot: Snapshot) -> None:
    left = candidates(snapshot, route("a", "b"), (), unasked)[1:]
    assert [c.name for _, c in failover.after_overload(left, "a")] == ["b#1", "b#2", "two"]
    assert failover.after_overload(left[:1], "a") == left[:1]


# Which is next.


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], None),
        ([READY, READY], 0),
        ([back(1), READY], 1),
        ([out(1), PROBE, READY], 1),
        ([back(9), back(3), back(5)], 1),
        ([back(3), back(3)], 0),
        ([out(1), back(9)], 1),
        ([out(1), REFUSED], None),
    ],
)
def test_what_is_out_is_left_out_and_what_is_back_comes_last(
    conditions: list[Condition], expected: int | None
) -> None:
    assert choose(conditions) == expected


# What is told.


def tried(status: int | None = None, **more: object) -> Tried:
    return Tried("a", "one", "some reason", 12, status, **more)  # type: ignore[arg-type]  # fields by name


LIMITED = tried(429, cause=Cause.RATE_LIMITED, retry_s=2.5)
REFUSED_KEY = tried(401, cause=Cause.BAD_KEY)
HELD = Skipped("a", "two", 11.2)
DEAD = Skipped("a", "two", None)


@pytest.mark.parametrize(
    ("story", "passed", "expected"),
    [
        ([], [], UpstreamFailed),
        ([tried(500)], [], UpstreamFailed),
        ([REFUSED_KEY], [], UpstreamFailed),
        ([REFUSED_KEY], [DEAD], UpstreamFailed),
        ([], [DEAD], UpstreamFailed),
        ([tried()], [], UpstreamFailed),
        ([LIMITED], [], RateLimited),
        ([LIMITED, LIMITED], [HELD], RateLimited),
        ([], [HELD], RateLimited),
        ([], [HELD, DEAD], RateLimited),
        ([REFUSED_KEY], [HELD], RateLimited),
        ([LIMITED, tried(500)], [], UpstreamFailed),
        ([tried(500)], [HELD], UpstreamFailed),
        ([tried(529)], [], UpstreamOverloaded),
        ([tried(529), tried(529)], [HELD], UpstreamOverloaded),
        ([tried(529), LIMITED], [], UpstreamFailed),
        ([tried(508)], [], LoopDetected),
        ([tried(timed_out=True)], [], UpstreamTimeout),
        ([tried(500), tried(timed_out=True)], [], UpstreamTimeout),
        ([tried(timed_out=True), tried(500)], [], UpstreamFailed),
    ],
)
def test_what_is_told_when_all_have_failed(
    story: list[Tried], passed: list[Skipped], expected: type[GatewayError]
) -> None:
    assert type(exhausted(story, passed)) is expected


def test_every_attempt_is_told_and_every_one_that_was_not_made() -> None:
    message = exhausted([tried(500), Tried("b", "b#2", "status 503", 7, 503)], [HELD, DEAD]).message
    assert "a (one): some reason, 12 ms" in message
    assert "b (b#2): status 503, 7 ms" in message
    assert "a (two): held off, 12 s more" in message
    assert "a (two): not asked, its key was refused" in message


def test_the_smallest_time_is_when_to_come_back_and_never_too_early() -> None:
    assert exhausted([LIMITED], [HELD]).headers == (("retry-after", "3"),)
    assert exhausted([], [HELD]).headers == (("retry-after", "12"),)
    assert exhausted([], [Skipped("a", "one", 0.01)]).headers == (("retry-after", "1"),)
    assert exhausted([tried(500)], [HELD]).headers == ()


@pytest.mark.parametrize("passed", [[], [HELD]])
def test_what_could_be_asked_just_after_it_was_looked_at_is_no_failure(passed: list[Skipped]) -> None:
    error = exhausted([], passed, untried=True)
    assert (type(error), error.status, dict(error.headers)) == (RateLimited, 429, {"retry-after": "1"})


def test_what_was_left_untried_can_be_asked_at_once() -> None:
    error = exhausted([LIMITED], [HELD], untried=True)
    assert (type(error), error.headers) == (RateLimited, (("retry-after", "1"),))
    assert error.message.startswith("Every upstream credential that was asked")


def test_what_is_passed_over_says_when_only_where_time_helps(snapshot: Snapshot) -> None:
    stands = {"one": out(3), "two": REFUSED, "b#1": back(1), "b#2": PROBE}
    left = candidates(snapshot, route("a", "b"), (), unasked)
    assert failover.passed(left, lambda c: stands[c[1].name]) == [
        Skipped("a", "one", 3),
        Skipped("a", "two", None),
    ]


def test_the_order_that_is_foreseen_is_the_one_that_is_chosen(snapshot: Snapshot) -> None:
    stands = {"one": back(9), "two": out(1), "b#1": back(3), "b#2": PROBE, "no key": READY}
    left = candidates(snapshot, route("a", "b", "bare"), {"bare"}, unasked)
    found = failover.foreseen(left, lambda c: stands[c[1].name])
    assert [candidate[1].name for candidate, _ in found] == ["b#2", "no key", "b#1", "one", "two"]
    for candidate, _ in found[:-1]:
        place = choose([stands[c.name] for _, c in left])
        assert place is not None
        assert left.pop(place) == candidate
    assert choose([stands[c.name] for _, c in left]) is None
