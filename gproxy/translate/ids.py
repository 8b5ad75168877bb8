"""Ids of tool calls and names of tools that another dialect or provider takes.

No worker remembers an id: what a client is shown can be turned back by itself, and what a target is sent follows
from the id alone, so that a call and its result keep the same one and a prompt that is sent again stays the same.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ESCAPED = "gpid-"
_NAME_CHAR = re.compile(r"[^A-Za-z0-9_-]")
_HASH_CHARS = 32
_NAME_HASH_CHARS = 8


def shown(call_id: str) -> str:
    """The target's id of a call as a client is shown it: of letters, digits, `_` and `-` alone.

    Anthropic's ids must be so, and its clients send them back to whom they like.
    """
    if _PLAIN.fullmatch(call_id) and not call_id.startswith(_ESCAPED):
        return call_id
    return _ESCAPED + urlsafe_b64encode(call_id.encode()).decode().rstrip("=")


def original(call_id: str) -> str:
    """The target's id again, out of one that a client sends; an id that we did not make is left as it is."""
    if not call_id.startswith(_ESCAPED):
        return call_id
    encoded = call_id.removeprefix(_ESCAPED)
    try:
        found = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return call_id
    return found if shown(found) == call_id else call_id


def fitting(call_id: str, valid: re.Pattern[str], longest: int) -> str:
    """The id if it is `valid`, else one made of its hash: `longest` characters at most, letters and digits.

    Different ids stay different, and the same one is always made into the same.
    """
    if valid.fullmatch(call_id):
        return call_id
    return sha256(call_id.encode()).hexdigest()[: min(longest, _HASH_CHARS)]


def fitting_name(name: str, longest: int) -> str:
    """A tool's name of letters, digits, `_` and `-`, `longest` characters at most; different ones stay different."""
    plain = _NAME_CHAR.sub("_", name)
    if plain == name and len(name) <= longest:
        return name
    mark = sha256(name.encode()).hexdigest()[:_NAME_HASH_CHARS]
    return f"{plain[: longest - _NAME_HASH_CHARS - 1]}_{mark}"
