"""Members are found where they stand, whatever white space is around them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.protocols.jsonwalk import Member, TooMany, edited, members, skip_space


def test_members_are_found_with_their_places() -> None:
    text = ' { "a" : [1, 2] ,"a":"x"}'
    assert members(text, 1) == ([Member("a", [1, 2], 9, 15), Member("a", "x", 21, 24)], len(text))


def test_elements_of_an_array_have_no_name() -> None:
    assert members('[1, {"a":2}]', 0, array=True)[0] == [Member("", 1, 1, 2), Member("", {"a": 2}, 4, 11)]


@pytest.mark.parametrize("text", ["[]", '{"a"}', '{"a":}', '{"a":1', '{"a":1;}', "{1:2}", "{", ""])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        members(text, 0)


def test_an_empty_object_has_no_members() -> None:
    assert members("{ }", 0) == ([], 3)


@pytest.mark.parametrize(("text", "array"), [('{"a":1,"a":2}', False), ("[1,2]", True)])
def test_no_more_members_are_read_than_allowed(text: str, array: bool) -> None:
    assert len(members(text, 0, array=array, most=2)[0]) == 2
    with pytest.raises(TooMany):
        members(text, 0, array=array, most=1)


def test_edits_may_come_in_any_order() -> None:
    assert edited("0123456789", [(8, 9, "b"), (1, 3, "a"), (5, 5, "-")]) == "0a34-567b9"


def test_only_json_white_space_is_skipped() -> None:
    assert skip_space(" \t\r\n\u00a0x", 0) == 4


SPACES = st.text(" \t\r\n", max_size=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(
    data=st.data(), pairs=st.lists(st.tuples(st.text(max_size=5), VALUES), max_size=5), escaped=st.booleans()
)
def test_every_member_is_found_however_it_is_written(
    data: st.DataObject, pairs: list[tuple[str, object]], escaped: bool
) -> None:
    def spaced(token: str) -> str:
        return data.draw(SPACES) + token + data.draw(SPACES)

    def said(value: object) -> str:
        return spaced(json.dumps(value, ensure_ascii=escaped))

    text = "{" + ",".join(f"{said(name)}:{said(value)}" for name, value in pairs) + spaced("")
    found, end = members(text + "}tail", 0)
    assert end == len(text) + 1
    assert [(m.name, m.value) for m in found] == pairs
    assert [json.loads(text[m.start : m.end]) for m in found] == [value for _, value in pairs]
    for broken in (text, text + "]", text + ",}", text.replace(":", "", 1) + "}" if pairs else ""):
        try:
            _, end = members(broken, 0)
        except json.JSONDecodeError:
            continue
        json.loads(broken[:end])  # what is read here is JSON
