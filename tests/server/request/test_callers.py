"""A key is found in any of its places, and is one that holds now, or nobody is let in."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.keys import make_key
from gproxy.errors import Unauthenticated
from gproxy.server.request import callers
from tests.server.parts import KEYS, Headers, snapshot

HERE = snapshot(KEYS)
NOW = 1_795_000_000.0


def who(*headers: tuple[bytes, bytes], query: str = "") -> str:
    return callers.authenticate(headers, query, HERE, NOW).key_label


PLACES: list[tuple[tuple[tuple[bytes, bytes], ...], str]] = [
    (((b"authorization", b"Bearer sk-client"),), ""),
    (((b"authorization", b"bearer  sk-client "),), ""),
    (((b"authorization", b"BEARER sk-client"),), ""),
    (((b"x-api-key", b"sk-client"),), ""),
    (((b"x-goog-api-key", b" sk-client "),), ""),
    ((), "key=sk-client"),
    ((), "alt=sse&k%65y=sk%2Dclient"),
    (((b"x-api-key", b"sk-client"), (b"authorization", b"Bearer sk-client")), "key=sk-client"),
    (((b"x-api-key", b""), (b"authorization", b"Bearer sk-client")), "key="),
    (((b"authorization", b"Basic dXNlcg=="), (b"x-api-key", b"sk-client")), ""),
    (((b"authorization", b"Bearer"), (b"x-api-key", b"sk-client")), ""),
]


@pytest.mark.parametrize(("headers", "query"), PLACES)
def test_a_key_is_taken_from_any_of_four_places(headers: tuple[tuple[bytes, bytes], ...], query: str) -> None:
    assert who(*headers, query=query) == "laptop"


def test_a_key_of_any_format_is_taken_from_the_query() -> None:
    assert who(query="key=a%2Bb%2Fc%3D%26d") == "odd"
    assert who((b"authorization", b"Bearer a+b/c=&d")) == "odd"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer sk-client"), (b"x-api-key", b"sk-off")],
        [(b"authorization", b"Bearer sk-client"), (b"x-goog-api-key", b"sk-unknown")],
        [(b"x-api-key", b"sk-client"), (b"x-api-key", b"sk-unknown")],
        [(b"authorization", b"Bearer sk-client"), (b"authorization", b"Bearer sk-unknown")],
    ],
)
def test_two_different_keys_are_refused_with_the_text_for_a_bad_one(headers: Headers) -> None:
    with pytest.raises(Unauthenticated) as refused:
        who(*headers)
    with pytest.raises(Unauthenticated) as unknown:
        who((b"x-api-key", b"sk-unknown"))
    assert refused.value.message == unknown.value.message


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ((), "no key came"),
        (("sk-client", "sk-off"), "two different keys came"),
        (("sk-expired",), "the key alice/old has expired"),
        (("sk-off",), "the key alice/off is disabled"),
        (("sk-gone",), "gone is disabled"),
        (("sk-other",), "the key is unknown, and not of gproxy's form"),
        (("op_short",), "the key is unknown: mistyped or cut short, by its checksum"),
        ((make_key(),), "the key is unknown: revoked, or made for another gproxy"),
    ],
)
def test_logs_are_told_why_a_key_is_none_without_a_part_of_it(keys: tuple[str, ...], why: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        callers.client_of(set(keys), HERE, NOW)
    assert refused.value.why == why
    assert not any(key in refused.value.message + why for key in keys)


def test_two_different_keys_in_the_query_are_refused() -> None:
    with pytest.raises(Unauthenticated):
        who(query="key=sk-client&key=sk-unknown")


def test_every_bad_key_is_refused_in_the_same_words() -> None:
    messages = set()
    for key in (b"sk-unknown", b"sk-off", b"sk-expired", b"sk-gone", b"sk-clien", b"sk-client2", b"\xff"):
        with pytest.raises(Unauthenticated) as refused:
            who((b"x-api-key", key))
        messages.add(refused.value.message)
    assert len(messages) == 1


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"authorization", b"Bearer "),),
        ((b"authorization", b"sk-client"),),
        ((b"authorization", b"Basic sk-client"),),
        ((b"x-api-key", b"  "),),
        ((b"api-key", b"sk-client"),),
    ],
)
def test_no_key_is_refused_in_words_that_name_the_four_places(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        who(*headers)
    for place in ("Bearer", "x-api-key", "x-goog-api-key", "?key="):
        assert place in refused.value.message


def test_a_stored_hash_is_no_key() -> None:
    for stored in HERE.clients:
        with pytest.raises(Unauthenticated):
            who((b"x-api-key", stored.encode()))
        with pytest.raises(Unauthenticated):
            who((b"x-api-key", b"sha256:" + stored.encode()))


def test_a_key_holds_up_to_the_moment_it_expires() -> None:
    at = HERE.clients[hashlib.sha256(b"sk-expired").hexdigest()].expires_at
    assert at is not None
    headers = ((b"x-api-key", b"sk-expired"),)
    assert callers.authenticate(headers, "", HERE, at - 0.001).key_label == "old"
    with pytest.raises(Unauthenticated):
        callers.authenticate(headers, "", HERE, at)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        ("alt=sse", "alt=sse"),
        ("key=s", ""),
        ("alt=sse&key=s&beta=true", "alt=sse&beta=true"),
        ("k%65y=s&a=%2f", "a=%2f"),
        ("key=a&key=b&monkey=1", "monkey=1"),
        ("keys=1&KEY=2&x=key", "keys=1&KEY=2&x=key"),
        ("key", ""),
    ],
)
def test_the_key_is_taken_out_of_the_query_and_the_rest_kept_as_it_was(query: str, left: str) -> None:
    assert callers.without_key(query) == left


@given(st.lists(st.sampled_from(["key=x", "%6bey=y", "a=1", "b=%26key=2", "", "k+ey=3"]), max_size=6))
def test_no_key_is_left_in_a_query(parts: list[str]) -> None:
    left = callers.without_key("&".join(parts))
    assert left == "&".join(part for part in parts if part not in ("key=x", "%6bey=y"))
