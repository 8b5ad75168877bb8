"""The arguments of a tool call, for dialects that have them as an object and not as a text.

Arguments of tools that take text are in `freeform.py`.
"""

from typing import Any

import msgspec

from gproxy.errors import BadRequest
from gproxy.protocols import strict
from gproxy.protocols.writing import of_tree


def object_of(arguments: str) -> dict[str, Any]:
    """Arguments as an object; what a model wrote wrongly is kept as a text in it."""
    if not arguments.strip():
        return {}
    try:
        if len(arguments) > strict.LARGE_BYTES:
            return dict(strict.decode(arguments.encode()).tree)  # which does it in steps
        tree = msgspec.json.decode(arguments)
    except (ValueError, RecursionError, BadRequest):
        tree = None
    return tree if isinstance(tree, dict) else {"arguments": arguments}


def text_of(tree: Any) -> str:
    """What a client has as an object, as a text."""
    return of_tree(tree).decode()
