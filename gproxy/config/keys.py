"""The keys that clients authenticate with: how they are made, hashed, hinted at and named.

Who may use which key is decided in `routing/`; provider secrets are `secrets.py`'s.
"""

import hashlib
import secrets
import string
import zlib

PREFIX = "op_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARS = 37
_CHECKSUM_CHARS = 6
_SHORTEST_HINTED = 8
_GUESSABLE_BELOW = 20
"""Characters: 20 random ones are 100 bits and more. A SHA-256 takes a nanosecond, so of fewer, or of words, a hash is
no better than the key itself."""


def make_key() -> str:
    """A new key: `op_`, 37 random base62 characters (220 bits) and 6 of checksum."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))
    return body + _checksum(body)


def looks_made_here(key: str) -> bool:
    """Whether the checksum is right: tells a mistyped or foreign key, not a valid one, without a look-up."""
    body, checksum = key[:-_CHECKSUM_CHARS], key[-_CHECKSUM_CHARS:]
    characters = body[len(PREFIX) :]
    return (
        body.startswith(PREFIX)
        and len(characters) >= _RANDOM_CHARS
        and all(c in _ALPHABET for c in characters)
        and checksum == _checksum(body)
    )


def is_guessable(key: str) -> bool:
    """Whether a key that somebody chose is so short that it can be tried out, and found from its hash."""
    return len(key) < _GUESSABLE_BELOW


def hash_key(key: str) -> str:
    """What is stored of a key: `sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def key_hint(key: str) -> str:
    """What people recognise a key by: `op_…x7Qd`, its last four characters (none of a very short key)."""
    prefix = PREFIX if key.startswith(PREFIX) else ""
    return f"{prefix}…{key[-4:] if len(key) >= _SHORTEST_HINTED else ''}"


def key_id(stored_hash: str) -> str:
    """A short stable name, 12 hex digits, for the key whose `hash_key` is given; not a part of that hash."""
    return hashlib.sha256(b"gproxy key id\0" + stored_hash.encode()).hexdigest()[:12]


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_CHARS):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits
