"""The arguments of a tool call, for dialects that have them as an object and not as a text.

Arguments of tools that take text are in `freeform.py`.
"""

from typing import Any

import msgspec


def object_of(arguments: str) -> dict[str, Any]:
    """Arguments as an object; what a model wrote wrongly is kept as a text in it."""
    if not arguments.strip():
        return {}
    try:
        tree = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        tree = None
    return tree if isinstance(tree, dict) else {"arguments": arguments}
