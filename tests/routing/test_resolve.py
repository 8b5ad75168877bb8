"""What a name means, step by step, and against a reference that is written from the contract's sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.snapshot import Snapshot
from gproxy.config.source import load_text
from gproxy.errors import BadRequest, NotFound
from gproxy.providers.catalog import CHANNELS
from gproxy.routing.resolve import available, resolve, serves
from gproxy.values import Route, Target


def table(kind: str, **keys: str | bool) -> str:
    lines = (
        f"{key} = {str(value).lower() if value in (True, False) else repr(value)}"
        for key, value in keys.items()
    )
    return f"[[{kind}]]\n" + "\n".join(lines) + "\n"


def provider(name: str, *, enabled: bool = True) -> str:
    return table("providers", name=name, channel="demo", enabled=enabled)


def model(provider_name: str, model_id: str, *, enabled: bool = True) -> str:
    return table("models", provider_name=provider_name, model_id=model_id, enabled=enabled)


def alias(name: str, provider_name: str, model_id: str, more: str = "") -> str:
    return table("model_aliases", alias=name, provider_name=provider_name, model_id=model_id) + more


def snapshot(*tables: str) -> Snapshot:
    loaded = load_text("".join(tables).encode(), directory=Path(), channels=CHANNELS, environ={})
    assert loaded.snapshot is not None, loaded.errors
    return loaded.snapshot


OPEN = provider("open")
LISTED = provider("listed") + model("listed", "m") + model("listed", "vendor/m")
SPARE = provider("spare") + model("spare", "n")
CHAT = alias("chat", "open", "x", "targets = [{ provider_name = 'spare', model_id = 'n', weight = 3 }]\n")
HERE = snapshot(
    OPEN,
    LISTED,
    SPARE,
    CHAT,
    alias("listed/alias", "open", "y"),
    alias("vendor/m", "open", "z"),
    alias("off", "open", "x", "enabled = false\n"),
    provider("down", enabled=False),
    model("down", "only-down"),
)


def targets(name: str, scoped: str | None = None, here: Snapshot = HERE) -> list[str]:
    return [f"{t.provider}:{t.model}" for t in resolve(here, name, scoped).targets]


def test_an_alias_stands_for_all_its_targets_in_order() -> None:
    assert resolve(HERE, "chat") == Route(
        "chat", (Target("open", "x"), Target("spare", "n", 3)), alias="chat", strategy="failover"
    )


def test_an_exact_alias_comes_before_a_provider_prefix() -> None:
    assert targets("listed/alias") == ["open:y"]


def test_a_prefix_names_its_provider_and_all_the_rest_is_the_model() -> None:
    assert targets("open/a/b:c") == ["open:a/b:c"]
    assert targets("open/listed/m") == ["open:listed/m"]


def test_behind_a_prefix_an_alias_keeps_the_targets_of_that_provider_alone() -> None:
    assert targets("spare/chat") == ["spare:n"]
    assert resolve(HERE, "spare/chat").alias == "chat"


def test_behind_a_prefix_an_alias_without_a_target_there_is_a_plain_id() -> None:
    assert targets("listed/chat") == ["listed:chat"]
    assert resolve(HERE, "listed/chat").alias is None


def test_behind_a_prefix_an_id_that_is_listed_comes_before_an_alias() -> None:
    here = snapshot(LISTED, alias("m", "listed", "vendor/m"))
    assert targets("listed/m", here=here) == ["listed:m"]
    assert targets("m", here=here) == ["listed:vendor/m"]


@pytest.mark.parametrize("name", ["m", "n"])
def test_a_bare_name_that_one_provider_lists_is_that_providers(name: str) -> None:
    assert targets(name) == [{"m": "listed:m", "n": "spare:n"}[name]]


def test_a_bare_name_with_a_slash_is_one_too() -> None:
    assert targets("vendor/m", here=snapshot(LISTED)) == ["listed:vendor/m"]


@pytest.mark.parametrize(
    ("told", "ways"),
    [
        (lambda _: True, '"listed/m" or "b/m"'),
        (lambda target: target == Target("b", "m"), '"b/m"'),
        (lambda _: False, '"provider/model"'),
        (None, '"provider/model"'),
    ],
)
def test_a_bare_name_that_two_providers_list_is_refused_by_those_that_may_be_told(
    told: Callable[[Target], bool] | None, ways: str
) -> None:
    here = snapshot(LISTED, provider("b"), model("b", "m"))
    with pytest.raises(BadRequest) as refused:
        resolve(here, "m", told=told)
    assert f"Write it as {ways}, define an alias" in refused.value.message


def test_a_bare_name_is_not_lost_to_a_provider_that_is_off() -> None:
    here = snapshot(LISTED, provider("b", enabled=False), model("b", "m"))
    assert targets("m", here=here) == ["listed:m"]


@pytest.mark.parametrize(
    "name", ["unknown", "nobody/x", "only-down", "off", "open", "open/", "/x", "Chat", " chat"]
)
def test_a_name_that_means_nothing_is_400_and_names_the_three_ways_out(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        resolve(HERE, name)
    assert "provider/model" in refused.value.message
    assert "alias" in refused.value.message
    assert "[[models]] of one provider" in refused.value.message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown", "it has no provider prefix, and"),
        ("open/", "no model follows its provider prefix, and"),
        ("nobody/x", 'there is no provider "nobody", and'),
        ("nobody/", 'there is no provider "nobody", and'),
    ],
)
def test_what_is_said_of_a_name_is_what_it_lacks(name: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        resolve(HERE, name)
    assert said in refused.value.message


def test_an_endless_name_is_not_repeated_whole() -> None:
    with pytest.raises(BadRequest) as refused:
        resolve(HERE, "x" * 100_000)
    assert len(refused.value.message) < 500


def test_under_a_provider_the_raw_id_goes_through() -> None:
    assert targets("a/b", "open") == ["open:a/b"]
    assert not resolve(HERE, "a", "open").aggregated


def test_under_a_provider_its_own_prefix_is_taken_off() -> None:
    assert targets("open/a", "open") == ["open:a"]
    assert targets("listed/m", "listed") == ["listed:m"]


def test_under_a_provider_another_ones_prefix_is_part_of_the_id() -> None:
    assert targets("listed/m", "open") == ["open:listed/m"]


def test_under_a_provider_an_id_that_it_lists_keeps_a_prefix_that_looks_like_its_own() -> None:
    here = snapshot(provider("or"), model("or", "or/auto"), model("or", "auto"))
    assert targets("or/auto", "or", here) == ["or:or/auto"]


@pytest.mark.parametrize("name", ["chat", "spare/chat"])
def test_under_a_provider_an_alias_never_leaves_it(name: str) -> None:
    assert targets(name, "spare") == ["spare:n"]


def test_under_a_provider_an_alias_of_others_means_nothing() -> None:
    assert targets("vendor/m", "spare") == ["spare:vendor/m"]


def test_a_path_that_names_no_provider_is_404() -> None:
    with pytest.raises(NotFound):
        resolve(HERE, "m", "nobody")


def test_the_name_that_was_asked_for_is_kept() -> None:
    for name, scoped in (("chat", None), ("open/a", None), ("open/a", "open"), ("m", None)):
        assert resolve(HERE, name, scoped).requested == name


@pytest.mark.parametrize(("target", "expected"), [
    (Target("open", "anything"), True),
    (Target("listed", "m"), True),
    (Target("listed", "other"), False),
    (Target("down", "only-down"), False),
    (Target("nobody", "m"), False),
])  # fmt: skip
def test_a_provider_that_is_on_serves_what_it_lists_or_anything(target: Target, expected: bool) -> None:
    assert serves(HERE, target) is expected


def test_a_model_that_is_switched_off_is_not_served() -> None:
    here = snapshot(provider("p"), model("p", "a"), model("p", "b", enabled=False))
    assert not serves(here, Target("p", "b"))


def test_a_provider_all_of_whose_models_are_off_serves_none() -> None:
    assert not serves(snapshot(provider("p"), model("p", "b", enabled=False)), Target("p", "x"))


def test_targets_that_are_not_there_are_left_out() -> None:
    route = Route("a", (Target("down", "x"), Target("open", "x"), Target("listed", "q")), alias="a")
    assert available(HERE, route) == Route("a", (Target("open", "x"),), alias="a")


def test_a_route_with_no_target_that_is_there_is_404() -> None:
    with pytest.raises(NotFound):
        available(HERE, resolve(HERE, "down/x"))
    with pytest.raises(NotFound):
        available(HERE, resolve(HERE, "listed/other"))


# The contract's sentence, over a small world in which every name collides with another.

NAMES = ["a", "b", "a/a", "a/b", "b/a", "a/a/b", "c"]


def reference(
    lists: dict[str, list[str] | None], aliases: dict[str, list[tuple[str, str]]], name: str
) -> list[tuple[str, str]] | None:
    """Aggregated: exact alias; else prefix and rest, which may be an alias of it; else a bare name; else None."""
    if name in aliases:
        return aliases[name]
    prefix, slash, rest = name.partition("/")
    if slash and rest and prefix in lists:
        if rest not in (lists[prefix] or ()):
            own = [target for target in aliases.get(rest, []) if target[0] == prefix]
            if own:
                return own
        return [(prefix, rest)]
    owners = [provider for provider, listed in lists.items() if name in (listed or ())]
    return [(owners[0], name)] if len(owners) == 1 else None


@given(
    st.dictionaries(
        st.sampled_from("ab"),
        st.none() | st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        min_size=1,
    ),
    st.data(),
)
def test_an_aggregated_name_means_what_the_contract_says(
    lists: dict[str, list[str] | None], data: st.DataObject
) -> None:
    target = st.sampled_from([(p, m) for p, listed in lists.items() for m in listed or ["a", "z"]])
    aliases = data.draw(st.dictionaries(st.sampled_from(NAMES), target, max_size=3))
    here = snapshot(
        *(provider(name) for name in lists),
        *(model(name, listed_id) for name, listed in lists.items() for listed_id in listed or ()),
        *(alias(name, *to) for name, to in aliases.items()),
    )
    for name in NAMES:
        expected = reference(lists, {name: [to] for name, to in aliases.items()}, name)
        if expected is None:
            with pytest.raises(BadRequest):
                resolve(here, name)
        else:
            assert [(t.provider, t.model) for t in resolve(here, name).targets] == expected
        for scoped in lists:
            assert {t.provider for t in resolve(here, name, scoped).targets} == {scoped}
