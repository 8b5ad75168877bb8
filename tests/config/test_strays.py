import hashlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.keys import make_key
from gproxy.config.strays import (
    hashed_key,
    holds_key,
    looks_like_key,
    published,
    without_hashed,
    without_keys,
    without_lookalikes,
)
from tests.server.parts import ALICE, KEY, SECRET, provider, snapshot

MADE = make_key()
OTHER = "sk-other/4711+x=y"
REST = st.text("abc/%?&=:._-2F5", max_size=20)


@pytest.mark.parametrize(
    "text",
    [
        f"oa/{OTHER}",
        quote(OTHER, safe=""),
        quote(quote(OTHER, safe="")),
        MADE,
        f"models/{MADE}:generateContent",
        MADE.replace("_", "%5f"),
        "%6F" + MADE[1:],
        f"op_{'a' * 40}",
    ],
    ids=range(8),
)
def test_a_key_in_a_text_is_found_however_it_is_written(text: str) -> None:
    assert holds_key(text, (OTHER,))
    assert not holds_key(without_keys(text, (OTHER,)), (OTHER,))


@pytest.mark.parametrize("text", ["oa/gpt-4.1-mini", f"op_{'a' * 39}", "sk-other", "%", "%zz%41", ""])
def test_other_texts_hold_none_and_stay_as_they_are(text: str) -> None:
    assert not holds_key(text, (OTHER,))
    assert without_keys(text, (OTHER, "sk")) == text


@given(REST, REST, st.sampled_from([OTHER, MADE, quote(OTHER, safe=""), "%6F" + MADE[1:]]))
def test_no_key_is_left_in_a_path_or_query(before: str, after: str, key: str) -> None:
    assert not holds_key(without_keys(before + key + after, (OTHER,)), (OTHER,))


def test_what_is_around_a_key_stays() -> None:
    assert without_keys(f"/v1/{MADE}/x?a={OTHER}&b=c", (OTHER,)) == "/v1/[redacted]/x?a=[redacted]&b=c"
    assert without_keys(f"/v1beta/models/%6F{MADE[1:]}:countTokens", ()) == (
        "/v1beta/models/[redacted]:countTokens"
    )


def test_keys_and_secrets_of_the_file_are_searched_for_and_names_in_it_are_none() -> None:
    here = snapshot(provider("http://up", name="lm-studio", secrets=("lm-studio", SECRET, "short")) + ALICE)
    assert here.secrets == {SECRET, KEY}
    assert published("lm-studio", here.config)


def test_a_key_of_which_the_hash_alone_is_known_is_found_as_a_part_of_a_path_or_query() -> None:
    stored = hashlib.sha256(OTHER.encode()).hexdigest()
    here = snapshot(provider("http://up", name="lm-studio"))
    raw = f"/lm-studio/{quote(OTHER, safe='')}:embed?a={quote(quote(OTHER, safe=''))}&b={OTHER[:-1]}"
    shown = without_hashed(raw, {stored}, here.config)
    assert shown == f"/lm-studio/[redacted]:embed?a=[redacted]&b={OTHER[:-1]}"


def test_a_name_of_the_file_is_not_taken_for_a_hashed_key() -> None:
    here = snapshot(provider("http://up", name="lm-studio"))
    digests = {hashlib.sha256(word.encode()).hexdigest() for word in ("lm-studio", "short")}
    assert not hashed_key("lm-studio", digests, here.config)
    assert not hashed_key("short", digests, here.config)
    assert without_hashed("/lm-studio/short", digests, here.config) == "/lm-studio/short"


@pytest.mark.parametrize(
    "text",
    [
        f"op_{'a1' * 20}",
        "sk-proj-abcDEF0123456789abcDEF",
        "sk-ant-api03-abcdefghijklmnop0",
        "AIzaSyA0123456789012345678901234567",
    ],
)
def test_what_looks_like_a_key_is_taken_out_of_a_message(text: str) -> None:
    assert looks_like_key(f"oa/{text}")
    assert without_lookalikes(f'there is no channel "{text}"; see') == 'there is no channel "[redacted]"; see'


@pytest.mark.parametrize(
    "text",
    [
        "gpt-4.1-mini",
        "task-summary-model-2026-11-26-x",
        "sk-learn/embed",
        "sk-other",
        "sk-a-name-of-words-alone",
    ],
)
def test_names_do_not_look_like_keys(text: str) -> None:
    assert not looks_like_key(text)
    assert without_lookalikes(text) == text


def test_known_keys_are_taken_out_of_a_message_but_for_words() -> None:
    assert without_lookalikes("no provider longer-than-8 here", ["longer-than-8", "here"]) == (
        "no provider [redacted] here"
    )
