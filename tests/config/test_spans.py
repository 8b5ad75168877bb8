"""The spans must point at exactly what `tomllib` read: the text of each value, parsed alone, is that value."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.problems import KeyPath
from gproxy.config.spans import Spans

TEXT = '''\
top = 1 # one
"quoted.key" = 'a # b'
dotted . "x y" = [ 1, [2, 3], # c, d
  { a = "]", b = [] }, ]

[global]
text = """a "quoted" [line]
\\"""more""" # after
raw = \'\'\'it''s\'\'\'
when = 2027-01-01 00:00:00Z
[[users]]
  name = "a"
  [[users.keys]]
  label = "x"
[[permissions]] # p
[[users]]
[[users.keys]]
label = "y"
[users.more.deep]
z = -1.5e3
'''


def value_at(tree: Any, path: KeyPath) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def every_value(text: str) -> None:
    tree = tomllib.loads(text)
    for path, span in Spans(text).values.items():
        alone = tomllib.loads(f"v = {text[span.start : span.end]}")["v"]
        assert alone == value_at(tree, path), path


def test_each_span_holds_the_value_of_its_path() -> None:
    every_value(TEXT)
    found = Spans(TEXT).values
    assert ("dotted", "x y", 2, "a") in found
    assert ("users", 1, "more", "deep", "z") in found


def test_a_span_of_a_pair_starts_at_its_key() -> None:
    span = Spans(TEXT).values["dotted", "x y"]
    assert TEXT[span.key :].startswith('dotted . "x y" =')


def test_sections_of_an_array_are_numbered_where_they_stand_apart() -> None:
    paths = [section.path for section in Spans(TEXT).sections]
    assert paths == [
        (),
        ("global",),
        ("users", 0),
        ("users", 0, "keys", 0),
        ("permissions", 0),
        ("users", 1),
        ("users", 1, "keys", 0),
        ("users", 1, "more", "deep"),
    ]


def test_a_section_ends_with_its_last_value() -> None:
    section = Spans(TEXT).sections[2]
    assert TEXT[section.start : section.end] == '[[users]]\n  name = "a"'


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment", "a=1", "[t]", "[[t]]\r\n", "a = [\r\n1,\r\n]\r\n"]
)
def test_small_texts_have_spans(text: str) -> None:
    every_value(text)


VALUES = st.recursive(
    st.sampled_from(
        [
            "1",
            "-2.5",
            "true",
            '"a]b"',
            '"q\\"}"',
            "'l#'",
            '"""m\n]"""',
            "'''m\n}'''",
            '""',
            '""""""',
            "1979-05-27",
        ]
    ),
    lambda inner: st.lists(inner, max_size=3).flatmap(
        lambda parts: st.sampled_from(
            [
                f"[{', '.join(parts)}]",
                f"[ # c, ]\n{''.join(f'{part},{chr(10)}# d{chr(10)}' for part in parts)}]",
                "{" + ", ".join(f"k{n} = {part}" for n, part in enumerate(parts)) + "}",
            ]
        )
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.sampled_from(["", "[[a]]\n", "[[a.b]]\n", "[[c]]\n"]), VALUES), max_size=6))
def test_spans_agree_with_tomllib_on_any_valid_text(parts: list[tuple[str, str]]) -> None:
    text = "".join(f"{header}key{n} = {value} # e\n" for n, (header, value) in enumerate(parts))
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # `[[a.b]]` before `[[a]]` makes `a` a table
    every_value(text)
