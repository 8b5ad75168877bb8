"""Default deny: what no permission names is refused, and a key's own list only ever takes away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.patterns import Pattern
from gproxy.config.snapshot import Client, Grant
from gproxy.errors import Forbidden
from gproxy.routing.access import allowed, permit
from gproxy.values import Route, Target

BIG = Target("main", "vendor/big")
SMALL = Target("spare", "small")
ROUTE = Route("chat", (BIG, SMALL), alias="chat", strategy="weighted")


def client(*grants: tuple[str | None, str], models: tuple[str, ...] | None = None) -> Client:
    return Client(
        user="alice",
        key_label="laptop",
        key_id="k1",
        grants=tuple(Grant(provider, Pattern(pattern)) for provider, pattern in grants),
        models=None if models is None else tuple(map(Pattern, models)),
    )


def test_without_a_permission_nothing_is_allowed() -> None:
    assert not allowed(client(), BIG, None)
    assert not allowed(client(models=("*",)), BIG, None)


@pytest.mark.parametrize("pattern", ["vendor/big", "main/vendor/big", "vendor/*", "main/*", "chat", "*"])
def test_a_grant_matches_the_id_or_provider_and_id_or_the_alias_sent(pattern: str) -> None:
    assert allowed(client((None, pattern)), BIG, "chat")


@pytest.mark.parametrize("pattern", ["big", "main", "Vendor/big", "chat", "spare/*", ""])
def test_a_grant_matches_nothing_else_of_a_target_that_was_named_directly(pattern: str) -> None:
    assert not allowed(client((None, pattern)), BIG, None)


def test_a_grant_at_a_provider_holds_at_that_provider_alone() -> None:
    here = client(("main", "*"))
    assert allowed(here, BIG, None)
    assert not allowed(here, SMALL, None)
    assert not allowed(here, SMALL, "chat")


def test_an_alias_that_is_granted_grants_its_targets_through_that_name_only() -> None:
    by_alias = client((None, "chat"))
    assert allowed(by_alias, BIG, "chat")
    assert not allowed(by_alias, BIG, "other")
    assert not allowed(by_alias, BIG, None)


@pytest.mark.parametrize("pattern", ["vendor/*", "main/vendor/big", "chat"])
def test_a_keys_list_is_matched_the_same_way(pattern: str) -> None:
    assert allowed(client((None, "*"), models=(pattern,)), BIG, "chat")


def test_a_keys_list_narrows_and_never_widens() -> None:
    assert not allowed(client((None, "*"), models=("small",)), BIG, None)
    assert not allowed(client((None, "small"), models=("*",)), BIG, None)
    assert not allowed(client((None, "*"), models=()), BIG, None)


@given(st.lists(st.sampled_from(["*", "chat", "vendor/*", "small", "main/*", "x"]), max_size=4))
def test_a_key_with_a_list_is_allowed_no_target_that_its_user_is_not(patterns: list[str]) -> None:
    grants = [(None, pattern) for pattern in patterns]
    for target in (BIG, SMALL):
        for alias in (None, "chat"):
            narrow = allowed(client(*grants, models=("*",)), target, alias)
            assert narrow == allowed(client(*grants), target, alias)


def test_targets_that_are_not_allowed_are_left_out_and_the_rest_kept_as_it_was() -> None:
    assert permit(client(("spare", "*")), ROUTE) == Route(
        "chat", (SMALL,), alias="chat", aggregated=True, strategy="weighted"
    )


def test_a_route_that_is_allowed_whole_is_not_changed() -> None:
    assert permit(client((None, "*")), ROUTE) is ROUTE


def test_a_refusal_names_what_was_asked_for_and_nothing_behind_it() -> None:
    with pytest.raises(Forbidden) as refused:
        permit(client((None, "other")), ROUTE)
    assert "chat" in refused.value.message
    for word in ("big", "small", "main", "spare", "other"):
        assert word not in refused.value.message
