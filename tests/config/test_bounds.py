"""What each command makes of limits and quotas; that lines and comments stay is `tests/cli/test_every_edit.py`'s."""

from decimal import Decimal

import pytest

from gproxy.config import bounds, changes
from gproxy.config.document import Document
from gproxy.errors import ConfigError

TEXT = """\
[[users]]
name = "alice"
keys = [{ label = "laptop", api_key = "sk-1", quota = 0.1 }, { label = "ci", api_key = "sk-2" }]

[[rate_limits]]
user_name = "alice"
model_pattern = "*"
rpm = 60
total_tokens = 1000

[[quotas]]
user_name = "alice"
quota = 20

[[quotas]]
user_name = "alice"
quota = 0
period = "day"
"""


@pytest.fixture
def document() -> Document:
    return Document(TEXT)


def limits(document: Document) -> list[dict[str, object]]:
    rows = document.tables("rate_limits")
    return [{name: row[name] for name in row if name not in ("user_name", "model_pattern")} for row in rows]


def quotas(document: Document) -> list[tuple[object, ...]]:
    return [(row["quota"], row.get("period")) for row in document.tables("quotas")]


def test_a_rule_is_made_with_the_bounds_given(document: Document) -> None:
    assert bounds.set_limit(document, "alice", "gpt-*", {"rpm": 5, "tpd": 7, "tpm": None})
    assert limits(document)[1] == {"rpm": 5, "tpd": 7}


def test_a_rule_keeps_the_bounds_that_are_not_named(document: Document) -> None:
    assert not bounds.set_limit(document, "alice", "*", {"rpm": 5, "max_concurrency": 2})
    assert limits(document) == [{"rpm": 5, "total_tokens": 1000, "max_concurrency": 2}]


def test_tokens_per_day_are_set_and_removed_by_the_name_they_have(document: Document) -> None:
    bounds.set_limit(document, "alice", "*", {"tpd": 7})
    assert limits(document) == [{"rpm": 60, "total_tokens": 7}]
    bounds.set_limit(document, "alice", "*", {"tpd": None})
    assert limits(document) == [{"rpm": 60}]


def test_of_tokens_per_day_under_both_names_one_stays() -> None:
    document = Document(TEXT.replace("total_tokens = 1000", "total_tokens = 1000\ntpd = 900"))
    bounds.set_limit(document, "alice", "*", {"tpd": 7})
    assert limits(document) == [{"rpm": 60, "tpd": 7}]


def test_a_rule_without_a_bound_is_refused(document: Document) -> None:
    with pytest.raises(ConfigError, match="limits remove"):
        bounds.set_limit(document, "alice", "*", {"rpm": None, "tpd": None})
    with pytest.raises(ConfigError, match="limits list"):
        bounds.set_limit(document, "alice", "gpt-*", {"rpm": None})


def test_a_rule_is_removed_by_user_and_pattern(document: Document) -> None:
    with pytest.raises(ConfigError, match="alice has no limit for gpt-"):
        bounds.remove_limit(document, "alice", "gpt-*")
    bounds.remove_limit(document, "alice", "*")
    assert limits(document) == []


def test_a_quota_is_set_per_period(document: Document) -> None:
    bounds.set_quota(document, "alice", "total", Decimal("7.5"))
    bounds.set_quota(document, "alice", "day", Decimal(1))
    bounds.set_quota(document, "alice", "month", Decimal(2))
    assert quotas(document) == [(7.5, None), (1.0, "day"), (2.0, "month")]


def test_a_quota_is_taken_out(document: Document) -> None:
    bounds.set_quota(document, "alice", "total", None)
    assert quotas(document) == [(0, "day")]
    with pytest.raises(ConfigError, match="alice has no quota for the period total"):
        bounds.set_quota(document, "alice", "total", None)


def test_a_key_has_one_quota(document: Document) -> None:
    laptop, ci = list(changes.keys(document))
    bounds.set_key_quota(document, ci, Decimal(3))
    bounds.set_key_quota(document, laptop, None)
    assert [key.values.get("quota") for key in changes.keys(document)] == [None, 3.0]
    with pytest.raises(ConfigError, match="alice/laptop has no quota"):
        bounds.set_key_quota(document, changes.find_key(document, "laptop"), None)


def test_a_top_up_adds_by_the_decimal_digits(document: Document) -> None:
    """In binary 0.1 and 0.2 are 0.30000000000000004."""
    assert bounds.top_up_key(document, changes.find_key(document, "laptop"), Decimal("0.2")) == 0.3
    assert bounds.top_up(document, "alice", "total", Decimal("0.01")) == 20.01
    assert quotas(document)[0] == (20.01, None)


def test_only_a_quota_that_is_one_can_be_raised(document: Document) -> None:
    with pytest.raises(ConfigError, match="has no quota to be raised"):
        bounds.top_up(document, "alice", "day", Decimal(1))
    with pytest.raises(ConfigError, match="alice has no quota for the period month"):
        bounds.top_up(document, "alice", "month", Decimal(1))
    with pytest.raises(ConfigError, match="alice/ci has no quota"):
        bounds.top_up_key(document, changes.find_key(document, "ci"), Decimal(1))
    assert document.text == TEXT


def test_nobody_has_limits_or_quotas_under_a_name_that_is_not_there(document: Document) -> None:
    for change in (
        lambda: bounds.set_limit(document, "eve", "*", {"rpm": 1}),
        lambda: bounds.set_quota(document, "eve", "total", Decimal(1)),
        lambda: bounds.top_up(document, "eve", "total", Decimal(1)),
    ):
        with pytest.raises(ConfigError, match="there is no user eve"):
            change()
    assert document.text == TEXT
