"""A conversation as a generateContent request; its model and whether it streams are in the path.

How a model reasons, and what it refuses, is known by its name (`models.py`).
"""

from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import freeform
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.choosing import chosen
from gproxy.translate.gemini import models
from gproxy.translate.gemini.subset import fitted
from gproxy.translate.gemini.turns import function_name, written_contents
from gproxy.translate.model import Conversation, Format, Tool

_MOST_STOPS = 5  # https://ai.google.dev/api/generate-content#generationconfig
_SAYS_NO_PARAMETERS = frozenset({"$schema", "$id", "type", "title", "description"})


def write_request(conversation: Conversation, target: TargetFacts) -> Written:
    """The request for `target`. Raises BadRequest for what cannot be said and cannot be left out."""
    lost = _unsaid(conversation)
    tree: dict[str, Any] = {}
    if system := [{"text": part.text} for part in conversation.system if part.text]:
        tree["systemInstruction"] = {"parts": system}
    if any(part.cache for part in conversation.system):
        lost.add("cache_control")
    tree["contents"] = written_contents(conversation.turns, target.model, lost)
    _add_tools(tree, conversation, lost)
    _refuse_json_beside_tools(tree, conversation, target.model)
    config = _sampling(conversation, target, lost)
    if conversation.format is not None:
        config |= _format(conversation.format, lost)
    if conversation.thinking is not None:
        thinking = models.thinking_config(conversation.thinking, target.model)
        if thinking is not None:
            config["thinkingConfig"] = thinking
        elif conversation.thinking.effort != "none":
            lost.add("thinking")
    if config:
        tree["generationConfig"] = config
    names = {function_name(tool.name): tool.name for tool in conversation.tools}
    return Written(tree, frozenset(lost), {fitted: name for fitted, name in names.items() if fitted != name})


def _unsaid(conversation: Conversation) -> set[str]:
    """What was asked for and has no place in this dialect."""
    unsaid = {
        "parallel_tool_calls": conversation.tools and conversation.parallel_tools is False,
        "verbosity": conversation.verbosity,
        "prompt_cache_key": conversation.cache_key,
        "metadata": conversation.metadata,
        "user": conversation.user,
    }
    return {name for name, value in unsaid.items() if value}


def _add_tools(tree: dict[str, Any], conversation: Conversation, lost: set[str]) -> None:
    """The functions and the choice among them; that some may be called is said by sending no others."""
    choice, tools = chosen(conversation), conversation.tools
    if not tools:
        return
    if choice.names and choice.mode == "auto":
        tools = tuple(tool for tool in tools if tool.name in choice.names)
    tree["tools"] = [{"functionDeclarations": [_function(tool, lost) for tool in tools]}]
    if choice.mode == "none":
        tree["toolConfig"] = {"functionCallingConfig": {"mode": "NONE"}}
    elif choice.mode == "required":
        calling: dict[str, Any] = {"mode": "ANY"}
        if choice.names:
            calling["allowedFunctionNames"] = [function_name(name) for name in choice.names]
        tree["toolConfig"] = {"functionCallingConfig": calling}


def _refuse_json_beside_tools(tree: dict[str, Any], conversation: Conversation, model: str) -> None:
    """Tools that may not be called are left out; for others older models have to be asked without the format.

    https://github.com/googleapis/python-genai/issues/867
    """
    if conversation.format is None or "tools" not in tree or models.takes_json_beside_tools(model):
        return
    if conversation.tool_choice.mode != "none":
        raise BadRequest("This model cannot answer in JSON while it has tools: ask for one of the two.")
    del tree["tools"], tree["toolConfig"]


def _function(tool: Tool, lost: set[str]) -> dict[str, Any]:
    tool = freeform.as_function(tool)
    if tool.strict:
        lost.add("tools.strict")
    if tool.cache:
        lost.add("cache_control")
    written: dict[str, Any] = {"name": function_name(tool.name)}
    if tool.description:
        written["description"] = tool.description
    # An object without properties is refused; a function without parameters is what it means.
    if any(value for name, value in (tool.schema or {}).items() if name not in _SAYS_NO_PARAMETERS):
        written["parametersJsonSchema"] = {"type": "object", **fitted(tool.schema or {}, lost)}
    return written


def _sampling(conversation: Conversation, target: TargetFacts, lost: set[str]) -> dict[str, Any]:
    limit = None if conversation.max_output is None else target.limited(conversation.max_output)
    penalties = {
        "presencePenalty": conversation.presence_penalty,
        "frequencyPenalty": conversation.frequency_penalty,
    }
    if not models.takes_penalties(target.model):
        names = {"presencePenalty": "presence_penalty", "frequencyPenalty": "frequency_penalty"}
        lost |= {names[name] for name, value in penalties.items() if value}
        penalties = {}
    if len(conversation.stop) > _MOST_STOPS:
        lost.add("stop")
    given = {
        "temperature": conversation.temperature,
        "topP": conversation.top_p,
        "topK": conversation.top_k,
        "maxOutputTokens": limit,
        "stopSequences": list(conversation.stop[:_MOST_STOPS]) or None,
        "seed": conversation.seed,
        **penalties,
    }
    return {name: value for name, value in given.items() if value is not None}


def _format(wanted: Format, lost: set[str]) -> dict[str, Any]:
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if wanted.schema is not None:
        schema = fitted(wanted.schema, lost)
        if wanted.description:
            schema.setdefault("description", wanted.description)
        config["responseJsonSchema"] = schema
    return config
