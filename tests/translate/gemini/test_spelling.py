"""Gemini's fields may be spelt in two ways, and a list of one may be its element."""

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.gemini.spelling import camel, one, several


def test_names_of_the_object_itself_are_made_one_spelling() -> None:
    given = {"inline_data": {"mime_type": "a"}, "topP": 1, "_responseJsonSchema": {}, "any_of_2": 1}
    assert camel(given) == {
        "inlineData": {"mime_type": "a"},
        "topP": 1,
        "_responseJsonSchema": {},
        "anyOf2": 1,
    }


def test_an_object_without_such_names_is_left_as_it_is() -> None:
    given = {"topP": 1}
    assert camel(given) is given


def test_one_object_stands_for_a_list_of_it() -> None:
    assert several({"parts": {"file_data": 1}}, "parts") == [{"fileData": 1}]
    assert several({"parts": [{"text": "a"}]}, "parts") == [{"text": "a"}]
    assert several({}, "parts") == []
    assert one({"a": {"b_c": 1}}, "a") == {"bC": 1}


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(BadRequest, match="contents"):
        several({"contents": "Hi"}, "contents")
