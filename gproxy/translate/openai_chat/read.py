"""A client's chat completion request as a conversation: everything but its messages.

The messages are read in `messages.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields, media
from gproxy.translate.base import ReadRequest
from gproxy.translate.hosted import left_out
from gproxy.translate.model import EFFORTS, Conversation, Effort, Format, Thinking, Tool, ToolChoice
from gproxy.translate.openai_chat.messages import read_messages

_KNOWN = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "n"}
    | {"max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "seed", "modalities"}
    | {"presence_penalty", "frequency_penalty", "response_format", "reasoning_effort", "reasoning"}
    | {"verbosity", "user", "safety_identifier", "prompt_cache_key", "metadata"}
)
_REFUSED = {
    "functions": "use `tools`",
    "function_call": "use `tool_choice`",
    "audio": "the answer would be without its sound",
}
_SAYS_NOTHING: dict[str, Any] = {
    "logprobs": False,
    "store": False,
    "service_tier": "auto",
    "logit_bias": {},
    "top_logprobs": 0,
}


def read_request(tree: Mapping[str, Any]) -> ReadRequest:
    """The conversation in a request. Raises BadRequest: for what is malformed, and for what cannot be left out."""
    lost = {
        name
        for name in fields.unknown(tree, _KNOWN)
        if name not in _SAYS_NOTHING or tree[name] != _SAYS_NOTHING[name]
    }
    _refuse(tree, lost)
    messages = read_messages(fields.some_objects(tree, "messages"))
    limits = [fields.whole(tree, name) for name in ("max_completion_tokens", "max_tokens")]
    conversation = Conversation(
        system=messages.system,
        turns=messages.turns,
        tools=tuple(_tools(fields.objects(tree, "tools"), lost)),
        tool_choice=_tool_choice(tree),
        parallel_tools=fields.flag(tree, "parallel_tool_calls"),
        max_output=next((limit for limit in limits if limit is not None and limit >= 0), None),
        temperature=fields.number(tree, "temperature"),
        top_p=fields.number(tree, "top_p"),
        top_k=fields.whole(tree, "top_k"),
        stop=fields.texts(tree, "stop"),
        seed=fields.whole(tree, "seed"),
        presence_penalty=fields.number(tree, "presence_penalty"),
        frequency_penalty=fields.number(tree, "frequency_penalty"),
        format=_format(fields.an_object(tree, "response_format")),
        thinking=_thinking(tree),
        verbosity=fields.text(tree, "verbosity"),
        user=fields.text(tree, "safety_identifier") or fields.text(tree, "user"),
        cache_key=fields.text(tree, "prompt_cache_key"),
        metadata=_metadata(fields.an_object(tree, "metadata")),
    )
    return ReadRequest(conversation, frozenset(lost | messages.lost))


def _refuse(tree: Mapping[str, Any], lost: set[str]) -> None:
    for name in sorted(lost & _REFUSED.keys()):
        raise BadRequest(f"`{name}` cannot be translated for this model's provider: {_REFUSED[name]}.")
    if (fields.whole(tree, "n") or 1) > 1:
        raise BadRequest(
            "`n` above 1 cannot be translated for this model's provider: ask once for each answer."
        )
    if not set(fields.texts(tree, "modalities")) <= {"text"}:
        raise BadRequest("`modalities` other than text cannot be translated for this model's provider.")


def _tools(given: list[Mapping[str, Any]], lost: set[str]) -> Iterator[Tool]:
    """The client's own tools. Those that a provider runs are nobody else's: they are lost."""
    for at, tool in enumerate(given):
        where = f"tools[{at}]"
        kind = fields.text(tool, "type", where)
        if kind in ("", "function", "custom"):
            yield _tool(tool, where)
        else:
            lost.add(left_out(kind, where))


def _tool(tool: Mapping[str, Any], where: str) -> Tool:
    if tool.get("type") == "custom":
        custom = fields.an_object(tool, "custom", where)
        shape = fields.an_object(custom, "format", f"{where}.custom")
        return Tool(
            name=fields.required(custom, "name", f"{where}.custom"),
            description=fields.text(custom, "description", f"{where}.custom"),
            freeform=True,
            grammar=shape if shape.get("type") == "grammar" else None,
        )
    within = f"{where}.function"
    function = fields.an_object(tool, "function", where)
    return Tool(
        name=fields.required(function, "name", within),
        description=fields.text(function, "description", within),
        schema=fields.an_object(function, "parameters", within) if function.get("parameters") else None,
        strict=fields.flag(function, "strict", within),
        cache=media.cache_of(tool),
    )


def _tool_choice(tree: Mapping[str, Any]) -> ToolChoice:
    choice = tree.get("tool_choice")
    if choice is None:
        return ToolChoice()
    if choice in ("auto", "none", "required"):
        return ToolChoice(choice)
    if isinstance(choice, dict):
        kind = choice.get("type")
        if kind in ("function", "custom"):
            return ToolChoice("required", (_named(choice, "tool_choice"),))
        if kind == "allowed_tools":
            allowed = fields.an_object(choice, "allowed_tools", "tool_choice")
            tools = fields.objects(allowed, "tools", "tool_choice.allowed_tools")
            names = tuple(_named(tool, "tool_choice.allowed_tools.tools[]") for tool in tools)
            return ToolChoice("required" if allowed.get("mode") == "required" else "auto", names)
    raise BadRequest("`tool_choice` must be auto, none, required, a tool, or `allowed_tools`.")


def _named(tool: Mapping[str, Any], where: str) -> str:
    kind = "custom" if tool.get("type") == "custom" else "function"
    return fields.required(fields.an_object(tool, kind, where), "name", f"{where}.{kind}")


def _format(given: Mapping[str, Any]) -> Format | None:
    kind = given.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return Format()
    if kind != "json_schema":
        raise BadRequest(
            f"`response_format` is of the type {fields.short(kind)}, which cannot be translated."
        )
    where = "response_format.json_schema"
    schema = fields.an_object(given, "json_schema", "response_format")
    return Format(
        schema=fields.an_object(schema, "schema", where),
        name=fields.text(schema, "name", where),
        description=fields.text(schema, "description", where),
        strict=fields.flag(schema, "strict", where),
    )


def _thinking(tree: Mapping[str, Any]) -> Thinking | None:
    """`reasoning_effort`, or OpenRouter's object `reasoning` (effort, max_tokens, exclude, enabled)."""
    given = fields.an_object(tree, "reasoning")
    effort = _effort(given, "reasoning") or _effort(tree, "", "reasoning_effort")
    budget = fields.whole(given, "max_tokens", "reasoning")
    if fields.flag(given, "enabled", "reasoning") is False:
        effort = "none"
    exclude = fields.flag(given, "exclude", "reasoning")
    if effort is None and budget is None and not given:
        return None
    return Thinking(effort, budget, None if exclude is None else not exclude)


def _effort(tree: Mapping[str, Any], where: str, name: str = "effort") -> Effort | None:
    value = fields.text(tree, name, where)
    if value and value not in EFFORTS:
        raise fields.wrong(name, where, f"one of {', '.join(EFFORTS)}")
    return next((effort for effort in EFFORTS if effort == value), None)


def _metadata(given: Mapping[str, Any]) -> dict[str, str]:
    return {name: fields.text(given, name, "metadata") for name in given}
