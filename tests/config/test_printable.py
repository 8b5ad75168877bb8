"""Whatever a text holds, a terminal shows it and does nothing for it, and JSON says the same."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.printable import json_text, printable

EVIL = "\x1b[2J\x07\x9b1m\u202eevil\x00"


def test_nothing_a_terminal_obeys_is_left() -> None:
    assert printable(EVIL) == "\\x1b[2J\\x07\\x9b1m\\u202eevil\\x00"
    assert printable("a\r\nb\tc\rd", lines=True) == "a\nb\tc\\rd"
    assert printable("a\nb\u2028c\u2029d\x7f\u2066") == "a\\nb\\u2028c\\u2029d\\x7f\\u2066"
    assert printable("straße, 雪") == "straße, 雪"


@given(st.text(st.characters()))
def test_what_is_shown_is_one_line_that_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text, lines=True).replace("\n", "").replace("\t", "").isprintable()


@given(st.dictionaries(st.text(st.characters()), st.text(st.characters()) | st.floats(allow_nan=False)))
def test_json_is_printable_and_the_same_value(value: dict[str, object]) -> None:
    line = json_text(value)
    assert line.isprintable()
    assert json.loads(line) == value
    assert json.loads(json_text(value, indent=2)) == value


def test_json_says_it_as_json_does() -> None:
    assert json_text({"model": "a\u2028\u202e\x7f\U000e0001雪"}) == (
        '{"model": "a\\u2028\\u202e\\u007f\\udb40\\udc01雪"}'
    )
