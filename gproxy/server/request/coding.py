"""Content codings: zstd, gzip, deflate and br undone piece by piece, under a cap on what comes out.

Which side sent the body, and what a failure means to it, is the caller's to know.
"""

import zlib
from collections.abc import Callable, Iterable

import brotli
import zstandard

from gproxy.errors import BadRequest, BodyTooLarge, UnsupportedEncoding

_STEP = 256 * 1024
"""Most bytes that one step of a decoder may put out before the cap is looked at again."""


class CodingBroken(Exception):
    """The bytes are not what their content-encoding says."""


class OutputTooLarge(Exception):
    """More came out than the cap allows."""


class Decoder:
    """Undoes a list of codings, last applied first. Raises CodingBroken and OutputTooLarge."""

    def __init__(self, codings: Iterable[str], cap: int) -> None:
        """`codings` as in the header, in the order applied; LookupError for one that is unknown."""
        self._stages = [_STAGES[name]() for name in reversed(tuple(codings))]
        self._cap = cap
        self._out = 0

    def feed(self, data: bytes) -> bytes:
        return self._run(data, ended=False)

    def end(self) -> bytes:
        """The rest; CodingBroken if the input stopped inside a compressed stream."""
        return self._run(b"", ended=True)

    def _run(self, data: bytes, *, ended: bool) -> bytes:
        pieces = [data]
        for stage in self._stages:
            out: list[bytes] = []
            produced = 0
            try:
                for piece in pieces:
                    for decoded in stage.decode(piece):
                        produced += len(decoded)
                        if produced + self._out > self._cap:
                            raise OutputTooLarge
                        out.append(decoded)
                if ended:
                    stage.finish()
            except (zlib.error, brotli.error, zstandard.ZstdError) as error:
                raise CodingBroken(str(error)) from error
            pieces = out
        result = b"".join(pieces)
        self._out += len(result)
        if self._out > self._cap:
            raise OutputTooLarge
        return result


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._decoder = zlib.decompressobj(wbits)
        self._begun = False

    def decode(self, data: bytes) -> Iterable[bytes]:
        if self._wbits == zlib.MAX_WBITS and data and not self._begun and data[0] & 0x0F != 8:
            # "deflate" is zlib's format by the book, and raw deflate from some senders.
            self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        full = False  # after a full step zlib may hold output back though its input is used up
        while data or full:
            self._begun = True
            if data and self._decoder.eof:
                raise CodingBroken("bytes after the end of the compressed data")
            out = self._decoder.decompress(data, _STEP)
            full = len(out) == _STEP
            yield out
            data = self._decoder.unconsumed_tail or self._decoder.unused_data

    def finish(self) -> None:
        if self._begun and not self._decoder.eof:
            raise CodingBroken("the compressed data is cut short")


class _Brotli:
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self._begun = False

    def decode(self, data: bytes) -> Iterable[bytes]:
        if not data:
            return
        self._begun = True
        yield self._decoder.process(data, output_buffer_limit=_STEP)
        while not self._decoder.can_accept_more_data():
            yield self._decoder.process(b"", output_buffer_limit=_STEP)

    def finish(self) -> None:
        if self._begun and not self._decoder.is_finished():
            raise CodingBroken("the compressed data is cut short")


class _Zstd:
    def __init__(self) -> None:
        # RFC 8878, section 3.1.1.1.2, asks decoders for windows of 8 MiB; a larger one is memory that a
        # sender could make us take for nothing.
        self._decoder = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).decompressobj()
        self._begun = False

    def decode(self, data: bytes) -> Iterable[bytes]:
        # decompressobj has no limit on its output; 512 bytes of input can grow to 16 MiB at most.
        for start in range(0, len(data), 512):
            self._begun = True
            if self._decoder.eof:
                raise CodingBroken("bytes after the end of the compressed data")
            yield self._decoder.decompress(data[start : start + 512])
            if self._decoder.unused_data:
                raise CodingBroken("bytes after the end of the compressed data")

    def finish(self) -> None:
        if self._begun and not self._decoder.eof:
            raise CodingBroken("the compressed data is cut short")


_STAGES: dict[str, Callable[[], _Zlib | _Brotli | _Zstd]] = {
    "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "x-gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "deflate": lambda: _Zlib(zlib.MAX_WBITS),
    "br": _Brotli,
    "zstd": _Zstd,
}

_MOST_CODINGS = 3


def codings_of(header: str) -> tuple[str, ...]:
    """The codings that a content-encoding header names, `identity` left out, in the order applied."""
    if not header:
        return ()
    names = (part.strip().lower() for part in header.split(","))
    return tuple(name for name in names if name not in ("", "identity"))


def request_decoder(header: str, cap: int) -> Decoder | None:
    """The decoder for a request's content-encoding, None if there is nothing to undo. Raises
    UnsupportedEncoding."""
    codings = codings_of(header)
    if not codings:
        return None
    if len(codings) > _MOST_CODINGS:
        raise UnsupportedEncoding(f"More than {_MOST_CODINGS} content codings.")
    try:
        return Decoder(codings, cap)
    except LookupError:
        raise UnsupportedEncoding(
            "Unknown content-encoding; zstd, gzip, deflate and br are understood."
        ) from None


def decode_request(decoder: Decoder, data: bytes, *, last: bool, cap: int) -> bytes:
    """One piece of a request body decoded; BadRequest if it is broken, BodyTooLarge beyond the cap."""
    try:
        return decoder.feed(data) + (decoder.end() if last else b"")
    except CodingBroken:
        raise BadRequest("The body is not what its content-encoding says.") from None
    except OutputTooLarge:
        raise BodyTooLarge(f"The body is larger than {cap} bytes when decoded.") from None
