"""Keys where none belong: in the name of a model, a path or a query, where they get by mistake.

What the request logs take out of headers and bodies is `scrub.py`'s.
"""

import hashlib
import re
from collections.abc import Collection, Container, Iterable
from urllib.parse import unquote

from gproxy.config.redact import REDACTED
from gproxy.config.schema import Config

SHORTEST = 8
"""A shorter value is a word like another."""

MADE_HERE = r"op(?:_|%(?:25)*5[fF])[0-9A-Za-z]{40,}"
"""What looks like a key that gproxy makes, whether it is one or not."""

_MADE_HERE = re.compile(MADE_HERE)
_LIKE_A_KEY = re.compile(
    MADE_HERE
    + r"|(?<![0-9A-Za-z])(?:sk-|gsk_|xai-|nvapi-|pplx-|csk-|hf_|r8_|fw_|AIza)(?=[\w-]*[0-9])[\w-]{20,}",
    re.ASCII,
)
"""What providers make, by the beginnings that they give it; no name of a model or of anything else is written so."""
_SEPARATOR = re.compile(r"([/?&=:])")
_MOST_CODINGS = 3


def searched(config: Config, secrets: Iterable[str]) -> frozenset[str]:
    """Of the file's literal keys and of the providers' `secrets`, those that are searched for as they are."""
    literal = (key.api_key for user in config.users for key in user.keys)
    return frozenset(
        text for text in (*literal, *secrets) if len(text) >= SHORTEST and not published(text, config)
    )


def published(text: str, config: Config) -> bool:
    """Whether the file itself gives a provider, a model or an alias a name that holds `text`.

    It is no secret then: servers on the same machine take any word for a key, as their own name.
    """
    names = [row.name for row in config.providers] + [row.model_id for row in config.models]
    for alias in config.model_aliases:
        names += [alias.alias, alias.model_id, *(target.model_id for target in alias.targets)]
    return text in "\n".join(names)


def holds_key(text: str, keys: Collection[str]) -> bool:
    """Whether one of `keys`, or what looks like a key made here, stands in `text`, percent-encoded or not."""
    return _found(text, keys) or ("%" in text and _found(_decoded(text), keys))


def looks_like_key(text: str) -> bool:
    """Whether what looks like a provider's key, or one made here, stands in `text`."""
    return _LIKE_A_KEY.search(text) is not None


def without_lookalikes(text: str, keys: Iterable[str] = ()) -> str:
    """A message without what looks like a key, and without `keys`, but for those that are words."""
    for key in keys:
        if len(key) >= SHORTEST:
            text = text.replace(key, REDACTED)
    return _LIKE_A_KEY.sub(REDACTED, text)


def hashed_key(word: str, digests: Container[str], config: Config) -> bool:
    """Whether a word is a client's key, of which the hash may be all that is known; `digests` are SHA-256 in hex."""
    if len(word) < SHORTEST or hashlib.sha256(word.encode("utf-8", "replace")).hexdigest() not in digests:
        return False
    return not published(word, config)


def without_hashed(raw: str, digests: Container[str], config: Config) -> str:
    """A raw path or query without the parts, from one separator to the next, that `hashed_key` tells of."""
    parts = _SEPARATOR.split(raw)
    return "".join(REDACTED if hashed_key(_decoded(part), digests, config) else part for part in parts)


def without_keys(raw: str, keys: Iterable[str]) -> str:
    """A raw path or query without what `holds_key` finds; short ones are left."""
    keys = [key for key in keys if len(key) >= SHORTEST]
    raw = _MADE_HERE.sub(REDACTED, raw)
    if not holds_key(raw, keys):
        return raw
    for key in keys:
        raw = raw.replace(key, REDACTED)
    raw = "".join(REDACTED if holds_key(part, keys) else part for part in _SEPARATOR.split(raw))
    return REDACTED if holds_key(raw, keys) else raw


def _found(text: str, keys: Collection[str]) -> bool:
    return _MADE_HERE.search(text) is not None or any(key in text for key in keys)


def _decoded(text: str) -> str:
    for _ in range(_MOST_CODINGS):
        before, text = text, unquote(text)
        if text == before:
            break
    return text
