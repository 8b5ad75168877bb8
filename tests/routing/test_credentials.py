"""How health changes by what upstreams answer, and how credentials are ordered by weight."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.snapshot import Credential
from gproxy.routing import credentials as c
from gproxy.routing.credentials import Cause, Condition, Failure, State, after_failure, after_success
from gproxy.values import READY, Health

NOW = 1_795_612_800.0


def failed(cause: Cause, hint_s: float | None = None) -> Failure:
    return Failure(cause, "status 000", 500, hint_s)


def after(*causes: Cause, hint_s: float | None = None) -> Health:
    """The health after failures in a row, each sent when the last was known, at its end."""
    health, now = READY, NOW
    for cause in causes:
        now = max(now, health.until)
        health = after_failure(health, failed(cause, hint_s), began=now, now=now)
    return health


def waits(cause: Cause, count: int) -> list[float]:
    found, health, now = [], READY, NOW
    for _ in range(count):
        health = after_failure(health, failed(cause), began=now, now=now)
        found.append(health.until - now)
        now = health.until
    return found


# How long, and in which way.


@pytest.mark.parametrize(
    ("cause", "state", "held"),
    [
        (Cause.RATE_LIMITED, "cooling", "out"),
        (Cause.BILLING, "cooling", "out"),
        (Cause.BAD_KEY, "disabled", ""),
        (Cause.FORBIDDEN, "cooling", "back"),
        (Cause.NO_CONNECTION, "cooling", "back"),
        (Cause.TROUBLE, "cooling", "back"),
    ],
)
def test_only_rate_limits_billing_and_a_refused_key_take_a_credential_out(
    cause: Cause, state: str, held: str
) -> None:
    health = after(cause)
    assert (health.state, health.held) == (state, held)
    assert (health.failures, health.status, health.error, health.at) == (1, 500, "status 000", NOW)


@pytest.mark.parametrize("cause", [Cause.RATE_LIMITED, Cause.TROUBLE, Cause.NO_CONNECTION])
def test_failures_in_a_row_double_the_wait_up_to_a_minute(cause: Cause) -> None:
    assert waits(cause, 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_forbidden_model_waits_longer() -> None:
    assert waits(Cause.FORBIDDEN, 6) == [60, 120, 240, 480, 600, 600]


def test_no_number_of_failures_is_too_large() -> None:
    health = Health(state="cooling", held="back", failures=10**6, at=NOW)
    assert after_failure(health, failed(Cause.TROUBLE), began=NOW, now=NOW).until == NOW + 60


@pytest.mark.parametrize(
    ("hint_s", "seconds"), [(0, 1), (0.2, 1), (7.5, 7.5), (900, 900), (901, 900), (1e9, 900)]
)
def test_a_hint_is_clamped(hint_s: float, seconds: float) -> None:
    assert after(Cause.RATE_LIMITED, hint_s=hint_s).until == NOW + seconds


def test_an_empty_balance_waits_long_whatever_the_hint() -> None:
    assert after(Cause.BILLING, hint_s=1).until == NOW + c.BILLING_SECONDS


def test_requests_that_failed_side_by_side_count_as_one() -> None:
    health = READY
    for n in range(50):
        health = after_failure(health, failed(Cause.RATE_LIMITED), began=NOW - 1, now=NOW + n / 1000)
    assert health.failures == 1
    assert health.until == pytest.approx(NOW + 1.049)


def test_a_shorter_wait_never_shortens_a_longer_one() -> None:
    long = after_failure(READY, failed(Cause.RATE_LIMITED, 100), began=NOW, now=NOW)
    assert after_failure(long, failed(Cause.RATE_LIMITED, 3), began=NOW, now=NOW + 1).until == NOW + 100


def test_what_is_out_stays_so_for_as_long_as_it_was_whatever_else_fails() -> None:
    out = after(Cause.RATE_LIMITED, hint_s=30)
    later = after_failure(out, failed(Cause.FORBIDDEN), began=NOW, now=NOW + 1)
    assert (later.held, later.until, later.error) == ("out", NOW + 30, "status 000")


def test_what_is_only_back_does_not_lengthen_being_out() -> None:
    back = after(Cause.FORBIDDEN)
    out = after_failure(back, failed(Cause.RATE_LIMITED, 3), began=NOW, now=NOW)
    assert (out.held, out.until) == ("out", NOW + 3)


def test_a_failure_after_being_out_is_a_failure_as_any_other() -> None:
    out = after(Cause.RATE_LIMITED, hint_s=30)
    later = after_failure(out, failed(Cause.TROUBLE), began=NOW + 30, now=NOW + 31)
    assert (later.held, later.until) == ("back", NOW + 33)


def test_a_disabled_key_is_not_enabled_by_time_failures_or_late_answers() -> None:
    dead = after(Cause.BAD_KEY)
    assert after_failure(dead, failed(Cause.RATE_LIMITED), began=NOW, now=NOW).state == "disabled"
    assert after_success(dead, began=NOW + 1).state == "disabled"
    assert c.condition(dead, READY, NOW + 10**9) == Condition(State.REFUSED)


def test_success_ends_a_cool_down_and_the_row_of_failures_but_not_the_story() -> None:
    health = after_success(after(Cause.TROUBLE, Cause.TROUBLE), began=NOW + 5)
    assert (health.state, health.held, health.until, health.failures) == ("ready", "", 0, 0)
    assert health.error == "status 000"


def test_an_answer_to_what_was_sent_before_the_failure_proves_nothing() -> None:
    out = after(Cause.RATE_LIMITED)
    assert after_success(out, began=NOW - 0.001) == out


# How it stands.


def test_the_worse_of_both_is_how_a_credential_stands() -> None:
    back, out, dead = after(Cause.TROUBLE), after(Cause.RATE_LIMITED), after(Cause.BAD_KEY)
    assert c.condition(READY, READY, NOW) == Condition()
    assert c.condition(back, READY, NOW) == Condition(State.BACK, 1)
    assert c.condition(back, out, NOW) == Condition(State.OUT, 1)
    assert c.condition(dead, out, NOW) == Condition(State.REFUSED)


def test_a_cool_down_ends_with_a_probe() -> None:
    assert c.condition(after(Cause.TROUBLE), READY, NOW + 1) == Condition(State.PROBE)
    assert c.condition(READY, after(Cause.RATE_LIMITED), NOW + 1) == Condition(State.PROBE)


def test_a_wait_beyond_any_was_set_by_another_clock() -> None:
    ahead = Health(state="cooling", held="back", until=NOW + 86_400, at=NOW + 86_300)
    assert c.condition(ahead, READY, NOW) == Condition(State.PROBE)


def test_what_ended_by_a_clock_that_was_set_back_is_not_there_again_when_it_comes_round() -> None:
    probed = c.probed(after(Cause.RATE_LIMITED), NOW - 7200)
    assert probed is not None
    answered = after_success(probed, began=NOW - 7200)
    assert c.condition(READY, answered, NOW - 7000) == c.condition(READY, answered, NOW + 0.5) == Condition()


@pytest.mark.parametrize(("cause", "held"), [(Cause.RATE_LIMITED, State.OUT), (Cause.TROUBLE, State.BACK)])
def test_a_probe_holds_the_others_off_for_a_moment(cause: Cause, held: State) -> None:
    probed = c.probed(after(cause), NOW + 2)
    assert probed is not None
    assert c.probed(probed, NOW + 2) is None
    assert c.condition(probed, READY, NOW + 3) == Condition(held, c.PROBE_SECONDS - 1)
    assert c.condition(probed, READY, NOW + 2 + c.PROBE_SECONDS) == Condition()


def test_nothing_is_probed_before_its_time_or_that_does_not_cool_down() -> None:
    for health in (READY, after(Cause.RATE_LIMITED), after(Cause.TROUBLE), after(Cause.BAD_KEY)):
        assert c.probed(health, NOW) is None


def test_a_probe_that_was_given_up_is_made_by_another() -> None:
    probed = c.probed(after(Cause.RATE_LIMITED), NOW + 2)
    assert probed is not None
    assert c.not_probed(probed, probed.probe_until - 1) == probed
    assert c.condition(c.not_probed(probed, probed.probe_until), READY, NOW + 3) == Condition(State.PROBE)


def test_the_outcome_of_a_probe_ends_it() -> None:
    probed = c.probed(after(Cause.RATE_LIMITED), NOW + 2)
    assert probed is not None
    again = after_failure(probed, failed(Cause.RATE_LIMITED), began=NOW + 2, now=NOW + 2)
    assert (again.failures, again.until, again.probe_until) == (2, NOW + 4, 0)
    assert after_success(probed, began=NOW + 2).state == "ready"


@given(st.lists(st.tuples(st.sampled_from(Cause), st.floats(0, 2000), st.floats(-5, 100)), max_size=20))
def test_no_story_locks_a_credential_up_for_longer_than_the_longest_wait(
    story: Sequence[tuple[Cause, float, float]],
) -> None:
    health, now = READY, NOW
    for cause, hint_s, pause in story:
        now += max(pause, 0)
        health = after_failure(health, failed(cause, hint_s), began=now + min(pause, 0), now=now)
        if health.state == "cooling":
            assert 0 < c.left(health, now) <= c.MOST_SECONDS
        assert health.failures >= 1
    if all(cause is not Cause.BAD_KEY for cause, _, _ in story):
        assert after_success(health, began=now).state == "ready"


# The order.


def order(*pairs: tuple[str, int | None], seed: bytes = b"s") -> list[str]:
    found = c.in_order("p", [Credential(name=name, weight=weight) for name, weight in pairs], lambda: seed)
    return [credential.name for credential in found]


def test_credentials_are_asked_in_file_order_and_nothing_is_drawn() -> None:
    def never() -> bytes:
        raise AssertionError

    given_ = [Credential(name="b"), Credential(name="a")]
    assert c.in_order("p", given_, never) == given_
    assert c.in_order("p", [Credential(name="b", weight=3)], never) == [Credential(name="b", weight=3)]


@pytest.mark.parametrize("weights", [(3, 1), (3, None)])
def test_ten_thousand_requests_split_by_weight(weights: tuple[int, int | None]) -> None:
    first = Counter(
        order(("a", weights[0]), ("b", weights[1]), seed=str(n).encode())[0] for n in range(10_000)
    )
    assert 0.735 <= first["a"] / 10_000 <= 0.765


def test_one_seed_has_one_order() -> None:
    pairs = [(str(n), n) for n in range(1, 20)]
    assert order(*pairs, seed=b"x") == order(*reversed(pairs), seed=b"x")
    assert order(*pairs, seed=b"x") != order(*pairs, seed=b"y")


def test_without_one_the_others_keep_their_order() -> None:
    pairs = [(str(n), 1 + n % 3) for n in range(8)]
    whole = order(*pairs)
    for gone in whole:
        assert order(*(pair for pair in pairs if pair[0] != gone)) == [name for name in whole if name != gone]


def test_weight_0_comes_last_in_file_order() -> None:
    for n in range(50):
        assert order(("z", 0), ("y", 0), ("a", 1), seed=str(n).encode()) == ["a", "z", "y"]
