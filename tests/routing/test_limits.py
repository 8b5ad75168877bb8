"""Which rules hold for a name, and what a client is told; counting is held by `tests/ledger/test_spend.py`."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config import schema
from gproxy.config.snapshot import Client, LimitRule, Snapshot, build
from gproxy.errors import QuotaExceeded, RateLimited
from gproxy.routing.limits import bounds_for, rate_headers, refusal, rules_for
from gproxy.values import Admission, Bound, Budget, Standing, Target

BIG = Target("main", "vendor/big")


def clients(*patterns: str, key: schema.UserKey | None = None) -> Client:
    """A client whose user has a rule of one request a minute for each pattern."""
    key = key or schema.UserKey(label="laptop", api_key="sk-1")
    built: Snapshot = build(
        schema.Config(
            users=(schema.User(name="alice", keys=(key,)), schema.User(name="bob")),
            rate_limits=(
                *(schema.RateLimit(user_name="alice", model_pattern=p, rpm=1) for p in patterns),
                schema.RateLimit(user_name="bob", model_pattern="*", rpm=1),
            ),
        ),
        {},
    )
    (client,) = built.clients.values()
    return client


def globs(rules: tuple[LimitRule, ...]) -> list[str]:
    return [rule.pattern.glob for rule in rules]


@pytest.mark.parametrize(
    ("patterns", "alias", "rules"),
    [
        (("*", "vendor/*", "vendor/b*"), None, ["vendor/b*"]),
        (("*", "vendor/*", "vendor/big"), None, ["vendor/big"]),
        (("*", "other"), None, ["*"]),
        (("*", "*big"), None, ["*big"]),
        (("*", "main/*", "vendor*"), None, ["vendor*"]),
        (("other", "Vendor/big"), None, []),
        (("vendor/big", "chat"), "chat", ["vendor/big", "chat"]),
        (("vendor/big", "chat"), None, ["vendor/big"]),
        (("vendor/big", "main/vendor/big", "main/vendor/*"), None, ["vendor/big", "main/vendor/big"]),
        (("vendor/big", "a-much-longer-alias"), "a-much-longer-alias", ["vendor/big", "a-much-longer-alias"]),
        (("vendor/*", "chat"), "chat", ["chat"]),
        (("c*", "v*"), "chat", ["c*", "v*"]),
    ],
)
def test_the_most_specific_rule_holds_under_any_of_the_names(
    patterns: tuple[str, ...], alias: str | None, rules: list[str]
) -> None:
    assert globs(rules_for(clients(*patterns), BIG, alias)) == rules


def _matches(pattern: str, name: str) -> bool:
    """The plain reference: the glob as a regular expression of the simplest kind."""
    return bool(
        re.fullmatch("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), name, re.S)
    )


def _specific(pattern: str) -> int:
    """The plain reference: an exact name, then the longest literal prefix, then `*`."""
    if "*" not in pattern and "?" not in pattern:
        return 10**6
    prefix = re.match(r"[^*?]*", pattern)
    assert prefix is not None
    return -1 if set(pattern) == {"*"} else len(prefix[0])


GLOBS = st.text("ab/*?", min_size=1, max_size=6)
NAMES = st.text("ab/", min_size=1, max_size=4)


@given(st.lists(GLOBS, unique=True, max_size=8), NAMES, st.one_of(st.none(), NAMES))
def test_the_rules_agree_with_a_plain_reading_of_the_contract_and_an_alias_is_no_way_round(
    patterns: list[str], model: str, alias: str | None
) -> None:
    client = clients(*patterns)
    target = Target("ab", model)

    def expected(*names: str) -> list[str]:
        matching = [p for p in patterns if any(_matches(p, name) for name in names)]
        best = max(map(_specific, matching), default=0)
        return [p for p in matching if _specific(p) == best]

    direct = rules_for(client, target, None)
    by_alias = rules_for(client, target, alias)
    assert globs(direct) == expected(model, f"ab/{model}")
    assert globs(by_alias) == expected(model, f"ab/{model}", *([alias] if alias else []))
    # No name frees a request of its model's rule, but by a rule for that name which is more specific.
    if direct:
        assert by_alias
        assert set(direct) <= set(by_alias) or by_alias[0].rank > direct[0].rank


def test_a_keys_own_bounds_hold_beside_its_users() -> None:
    key = schema.UserKey(label="laptop", api_key="sk-1", rpm=2, max_concurrency=3)
    client = clients("*", "vendor/big", key=key)
    assert bounds_for(client, BIG, None) == (
        Bound("user/alice/vendor/big", "rpm", 1),
        Bound(client.key_scope, "rpm", 2),
        Bound(client.key_scope, "concurrency", 3),
    )


# What a client is told.

MINUTE = Bound("user/alice/*", "rpm", 60)
HOUR_LEFT = Standing(Bound("user/alice/*", "rpd", 100), 7, 3600.25)


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (Bound("user/a/*", "rpm", 60), "60 requests per minute is reached for this user and model"),
        (Bound("user/a/*", "rpd", 1), "The limit of 1 request per day is reached"),
        (Bound("key/k1", "tpd", 1), "The limit of 1 token per day is reached"),
        (Bound("key/k1", "concurrency", 1), "The limit of 1 request at once is reached"),
        (Bound("user/a/*", "tpm", 5), "5 tokens per minute"),
        (Bound("user/a/*", "tpd", 5), "5 tokens per day"),
        (Bound("key/k1", "concurrency", 5), "5 requests at once is reached for this key"),
    ],
)
@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "1"), (1.0, "1"), (1.001, "2"), (59.5, "60"), (61, "61")]
)
def test_a_full_bound_is_429_and_says_when_in_whole_seconds_never_too_early(
    bound: Bound, words: str, seconds: float, told: str
) -> None:
    error = refusal(bound, Admission((), (), bound, retry_after=seconds), 402)
    assert isinstance(error, RateLimited)
    assert error.status == 429
    assert dict(error.headers) == {"retry-after": told}
    assert words in error.message
    assert f"again in {told} s" in error.message


@pytest.mark.parametrize("status", [402, 429])
@pytest.mark.parametrize(
    ("budget", "alone", "words"),
    [
        (Budget("user/a", "total", 20 * 10**9), False, "The quota of $20.00 of this user is spent."),
        (Budget("user/a", "day", 1_500_000), False, "The quota of $0.0015 for today of this user is spent."),
        (
            Budget("key/k", "month", 10**9),
            True,
            "left of the quota of $1.00 for this month of this key does not",
        ),
    ],
)
def test_a_spent_quota_says_which_and_whether_trying_again_is_of_use(
    budget: Budget, alone: bool, words: str, status: int
) -> None:
    error = refusal(budget, Admission((HOUR_LEFT,), (), budget, fits_alone=alone), status)
    assert isinstance(error, QuotaExceeded)
    assert error.status == status
    assert words in error.message
    assert dict(error.headers).get("x-should-retry") == (None if alone else "false")
    assert dict(error.headers)["x-ratelimit-remaining-requests"] == "7"
    assert "retry-after" not in dict(error.headers)


def test_the_headers_tell_of_each_bound_in_whole_seconds_never_too_early() -> None:
    admission = Admission((HOUR_LEFT, Standing(Bound("key/k", "tpd", 5000), 0, 7200.5)))
    assert rate_headers(admission) == (
        ("x-ratelimit-limit-requests", "100"),
        ("x-ratelimit-remaining-requests", "7"),
        ("x-ratelimit-reset-requests", "3601s"),
        ("x-ratelimit-limit-tokens", "5000"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "7201s"),
    )


def test_without_a_bound_there_is_no_header() -> None:
    assert rate_headers(Admission()) == ()
