"""The choice among the tools of a request, as far as every dialect demands the same of it.

How it is written is each dialect's.
"""

from dataclasses import replace

from gproxy.errors import BadRequest
from gproxy.translate.fields import short
from gproxy.translate.model import Conversation, ToolChoice


def chosen(conversation: Conversation) -> ToolChoice:
    """The choice, whose names are of tools that are there; none where no tool may be called.

    Raises BadRequest for a choice that cannot be kept.
    """
    choice = conversation.tool_choice
    if not conversation.tools and choice.mode == "required":
        raise BadRequest("A tool must be called, but the request has no tools.")
    if choice.mode == "none" or not conversation.tools:
        return replace(choice, names=())
    for name in sorted(set(choice.names) - {tool.name for tool in conversation.tools}):
        raise BadRequest(f"The tool {short(name)} that is chosen is not among the tools of the request.")
    return choice
