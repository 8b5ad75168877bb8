"""A conversation as a chat completion request.

Sampling, limits and reasoning are written after what is known of the model (`traits.py`).
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from gproxy.translate import freeform, ids, schemas, traits
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.choosing import chosen
from gproxy.translate.flattening import as_one_object
from gproxy.translate.model import Conversation, Effort, Format, Tool, ToolChoice
from gproxy.translate.openai_chat.turns import written_turns

_LONGEST_NAME = 64
_LONGEST_USER = 64
_MOST_STOPS = 4  # https://developers.openai.com/api/reference/resources/chat


def write_request(conversation: Conversation, target: TargetFacts) -> Written:
    """The request for `target`. Raises BadRequest for what cannot be said and cannot be left out."""
    lost: set[str] = set()
    native = traits.is_of_openai(target.known)
    conversation = freeform.suited(conversation, target.known)
    tree: dict[str, Any] = {"model": target.model}
    tree["messages"] = written_turns(conversation, target.known, lost)
    if target.stream:
        tree["stream"] = True
        if target.ask_usage:
            tree["stream_options"] = {"include_usage": True}
    _add_limits(tree, conversation, target, lost)
    _add_sampling(tree, conversation, target, lost)
    _add_tools(tree, conversation, native, lost)
    if conversation.format is not None:
        tree["response_format"] = written_format(conversation.format, lost)
    _add_hints(tree, conversation, target.known, lost)
    names = {ids.fitting_name(tool.name, _LONGEST_NAME): tool.name for tool in conversation.tools}
    return Written(tree, frozenset(lost), {fitted: name for fitted, name in names.items() if fitted != name})


def _add_limits(
    tree: dict[str, Any], conversation: Conversation, target: TargetFacts, lost: set[str]
) -> None:
    if conversation.max_output is not None:
        # Only OpenAI's own models know the newer name, and their newer ones no longer the other.
        name = "max_completion_tokens" if traits.is_of_openai(target.known) else "max_tokens"
        tree[name] = target.limited(conversation.max_output)
    if conversation.stop and traits.refuses_stop(target.known):
        lost.add("stop")
    elif conversation.stop:
        most = _MOST_STOPS if traits.is_of_openai(target.known) else len(conversation.stop)
        tree["stop"] = list(conversation.stop[:most])
        if len(conversation.stop) > most:
            lost.add("stop")


def _add_sampling(
    tree: dict[str, Any], conversation: Conversation, target: TargetFacts, lost: set[str]
) -> None:
    """Temperature and the like, and how much to reason."""
    model = target.known
    effort = _effort(conversation, model, lost)
    if effort is not None:
        tree["reasoning_effort"] = effort
    sampling = (
        ("temperature", conversation.temperature, 1),
        ("top_p", conversation.top_p, 1),
        ("presence_penalty", conversation.presence_penalty, 0),
        ("frequency_penalty", conversation.frequency_penalty, 0),
    )
    refused = traits.refuses_sampling(model, effort)
    for name, value, unasked in sampling:
        if value is not None and not refused:
            tree[name] = value
        elif value is not None and value != unasked:
            lost.add(name)
    at_mistral = traits.is_at_mistral(model)
    if conversation.seed is not None:
        tree["random_seed" if at_mistral else "seed"] = conversation.seed
    if conversation.top_k is not None:
        if not target.top_k or at_mistral or traits.is_of_openai(model):
            lost.add("top_k")
        else:
            tree["top_k"] = conversation.top_k


def _effort(conversation: Conversation, model: str, lost: set[str]) -> Effort | None:
    """The `reasoning_effort` to send; None for none, and where the model has no such thing."""
    asked = traits.effort_of(conversation.thinking) if conversation.thinking is not None else None
    if conversation.tools and traits.reasons_without_tools(model):
        if asked not in (None, "none"):
            lost.add("thinking")
        return "none"
    if conversation.thinking is None:
        return None
    allowed = traits.efforts_of(model)
    if allowed:
        return None if asked is None else traits.nearest(asked, allowed)
    if asked != "none":
        lost.add("thinking")
    return None


def _add_tools(tree: dict[str, Any], conversation: Conversation, native: bool, lost: set[str]) -> None:
    choice = chosen(conversation)
    if not conversation.tools:
        return
    tree["tools"] = [_tool(tool, native, lost) for tool in conversation.tools]
    if choice != ToolChoice():
        tree["tool_choice"] = _tool_choice(choice, conversation.tools, tree, native)
    if conversation.parallel_tools is not None:
        tree["parallel_tool_calls"] = conversation.parallel_tools


def _tool(tool: Tool, native: bool, lost: set[str]) -> dict[str, Any]:
    if tool.cache:
        lost.add("cache_control")
    name = ids.fitting_name(tool.name, _LONGEST_NAME)
    if tool.freeform and native:
        custom: dict[str, Any] = {"name": name, "description": tool.description}
        if tool.grammar is not None:
            custom["format"] = tool.grammar
        return {"type": "custom", "custom": custom}
    tool = freeform.as_function(tool)
    function: dict[str, Any] = {"name": name}
    if tool.description:
        function["description"] = tool.description
    parameters = parameters_of(tool.schema or {}, native, lost)
    if tool.schema is not None:
        function["parameters"] = parameters
    if tool.strict is not None:
        function["strict"] = strictness(tool, parameters, lost)
    return {"type": "function", "function": function}


def parameters_of(schema: Mapping[str, Any], native: bool, lost: set[str]) -> dict[str, Any]:
    """The schema of a tool as OpenAI takes it: an object's, with its properties even where there are none."""
    return {"type": "object", "properties": {}, **(as_one_object(schema, lost) if native else schema)}


def strictness(tool: Tool, parameters: Mapping[str, Any], lost: set[str]) -> bool:
    """Whether the tool is to be strict; one whose parameters OpenAI would refuse so is not, which `lost` tells."""
    if tool.strict and not schemas.is_strict(parameters):
        lost.add("tools.strict")
        return False
    return bool(tool.strict)


def _tool_choice(choice: ToolChoice, tools: Iterable[Tool], tree: dict[str, Any], native: bool) -> Any:
    """The choice; where only OpenAI knows how to allow some tools, the others are taken out of the request."""
    if not choice.names or choice.mode == "none":
        return choice.mode
    kinds = {tool.name: "custom" if tool.freeform and native else "function" for tool in tools}
    named = [_named(kinds[name], name) for name in choice.names]
    if len(named) == 1 and choice.mode == "required":
        return named[0]
    if native:
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}
    allowed = {tool[tool["type"]]["name"] for tool in named}
    tree["tools"] = [tool for tool in tree["tools"] if tool[tool["type"]]["name"] in allowed]
    return choice.mode


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, kind: {"name": ids.fitting_name(name, _LONGEST_NAME)}}


def written_format(wanted: Format, lost: set[str]) -> dict[str, Any]:
    """`response_format`. A schema that OpenAI would not take as strict is not, which `lost` tells."""
    if wanted.schema is None:
        return {"type": "json_object"}
    strict = wanted.strict
    if strict is None:
        strict = schemas.is_strict(wanted.schema)
        if not strict:
            lost.add("schema.strict")
    name = re.sub(r"[^A-Za-z0-9_-]", "_", wanted.name)[:_LONGEST_NAME] or "answer"
    schema: dict[str, Any] = {"name": name, "schema": wanted.schema, "strict": strict}
    if wanted.description:
        schema["description"] = wanted.description
    return {"type": "json_schema", "json_schema": schema}


def _add_hints(tree: dict[str, Any], conversation: Conversation, model: str, lost: set[str]) -> None:
    """What changes no answer; only OpenAI's own models are sent what others may refuse."""
    native = traits.is_of_openai(model)
    if conversation.user and traits.is_at_mistral(model):
        lost.add("user")
    elif conversation.user:
        tree["user"] = fitting_user(conversation.user)
    hints: dict[str, Any] = {
        "verbosity": conversation.verbosity,
        "prompt_cache_key": conversation.cache_key,
        "metadata": dict(conversation.metadata),
    }
    for name, value in hints.items():
        if value and native:
            tree[name] = value
        elif value:
            lost.add(name)


def fitting_user(user: str) -> str:
    """The id of a user; OpenAI refuses those above 64 characters, and Claude Code's have some 150: a hash of it."""
    return user if len(user) <= _LONGEST_USER else sha256(user.encode()).hexdigest()
