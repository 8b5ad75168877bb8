"""A field of the wrong type is refused by its name and place; an absent one and null are the same."""

from collections.abc import Callable
from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.translate import fields

READERS: list[tuple[Callable[..., Any], Any, Any]] = [
    (fields.text, "a", ""),
    (fields.flag, False, None),
    (fields.number, 0.5, None),
    (fields.whole, 3, None),
    (fields.an_object, {"a": 1}, {}),
    (fields.objects, [{"a": 1}], []),
    (fields.texts, ["a", "b"], ()),
]


@pytest.mark.parametrize(("read", "value", "absent"), READERS)
def test_a_field_is_read_and_an_absent_one_is_like_null(
    read: Callable[..., Any], value: Any, absent: Any
) -> None:
    found = read({"x": value}, "x")
    assert list(found) == value if read is fields.texts else found == value
    assert read({}, "x") == absent
    assert read({"x": None}, "x") == absent


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (fields.text, 1),
        (fields.required, ""),
        (fields.required, None),
        (fields.flag, 1),
        (fields.number, True),
        (fields.number, "1"),
        (fields.whole, 1.5),
        (fields.whole, False),
        (fields.an_object, []),
        (fields.objects, {}),
        (fields.objects, ["a"]),
        (fields.texts, [1]),
        (fields.texts, {}),
    ],
)
def test_what_is_of_another_type_is_refused_by_its_place(read: Callable[..., Any], value: Any) -> None:
    with pytest.raises(BadRequest, match=r"`messages\[2\]\.x` must be"):
        read({"x": value}, "x", "messages[2]")


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert fields.whole({"n": 8.0}, "n") == 8


def test_one_string_is_an_array_of_one() -> None:
    assert fields.texts({"stop": "END"}, "stop") == ("END",)


def test_unknown_names_are_those_that_say_something() -> None:
    assert fields.unknown({"a": 1, "b": None, "c": False}, frozenset({"a"})) == {"c"}
