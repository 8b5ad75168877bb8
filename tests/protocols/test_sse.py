"""Events are the same however the bytes were cut, and no byte of them is lost."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import AnswerBroken
from gproxy.protocols.base import Event
from gproxy.protocols.sse import MAX_EVENT_BYTES, SseFramer, with_data

line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
lines = st.sampled_from(
    [b"", b"", b"data: a", b"data:b", b"data", b"data:", b"event: e", b": ping", b"id: 1", "data: ä".encode()]
)
streams = st.lists(st.tuples(lines, line_ends).map(b"".join), max_size=20).map(b"".join)


def _events(pieces: list[bytes]) -> list[Event]:
    framer = SseFramer()
    return [event for piece in pieces for event in framer.feed(piece)] + framer.end()


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(streams | st.binary() | st.text(alphabet="\r\nda: ").map(str.encode), st.lists(st.integers(0, 200)))
def test_any_split_equals_the_whole(data: bytes, places: list[int]) -> None:
    whole = _events([data])
    assert _events(_cut(data, places)) == whole
    assert b"".join(event.raw for event in whole) == data


@given(streams)
def test_events_are_those_of_the_specification(data: bytes) -> None:
    """Against a reading of the whole text, line by line, as the HTML standard has it."""
    expected: list[tuple[bytes, bytes]] = []
    name, data_lines = b"", []
    for line in [*data.splitlines(), b""]:
        field, _, value = line.partition(b":")
        if line == b"":
            if data_lines:
                expected.append((name, b"\n".join(data_lines)))
            name, data_lines = b"", []
        elif field == b"data":
            data_lines.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    assert [(e.name, e.data) for e in _events([data]) if e.data is not None] == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data:[DONE]\r\n\r\n", [(b"", b"[DONE]")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"event: x\ndata: a\ndata: b\n\n", [(b"x", b"a\nb")]),
        (b": ping\n\nevent: ping\n\n", [(b"", None), (b"ping", None)]),
        (b"data:  two\n\n", [(b"", b" two")]),
        (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\n\r\ndata: b\r\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: no empty line", [(b"", b"no empty line")]),
        (b"", []),
    ],
)
def test_events_of_every_form(data: bytes, expected: list[tuple[bytes, bytes | None]]) -> None:
    assert [(event.name, event.data) for event in _events([data])] == expected


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_an_event_is_out_as_soon_as_it_is_whole(end: bytes) -> None:
    framer = SseFramer()
    assert len(framer.feed(b"data: a" + end)) == 1


def _events_of_reads(framer: SseFramer, read: bytes) -> None:
    for _ in range(MAX_EVENT_BYTES // len(read) + 1):
        framer.feed(read)


def test_an_event_over_the_cap_breaks_the_answer() -> None:
    framer = SseFramer()
    with pytest.raises(AnswerBroken, match="larger than"):
        _events_of_reads(framer, b"x" * 1_000_000)
    with pytest.raises(AnswerBroken, match="larger than"):
        SseFramer().feed(b"data: " + b"x" * MAX_EVENT_BYTES + b"\n\n")


def test_the_work_grows_with_the_input_and_not_with_its_square() -> None:
    """Four megabytes in small reads take milliseconds; a re-scan of the buffer for each read takes minutes."""
    framer = SseFramer()
    begun = time.process_time()
    for _ in range(40_000):
        framer.feed(b"x" * 100)
    assert time.process_time() - begun < 5


def test_an_error_after_half_an_event_stands_apart_from_it() -> None:
    framer = SseFramer()
    assert framer.ending(b"data: e\n\n", b"", b"data: x") == b"\n\ndata: e\n\n"
    assert framer.ending(b"data: e\n\n", b"", b"\n") == b"data: e\n\n"


def test_data_is_put_back_line_by_line() -> None:
    event = Event(b"data: a\r\nid: 7\r\ndata:b\r\n\r\n", b"a\nb")
    assert with_data(event, b"x\ny") == b"data: x\r\nid: 7\r\ndata:y\r\n\r\n"


def test_a_byte_order_mark_behind_events_that_went_by_is_part_of_a_name() -> None:
    framer = SseFramer()
    assert framer.idle
    framer.passed()
    (event,) = framer.feed(b"\xef\xbb\xbfdata: 1\n\n")
    assert event.data is None


def test_an_event_that_holds_more_than_anyone_would_wait_for_is_broken() -> None:
    many = b"{}," * 400_000
    assert SseFramer().feed(b'data: {"text":"' + many.replace(b"{}", b"ab") + b'"}\n\n')
    with pytest.raises(AnswerBroken, match="more than 200000 objects"):
        SseFramer().feed(b'data: {"choices":[' + many + b"{}]}\n\n")
