"""A conversation as a Responses request: everything but its items, which `turns.py` writes.

Sampling, limits and reasoning are written after what is known of the model (`traits.py`).
"""

from collections.abc import Iterable
from typing import Any

from gproxy.translate import freeform, ids, traits
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.choosing import chosen
from gproxy.translate.model import Conversation, Effort, Format, Text, Tool, ToolChoice, Turn
from gproxy.translate.openai_chat.write import fitting_user, parameters_of, strictness, written_format
from gproxy.translate.openai_responses.names import format_of
from gproxy.translate.openai_responses.turns import LONGEST_NAME, written_items

_BETWEEN_SYSTEM_TEXTS = "\n\n"
_LEAST_OUTPUT = 16  # OpenAI refuses a lower limit


def write_request(conversation: Conversation, target: TargetFacts) -> Written:
    """The request for `target`, of which nothing is to be stored. Raises BadRequest for what cannot be left out."""
    lost: set[str] = set()
    native = traits.is_of_openai(target.known)
    conversation = freeform.suited(conversation, target.known)
    tree: dict[str, Any] = {"model": target.model, "store": False}
    _add_input(tree, conversation, target.known, lost)
    if target.stream:
        tree["stream"] = True
    if conversation.max_output is not None:
        limit = target.limited(conversation.max_output)
        tree["max_output_tokens"] = max(limit, _LEAST_OUTPUT) if native else limit
    _add_reasoning(tree, conversation, target.known, lost)
    _add_sampling(tree, conversation, target.known, lost)
    _add_tools(tree, conversation, native, lost)
    _add_text(tree, conversation, native, lost)
    _add_hints(tree, conversation, native, lost)
    names = {ids.fitting_name(tool.name, LONGEST_NAME): tool.name for tool in conversation.tools}
    return Written(tree, frozenset(lost), {fitted: name for fitted, name in names.items() if fitted != name})


def _add_input(tree: dict[str, Any], conversation: Conversation, model: str, lost: set[str]) -> None:
    """The instructions and the input; what only instructs is input, since there has to be one."""
    items = written_items(conversation, model, lost)
    instructions = _BETWEEN_SYSTEM_TEXTS.join(part.text for part in conversation.system)
    if any(part.cache for part in conversation.system):
        lost.add("cache_control")
    if instructions and items:
        tree["instructions"] = instructions
    elif instructions:
        alone = Conversation(turns=(Turn("system", (Text(instructions),)),))
        items = written_items(alone, model, lost)
    tree["input"] = items


def _add_reasoning(tree: dict[str, Any], conversation: Conversation, model: str, lost: set[str]) -> None:
    """How much to reason, and that what was thought comes in a form that can be sent back."""
    thinking, allowed = conversation.thinking, traits.efforts_of(model)
    if allowed and traits.is_of_openai(model):
        tree["include"] = ["reasoning.encrypted_content"]  # which models that do not reason refuse
    if thinking is None:
        return
    asked = traits.effort_of(thinking)
    if not allowed:
        if asked != "none":
            lost.add("thinking")
        return
    reasoning: dict[str, str] = {} if asked is None else {"effort": traits.nearest(asked, allowed)}
    if thinking.shown and asked != "none":
        # Unasked it would cost some their answer: OpenAI summarises for verified organisations alone.
        reasoning["summary"] = "auto"
    if reasoning:
        tree["reasoning"] = reasoning


def _add_sampling(tree: dict[str, Any], conversation: Conversation, model: str, lost: set[str]) -> None:
    effort: Effort | None = tree.get("reasoning", {}).get("effort")
    refused = traits.refuses_sampling(model, effort)
    for name, value in (("temperature", conversation.temperature), ("top_p", conversation.top_p)):
        if value is not None and not refused:
            tree[name] = value
        elif value is not None and value != 1:
            lost.add(name)
    unknown = {
        "top_k": conversation.top_k,
        "stop": conversation.stop or None,
        "seed": conversation.seed,
        "presence_penalty": conversation.presence_penalty or None,
        "frequency_penalty": conversation.frequency_penalty or None,
    }
    lost |= {name for name, value in unknown.items() if value is not None}


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
    name = ids.fitting_name(tool.name, LONGEST_NAME)
    if tool.freeform and native:
        custom: dict[str, Any] = {"type": "custom", "name": name}
        if tool.description:
            custom["description"] = tool.description
        if tool.grammar is not None:
            custom["format"] = format_of(tool.grammar)
        return custom
    tool = freeform.as_function(tool)
    function: dict[str, Any] = {"type": "function", "name": name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = parameters_of(tool.schema or {}, native, lost)
    # Of a tool of which nothing is said, this dialect takes the schema to be strict, and refuses what is not.
    function["strict"] = strictness(tool, function["parameters"], lost)
    return function


def _tool_choice(choice: ToolChoice, tools: Iterable[Tool], tree: dict[str, Any], native: bool) -> Any:
    """The choice; where only OpenAI knows how to allow some tools, the others are taken out of the request."""
    if not choice.names or choice.mode == "none":
        return choice.mode
    kinds = {tool.name: "custom" if tool.freeform and native else "function" for tool in tools}
    named = [{"type": kinds[name], "name": ids.fitting_name(name, LONGEST_NAME)} for name in choice.names]
    if len(named) == 1 and choice.mode == "required":
        return named[0]
    if native:
        return {"type": "allowed_tools", "mode": choice.mode, "tools": named}
    allowed = {tool["name"] for tool in named}
    tree["tools"] = [tool for tool in tree["tools"] if tool["name"] in allowed]
    return choice.mode


def _add_text(tree: dict[str, Any], conversation: Conversation, native: bool, lost: set[str]) -> None:
    text: dict[str, Any] = {}
    if conversation.format is not None:
        text["format"] = _format(conversation.format, lost)
    if conversation.verbosity and native:
        text["verbosity"] = conversation.verbosity
    elif conversation.verbosity:
        lost.add("verbosity")
    if text:
        tree["text"] = text


def _format(wanted: Format, lost: set[str]) -> dict[str, Any]:
    """The form of chat completions, with the schema's fields beside the type."""
    nested = written_format(wanted, lost)
    return {"type": nested["type"], **nested.get("json_schema", {})}


def _add_hints(tree: dict[str, Any], conversation: Conversation, native: bool, lost: set[str]) -> None:
    """What changes no answer; only OpenAI's own models are sent what others may refuse."""
    if conversation.user:
        tree["user"] = fitting_user(conversation.user)
    hints: dict[str, Any] = {
        "prompt_cache_key": conversation.cache_key,
        "metadata": dict(conversation.metadata),
    }
    for name, value in hints.items():
        if value and native:
            tree[name] = value
        elif value:
            lost.add(name)
