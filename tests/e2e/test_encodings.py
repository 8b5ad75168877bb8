"""Request bodies that come compressed: understood, bounded by their decoded size, and sent on plain."""

import gzip
import json
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from tests.kit.calls import BY_ID
from tests.kit.gateway import Gateway
from tests.kit.upstream import Upstream


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def streamed_zstd(body: bytes) -> bytes:
    """Without the decoded size in its head, as clients that stream make it."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(body) + packer.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "zstd": ("zstd", zstandard.compress),
    "zstd-streamed": ("zstd", streamed_zstd),
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("GZIP", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw-deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "identity": ("identity", bytes),
}
PACKED = [id for id in CODINGS if id != "identity"]


@pytest.mark.parametrize("id", CODINGS)
def test_a_compressed_body_is_understood_and_goes_up_plain(
    gateway: Gateway, upstream: Upstream, id: str
) -> None:
    coding, pack = CODINGS[id]
    model = upstream.model()
    body = json.dumps({"model": model, "input": "straße " * 1000}).encode()
    answer = gateway.post("/oa/v1/responses", pack(body), content_encoding=coding)
    assert answer.status_code == 200, answer.text
    seen = upstream.only(model)
    assert seen.body == body
    assert "content-encoding" not in seen.headers
    assert seen.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("id", PACKED)
def test_a_bomb_is_413(gateway: Gateway, id: str) -> None:
    coding, pack = CODINGS[id]
    bomb = pack(b'{"model": "oa/x", "input": "' + b"a" * 60_000_000 + b'"}')  # a body may be 50 MiB
    assert len(bomb) < 1_000_000
    answer = gateway.post("/v1/responses", bomb, content_encoding=coding)
    assert answer.status_code == 413, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("id", PACKED)
@pytest.mark.parametrize("harm", ["cut", "noise", "trailing"])
def test_a_broken_body_is_400(gateway: Gateway, id: str, harm: str) -> None:
    coding, pack = CODINGS[id]
    packed = pack(json.dumps(BY_ID["responses"].fields("oa/x") | {"pad": list(range(999))}).encode())
    broken = {"cut": packed[: len(packed) // 2], "noise": b"not compressed", "trailing": packed + b"junk"}[
        harm
    ]
    answer = gateway.post("/v1/responses", broken, content_encoding=coding)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
