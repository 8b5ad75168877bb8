"""Tokens guessed where nobody counted them: about four bytes of text to a token.

A guess holds money back and fills rows that are marked as estimated; a count from the upstream replaces it.
"""

import re
from collections.abc import Mapping
from typing import Any

_BYTES_PER_TOKEN = 4
_ENCODED = frozenset({"data", "b64_json", "file_data", "signature", "encrypted_content", "thoughtSignature"})
"""Names whose values may be base64, which is not billed by its length."""

_STRUCTURE_CHARS = 16
"""A longer name is not the dialect's own but a schema's or an argument's, which is text like any other."""

_ADDRESS = re.compile(r"https?://\S{1,2048}")
_STEP_CHARS = 256 * 1024
_DIGITS = re.compile(r"[A-Za-z0-9+/_-]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_FIRST = slice(1)
_STARTS = frozenset("hd")
"""How an address and a `data:` URI begin; most text does not."""

_DATA_URI = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{0,100}){0,5};base64,")


Weight = tuple[int, int]
"""What is counted of a tree: bytes of text, and token ids."""


def input_tokens(tree: Mapping[str, Any], tools: Weight | None = None) -> int:
    """Of the text in a request body at any depth: long names too, base64 and addresses not. A token id, which is a
    whole number in an array, is one. `tree` is as a decoder of JSON makes it, `tools` what is known of its tools."""
    if tools is None:
        text_bytes, ids = weight_of(tree)
        return output_tokens(text_bytes) + ids
    text_bytes, ids = weight_of({**tree, "tools": None})
    return output_tokens(text_bytes + tools[0]) + ids + tools[1]


def weight_of(tree: Mapping[str, Any]) -> Weight:
    """What `input_tokens` counts of a tree."""
    texts: list[str] = []
    ids = 0
    pending: list[Any] = [tree]
    for node in pending:  # which grows meanwhile
        if type(node) is list:
            for value in node:
                kind = type(value)
                if kind is dict or kind is list:
                    pending.append(value)
                elif kind is int:
                    ids += 1
                elif kind is str:
                    texts.append(value)
            continue
        for name, value in node.items():
            kind = type(value)
            if kind is str:
                if (value[_FIRST] not in _STARTS and name not in _ENCODED) or not _is_elsewhere(name, value):
                    texts.append(value)
            elif kind is dict or kind is list:
                pending.append(value)
            if len(name) > _STRUCTURE_CHARS:
                texts.append(name)
    text = "".join(texts)
    return len(text) if text.isascii() else len(text.encode()), ids


def output_tokens(text_bytes: int) -> int:
    """Of text, reasoning and tool arguments of that many bytes."""
    return -(-text_bytes // _BYTES_PER_TOKEN)


def _is_elsewhere(name: str, value: str) -> bool:
    """Base64 or an address: what it stands for is not billed by its length.

    Told by what it is, not by what the client calls it: text under any name is text.
    """
    if _ADDRESS.fullmatch(value):
        return True
    uri = _DATA_URI.match(value)
    if uri is not None:
        return _is_base64(value, uri.end())
    return name in _ENCODED and _is_base64(value, 0)


def _is_base64(text: str, start: int) -> bool:
    """In steps: to match a large text keeps the interpreter for long."""
    for at in range(start, len(text) - _STEP_CHARS, _STEP_CHARS):
        if _DIGITS.fullmatch(text, at, at + _STEP_CHARS) is None:
            return False
        start = at + _STEP_CHARS
    return _BASE64.fullmatch(text, start) is not None
