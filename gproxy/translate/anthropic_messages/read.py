"""A client's Messages request as a conversation: everything but its messages.

The messages are read in `messages.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields, media
from gproxy.translate.anthropic_messages.messages import read_messages, read_texts
from gproxy.translate.base import ReadRequest
from gproxy.translate.hosted import left_out
from gproxy.translate.model import EFFORTS, Conversation, Effort, Format, Text, Thinking, Tool, ToolChoice

_KNOWN = frozenset(
    {"model", "messages", "system", "max_tokens", "metadata", "stop_sequences", "stream", "temperature"}
    | {"top_p", "top_k", "tools", "tool_choice", "thinking", "output_config", "output_format"}
)
_REFUSED = {
    "container": "its files and skills are at another provider",
    "inference_geo": "another provider does not promise where it computes",
}
_BILLING = "x-anthropic-billing-header"
_OF_TOOLS = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})
_HINTS_OF_TOOLS = frozenset({"defer_loading", "eager_input_streaming"})
"""When a tool and its input are told, which changes no answer."""
_SAYS_NOTHING_OF_TOOLS: dict[str, Any] = {"allowed_callers": ["direct"], "input_examples": []}
_SAYS_NOTHING: dict[str, Any] = {"service_tier": "auto", "speed": "standard", "mcp_servers": []}


def read_request(tree: Mapping[str, Any]) -> ReadRequest:
    """The conversation in a request. Raises BadRequest: for what is malformed, and for what cannot be left out."""
    lost = {
        name
        for name in fields.unknown(tree, _KNOWN)
        if name not in _SAYS_NOTHING or tree[name] != _SAYS_NOTHING[name]
    }
    for name in sorted(lost & _REFUSED.keys()):
        raise BadRequest(f"`{name}` cannot be translated for this model's provider: {_REFUSED[name]}.")
    choice = fields.an_object(tree, "tool_choice")
    tools = _tools(fields.objects(tree, "tools"), lost)
    output = fields.an_object(tree, "output_config")
    lost |= {f"output_config.{name}" for name in fields.unknown(output, frozenset({"effort", "format"}))}
    conversation = Conversation(
        system=_system(tree, lost),
        turns=read_messages(fields.some_objects(tree, "messages"), lost),
        tools=tools,
        tool_choice=_tool_choice(choice, tools),
        parallel_tools=_parallel(choice),
        max_output=fields.whole(tree, "max_tokens"),
        temperature=fields.number(tree, "temperature"),
        top_p=fields.number(tree, "top_p"),
        top_k=fields.whole(tree, "top_k"),
        stop=fields.texts(tree, "stop_sequences"),
        format=_format(fields.an_object(output, "format", "output_config"))
        or _format(fields.an_object(tree, "output_format")),
        thinking=_thinking(fields.an_object(tree, "thinking"), _effort(output)),
        user=fields.text(fields.an_object(tree, "metadata"), "user_id", "metadata"),
    )
    return ReadRequest(conversation, frozenset(lost))


def _system(tree: Mapping[str, Any], lost: set[str]) -> tuple[Text, ...]:
    """The instructions, without the line in front of Claude Code's that is for Anthropic's billing alone.

    It is another one in every request, so that no other provider's cache would ever know the prompt again.
    https://github.com/anthropics/claude-code/issues/68900
    """
    texts = read_texts(tree, "system", "", lost)
    if not texts or not texts[0].text.startswith(f"{_BILLING}:"):
        return texts
    lost.add(_BILLING)
    rest = texts[0].text.partition("\n")[2].lstrip("\n")
    return ((replace(texts[0], text=rest),) if rest else ()) + texts[1:]


def _tools(given: list[Mapping[str, Any]], lost: set[str]) -> tuple[Tool, ...]:
    """The client's own tools. Those that Anthropic runs are nobody else's: they are lost."""
    tools: list[Tool] = []
    for at, tool in enumerate(given):
        where = f"tools[{at}]"
        kind = fields.text(tool, "type", where)
        if kind not in ("", "custom"):
            lost.add(left_out(kind, where))
            continue
        lost |= {
            f"tools.{name}"
            for name in fields.unknown(tool, _OF_TOOLS | _HINTS_OF_TOOLS)
            if name not in _SAYS_NOTHING_OF_TOOLS or tool[name] != _SAYS_NOTHING_OF_TOOLS[name]
        }
        tools.append(
            Tool(
                name=fields.required(tool, "name", where),
                description=fields.text(tool, "description", where),
                schema=fields.an_object(tool, "input_schema", where),
                strict=fields.flag(tool, "strict", where),
                cache=media.cache_of(tool),
            )
        )
    return tuple(tools)


def _tool_choice(choice: Mapping[str, Any], tools: tuple[Tool, ...]) -> ToolChoice:
    kind = choice.get("type", "auto")
    if kind == "tool":
        name = fields.required(choice, "name", "tool_choice")
        if name not in {tool.name for tool in tools}:
            raise BadRequest(
                f"`tool_choice` names the tool {fields.short(name)}, which cannot be translated or is not there."
            )
        return ToolChoice("required", (name,))
    if kind == "any":
        return ToolChoice("required")
    if kind in ("auto", "none"):
        return ToolChoice("none" if kind == "none" else "auto")
    raise fields.wrong("type", "tool_choice", "auto, any, tool or none")


def _parallel(choice: Mapping[str, Any]) -> bool | None:
    disabled = fields.flag(choice, "disable_parallel_tool_use", "tool_choice")
    return None if disabled is None else not disabled


def _format(given: Mapping[str, Any]) -> Format | None:
    if not given:
        return None
    if given.get("type") != "json_schema":
        raise BadRequest(f"The output format {fields.short(given.get('type'))} cannot be translated.")
    return Format(schema=fields.an_object(given, "schema", "output_config.format"))


def _effort(output: Mapping[str, Any]) -> Effort | None:
    value = fields.text(output, "effort", "output_config")
    if value and value not in EFFORTS:
        raise fields.wrong("effort", "output_config", f"one of {', '.join(EFFORTS)}")
    return next((effort for effort in EFFORTS if effort == value), None)


def _thinking(given: Mapping[str, Any], effort: Effort | None) -> Thinking | None:
    """`thinking` and `output_config.effort` together.

    An effort alone is no wish to see or to have reasoning, but how much of it, where there is any.
    """
    kind = given.get("type")
    if kind is None:
        return None if effort is None else Thinking(effort)
    if kind == "disabled":
        return Thinking("none")
    if kind not in ("enabled", "adaptive", "between_tools"):
        raise fields.wrong("type", "thinking", "enabled, adaptive or disabled")
    display = given.get("display")
    shown = None if display is None else display != "omitted"
    budget = fields.whole(given, "budget_tokens", "thinking")
    return Thinking(effort, budget, shown)
