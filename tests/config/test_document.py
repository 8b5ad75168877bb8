"""A change touches what it is about: each case is a text, a change, and the whole text that must follow."""

import tomllib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.document import Document, dump, render
from gproxy.errors import ConfigError

Change = Callable[[Document], None]


def add(*array: str | int) -> Change:
    return lambda document: document.add(array, {"x": 9})


def remove(*entry: str | int) -> Change:
    return lambda document: document.remove(entry)


def put(*path: str | int) -> Change:
    return lambda document: document.set(path[:-1], str(path[-1]), False)


def unset(*path: str | int) -> Change:
    return lambda document: document.unset(path[:-1], str(path[-1]))


CASES: list[tuple[str, Change, str]] = [
    # appended to an array written in brackets
    ("a = []", add("a"), "a = [{ x = 9 }]"),
    ("a = [{x=1}]", add("a"), "a = [{x=1}, { x = 9 }]"),
    ("a = [{x=1},] # c", add("a"), "a = [{x=1}, { x = 9 },] # c"),
    ("a = [\n]", add("a"), "a = [\n  { x = 9 },\n]"),
    ("a = [\n  {x=1}, # c\n]", add("a"), "a = [\n  {x=1}, # c\n  { x = 9 },\n]"),
    ("a = [\n  {x=1}\n]", add("a"), "a = [\n  {x=1},\n  { x = 9 }\n]"),
    ("a = [\n  {x=1} # c, d\n  # e\n]", add("a"), "a = [\n  {x=1}, # c, d\n  { x = 9 }\n  # e\n]"),
    ("a = [\n  {x=1}]", add("a"), "a = [\n  {x=1}, { x = 9 }]"),
    # into a table in braces
    ("a = [{ b = 1 }]", add("a", 0, "c"), "a = [{ b = 1, c = [{ x = 9 }] }]"),
    ("a = [{}]", put("a", 0, "on"), "a = [{ on = false }]"),
    ("a = [{on = true}] # c", put("a", 0, "on"), "a = [{on = false}] # c"),
    # appended as a section
    ("", add("a"), "[[a]]\nx = 9\n"),
    ("b = 1", add("a"), "b = 1\n\n[[a]]\nx = 9"),
    ("b = 1\n", add("a"), "b = 1\n\n[[a]]\nx = 9\n"),
    ("b = 1\r\n", add("a"), "b = 1\r\n\r\n[[a]]\r\nx = 9\r\n"),
    ("[[a]]\ny=1\n\n# b's\n[[b]]\n", add("a"), "[[a]]\ny=1\n\n[[a]]\nx = 9\n\n# b's\n[[b]]\n"),
    ("[[a]]\ny=1\n# a's\n\n[[b]]\n", add("a"), "[[a]]\ny=1\n# a's\n\n[[a]]\nx = 9\n\n[[b]]\n"),
    ("[[a]]\n# b's\n[[b]]\n", add("a"), "[[a]]\n\n[[a]]\nx = 9\n\n# b's\n[[b]]\n"),
    ("[[a]]\n[[b]]\n[[a]]\n[[b]]\n", add("a"), "[[a]]\n[[b]]\n[[a]]\n\n[[a]]\nx = 9\n\n[[b]]\n"),
    ("[[a]]\n[[a]]\n", add("a", 0, "b"), "[[a]]\n\n[[a.b]]\nx = 9\n\n[[a]]\n"),
    ("[[a]]\n  [[a.b]]\n  y=1\n", add("a", 0, "b"), "[[a]]\n  [[a.b]]\n  y=1\n\n  [[a.b]]\n  x = 9\n"),
    ("[[a]]\n[[c]]\n[[a.b]]\n", add("a", 0, "b"), "[[a]]\n[[c]]\n[[a.b]]\n\n[[a.b]]\nx = 9\n"),
    # a key of a section
    ("[[a]]\n  y = 1 # c\n# d\n", put("a", 0, "on"), "[[a]]\n  y = 1 # c\n  on = false\n# d\n"),
    ("[[a]]", put("a", 0, "on"), "[[a]]\non = false"),
    ("[[a]]\non=true#c\n", put("a", 0, "on"), "[[a]]\non=false#c\n"),
    # a key gone
    ("[[a]]\n  y = 1\n  z = 2\n# d\n", unset("a", 0, "y"), "[[a]]\n  z = 2\n# d\n"),
    ("[[a]]\ny = 1\nz = 2", unset("a", 0, "z"), "[[a]]\ny = 1\n"),
    ("[[a]]\r\ny = 1\r\nz = 2\r\n", unset("a", 0, "y"), "[[a]]\r\nz = 2\r\n"),
    ("[[a]]\n  y = 1  # c\nz = 2\n", unset("a", 0, "y"), "[[a]]\n  # c\nz = 2\n"),
    ("a = [{y = 1, z = 2}] # c", unset("a", 0, "y"), "a = [{z = 2}] # c"),
    ("a = [{ y = 1 , z = 2 }]", unset("a", 0, "z"), "a = [{ y = 1 }]"),
    ("a = [{x = [1, 2], y = {b = 1}, z = 2}]", unset("a", 0, "z"), "a = [{x = [1, 2], y = {b = 1}}]"),
    ("a = [{y = 1}, {z = 2}]", unset("a", 0, "y"), "a = [{}, {z = 2}]"),
    # taken out
    ("a = [{x=1}]", remove("a", 0), "a = []"),
    ("a = [{x=1}, {x=2}]", remove("a", 0), "a = [{x=2}]"),
    ("a = [{x=1}, {x=2}]", remove("a", 1), "a = [{x=1}]"),
    ("a = [\n  {x=1}, # c\n  # d\n  {x=2},\n]", remove("a", 0), "a = [\n  # d\n  {x=2},\n]"),
    ("a = [\n  {x=1},\n  {x=2}\n]", remove("a", 1), "a = [\n  {x=1},\n]"),
    ("# c\n[[a]]\ny=1\n\n# d\n[[b]]\n", remove("a", 0), "# c\n\n# d\n[[b]]\n"),
    ("[[a]]\ny=1\n\n[[b]]\n", remove("a", 0), "[[b]]\n"),
    ("[[b]]\n\n[[a]]\ny=1\n", remove("a", 0), "[[b]]\n"),
    ("# c\n\n[[a]]\ny=1", remove("a", 0), "# c\n"),
    ("[[a]]\n[[c]]\n[[a.b]]\n[[a]]\n", remove("a", 0), "[[c]]\n[[a]]\n"),
    ("[[a]]\n# in\n[[a.b]]\ny=1\n# out\n", remove("a", 0), "# out\n"),
    ("[[a]]\n[[a.b]]\n[a.s]\nz=1\n", remove("a", 0, "b", 0), "[[a]]\n[a.s]\nz=1\n"),
]


@pytest.mark.parametrize(("before", "change", "after"), CASES)
def test_a_change_leaves_every_other_byte(before: str, change: Change, after: str) -> None:
    document = Document(before)
    change(document)
    assert document.text == after


def test_a_renamed_key_keeps_its_place_and_comment() -> None:
    document = Document("[[a]]\nold = 'v' # why\nz = 1\n")
    document.rename(("a", 0), "old", "new", "w")
    assert document.text == '[[a]]\nnew = "w" # why\nz = 1\n'


def test_tables_are_plain_values_of_either_form() -> None:
    assert Document("a = [{x=1}]").tables("a") == Document("[[a]]\nx=1").tables("a") == [{"x": 1}]
    assert Document("").tables("a") == []
    assert Document("[[a]]").tables("a", 0, "b") == []


@pytest.mark.parametrize("text", ["a = 1", "a = [1]", "[a]"])
def test_what_is_no_array_of_tables_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="a is no array of tables"):
        Document(text).tables("a")


def test_a_text_that_is_not_toml_is_refused() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        Document("a = ")


PLAIN = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("aZ-_. \"'é", min_size=1), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(PLAIN)
def test_a_rendered_value_reads_as_itself_on_one_line(value: object) -> None:
    text = render(value)
    assert "\n" not in text
    assert tomllib.loads(f"v = {text}")["v"] == value


def test_a_dumped_tree_reads_as_itself() -> None:
    tree = {"g": {"a": 1}, "t": [{"n": "x", "s": {"u": ["v"]}, "w": datetime(2027, 1, 1, tzinfo=UTC)}]}
    assert tomllib.loads(dump(tree)) == tree
