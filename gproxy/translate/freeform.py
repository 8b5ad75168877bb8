"""Tools that take text, for dialects whose tools take JSON: the text stands in an object under one name.

Such tools are OpenAI's `custom` ones. Which tools of a request are so is remembered with its exchange.
"""

import json
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.translate import traits
from gproxy.translate.model import Conversation, Tool, ToolCall

_INPUT = "input"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {_INPUT: {"type": "string"}},
    "required": [_INPUT],
    "additionalProperties": False,
}


def as_function(tool: Tool) -> Tool:
    """A tool that takes JSON: as it is, or with its text as the one field and its grammar told in words."""
    if not tool.freeform:
        return tool
    described = tool.description
    if tool.grammar is not None:
        grammar = json.dumps(tool.grammar, ensure_ascii=False)
        described = f"{described}\n\n`{_INPUT}` must be a text of this grammar: {grammar}".strip()
    return replace(tool, description=described, schema=_SCHEMA, freeform=False, grammar=None)


def suited(conversation: Conversation, model: str) -> Conversation:
    """A conversation whose tools take text only if a model of OpenAI's dialects knows such."""
    if traits.takes_text_tools(model) or not any(tool.freeform for tool in conversation.tools):
        return conversation
    return replace(conversation, tools=tuple(map(as_function, conversation.tools)))


def arguments_of(call: ToolCall) -> str:
    """The arguments of a call as JSON."""
    if call.freeform:
        return json.dumps({_INPUT: call.arguments}, ensure_ascii=False)
    return call.arguments


def text_of(arguments: str) -> str:
    """The text in the arguments that a model gave; all of them, if they are not as they were asked for."""
    try:
        tree = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
    found = tree.get(_INPUT) if isinstance(tree, dict) else None
    return found if isinstance(found, str) else arguments
