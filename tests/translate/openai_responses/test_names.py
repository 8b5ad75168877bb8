"""A tool in a namespace has one name of its own, and a grammar the form that chat completions have."""

import pytest

from gproxy.translate.openai_responses.names import format_of, grammar_from, joined, parted


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": "read"}, "read"),
        ({"name": "read", "namespace": "mcp__files"}, "mcp__files.read"),
    ],
)
def test_a_name_and_its_namespace_come_apart_as_they_were(fields: dict[str, str], name: str) -> None:
    assert joined(fields.get("namespace", ""), fields["name"]) == name
    assert parted(name) == fields


def test_a_name_that_only_begins_or_ends_with_a_dot_is_left_alone() -> None:
    assert parted(".a") == {"name": ".a"}
    assert parted("a.") == {"name": "a."}


def test_a_grammar_is_nested_and_unnested() -> None:
    shape = {"type": "grammar", "syntax": "lark", "definition": "start: A"}
    grammar = grammar_from(shape)
    assert grammar == {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}}
    assert format_of(grammar) == shape
    assert grammar_from({"type": "text"}) is None
    assert format_of({"type": "grammar"}) == {"type": "grammar"}
