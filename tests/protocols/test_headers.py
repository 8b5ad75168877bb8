"""What is not on a list does not cross."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.errors import BadRequest
from gproxy.protocols.headers import CLIENT, HOP, LOOKED_AT, all_pass, client_headers, upstream_headers

IDENTITY = (b"accept-encoding", b"identity")


def test_what_an_upstream_needs_goes_up_byte_for_byte() -> None:
    passed = [
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"a-2025,  b-2026 "),
        (b"x-stainless-lang", b"python"),
        (b"user-agent", b"sdk/\xe4"),
        (b"idempotency-key", b"1"),
    ]
    assert upstream_headers(passed) == [*passed, IDENTITY]


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"host", b"content-length",
        b"transfer-encoding", b"x-forwarded-for", b"forwarded", b"via", b"origin", b"referer", b"cf-ray",
        b"openai-organization", b"openai-project", b"x-goog-user-project", b"accept-encoding",
        b"content-encoding", b"expect", b"te", b"upgrade", b"x-unknown", b"x-stainless-(os)",
    ],
)  # fmt: skip
def test_what_is_the_clients_own_stays_here(name: bytes) -> None:
    assert upstream_headers([(name, b"x")]) == [IDENTITY]


def test_names_listed_in_connection_are_for_one_hop() -> None:
    sent = [(b"Connection", b"close, Anthropic-Beta"), (b"anthropic-beta", b"x"), (b"Accept", b"*/*")]
    assert upstream_headers(sent) == [(b"accept", b"*/*"), IDENTITY]
    assert client_headers([(b"connection", b"retry-after"), (b"retry-after", b"1")]) == []


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\x00", b"a\x01b", b"\x1b[2J", b"\x7f"])
def test_a_line_break_or_a_control_character_in_a_value_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="x-anything"):
        upstream_headers([(b"x-anything", value)])
    assert client_headers([(b"request-id", value)]) == []


def test_a_tab_in_a_value_is_none_of_those() -> None:
    assert upstream_headers([(b"user-agent", b"a\tb")]) == [(b"user-agent", b"a\tb"), IDENTITY]


def test_what_a_client_needs_comes_down() -> None:
    passed = [
        (b"content-type", b"text/event-stream"),
        (b"retry-after", b"3"),
        (b"retry-after-ms", b"2500"),
        (b"x-should-retry", b"false"),
        (b"openai-processing-ms", b"12"),
        (b"request-id", b"req_1"),
        (b"content-disposition", b"attachment"),
    ]
    assert client_headers(passed) == passed


@pytest.mark.parametrize(
    "name",
    [
        b"Set-Cookie", b"server", b"content-length", b"content-encoding", b"transfer-encoding", b"alt-svc",
        b"strict-transport-security", b"openai-organization", b"x-ratelimit-remaining-requests",
        b"anthropic-ratelimit-tokens-limit", b"anthropic-organization-id", b"cf-ray", b"via", b"location",
    ],
)  # fmt: skip
def test_what_describes_the_operators_account_or_the_hop_does_not_come_down(name: bytes) -> None:
    assert client_headers([(name, b"x")]) == []


def test_what_belongs_to_one_dialect_does_not_go_to_another() -> None:
    of_one = ["anthropic-version", "anthropic-beta", "openai-beta", "x-goog-api-client", "x-stainless-os"]
    of_all = ["accept", "user-agent", "idempotency-key", "x-client-request-id"]
    sent = [(name.encode(), b"v") for name in (*of_one, *of_all)]
    assert [name.decode() for name, _ in upstream_headers(sent, across=True)] == [*of_all, "accept-encoding"]
    answered = [(name, b"v") for name in (b"content-type", b"openai-version", b"retry-after", b"request-id")]
    assert [name for name, _ in client_headers(answered, across=True)] == [b"retry-after", b"request-id"]


def test_a_name_that_no_client_has_stays_here_however_long() -> None:
    assert upstream_headers([(b"x-stainless-" + b"a" * 200, b"1")]) == [IDENTITY]


NAMES = st.sampled_from([*sorted(CLIENT), b"Connection", b"connection", b"Request-Id", b"set-cookie", b"x-a"])
VALUES = st.sampled_from([b"a", b"request-id, x-a", b"retry-after", b"a\x01", b""])


@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=6), across=st.booleans())
def test_headers_of_other_names_change_nothing(headers: list[tuple[bytes, bytes]], across: bool) -> None:
    looked_at = [(name.lower(), value) for name, value in headers if name.lower() in LOOKED_AT]
    assert client_headers(looked_at, across=across) == client_headers(headers, across=across)


@given(headers=st.lists(st.tuples(NAMES, VALUES | st.sampled_from([b"close", b"Keep-Alive"])), max_size=6))
def test_where_all_pass_none_is_taken_out(headers: list[tuple[bytes, bytes]]) -> None:
    named = [(name.lower(), value) for name, value in headers]
    passing = [header for header in named if header[0] in CLIENT]
    if all_pass([value for _, value in passing], [value for name, value in named if name == HOP]):
        assert client_headers(headers) == passing


@pytest.mark.parametrize("code", range(256))
def test_each_control_character_but_a_tab_is_found_wherever_it_stands(code: int) -> None:
    value = bytes((97, code, 98))
    is_control = (code < 32 or code == 127) and code != ord("\t")
    assert all_pass([b"a", value], []) is not is_control
    assert client_headers([(b"request-id", value)]) == ([] if is_control else [(b"request-id", value)])
