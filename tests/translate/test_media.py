"""Data URLs are taken apart, and what is not base64 is refused."""

import pytest

from gproxy.errors import BadRequest
from gproxy.translate import media


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:image/png;base64,iVBO", ("image/png", "iVBO")),
        ("DATA:image/PNG;charset=x;BASE64,iVBO", ("image/png", "iVBO")),
        ("data:image/jpg;base64,/9j/", ("image/jpeg", "/9j/")),
        ("data:;base64,aGk=", ("text/plain", "aGk=")),
        ("https://a.example/data:image", ("", "")),
    ],
)
def test_a_data_url_is_its_media_type_and_its_data(url: str, expected: tuple[str, str]) -> None:
    assert media.from_data_url(url, "x") == expected


@pytest.mark.parametrize("url", ["data:text/plain,hello", "data:image/png;base64", "data:"])
def test_a_data_url_without_base64_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match=r"`messages\[0\]` is a data URL without base64"):
        media.from_data_url(url, "messages[0]")


def test_a_data_url_is_made_as_it_is_read() -> None:
    assert media.from_data_url(media.data_url("a/b", "aGk="), "x") == ("a/b", "aGk=")


def test_text_passes_through_base64() -> None:
    assert media.decoded_text(media.encoded_text("hällo 👍")) == "hällo 👍"
    assert media.decoded_text("/w==") == "\ufffd"
    with pytest.raises(BadRequest):
        media.decoded_text("not base64!")


@pytest.mark.parametrize(
    ("part", "cache"),
    [
        ({}, ""),
        ({"cache_control": {"type": "ephemeral"}}, "5m"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, "1h"),
        ({"cache_control": "odd"}, ""),
    ],
)
def test_a_mark_of_the_cache_is_read(part: dict[str, object], cache: str) -> None:
    assert media.cache_of(part) == cache


def test_text_within_arrays_is_put_together() -> None:
    assert media.text_within("a") == "a"
    assert media.text_within([{"text": "a"}, "odd", {"text": 1}, {"text": "b"}]) == "ab"
    assert media.text_within(None) == ""


def test_a_file_of_another_account_is_named() -> None:
    assert "`messages[0].file_id`" in media.of_another_account("messages[0].file_id").message


@pytest.mark.parametrize(
    ("url", "media_type"),
    [
        ("https://a.example/b.PNG?c=d.pdf", "image/png"),
        ("https://a.example/b.pdf#1", "application/pdf"),
        ("https://a.example/b", ""),
        ("https://a.example/b.unknown", ""),
        ("http://[", ""),
    ],
)
def test_an_address_tells_its_type_by_its_ending(url: str, media_type: str) -> None:
    assert media.type_of(url) == media_type
