import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy.config.keys import make_key
from gproxy.config.scrub import Known, Scrubber, known, pieces, secret_name
from tests.kit.gateway import ROOT
from tests.server.parts import ALICE, KEY, provider, snapshot

MADE = make_key()
SECRET = 'sk-canary/4711+x=é"y'
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60)


def scrubber(*values: str, keys: tuple[str, ...] = ()) -> Scrubber:
    return Scrubber(Known(keys=frozenset(keys), values=frozenset(values)))


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Proxy-Authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "cookie",
        "Set-Cookie",
        "cf-access-client-secret",
        "x-amz-security-token",
        "key",
        "api_key",
        "access_token",
        "token",
        "X-Amz-Signature",
        "sig",
        "password",
        "auth",
    ],
)
def test_the_names_of_secrets_are_known(name: str) -> None:
    assert secret_name(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "content-type",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-tokens-limit",
        "openai-organization",
        "idempotency-key",
        "x-claude-code-session-id",
        "alt",
        "keyboard",
    ],
)
def test_other_names_are_no_secrets(name: str) -> None:
    assert not secret_name(name.encode())


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(quote(SECRET, safe=""), safe=""),
        quote_plus(SECRET),
        re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        json.dumps(json.dumps(SECRET))[3:-3],
        SECRET.replace("=", "\\u003d").replace("+", "\\u002B"),
    ],
)
def test_a_known_value_is_found_however_it_is_written(written: str) -> None:
    text = f'{{"said": "it is {written}, is it not"}}'
    assert scrubber(SECRET).text(text) == '{"said": "it is [redacted], is it not"}'


@pytest.mark.parametrize("secret", ["sk-canary-4711-xyz", MADE], ids=["foreign", "made"])
@pytest.mark.parametrize(
    "escape",
    [
        lambda c: f"\\u{ord(c):04x}",
        lambda c: f"\\u{ord(c):04X}" if c in "sy_n" else c,
        lambda c: f"\\\\\\u{ord(c):04x}",
        lambda c: f"%{ord(c):02x}",
        lambda c: f"%2525{ord(c):02X}",
    ],
    ids=["json", "some", "json in json", "percent", "percent again"],
)
def test_a_value_of_which_every_letter_is_escaped_is_found_too(
    secret: str, escape: Callable[[str], str]
) -> None:
    known = scrubber(SECRET, keys=() if secret == MADE else (secret,))
    hidden = "".join(map(escape, secret))
    assert known.text(f'{{"a": "\\u0041 {hidden}"}}') == '{"a": "A [redacted]"}'
    assert known.text(r'{"a": "\u0041 50%25 %41"}') == r'{"a": "\u0041 50%25 %41"}'


@given(PRINTABLE, st.text(), st.text())
@example("sk-aaaaaaaaaa", "", "sk-aaaaaaaaa")
def test_no_value_is_left_in_any_form(secret: str, before: str, after: str) -> None:
    for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
        raw = f"{before} {form} {after}".encode("utf-8", "replace")
        found = scrubber(secret).data(raw)
        assert form.encode() not in found or form in "[redacted]"


@given(PRINTABLE, st.integers(min_value=4), st.booleans())
def test_the_beginning_of_a_value_at_an_open_end_goes(secret: str, cut: int, encoded: bool) -> None:
    form = (quote(secret, safe="") if encoded else secret).encode()
    beginning = form[: 4 + cut % (len(form) - 4)]
    assert scrubber(secret).data(b"it is " + beginning, open_end=True).startswith(b"it is ")
    assert not scrubber(secret).data(b"it is " + beginning, open_end=True).endswith(beginning)


@pytest.mark.parametrize("escape", [str, quote_plus, lambda text: text.replace("/", "\\/")])
def test_a_key_that_is_cut_anywhere_leaves_no_middle(escape: Callable[[str], str]) -> None:
    written = escape("sk-canary&with/ends, of a kind")
    it = scrubber(keys=("sk-canary&with/ends, of a kind",))
    for cut in range(4, len(written)):
        assert it.data(f"it is {written[:cut]}".encode(), open_end=True) == b"it is [redacted]"


def test_an_end_that_is_none_of_a_value_stays() -> None:
    it = scrubber("sk-canary-4711")
    assert it.data(b"say sk-c sk-canoe", open_end=True) == b"say sk-c sk-canoe"
    assert it.data(b"say sk-can", open_end=False) == b"say sk-can"
    assert it.data(b"say sk-can", open_end=True) == b"say [redacted]"


def test_of_a_key_its_first_characters_are_enough_and_of_other_values_not() -> None:
    it = scrubber("application/json", keys=("sk-proj-abcdefghijkl",))
    assert it.text("Wrong key sk-proj-a****kl, sorry") == "Wrong key [redacted], sorry"
    assert it.text("application/xml or application/json.") == "application/xml or [redacted]."


def test_a_key_of_the_shortest_length_is_found_with_what_follows_it() -> None:
    assert (
        scrubber(keys=("sk-12345",)).text("sk-12345, sk-12345678 sk-1234") == "[redacted], [redacted] sk-1234"
    )


def test_of_keys_that_begin_alike_each_is_found() -> None:
    it = scrubber("sk-proj-one-and-more", "sk-proj-one", "sk-proj-two")
    assert it.text("sk-proj-one-and-more sk-proj-one sk-proj-two sk-proj-tree") == (
        "[redacted] [redacted] [redacted] sk-proj-tree"
    )


def test_headers_go_by_name_and_by_value() -> None:
    headers = [
        (b"authorization", b"Bearer anything"),
        (b"x-note", b"my key is sk-canary-4711"),
        (b"x-latin", b"caf\xe9"),
        (b"x-utf", "caf\u00e9".encode()),
        (b"accept", b"*/*"),
        (b"Referer", b"https://me:pw@host/x?token=abc&b=sk-canary-4711"),
    ]
    assert scrubber("sk-canary-4711").headers(headers) == [
        ("authorization", "[redacted]"),
        ("x-note", "my key is [redacted]"),
        ("x-latin", "café"),
        ("x-utf", "café"),
        ("accept", "*/*"),
        ("Referer", "https://[redacted]@host/x?token=[redacted]&b=[redacted]"),
    ]


def test_a_query_keeps_all_but_its_secrets() -> None:
    query = b"alt=sse&key=abc&%6bey=abc&access_token=t&q=sk-canary%2d4711&flag&empty="
    assert scrubber("sk-canary-4711").query(query) == (
        "alt=sse&key=[redacted]&%6bey=[redacted]&access_token=[redacted]&q=[redacted]&flag&empty="
    )
    assert scrubber().query(b"") == ""


def test_a_url_loses_user_password_and_secrets() -> None:
    url = b"https://me:pa@ss@host/v1/sk-canary-4711/x?api_key=1&b=2"
    assert (
        scrubber("sk-canary-4711").url(url)
        == "https://[redacted]@host/v1/[redacted]/x?api_key=[redacted]&b=2"
    )
    assert scrubber().url(b"https://host/a@b") == "https://host/a@b"


def test_all_secrets_of_a_configuration_are_known() -> None:
    here = snapshot(
        '[global]\nproxy = "http://u:global%2Fproxypass@h:1"\n'
        + provider(
            "http://h/v1?api-key=query-secret",
            more='proxy = "http://u:provider-pass@h:2", '
            'headers = { "x-team" = "team-value-1", "x-auth" = "Custom header-token-1", "x-s" = "short" }',
            secrets=("sk-provider-1", "tiny"),
        )
        + ALICE.replace(KEY, "sk-client-alice-1")
        + '[[users]]\nname = "bob"\npassword = "bob-password"\n'
    )
    found = known(here)
    assert found.keys == {"sk-provider-1", "sk-client-alice-1", "header-token-1"}
    assert found.values == {
        "global/proxypass",
        "dTpnbG9iYWwvcHJveHlwYXNz",
        "query-secret",
        "provider-pass",
        "dTpwcm92aWRlci1wYXNz",
        "team-value-1",
        "Custom header-token-1",
        "bob-password",
    }


def test_of_a_service_account_every_line_of_its_key_is_secret() -> None:
    account = {
        "type": "service_account",
        "client_email": "me@project",
        "private_key_id": "0123456789abcdef",
        "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nAbCdEfGhIjKl==\n-----END PRIVATE KEY-----\n",
    }
    assert list(pieces(json.dumps(account))) == ["0123456789abcdef", "MIIEvQIBADANBg", "AbCdEfGhIjKl=="]
    it = scrubber(keys=tuple(pieces(json.dumps(account))))
    said = it.text(json.dumps(account))
    assert "MIIE" not in said
    assert "AbCd" not in said
    assert "me@project" in said
    assert list(pieces("sk-plain")) == ["sk-plain"]
    assert list(pieces("{no json")) == ["{no json"]


def test_keys_that_came_with_a_request_are_taken_out_too_and_short_ones_left() -> None:
    base = scrubber(keys=("sk-of-a-provider",))
    it = base.also(frozenset({"sk-from-a-client", "short"}))
    assert it.text("a short sk-from-a-client, a sk-of-a-provider") == "a short [redacted], a [redacted]"
    assert it.data(b"cut: sk-of-a", open_end=True) == b"cut: [redacted]"
    assert it.headers([(b"x", b"sk-from-a-client")]) == [("x", "[redacted]")]
    assert base.also(frozenset({"short", "sk-of-a-provider"})) is base
    assert base.also(frozenset({"sk-from-a-client"})) is base.also(frozenset({"sk-from-a-client"}))


def test_what_looks_like_a_key_made_here_goes_though_nobody_knows_it() -> None:
    key = make_key()
    it = scrubber("sk-canary-4711").also(frozenset({"sk-another-one"}))
    for each in (scrubber(), it):
        assert each.text(f'{{"a": "{key}", "b": "op_short"}}') == '{"a": "[redacted]", "b": "op_short"}'


def test_without_secrets_everything_stays() -> None:
    assert scrubber().data(b"\xff anything", open_end=True) == b"\xff anything"


def test_hundreds_of_keys_cost_little_more_than_one() -> None:
    text = (b"See the streaming options of sk-something, op_ened or otherwise, so to speak. " * 900)[:65536]
    many = scrubber(keys=tuple(f"sk-{number:05d}-{number * 7919:012x}" for number in range(500)))
    many.data(text)
    began = time.process_time()
    for _ in range(10):
        assert many.data(text, open_end=True) == text
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "secret", ["/base64+secret/value==", '{"team": "secret value"}', "$ecret-word", r"\\\\a\\\\b-secret"]
)
def test_a_body_of_backslashes_takes_no_longer_than_another(secret: str) -> None:
    body = b"\\" * 65_536 + b"."
    one = scrubber(secret)
    began = time.process_time()
    assert one.data(body, open_end=True) == body
    assert time.process_time() - began < 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_no_file_is_opened_to_take_a_secret_out() -> None:
    """What is told when a process has no descriptors left goes through here."""
    program = (
        "import resource\n"
        "from gproxy.config.scrub import Known, Scrubber\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        f"print(Scrubber(Known(keys=frozenset({{{SECRET!r}}}))).text({SECRET!r}))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), env={"PYTHONPATH": ROOT}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "[redacted]\n"), done.stderr
