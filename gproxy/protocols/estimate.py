"""Tokens guessed where nobody counted them: about four bytes of text to a token.

A guess holds money back and fills rows that are marked as estimated; a count from the upstream replaces it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.protocols.answers import size

_BYTES_PER_TOKEN = 4
_NOT_TEXT = frozenset(
    {"data", "b64_json", "file_data", "image_url", "signature", "encrypted_content", "thoughtSignature"}
)
"""Names whose values are base64 or addresses; what they hold is not billed by its length."""


def input_tokens(tree: Mapping[str, Any]) -> int:
    """Of the strings in a request body at any depth, without names and base64. A token id counts as one."""
    text_bytes = ids = 0
    for value in _leaves(tree):
        if isinstance(value, str):
            text_bytes += size(value)
        else:
            ids += 1
    return output_tokens(text_bytes) + ids


def output_tokens(text_bytes: int) -> int:
    """Of text, reasoning and tool arguments of that many bytes."""
    return -(-text_bytes // _BYTES_PER_TOKEN)


def _leaves(tree: Mapping[str, Any]) -> Iterator[str | int]:
    """The strings that are text, and the whole numbers that stand in arrays."""
    pending: list[Any] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for name, value in node.items():
                if isinstance(value, str):
                    if name not in _NOT_TEXT and not value.startswith("data:"):
                        yield value
                elif isinstance(value, dict | list):
                    pending.append(value)
        else:
            for value in node:
                if isinstance(value, dict | list):
                    pending.append(value)
                elif isinstance(value, str) or type(value) is int:
                    yield value
