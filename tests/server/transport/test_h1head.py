"""The head of an upstream's answer: what is found in it, and what is refused."""

from collections.abc import Sequence

import pytest

from gproxy.server.transport import h1head
from gproxy.server.transport.h1head import MAX_FIELD_BYTES, MAX_HEADERS, Refused, Told

LENGTH = (b"Content-Length", b"5")

Field = tuple[bytes, bytes]


def read(headers: Sequence[Field]) -> tuple[Told, bool, int]:
    return h1head.read([name for name, _ in headers], [value for _, value in headers])


def test_the_first_header_of_a_name_is_found_in_lower_case() -> None:
    headers = [(b"X-A", b"1"), LENGTH, (b"x-a", b"2")]
    told, _, size = read(headers)
    assert told.all() == headers
    assert [told.get(name) for name in (b"x-a", b"content-length", b"x")] == [b"1", b"5", None]
    for _ in range(2):
        assert told.of(frozenset((b"x-a", b"b"))) == [(b"x-a", b"1"), (b"x-a", b"2")]
        assert told.of(frozenset((b"content-length",))) == [(b"content-length", b"5")]
    assert size == len(b"X-A1Content-Length5x-a2")


def test_some_of_its_headers_make_lines() -> None:
    told, _, _ = read([(b"X-A", b"1%b"), LENGTH, (b"x-a", b"2")])
    for names, block in (((b"x-a", b"b"), b"x-a: 1%b\r\nx-a: 2\r\n"), ((b"b",), b"")):
        picked = told.shape.of(frozenset(names))
        assert picked is told.shape.of(frozenset(names))
        assert picked.form % told.under(picked) == block


@pytest.mark.parametrize(
    ("coding", "delimited"),
    [(b"chunked", True), (b"gzip, Chunked", True), (b"chunked, gzip", False), (b"identity", False)],
)
def test_a_body_ends_by_its_length_by_chunks_or_with_its_connection(coding: bytes, delimited: bool) -> None:
    assert read([(b"Transfer-Encoding", coding)])[1] is delimited
    assert read([(b"Transfer-Encoding", b"chunked"), (b"TRANSFER-ENCODING", coding)])[1] is delimited
    assert read([LENGTH])[1]
    assert not read([(b"a", b"b")])[1]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"a", b"b")] * (MAX_HEADERS + 1),
        [(b"a", b"b" * MAX_FIELD_BYTES)],
        [(b"a", b"b\0c")],
        [(b"transfer-encoding", b"chunked\x0b")],
        [LENGTH, (b"transfer-encoding", b"\xe9")],
    ],
)
def test_a_head_beyond_its_limits_is_refused(headers: list[Field]) -> None:
    with pytest.raises(Refused):
        read(headers)


def test_a_head_at_its_limits_is_taken() -> None:
    assert read([(b"a", b"b" * (MAX_FIELD_BYTES - 1))] * 8)[1] is False
