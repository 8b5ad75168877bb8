"""Keys that we make are strong, recognisable and stored as hashes only."""

import hashlib
import re
import string

from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.keys import hash_key, key_hint, key_id, looks_made_here, make_key

BASE62 = string.digits + string.ascii_letters


def test_a_new_key_has_43_base62_characters_behind_its_prefix() -> None:
    assert re.fullmatch(r"op_[0-9A-Za-z]{43}", make_key())


def test_new_keys_differ_and_carry_their_checksum() -> None:
    made = {make_key() for _ in range(200)}
    assert len(made) == 200
    assert all(map(looks_made_here, made))


def test_the_checksum_is_the_same_in_every_version() -> None:
    """Pinned, so that keys made today are still recognised tomorrow."""
    assert looks_made_here("op_" + "0" * 37 + "4A3OHc")


@given(st.integers(0, 45), st.sampled_from(BASE62))
def test_any_changed_character_breaks_the_checksum(place: int, character: str) -> None:
    key = "op_" + "Ab1" * 12 + "Z" + "3HIoLN"
    assert looks_made_here(key)
    changed = key[:place] + character + key[place + 1 :]
    assert looks_made_here(changed) == (changed == key)


@given(st.text(max_size=60))
def test_foreign_text_is_not_taken_for_ours(text: str) -> None:
    assert not looks_made_here(text)
    assert not looks_made_here("op_" + text[:20])


def test_the_hash_is_plain_sha256_in_hex() -> None:
    assert hash_key("sk-admin-1") == "sha256:" + hashlib.sha256(b"sk-admin-1").hexdigest()


def test_the_hint_shows_the_last_four_characters_and_none_of_a_short_key() -> None:
    assert key_hint("op_" + "a" * 39 + "x7Qd") == "op_…x7Qd"
    assert key_hint("sk-admin-1") == "…in-1"
    assert key_hint("secret") == "…"


def test_the_id_is_stable_short_and_no_part_of_the_stored_hash() -> None:
    stored = hash_key("sk-admin-1")
    assert key_id(stored) == key_id(stored)
    assert re.fullmatch(r"[0-9a-f]{12}", key_id(stored))
    assert key_id(stored) not in stored
    assert key_id(stored) != key_id(hash_key("sk-admin-2"))
