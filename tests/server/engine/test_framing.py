"""A request is read in the one way that there is, or not at all."""

import contextlib
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gproxy.errors import BadRequest, HeadersTooLarge
from gproxy.server.engine import framing
from gproxy.server.engine.framing import (
    MAX_CHUNK_LINE_BYTES,
    MAX_CHUNK_SPARE_BYTES,
    MAX_LINES_AT_ONCE,
    Body,
    Chunked,
    Head,
    Heads,
    Known,
    Sized,
    is_hopeless,
    read_head,
)
from gproxy.server.request.edge import MAX_HEADERS, MAX_TARGET_BYTES


def framed(*headers: str, line: str = "POST /x?y HTTP/1.1") -> tuple[Head, Body | None]:
    return read_head("\r\n".join([line, *headers, "", ""]).encode("latin-1"))


def head(*headers: str, line: str = "POST /x?y HTTP/1.1") -> Head:
    return framed(*headers, line=line)[0]


def test_a_head_is_read_as_asgi_has_it() -> None:
    got, body = framed("Host: a", "X-Empty:", "X-Odd:\t a b \t", "x-latin: \xe9")
    assert (got.method, got.target, got.version) == ("POST", b"/x?y", "1.1")
    assert got.headers == [(b"host", b"a"), (b"x-empty", b""), (b"x-odd", b"a b"), (b"x-latin", b"\xe9")]
    assert body is None


def as_read(read: Callable[[bytes], tuple[Head, Body | None]], raw: bytes) -> object:
    """What comes of a head, in values that can be compared."""
    try:
        found, body = read(raw)
    except (BadRequest, HeadersTooLarge) as error:
        return type(error), error.message
    length = 0 if body is None else body.length
    left = None if body is None else (type(body), getattr(body, "_left", None))
    return replace(found, headers=found.headers_with(length), place=None), length, left


LINES = [
    "Host: a",
    "authorization: Bearer k",
    "x: 12",
    "connection: close",
    "expect: 100-continue",
    "transfer-encoding: chunked",
]
LENGTHS = ["0", "1", "12", "007", "", "x", "1 2", "-1", "+1", "1_0", "9" * 15, "9" * 16, "\xb2", "1\r\nx: 2"]
KINDS = st.tuples(
    st.lists(st.sampled_from(LINES), max_size=3),
    st.sampled_from(
        ["Content-Length: %s", "content-length:%s", "content-length: \t%s \t", "x-content-length: %s"]
    ),
    st.lists(st.sampled_from([*LINES, "content-length: 3"]), max_size=2),
    st.sampled_from(["POST / HTTP/1.1", "GET /12 HTTP/1.1"]),
)


@given(st.lists(KINDS, min_size=1, max_size=2), st.data())
def test_heads_of_all_connections_are_read_as_each_by_itself(kinds: list[Any], data: st.DataObject) -> None:
    known = Known()
    connections = [Heads(known, "127.0.0.1") for _ in range(3)]
    for _ in range(8):
        heads = data.draw(st.sampled_from(connections))
        before, length, after, line = data.draw(st.sampled_from(kinds))
        lines = [line, *before, length % data.draw(st.sampled_from(LENGTHS)), *after, "", ""]
        raw = "\r\n".join(lines).encode("latin-1")
        again = heads.again(raw + b"12")
        found = as_read(heads.read, raw)
        assert found == as_read(read_head, raw)
        if again is not None:
            told, at, end = again
            assert at == len(raw)
            assert as_read(partial(as_it_is, (told, Sized(end - at))), raw) == found


def as_it_is(read: tuple[Head, Body | None], _: bytes) -> tuple[Head, Body | None]:
    return read


def test_the_last_head_is_told_again_wherever_its_length_ends() -> None:
    heads, raw = Heads(Known()), b"POST / HTTP/1.1\r\ncontent-length: %s\r\nx: y\r\n\r\n"
    assert heads.again(raw % b"3" + b"abc") is None
    head, _ = heads.read(raw % b"3")
    for length in (b"3", b"10", b"%d" % 10**14):
        at = len(raw % length)
        assert heads.again(raw % length + b"abc") == (head, at, at + int(length))
    for other in (b"", b"0", b"03", b"+3", b"3 ", b"%d" % 10**15, b"3\r\ny: z"):
        assert heads.again(raw % other + b"abc") is None
    assert heads.again((raw % b"3")[:-1]) is None
    heads.read(b"POST /other HTTP/1.1\r\ncontent-length: 3\r\n\r\n")
    assert heads.again(raw % b"3") is None


def test_a_head_that_is_the_last_again_is_not_parsed_again() -> None:
    heads = Heads(Known())
    with patch.object(framing, "_parsed", side_effect=framing._parsed) as parsed:
        read = [
            heads.read(b"POST / HTTP/1.1\r\ncontent-length: %d\r\nx: y\r\n\r\n" % n) for n in (3, 4, 50, 0)
        ]
    assert parsed.call_count == 1
    assert [head.headers_with(body.length if body else 0)[0][1] for head, body in read] == [
        b"3",
        b"4",
        b"50",
        b"0",
    ]
    assert read[0][0].headers[0] == (b"content-length", b"3")
    assert len({id(body) for _, body in read}) == 4
    assert read[3][1] is None
    assert len({id(head.kept) for head, _ in read}) == 1


def ask(heads: Heads, name: int = 0, length: int = 3) -> Head:
    return heads.read(b"POST / HTTP/1.1\r\ncontent-length: %d\r\nx: %d\r\n\r\n" % (length, name))[0]


def test_a_head_that_another_connection_has_sent_is_not_parsed_again() -> None:
    known = Known()
    first = ask(Heads(known, "127.0.0.1"))
    second = Heads(known, "127.0.0.1").read(b"POST / HTTP/1.1\r\ncontent-length: 50\r\nx: 0\r\n\r\n")
    assert second[0] is first
    assert second[1] is not None
    assert second[1].length == 50


def test_what_came_to_another_address_of_this_machine_is_another_head() -> None:
    known = Known()
    heads = [ask(Heads(known, local)) for local in ("127.0.0.1", "10.0.0.1")]
    assert heads[0].kept is not heads[1].kept


def test_nothing_is_kept_of_a_head_that_is_refused() -> None:
    known = Known()
    for _ in range(2):
        with pytest.raises(BadRequest):
            Heads(known).read(b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n")
    assert not known._young


def test_a_head_that_is_asked_for_stays_and_others_are_forgotten() -> None:
    known = Known()
    heads = [ask(Heads(known), name) for name in (1, 2)]
    known.turn()
    assert ask(Heads(known), 1) is heads[0]
    known.turn()
    assert ask(Heads(known), 1) is heads[0]
    assert ask(Heads(known), 2) is not heads[1]
    known.clear()
    assert ask(Heads(known), 1) is not heads[0]


def test_a_connection_whose_heads_are_all_others_pushes_out_nobodys() -> None:
    known = Known()
    first = ask(Heads(known), 1)
    heads = Heads(known)
    for name in range(2, 5 * framing._MOST_YOUNG):
        ask(heads, name)
    assert ask(heads, 1) is first
    assert len(known._young) == 2


def test_there_are_no_more_known_heads_than_some() -> None:
    known = Known()
    for name in range(5 * framing._MOST_YOUNG):
        ask(Heads(known), name)
    assert len(known._young) + len(known._old) <= 2 * framing._MOST_YOUNG


def test_a_body_that_is_waited_for_is_one_that_there_is() -> None:
    heads = Heads(Known())
    raw = b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    assert [heads.read(raw % length)[0].expects for length in (3, 0)] == [True, False]


@pytest.mark.parametrize(
    ("line", "headers", "persistent"),
    [
        ("GET / HTTP/1.1", [], True),
        ("GET / HTTP/1.1", ["connection: keep-alive, Close"], False),
        ("GET / HTTP/1.1", ["connection: keep-alive", "connection: close"], False),
        ("GET / HTTP/1.1", ["connection: closed"], True),
        ("GET / HTTP/1.0", [], False),
        ("GET / HTTP/1.0", ["connection: keep-alive"], False),
    ],
)
def test_whether_a_request_may_follow(line: str, headers: list[str], persistent: bool) -> None:
    assert head(*headers, line=line).persistent is persistent


@pytest.mark.parametrize(
    ("line", "headers", "expects"),
    [
        ("POST / HTTP/1.1", ["expect: 100-Continue", "content-length: 1"], True),
        ("POST / HTTP/1.1", ["expect: 100-continue", "transfer-encoding: Chunked"], True),
        ("POST / HTTP/1.1", ["expect: 100-continue"], False),
        ("POST / HTTP/1.1", ["expect: more", "content-length: 1"], False),
        ("POST / HTTP/1.0", ["expect: 100-continue", "content-length: 1"], False),
    ],
)
def test_whether_the_client_waits_before_its_body(line: str, headers: list[str], expects: bool) -> None:
    assert head(*headers, line=line).expects is expects


def test_a_target_is_as_long_as_may_be_and_not_one_byte_longer() -> None:
    target = "/" + "x" * (MAX_TARGET_BYTES - 1)
    assert head(line=f"POST {target} HTTP/1.1").target == target.encode()
    with pytest.raises(HeadersTooLarge):
        head(line=f"POST {target}x HTTP/1.1")


def test_no_protocol_is_changed_to() -> None:
    assert framed("connection: upgrade", "upgrade: websocket", line="GET /x HTTP/1.1")[1] is None
    assert head(line="CONNECT a:1 HTTP/1.1").target == b"a:1"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "GET",
        "GET /",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / x HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / HTTP/0.9",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / ICE/1.1",
        "DESCRIBE / RTSP/1.0",
        "PRI * HTTP/2.0",
        "GET nowhere HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\xff HTTP/1.1",
        "GET /\x00 HTTP/1.1",
        "GET /\r HTTP/1.1",
        "GET / HTTP/1.1\rX: y",
        "GET / HTTP/1.1\nX: y",
    ],
)
def test_a_request_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(BadRequest):
        head("host: a", line=line)


@pytest.mark.parametrize(
    "header",
    [
        "x : y",
        "x\t: y",
        " x: y",
        "x",
        ": y",
        "x y: z",
        "x(: y",
        "x\x00: y",
        "x\xe9: y",
        "x: y\x00",
        "x: y\x0b",
        "x: y\x7f",
        "x: y\rz",
        "x: y\nz: a",
        "x: y\r\n z",
        "x: y\r\n\tz",
        "x: y\r\n \r\nz: a",
        "content-length: ",
        "content-length: -1",
        "content-length: +1",
        "content-length: 1 1",
        "content-length: 1,1",
        "content-length: 1, 1",
        "content-length: 0x1",
        "content-length: 1_0",
        "content-length: \xb2",
        "content-length: 9999999999999999",
        "content-length: 99999999999999999999999",
        "content-length: 1\r\ncontent-length: 1",
        "content-length: 1\r\ncontent-length: 2",
        "content-length: 0\r\ncontent-length: 0",
        "Content-Length: 1\r\nCONTENT-LENGTH: 1",
        "content-length: 1\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 1",
        "transfer-encoding: chunked\r\ncontent-length: 0",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: gzip",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked;q=1",
        'transfer-encoding: "chunked"',
        "transfer-encoding:",
        "transfer-encoding: \x0bchunked",
        "transfer_encoding : chunked",
    ],
)
def test_a_header_that_can_be_read_in_two_ways_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        head("host: a", header, "x-last: 1")


def test_chunks_in_version_1_0_are_refused() -> None:
    with pytest.raises(BadRequest):
        head("transfer-encoding: chunked", line="POST / HTTP/1.0")


def test_as_many_headers_as_may_be_and_not_one_more() -> None:
    assert len(head(*["a: b"] * MAX_HEADERS).headers) == MAX_HEADERS
    with pytest.raises(HeadersTooLarge):
        head(*["a: b"] * (MAX_HEADERS + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(raw: bytes) -> None:
    with contextlib.suppress(BadRequest, HeadersTooLarge):
        read_head(raw + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"GET / HTTP/1.1\n", True),
        (b"GET / HTTP/1.1\rx", True),
        (b"GET / HTTP/1.1\r", False),
        (b"GET / HTTP/1.1\r\nhost: a\r", False),
        (b"GET / HTTP/1.1\r\nhost: a\n", True),
        (b"", False),
        (b"G", False),
        (b"\r", False),
        (b"\x16\x03\x01", True),
        (b"{", True),
        (b" ", True),
    ],
)
def test_what_will_never_be_a_head_is_found_wherever_reading_starts(raw: bytes, found: bool) -> None:
    assert any(is_hopeless(raw[:end], end - 1) for end in range(1, len(raw) + 1)) is found
    assert is_hopeless(raw, 0) is found


def read(body: Sized | Chunked, pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """What `pieces` are of the body, and what of them follows it (None: it is not over)."""
    got = b""
    for at, piece in enumerate(pieces):
        part, rest = body.take(piece)
        got += part
        while body.more:
            part, rest = body.take(b"")
            got += part
        if rest is not None:
            return got, rest + b"".join(pieces[at + 1 :])
    return got, None


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
EXTENSIONS = st.sampled_from([b"", b";a=b", b" ; a", b';q="x;y"'])


@given(body=st.binary(min_size=1, max_size=300), behind=st.binary(max_size=50), cuts=CUTS)
def test_a_body_of_a_length_is_the_same_however_it_comes(body: bytes, behind: bytes, cuts: list[int]) -> None:
    assert read(Sized(len(body)), split(body + behind, cuts)) == (body, behind)


@given(
    chunks=st.lists(st.tuples(st.binary(min_size=1, max_size=60), EXTENSIONS), max_size=8),
    trailer=st.sampled_from([b"", b"x: y\r\n", b"x:\r\ny: z\r\n"]),
    behind=st.binary(max_size=50),
    cuts=CUTS,
)
def test_a_body_in_chunks_is_the_same_however_it_comes(
    chunks: list[tuple[bytes, bytes]], trailer: bytes, behind: bytes, cuts: list[int]
) -> None:
    wire = b"".join(b"%X%b\r\n%b\r\n" % (len(data), ext, data) for data, ext in chunks)
    wire += b"0\r\n" + trailer + b"\r\n" + behind
    for at_once in (4096, 1):
        with patch.object(framing, "MAX_LINES_AT_ONCE", at_once):
            assert read(Chunked(), split(wire, cuts)) == (b"".join(data for data, _ in chunks), behind)


def test_a_body_in_many_chunks_is_read_in_many_steps() -> None:
    """A quarter of a megabyte would else hold up everybody else for 50 ms, and a client sends one behind another."""
    body, steps = Chunked(), 1
    got, rest = body.take(b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\nnext")
    while body.more:
        assert rest is None
        part, rest = body.take(b"")
        got += part
        steps += 1
    assert (got, rest) == (b"x" * 50_000, b"next")
    assert steps > 2 * 50_000 // MAX_LINES_AT_ONCE


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\na\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1\n\r\na\r\n",
        b"1\r\r\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\n\n\n",
        b"2\r\na\r\n\r\n",
        b"1\r\na0\r\n\r\n",
        b"1;\x00\r\na\r\n",
        b"1;a\rb\r\na\r\n",
        b"1;a\nb\r\na\r\n",
        b"1000000000000000\r\n",
        b"ffffffffffffffffffffffff1\r\n",
        b"0\r\nx\r\n\r\n",
        b"0\r\n x: y\r\n\r\n",
        b"0\r\nx : y\r\n\r\n",
        b"0\r\nx: y\n\r\n",
        b"1;" + b"x" * MAX_CHUNK_LINE_BYTES + b"\r\na\r\n",
        b"x" * (MAX_CHUNK_LINE_BYTES + 1),
        b"0\r\nx: " + b"y" * MAX_CHUNK_LINE_BYTES,
    ],
)
def test_chunks_that_can_be_read_in_two_ways_are_refused(wire: bytes) -> None:
    for pieces in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
        with pytest.raises(BadRequest):
            read(Chunked(), pieces)


@pytest.mark.parametrize("spare", [b"1;%b\r\na\r\n" % (b"x" * 1000), b"x: %b\r\n" % (b"y" * 1000)])
def test_what_stands_beside_chunks_is_bounded_over_the_whole_body(spare: bytes) -> None:
    body = Chunked()
    if spare.startswith(b"x"):
        body.take(b"0\r\n")
    with pytest.raises(BadRequest, match="too much"):
        body.take(spare * (MAX_CHUNK_SPARE_BYTES // 1000 + 1))


def test_a_head_that_is_printed_shows_no_key() -> None:
    head, _ = read_head(b"GET /v1/models?key=op_1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer op_2\r\n\r\n")
    head.kept["edge"] = "op_3"
    assert "op_" not in repr(head)
