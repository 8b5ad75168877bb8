"""Which conversation a request belongs to, so that it can go where the provider has its beginning cached.

What is done with it is `routing/credentials.py`'s.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from gproxy.protocols.answers import mapping, objects
from gproxy.protocols.base import Body

# Claude Code's; Codex's, in its older and newer spelling; what gateways and their clients send.
_HEADERS = (b"x-claude-code-session-id", b"session_id", b"session-id", b"x-session-id", b"conversation_id")

_TURNS = ("messages", "input", "contents")
_INSTRUCTIONS = ("system", "instructions", "systemInstruction", "system_instruction", "tools")
_OWN_ROLES = frozenset({"assistant", "model"})
_LEADING_ROLES = frozenset({"system", "developer"})

_MOST_CHARS = 16_384
_MOST_PARTS = 1024
"""So much of a beginning is enough to tell it by, whatever the size of the body."""

CACHED_FROM_CHARS = 4096
"""Providers cache the beginning of a prompt from about 1024 tokens on."""


def conversation_key(headers: Sequence[tuple[bytes, bytes]], body: Body) -> bytes | None:
    """16 bytes that all requests of one conversation have in common, None for a request that is none's.

    By what the client says of itself, else by the beginning that its turns share. A short first prompt has no key:
    nothing of it is cached anywhere.
    """
    said = _said(headers, body)
    if said is not None:
        return _digest([said])
    turns = _turns(body)
    if len(body.text) < CACHED_FROM_CHARS and not any(turn.get("role") in _OWN_ROLES for turn in turns):
        return None
    beginning = list(_beginning(body, turns))
    return _digest(beginning) if beginning else None


def _said(headers: Sequence[tuple[bytes, bytes]], body: Body) -> str | None:
    for wanted in _HEADERS:
        if sent := next((value for name, value in headers if name == wanted), b""):
            return sent.decode("latin-1")
    conversation = body.tree.get("conversation")
    named: tuple[object, ...] = (
        body.tree.get("prompt_cache_key"),
        mapping(conversation).get("id", conversation),
        mapping(body.tree.get("metadata")).get("user_id"),
    )
    return next((value for value in named if isinstance(value, str) and value), None)


def _turns(body: Body) -> Sequence[Any]:
    return next((found for name in _TURNS if (found := objects(body.tree.get(name)))), [])


def _beginning(body: Body, turns: Sequence[Any]) -> Iterator[str]:
    """Instructions, tools, and the turns up to the first that is the user's."""
    for name in _INSTRUCTIONS:
        if span := body.spans.get(name):
            yield body.text[span[0] : min(span[1], span[0] + _MOST_CHARS)]
    yield from islice(_opening(turns), _MOST_PARTS)


def _opening(turns: Sequence[Any]) -> Iterator[str]:
    for turn in turns:
        yield from _parts(turn)
        if turn.get("role") not in _LEADING_ROLES:
            return


def _parts(value: Any) -> Iterator[str]:
    """What the value is made of, in its order, with long texts (images, files) cut.

    Anthropic's clients move the mark of what is to be cached on with each turn, and write a text that bears it as a
    block: with it or without, and as a block or plain, a turn is the same.
    """
    if isinstance(value, dict):
        if len(value) - ("cache_control" in value) == 2 and value.get("type") == "text" and "text" in value:
            yield from _parts(value["text"])
            return
        for name, inner in value.items():
            if name != "cache_control":
                yield name
                yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)
    else:
        yield value[:_MOST_CHARS] if isinstance(value, str) else json.dumps(value)


def _digest(parts: Iterable[str]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return found.digest()
