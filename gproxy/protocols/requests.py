"""Reads and changes what dialects have in common in their request bodies.

Which fields a dialect has, and what they mean, is its own module's.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Raw

from gproxy.errors import BadRequest
from gproxy.protocols import writing
from gproxy.protocols.answers import service_tier
from gproxy.protocols.base import Body, Facts
from gproxy.protocols.jsonwalk import Edit, edited
from gproxy.protocols.strict import LARGE_BYTES, model_name, stream_flag


def read_plain(body: Body, _path_model: str | None, _query: str) -> Facts:
    """Facts of a body with `model` and perhaps `stream` and a class of service, and no limit on its output."""
    return read_limited(body)


def read_limited(
    body: Body, *, max_output_tokens: int | None = None, asked_usage: bool = True, answers: int = 1
) -> Facts:
    """The same with what a dialect has found besides. Raises BadRequest."""
    tree = body.tree
    tier = None
    if "service_tier" in tree or "speed" in tree:
        tier = service_tier(tree.get("speed"), tree.get("service_tier"))
    return Facts(
        body, model_name(tree), stream_flag(tree), True, asked_usage, max_output_tokens, answers, tier
    )


def with_model(facts: Facts, model: str, _ask_usage: bool) -> bytes:
    """The request with its top-level `model` made `model`."""
    body = facts.body
    if body.pieces is not None:
        return body.pieces.changed({} if facts.model == model else {"model": piece(model)})
    return encoded(body, model_edits(facts, model))


def model_edits(facts: Facts, model: str) -> list[Edit]:
    """What makes the top-level `model` of the body `model`: nothing if it is that already."""
    return [] if facts.model == model else [(*facts.body.spans["model"], json.dumps(model))]


@lru_cache(maxsize=256)
def piece(value: str) -> Raw:
    """`value` as JSON has it."""
    return Raw(json.dumps(value).encode())


def encoded(body: Body, edits: Sequence[Edit]) -> bytes:
    """The body as bytes with the edits made; the client's bytes if there are none."""
    if not edits and body.pieces is not None:
        return body.pieces.raw
    if len(body.text) > LARGE_BYTES:
        return writing.edited(body.text, edits)
    return (edited(body.text, edits) if edits else body.text).encode()


def token_limit(tree: Mapping[str, Any], *names: str) -> int | None:
    """The largest of the output limits under `names`, None if there is none.

    A negative one is none: -1 is how clients of local servers ask for as much as there is. Raises BadRequest if
    one is there and no whole number.
    """
    most: int | None = None
    for name in names:
        if name in tree and (value := tree[name]) is not None:
            limit = value if type(value) is int else _limit(name, value)
            if limit >= 0 and (most is None or limit > most):
                most = limit
    return most


def answers_asked(tree: Mapping[str, Any], *names: str) -> int:
    """The largest of the counts under `names`, at least 1. What is no count is the upstream's to refuse."""
    most = 1
    for name in names:
        if name in tree:
            count = tree[name]
            if type(count) is int or (type(count) is float and count.is_integer()):
                most = max(most, int(count))
    return most


def _limit(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise BadRequest(f"`{name}` must be a whole number.")
