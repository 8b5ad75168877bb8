"""Globs over whole model names agree with a plain reference."""

from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.patterns import Pattern

TEXT = st.text("ab/*?.\n", max_size=8)


def reference(glob: str, name: str) -> bool:
    """The definition: `*` any run, `?` one character, all else itself."""
    if not glob:
        return not name
    if glob[0] == "*":
        return reference(glob[1:], name) or (bool(name) and reference(glob, name[1:]))
    return bool(name) and glob[0] in ("?", name[0]) and reference(glob[1:], name[1:])


@given(TEXT, TEXT)
def test_matching_agrees_with_the_definition(glob: str, name: str) -> None:
    assert Pattern(glob).matches(name) == reference(glob, name)


def test_a_pattern_of_many_stars_is_no_way_to_stall() -> None:
    assert not Pattern("*a" * 40 + "b").matches("a" * 5000)


def test_case_and_regular_expression_signs_are_literal() -> None:
    assert not Pattern("GPT-*").matches("gpt-4")
    assert not Pattern("gpt.4").matches("gpt-4")
    assert Pattern("[a]+").matches("[a]+")
