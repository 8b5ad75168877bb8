"""Of a chunk only what it is asked for is decoded, and only if it is there."""

import msgspec
import pytest

from gproxy.protocols.openai_chunks import Chunk, Reported


def test_what_is_not_asked_for_is_skipped_and_what_is_not_there_is_none() -> None:
    raw = b'{"id": "x", "choices": [{"index": 0}], "usage": {"prompt_tokens": 1}, "x_groq": {"id": "y"}}'
    assert msgspec.json.decode(raw, type=Chunk) == Chunk([{"index": 0}], {"prompt_tokens": 1}, None)
    assert msgspec.json.decode(raw, type=Reported) == Reported({"prompt_tokens": 1}, None, {"id": "y"})
    assert msgspec.json.decode(b"{}", type=Chunk) == Chunk()


@pytest.mark.parametrize("raw", [b"[]", b'"text"', b"{"])
def test_what_is_no_object_is_no_chunk(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(raw, type=Chunk)
