"""What query strings may ask, and what they are told when they may not."""

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import BadRequest
from gproxy.ledger.report import DIMENSIONS
from gproxy.server.control import queries

NOW = 1_795_612_800.5


def test_a_report_is_by_model_of_thirty_days_unless_asked_otherwise() -> None:
    asked = queries.usage([], NOW, own=False)
    assert (asked.by, asked.latency, asked.filters.until) == (("model",), False, None)
    assert asked.filters.since == datetime.fromtimestamp(NOW - 30 * 86_400, UTC)


def test_all_that_is_asked_of_a_report_is_taken() -> None:
    pairs = [
        ("by", "user"),
        ("by", "day,model"),
        ("by", "user"),
        ("since", "2026-01-01"),
        ("until", "1h"),
        ("provider", "up"),
        ("status", "429"),
        ("key_id", "k1"),
        ("latency", "1"),
        ("key", "the caller's own"),
    ]
    asked = queries.usage(pairs, NOW, own=False)
    assert (asked.by, asked.latency) == (("user", "day", "model"), True)
    filters = asked.filters
    assert (filters.since, filters.status) == (datetime(2026, 1, 1, tzinfo=UTC), (429, 429))
    assert (filters.provider, filters.key_ids, filters.user) == ("up", ("k1",), None)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("by", "colour", "credential"),
        ("colour", "red", "provider, since"),
        ("since", "", "since"),
        ("since", "yesterday", "since"),
        ("until", "-3d", "until"),
        ("since", "30d; DROP TABLE usage", "since"),
        ("status", "4x", "429, or 4xx"),
        ("status", "99999999999999999999", "429, or 4xx"),
        ("status", "²²²", "429, or 4xx"),
        ("latency", "yes", "1 or 0"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_is_allowed(name: str, value: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        queries.usage([(name, value)], NOW, own=False)


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match="more than once"):
        queries.usage([("user", "a"), ("user", "b")], NOW, own=False)


@pytest.mark.parametrize("name", ["user", "key_id", "credential"])
def test_a_key_asks_of_nobody_else(name: str) -> None:
    with pytest.raises(BadRequest):
        queries.usage([(name, "x")], NOW, own=True)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_key_groups_its_own_by_what_is_not_itself(name: str) -> None:
    if name in ("user", "key", "credential"):
        with pytest.raises(BadRequest, match="model"):
            queries.usage([("by", name)], NOW, own=True)
    else:
        assert queries.usage([("by", name)], NOW, own=True).by == (name,)


def test_all_that_is_asked_of_the_logs_is_taken() -> None:
    pairs = {"user": "alice", "key_name": "laptop", "status": "4xx", "errors": "1", "limit": "7"}
    asked = queries.logs(pairs.items(), NOW)
    assert (asked.attempts, asked.limit, asked.filters.errors) == (False, 7, True)
    assert (asked.filters.user, asked.filters.key, asked.filters.status) == ("alice", "laptop", "4xx")
    assert queries.logs([], NOW).limit == 50


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "", "1e3", "9" * 5000])
def test_no_more_of_the_logs_is_given_than_the_cap(limit: str) -> None:
    with pytest.raises(BadRequest, match="from 1 to 1000"):
        queries.logs([("limit", limit)], NOW)


def test_attempts_have_no_user() -> None:
    with pytest.raises(BadRequest, match="attempt"):
        queries.logs([("attempts", "1"), ("user", "alice")], NOW)
    with pytest.raises(BadRequest, match="attempts"):
        queries.logs([("by", "user")], NOW)


@given(st.lists(st.tuples(st.sampled_from(["by", "since", "status", "limit", "latency", "x"]), st.text())))
def test_any_query_is_taken_or_refused(pairs: list[tuple[str, str]]) -> None:
    for ask in (lambda: queries.usage(pairs, NOW, own=True), lambda: queries.logs(pairs, NOW)):
        with contextlib.suppress(BadRequest):
            ask()
