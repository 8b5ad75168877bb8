"""A client's Responses request as a conversation: everything but its input items.

The items are read in `items.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields, media
from gproxy.translate.base import ReadRequest
from gproxy.translate.hosted import left_out
from gproxy.translate.model import (
    EFFORTS,
    Conversation,
    Effort,
    Format,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
)
from gproxy.translate.openai_responses.items import Items, read_items
from gproxy.translate.openai_responses.names import grammar_from, joined

_KNOWN = frozenset(
    {"model", "input", "instructions", "stream", "stream_options", "tools", "tool_choice", "include"}
    | {"parallel_tool_calls", "max_output_tokens", "temperature", "top_p", "text", "reasoning", "metadata"}
    | {"user", "safety_identifier", "prompt_cache_key"}
)
_REFUSED = {
    "previous_response_id": "what was said before is stored at another provider: send the whole input",
    "conversation": "it is stored at another provider: send the whole input",
    "prompt": "it is stored at another provider: send its text",
}
_SAYS_NOTHING: dict[str, Any] = {
    "store": False,
    "background": False,
    "truncation": "disabled",
    "service_tier": "auto",
    "top_logprobs": 0,
    "context_management": [],
}
_ALWAYS_INCLUDED = "reasoning.encrypted_content"
_OF_TOOLS = frozenset({"type", "name", "description", "parameters", "strict", "format", "cache_control"})
_SAYS_NOTHING_OF_TOOLS: dict[str, Any] = {"async": False, "allowed_callers": ["direct"]}
_HINTS_OF_TOOLS = frozenset({"defer_loading"})
"""All tools are told at once, which changes no answer."""


def read_request(tree: Mapping[str, Any]) -> ReadRequest:
    """The conversation in a request. Raises BadRequest: for what is malformed, and for what cannot be left out."""
    lost = _unsaid(tree, _KNOWN, _SAYS_NOTHING)
    _refuse(tree, lost)
    lost |= {f"include.{name}" for name in fields.texts(tree, "include") if name != _ALWAYS_INCLUDED}
    items = _input(tree)
    given = [(tool, f"tools[{at}]") for at, tool in enumerate(fields.objects(tree, "tools"))] + items.tools
    tools = tuple(_tools(given, lost))
    instructions = fields.text(tree, "instructions")
    text = fields.an_object(tree, "text")
    conversation = Conversation(
        system=((Text(instructions),) if instructions else ()) + tuple(items.system),
        turns=tuple(items.turns),
        tools=tools,
        tool_choice=_tool_choice(tree, lost),
        parallel_tools=fields.flag(tree, "parallel_tool_calls"),
        max_output=fields.whole(tree, "max_output_tokens"),
        temperature=fields.number(tree, "temperature"),
        top_p=fields.number(tree, "top_p"),
        format=_format(fields.an_object(text, "format", "text")),
        thinking=_thinking(fields.an_object(tree, "reasoning"), lost),
        verbosity=fields.text(text, "verbosity", "text"),
        user=fields.text(tree, "safety_identifier") or fields.text(tree, "user"),
        cache_key=fields.text(tree, "prompt_cache_key"),
        metadata=_metadata(fields.an_object(tree, "metadata")),
    )
    return ReadRequest(conversation, frozenset(lost | items.lost))


def _unsaid(tree: Mapping[str, Any], known: frozenset[str], says_nothing: Mapping[str, Any]) -> set[str]:
    return {
        name
        for name in fields.unknown(tree, known)
        if name not in says_nothing or tree[name] != says_nothing[name]
    }


def _refuse(tree: Mapping[str, Any], lost: set[str]) -> None:
    for name in sorted(lost & _REFUSED.keys()):
        raise BadRequest(f"`{name}` cannot be translated for this model's provider: {_REFUSED[name]}.")
    if "background" in lost:
        raise BadRequest("`background` cannot be translated for this model's provider: wait for the answer.")


def _input(tree: Mapping[str, Any]) -> Items:
    given = tree.get("input")
    if isinstance(given, str):
        return Items(turns=[Turn("user", (Text(given),))])
    return read_items(fields.some_objects(tree, "input"))


def _tools(given: list[tuple[Mapping[str, Any], str]], lost: set[str]) -> Iterator[Tool]:
    """The client's own tools. Those that OpenAI runs are nobody else's: they are lost."""
    for tool, where in given:
        kind = fields.required(tool, "type", where)
        if kind == "namespace":
            namespace = fields.required(tool, "name", where)
            for at, inner in enumerate(fields.objects(tool, "tools", where)):
                yield _tool(inner, f"{where}.tools[{at}]", namespace, lost)
        elif kind in ("function", "custom"):
            yield _tool(tool, where, "", lost)
        else:
            lost.add(left_out(kind, where))


def _tool(tool: Mapping[str, Any], where: str, namespace: str, lost: set[str]) -> Tool:
    unsaid = _unsaid(tool, _OF_TOOLS | _HINTS_OF_TOOLS, _SAYS_NOTHING_OF_TOOLS)
    lost |= {f"tools[].{name}" for name in unsaid}
    freeform = tool.get("type") == "custom"
    return Tool(
        name=joined(namespace, fields.required(tool, "name", where)),
        description=fields.text(tool, "description", where),
        schema=fields.an_object(tool, "parameters", where) if tool.get("parameters") else None,
        # This dialect says `false` where others say nothing.
        strict=fields.flag(tool, "strict", where) or None,
        freeform=freeform,
        grammar=grammar_from(fields.an_object(tool, "format", where)) if freeform else None,
        cache=media.cache_of(tool),
    )


def _tool_choice(tree: Mapping[str, Any], lost: set[str]) -> ToolChoice:
    choice = tree.get("tool_choice")
    if choice is None:
        return ToolChoice()
    if choice in ("auto", "none", "required"):
        return ToolChoice(choice)
    if not isinstance(choice, dict):
        raise BadRequest("`tool_choice` must be auto, none, required, a tool, or `allowed_tools`.")
    if choice.get("type") != "allowed_tools":
        return ToolChoice("required", (_named(choice, "tool_choice"),))
    allowed = fields.objects(choice, "tools", "tool_choice")
    own = [tool for tool in allowed if tool.get("type") in ("function", "custom")]
    if not own:
        raise BadRequest("`tool_choice` allows no tool that can be translated for this model's provider.")
    lost |= {f"tools.{tool.get('type')}" for tool in allowed if tool not in own}
    names = tuple(_named(tool, "tool_choice.tools[]") for tool in own)
    return ToolChoice("required" if choice.get("mode") == "required" else "auto", names)


def _named(tool: Mapping[str, Any], where: str) -> str:
    if tool.get("type") not in ("function", "custom"):
        kind = fields.short(tool.get("type"))
        raise BadRequest(
            f"`{where}` is the tool {kind}, which cannot be translated for this model's provider."
        )
    return joined(fields.text(tool, "namespace", where), fields.required(tool, "name", where))


def _format(given: Mapping[str, Any]) -> Format | None:
    kind = given.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return Format()
    if kind != "json_schema":
        raise BadRequest(f"`text.format` is of the type {fields.short(kind)}, which cannot be translated.")
    where = "text.format"
    return Format(
        schema=fields.an_object(given, "schema", where),
        name=fields.text(given, "name", where),
        description=fields.text(given, "description", where),
        strict=fields.flag(given, "strict", where),
    )


def _thinking(given: Mapping[str, Any], lost: set[str]) -> Thinking | None:
    known = frozenset({"effort", "summary", "generate_summary"})
    unsaid = _unsaid(given, known, {"context": "auto", "mode": "standard"})
    lost |= {f"reasoning.{name}" for name in unsaid}
    effort = _effort(given)
    summary = fields.text(given, "summary", "reasoning") or fields.text(
        given, "generate_summary", "reasoning"
    )
    if effort is None and not summary:
        return None
    return Thinking(effort, shown=summary != "none" if summary else None)


def _effort(given: Mapping[str, Any]) -> Effort | None:
    value = fields.text(given, "effort", "reasoning")
    if value and value not in EFFORTS:
        raise fields.wrong("effort", "reasoning", f"one of {', '.join(EFFORTS)}")
    return next((effort for effort in EFFORTS if effort == value), None)


def _metadata(given: Mapping[str, Any]) -> dict[str, str]:
    return {name: fields.text(given, name, "metadata") for name in given}
