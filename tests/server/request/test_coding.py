"""Each coding, alone and stacked, whole and cut anywhere; what is broken or too large is told apart."""

import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.errors import BadRequest, BodyTooLarge, UnsupportedEncoding
from gproxy.server.request.coding import (
    CodingBroken,
    Decoder,
    OutputTooLarge,
    codings_of,
    decode_request,
    request_decoder,
)


def raw_deflate(data: bytes) -> bytes:
    """What some senders call deflate: without zlib's head and checksum."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", lambda data: bytes(brotli.compress(data, quality=3))),
    "zstd": ("zstd", zstandard.compress),
}
EACH = pytest.mark.parametrize(("coding", "encode"), ENCODERS.values(), ids=ENCODERS)
MANY = 1 << 30
TEXT = b'{"model": "a/b", "messages": []}' * 50


def decoded(codings: list[str], pieces: list[bytes], cap: int = MANY) -> bytes:
    decoder = Decoder(codings, cap)
    return b"".join(map(decoder.feed, pieces)) + decoder.end()


@EACH
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2100), max_size=6))
def test_any_body_cut_anywhere_comes_out_as_it_was(
    coding: str, encode: Callable[[bytes], bytes], data: bytes, cuts: list[int]
) -> None:
    encoded = encode(data)
    pieces = [encoded[start:end] for start, end in itertools.pairwise([0, *sorted(cuts), len(encoded)])]
    assert decoded([coding], pieces) == data


@EACH
@given(more=st.integers(-700, 1500))
@example(more=10)
def test_a_body_that_outgrows_one_step_of_the_decoder_comes_out_whole(
    coding: str, encode: Callable[[bytes], bytes], more: int
) -> None:
    """A step may end with the input used up and output still held back."""
    data = bytes(256 * 1024 + more)
    assert decoded([coding], [encode(data)]) == data


def test_codings_are_undone_last_applied_first() -> None:
    stacked = brotli.compress(zstandard.compress(gzip.compress(TEXT)))
    assert decoded(["gzip", "zstd", "br"], [stacked]) == TEXT
    assert decoded(["gzip", "zstd", "br"], [stacked[at : at + 7] for at in range(0, len(stacked), 7)]) == TEXT
    with pytest.raises(CodingBroken):
        decoded(["br", "zstd", "gzip"], [stacked])


@EACH
@given(keep=st.floats(0.01, 0.99))
def test_a_body_that_is_cut_short_is_broken(
    coding: str, encode: Callable[[bytes], bytes], keep: float
) -> None:
    encoded = encode(TEXT)
    with pytest.raises(CodingBroken):
        decoded([coding], [encoded[: max(1, int(len(encoded) * keep))]])


@EACH
@pytest.mark.parametrize("junk", [b"x", b"\x00" * 600], ids=["byte", "zeros"])
def test_what_follows_the_end_is_broken(coding: str, encode: Callable[[bytes], bytes], junk: bytes) -> None:
    with pytest.raises(CodingBroken):
        decoded([coding], [encode(TEXT) + junk])
    with pytest.raises(CodingBroken):
        decoded([coding], [encode(TEXT), junk])


@EACH
def test_what_is_no_compressed_data_is_broken(coding: str, encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CodingBroken):
        decoded([coding], [b'{"model": "plain"}'])


@EACH
def test_an_empty_body_is_empty(coding: str, encode: Callable[[bytes], bytes]) -> None:
    assert decoded([coding], []) == b""
    assert decoded([coding], [b""]) == b""


@EACH
def test_the_cap_is_on_what_comes_out(coding: str, encode: Callable[[bytes], bytes]) -> None:
    assert decoded([coding], [encode(TEXT)], cap=len(TEXT)) == TEXT
    with pytest.raises(OutputTooLarge):
        decoded([coding], [encode(TEXT)], cap=len(TEXT) - 1)


def test_the_cap_is_on_all_pieces_together() -> None:
    encoded = gzip.compress(TEXT, compresslevel=0)
    with pytest.raises(OutputTooLarge):
        decoded(["gzip"], [encoded[at : at + 50] for at in range(0, len(encoded), 50)], cap=len(TEXT) - 1)


BOMB_BYTES = 64 * 1024 * 1024


@EACH
def test_a_bomb_is_refused_before_it_takes_memory(coding: str, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(bytes(BOMB_BYTES))
    tracemalloc.start()
    try:
        with pytest.raises(OutputTooLarge):
            decoded([coding], [bomb], cap=1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_bomb_inside_a_bomb_is_refused() -> None:
    with pytest.raises(OutputTooLarge):
        decoded(["gzip", "gzip"], [gzip.compress(gzip.compress(bytes(BOMB_BYTES)))], cap=1024 * 1024)


def test_a_window_that_takes_more_memory_than_the_standard_asks_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(CodingBroken):
        decoded(["zstd"], [compressor.compress(TEXT) + compressor.flush()])


@pytest.mark.parametrize(
    ("header", "codings"),
    [
        ("", ()),
        ("identity", ()),
        ("gzip", ("gzip",)),
        (" GZip , identity,Br ,", ("gzip", "br")),
        ("exi", ("exi",)),
    ],
)
def test_a_header_names_codings_in_the_order_applied(header: str, codings: tuple[str, ...]) -> None:
    assert codings_of(header) == codings


@pytest.mark.parametrize("header", ["", "identity", "identity, identity"])
def test_a_request_without_a_coding_needs_no_decoder(header: str) -> None:
    assert request_decoder(header, 10) is None


@pytest.mark.parametrize("header", ["compress", "gzip, lzma", "gzip, gzip, gzip, gzip", "gzip;q=1", "*"])
def test_a_request_in_an_unknown_coding_is_415(header: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        request_decoder(header, 10)


def test_a_request_that_is_broken_is_400_and_one_that_is_too_large_is_413() -> None:
    for body, cap, error in ((b"junk", MANY, BadRequest), (gzip.compress(TEXT), 10, BodyTooLarge)):
        decoder = request_decoder("gzip", cap)
        assert decoder is not None
        with pytest.raises(error):
            decode_request(decoder, body, last=True, cap=cap)


def test_a_request_whose_last_piece_is_missing_is_400() -> None:
    decoder = request_decoder("gzip", MANY)
    assert decoder is not None
    assert decode_request(decoder, gzip.compress(TEXT)[:-4], last=False, cap=MANY) == TEXT
    with pytest.raises(BadRequest):
        decode_request(decoder, b"", last=True, cap=MANY)
