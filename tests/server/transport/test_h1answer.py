"""An answer is read to the same end, whether its head looks as others did or is the first of its kind."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.server.transport import h1answer
from gproxy.server.transport.h1answer import Reading
from gproxy.server.transport.h1head import MAX_EMPTY_BYTES, MAX_FIELD_BYTES, Heads

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: %d\r\nX-Id: %s\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(heads: Heads, *pieces: bytes, bodiless: bool = False) -> tuple[object, ...]:
    """What comes of it, as far as it is read."""
    it = Reading(heads, bodiless=bodiless)
    for piece in pieces:
        if not it.complete and it.fault is None:
            it.take_in(piece)
    fault = it.fault and it.fault.partition(":")[0]
    return it.status, it.told.all(), b"".join(it.pieces), it.complete, it.keep, fault, it.delimited


def knowing(*answers: bytes) -> Heads:
    """What is known once each of them has come twice."""
    heads = Heads()
    for data in answers * 2:
        read(heads, data)
    return heads


@pytest.fixture
def parsers(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Each object that llhttp told of what it found."""
    made: list[object] = []
    llhttp = h1answer._llhttp
    monkeypatch.setattr(h1answer, "_llhttp", lambda told: made.append(told) or llhttp(told))
    return made


def test_the_third_answer_that_looks_so_is_read_without_llhttp(parsers: list[object]) -> None:
    heads = Heads()
    for number, body in enumerate((b"one", b"two", b"three", b"", b"four")):
        data = JSON % (len(body), b"%d" % number) + body
        told = [(b"Content-Type", b"application/json"), (b"content-length", b"%d" % len(body))]
        assert read(heads, data) == (200, [*told, (b"X-Id", b"%d" % number)], body, True, True, None, True)
    assert len(parsers) == 2
    assert read(heads, EVENTS + b"3\r\none\r\n")[2] == b"one"
    assert len(parsers) == 3


def test_an_upstream_that_sends_two_kinds_is_known_in_both(parsers: list[object]) -> None:
    chunks = EVENTS + b"3\r\none\r\n0\r\n\r\n"
    heads = knowing(JSON % (1, b"a") + b"x", chunks)
    parsers.clear()
    for _ in range(3):
        assert read(heads, JSON % (2, b"b") + b"xy")[2:5] == (b"xy", True, True)
        assert read(heads, chunks)[2:5] == (b"one", True, True)
    assert not any(isinstance(told, Reading) for told in parsers)


def test_what_cannot_be_known_by_its_look_is_forgotten_in_time(parsers: list[object]) -> None:
    heads = Heads()
    for number in range(200):
        read(heads, b"HTTP/1.1 200 OK\r\nX-%d: a\r\ncontent-length: 0\r\n\r\n" % number)
    assert len(parsers) == 200
    assert len(heads._seen) <= 16
    assert not heads._forms


LINES = [
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.1 429 Too Many",
    "HTTP/1.1 204 No Content",
    "HTTP/1.0 200 OK",
]
NAMES = ["X-One", "x-one", "Set-Cookie", "Connection", "Proxy-Connection", "Upgrade", "Keep-Alive"]
VALUES = [
    "a",
    "a b",
    "keep-alive",
    "Keep-Alive",
    "close",
    "h2, upgrade",
    "a\tb",
    "\xe9",
    "",
    " a",
    "a ",
    "\ta\t",
    "\x01",
]
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=3)
FRAMING = st.sampled_from(
    [
        [("Content-Length", "3")],
        [("content-length", "0")],
        [("Transfer-Encoding", "chunked")],
        [("transfer-encoding", "Chunked")],
        [("transfer-encoding", "gzip, chunked")],
        [("Content-Length", "3"), ("Transfer-Encoding", "chunked")],
        [],
    ]
)
LATER = st.sampled_from(
    ["", "1", "3", "03", "+3", "3 ", "9" * 15, "9" * 25, "chunked", "CHUNKED", "identity", "a\x00b"]
)
BODIES = st.sampled_from(
    ["", "abc", "ab", "abcd", "3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\na: b\r\n\r\n", "3;x\r\nab", "zz\r\n"]
)
MORE = st.sampled_from(["", "", "", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "garbage", "\r\n"])


def raw(line: str, fields: list[tuple[str, str]], body: str) -> bytes:
    lines = [line, *(f"{name}: {value}" for name, value in fields), "", ""]
    return ("\r\n".join(lines) + body).encode("latin-1")


@example(
    line="HTTP/1.1 200 OK",
    before=[],
    framing=[("Content-Length", "3")],
    after=[("X-One", "a")],
    changed={1: "a\r\nContent-Length: 4"},
    body="abcd",
    cuts=[],
    bodiless=False,
)
@example(
    line="HTTP/1.1 200 OK",
    before=[],
    framing=[("Content-Length", "3")],
    after=[("X-One", "a")],
    changed={1: "a\nX-Two: b"},
    body="abc",
    cuts=[],
    bodiless=False,
)
@given(
    line=st.sampled_from(LINES),
    before=FIELDS,
    framing=FRAMING,
    after=FIELDS,
    changed=st.dictionaries(st.integers(0, 6), LATER | st.sampled_from(VALUES), max_size=2),
    body=st.builds(lambda body, more: body + more, BODIES, MORE),
    cuts=st.lists(st.integers(0, 200), max_size=3),
    bodiless=st.booleans(),
)
def test_a_head_that_looks_as_others_did_is_read_as_by_llhttp(
    line: str,
    before: list[tuple[str, str]],
    framing: list[tuple[str, str]],
    after: list[tuple[str, str]],
    changed: dict[int, str],
    body: str,
    cuts: list[int],
    bodiless: bool,
) -> None:
    fields = [*before, *framing, *after]
    heads = knowing(raw(line, fields, "abc"))
    now = [(name, changed.get(place, value)) for place, (name, value) in enumerate(fields)]
    data = raw(line, now, body)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(ends) if start < end]
    assert read(heads, *pieces, bodiless=bodiless) == read(Heads(), *pieces, bodiless=bodiless)


def test_a_head_beyond_a_limit_is_refused_however_others_looked() -> None:
    heads = knowing(JSON % (0, b"a"))
    assert read(heads, JSON % (0, b"a" * (MAX_FIELD_BYTES + 1)))[5] == "malformed"
    assert read(heads, JSON % (0, b"a\0"))[5] == "malformed"


def test_chunks_behind_a_head_that_is_known_have_the_limits_of_all() -> None:
    heads = knowing(EVENTS + b"0\r\n\r\n")
    endless = b"1;" + b"x" * (MAX_EMPTY_BYTES + 1)
    assert read(heads, EVENTS + b"3\r\none\r\n", endless)[5] == "it goes on without a body"
