"""Elements of a growing array are the same however the bytes were cut, and no byte of them is lost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken
from gproxy.protocols.base import Event
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.possessive import MOST_TIMES
from gproxy.protocols.sse import MAX_EVENT_BYTES

elements = st.dictionaries(
    st.text(),
    st.text() | st.sampled_from(['"', "\\", "}]", "[{"]) | st.lists(st.text(), max_size=2),
    max_size=3,
)


def _events(pieces: list[bytes]) -> list[Event]:
    framer = JsonArrayFramer()
    return [event for piece in pieces for event in framer.feed(piece)] + framer.end()


@given(st.lists(elements, max_size=4), st.sampled_from([None, 2]), st.booleans(), st.data())
def test_any_split_equals_the_whole(
    array: list[dict[str, Any]], indent: int | None, ascii_only: bool, data: st.DataObject
) -> None:
    raw = json.dumps(array, indent=indent, ensure_ascii=ascii_only).encode() + b"\n"
    whole = _events([raw])
    assert [json.loads(event.data) for event in whole if event.data is not None] == array
    assert b"".join(event.raw for event in whole) == raw
    at = data.draw(st.integers(0, len(raw)))
    assert _framed(_events([raw[:at], raw[at:]])) == _framed(whole)
    assert _framed(_events([bytes([byte]) for byte in raw])) == _framed(whole)


@given(st.binary(), st.integers(0, 50))
def test_no_byte_is_lost_of_what_is_no_array(raw: bytes, at: int) -> None:
    whole = _events([raw])
    assert b"".join(event.raw for event in whole) == raw
    assert _events([raw[:at], raw[at:]]) == whole


def test_an_object_alone_is_one_event() -> None:
    assert _events([b'{"error":{"code":429}}\n'])[0].data == b'{"error":{"code":429}}'


def test_half_an_element_is_left_at_the_end() -> None:
    assert _events([b'[{"a":1},\n{"b":']) == [Event(b'[{"a":1}', b'{"a":1}'), Event(b',\n{"b":', b',\n{"b":')]


def test_an_element_over_the_cap_breaks_the_answer() -> None:
    framer = JsonArrayFramer()
    with pytest.raises(AnswerBroken, match="larger than"):
        framer.feed(b'["' + b"x" * MAX_EVENT_BYTES)


@pytest.mark.parametrize("text", ["\n", "a\n", '"', "\\"])
def test_a_text_of_nothing_but_escapes_ends_where_it_ends(text: str) -> None:
    element = json.dumps({"text": text * 3 * MOST_TIMES}).encode()
    raw = b"[" + element + b",\n" + element + b"]"
    assert [event.data for event in _events([raw])] == [element, element, None]
    cut = MOST_TIMES + 7
    assert [event.data for event in _events([raw[:cut], raw[cut:]])] == [element, element, None]


@pytest.mark.parametrize("sent", [b"", b'[{"a":1}', b'[{"a":1},\n{"b":2}'])
def test_an_error_is_the_last_element_of_an_array_that_is_whole(sent: bytes) -> None:
    framer = JsonArrayFramer()
    framer.feed(sent)
    array = json.loads(sent + framer.ending(b"", b'{"error":1}', b""))
    assert array[-1] == {"error": 1}
    assert framer.ending(b"", b'{"error":1}', b',{"b') == b""


def _framed(events: list[Event]) -> list[Event]:
    """Without the white space behind the array, which may come in an event of its own or not."""
    return [event for event in events if event.raw.strip()]


def test_an_element_that_holds_more_than_anyone_would_wait_for_is_broken() -> None:
    with pytest.raises(AnswerBroken, match="more than 200000 objects"):
        JsonArrayFramer().feed(b'[{"candidates":[' + b"{}," * 400_000 + b"{}]}\n,")
