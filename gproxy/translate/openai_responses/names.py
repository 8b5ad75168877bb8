"""Names of tools that stand in a namespace, as one name; and grammars, which chat completions nest deeper.

A namespace is how a client groups the tools of one server: `{"type": "namespace", "name", "tools": [...]}`.
"""

from collections.abc import Mapping
from typing import Any

_BETWEEN = "."  # which no name of OpenAI's may hold


def joined(namespace: str, name: str) -> str:
    """The one name of a tool, which no other tool of the request has."""
    return f"{namespace}{_BETWEEN}{name}" if namespace else name


def parted(name: str) -> dict[str, str]:
    """The fields `name` and, if it has one, `namespace` of a call."""
    namespace, _, own = name.rpartition(_BETWEEN)
    return {"name": own, "namespace": namespace} if namespace and own else {"name": name}


def grammar_from(shape: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A tool's `format` as the model has it; None if it may be any text."""
    if shape.get("type") != "grammar":
        return None
    return {"type": "grammar", "grammar": {name: value for name, value in shape.items() if name != "type"}}


def format_of(grammar: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse."""
    inner = grammar.get("grammar")
    return {"type": "grammar", **(inner if isinstance(inner, dict) else {})}
