"""What is put together again from its pieces is what came, or nothing is put together."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from gproxy.protocols.pieces import pieces_of

NAMES = st.sampled_from(["a", "b", "model", "é", "a b", 'q"', "b\\", "a\x7f", "", 'a": 1, "b']) | st.text(
    max_size=3
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
STYLES = [(",", ":"), (", ", ": "), (",", ": "), (" ,", ":")]


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
    st.sampled_from(STYLES),
    st.booleans(),
    st.text(" \n", max_size=1),
)
@example([("a", 1), ("a", 1)], (",", ":"), True, "")
@example([("a", 1), ("a", 2), ("b", 34)], (", ", ": "), True, "")
def test_pieces_are_the_names_and_values_of_an_object_with_their_places(
    fields: list[tuple[str, object]], style: tuple[str, str], escaped: bool, tail: str
) -> None:
    def said(value: object) -> str:
        return json.dumps(value, ensure_ascii=escaped, separators=style)

    text = "{" + style[0].join(said(name) + style[1] + said(value) for name, value in fields) + "}" + tail
    pieces = pieces_of(text.encode())
    names = [name for name, _ in fields]
    plain = all(json.dumps(name, ensure_ascii=escaped) == f'"{name}"' for name in names)
    if len(set(names)) < len(names) or tail:
        assert pieces is None
    elif pieces is None:
        assert not plain or (style not in STYLES[:2] and fields)
    else:
        assert pieces.changed({}) == pieces.join(pieces.values) == text.encode()
        assert {name: json.loads(text[slice(*place)]) for name, place in pieces.spans().items()} == dict(
            fields
        )


@pytest.mark.parametrize(("comma", "colon"), STYLES[:2])
def test_one_value_changes_and_a_new_name_comes_last(comma: str, colon: str) -> None:
    def text(*fields: tuple[str, str]) -> bytes:
        return "{{{}}}".format(comma.join(f'"{name}"{colon}{value}' for name, value in fields)).encode()

    pieces = pieces_of(text(("a", "1"), ("model", '"é"'), ("c", '{"d" :[]}')))
    assert pieces is not None
    changed = pieces.changed({"model": Raw(b'"m"'), "e": Raw(b"2")})
    assert changed == text(("a", "1"), ("model", '"m"'), ("c", '{"d" :[]}'), ("e", "2"))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"null", b'{"a":1}{}', b"[" * 100_000])
def test_what_is_no_object_has_no_pieces(raw: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        pieces_of(raw)
