"""A conversation as a Messages request.

The limits, sampling and reasoning that a model takes are known by its name (`traits.py`).
"""

from itertools import chain
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import freeform, ids, traits
from gproxy.translate.anthropic_messages.formats import may_be_strict, written_format, written_schema
from gproxy.translate.anthropic_messages.turns import cache_control, written_system, written_turns
from gproxy.translate.base import TargetFacts, Written
from gproxy.translate.choosing import chosen
from gproxy.translate.flattening import as_one_object
from gproxy.translate.model import Conversation, Effort, Thinking, Tool, ToolCall, ToolChoice

DEFAULT_MAX_TOKENS = 8192
"""`max_tokens`, which a request must have, for a model whose ceiling is not known."""

_SMALLEST_BUDGET = 1024  # https://platform.claude.com/docs/en/build-with-claude/extended-thinking
_ROOM_FOR_AN_ANSWER = 1024
_LONGEST_NAME = 64
_HIGHEST_TEMPERATURE = 1.0
_UNASKED = 1  # the temperature and top_p of who says nothing of them
_ADAPTIVE_SINCE = (4, 6)
_ADAPTIVE_ONLY_SINCE = (4, 7)  # which take no temperature, top_p and top_k either
_EFFORT_SINCE = (4, 6)
_NO_PREFILL_SINCE = (4, 6)  # https://platform.claude.com/docs/en/about-claude/models/migration-guide
_GO_ON = "Continue."
_ONE_OF_TWO_SINCE = (4, 1)  # temperature and top_p


def write_request(conversation: Conversation, target: TargetFacts) -> Written:
    """The request for `target`. Raises BadRequest for what cannot be said and cannot be left out."""
    lost = _unsaid(conversation)
    limit = conversation.max_output
    if limit is None:
        limit = target.ceiling or DEFAULT_MAX_TOKENS
    limit = target.limited(limit)
    tree: dict[str, Any] = {"model": target.model, "max_tokens": limit}
    if system := written_system(conversation.system):
        tree["system"] = system
    tree["messages"] = written_turns(conversation.turns, lost)
    if target.stream:
        tree["stream"] = True
    if conversation.stop:
        tree["stop_sequences"] = [text for text in conversation.stop if text.strip()]
        if len(tree["stop_sequences"]) < len(conversation.stop):
            raise BadRequest(
                "A stop sequence of white space alone cannot be used with this model's provider."
            )
    _add_tools(tree, conversation, target.known, lost)
    if conversation.format is not None:
        tree["output_config"] = {"format": written_format(conversation.format, lost)}
    reasons = _add_thinking(tree, conversation, target.model, lost)
    _add_sampling(tree, conversation, target.model, reasons, lost)
    version = traits.claude_version(target.known)
    if version is not None and version >= _NO_PREFILL_SINCE and tree["messages"][-1]["role"] == "assistant":
        tree["messages"].append({"role": "user", "content": _GO_ON})
        lost.add("prefill")
    if conversation.user:
        tree["metadata"] = {"user_id": conversation.user}
    if conversation.cache_key:
        _add_cache(tree, conversation, target.model, lost)
    names = {ids.fitting_name(tool.name, _LONGEST_NAME): tool.name for tool in conversation.tools}
    return Written(tree, frozenset(lost), {fitted: name for fitted, name in names.items() if fitted != name})


def _unsaid(conversation: Conversation) -> set[str]:
    """What was asked for and has no place in this dialect."""
    unsaid = {
        "seed": conversation.seed,
        "presence_penalty": conversation.presence_penalty or None,
        "frequency_penalty": conversation.frequency_penalty or None,
        "verbosity": conversation.verbosity or None,
        "metadata": conversation.metadata or None,
    }
    return {name for name, value in unsaid.items() if value is not None}


def _add_cache(tree: dict[str, Any], conversation: Conversation, model: str, lost: set[str]) -> None:
    """The cache of a client that counts on one without marks (Codex), where Anthropic has to be asked for its own.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching#automatic-caching
    """
    parts = chain(conversation.system, conversation.tools, *(turn.parts for turn in conversation.turns))
    if traits.claude_version(model) is None or any(getattr(part, "cache", "") for part in parts):
        lost.add("prompt_cache_key")
    else:
        tree["cache_control"] = {"type": "ephemeral"}


def _add_tools(tree: dict[str, Any], conversation: Conversation, model: str, lost: set[str]) -> None:
    """The tools and the choice among them; the choice of some is made by sending no others."""
    tools, choice = conversation.tools, chosen(conversation)
    if not tools:
        tools, choice = _called_before(conversation), ToolChoice("none")
        if not tools:
            return
    if choice.names and (choice.mode == "auto" or len(choice.names) > 1):
        tools = tuple(tool for tool in tools if tool.name in choice.names)
    strict = may_be_strict(tools, model)
    tree["tools"] = [_tool(tool, strict, lost) for tool in tools]
    written = _tool_choice(choice)
    if conversation.parallel_tools is not None and choice.mode != "none":
        written = {
            **(written or {"type": "auto"}),
            "disable_parallel_tool_use": not conversation.parallel_tools,
        }
    if written:
        tree["tool_choice"] = written


def _called_before(conversation: Conversation) -> tuple[Tool, ...]:
    """Tools of which the turns tell calls: where there are any, a request must define tools.

    https://github.com/anthropics/anthropic-sdk-python/issues/494
    """
    names = {p.name: None for turn in conversation.turns for p in turn.parts if isinstance(p, ToolCall)}
    return tuple(map(Tool, names))


def _tool_choice(choice: ToolChoice) -> dict[str, Any]:
    if choice.mode == "none":
        return {"type": "none"}
    if choice.mode == "auto":
        return {}
    if len(choice.names) == 1:
        return {"type": "tool", "name": ids.fitting_name(choice.names[0], _LONGEST_NAME)}
    return {"type": "any"}


def _tool(tool: Tool, may_be_strict: bool, lost: set[str]) -> dict[str, Any]:
    tool = freeform.as_function(tool)
    written: dict[str, Any] = {"name": ids.fitting_name(tool.name, _LONGEST_NAME)}
    if tool.description:
        written["description"] = tool.description
    schema = as_one_object(tool.schema, lost) if tool.schema else {"properties": {}}
    written["input_schema"] = {"type": "object", **schema}
    if tool.strict and may_be_strict:
        written["input_schema"] = written_schema(written["input_schema"], lost)
        written["strict"] = True
    elif tool.strict:
        lost.add("tools.strict")
    return written | cache_control(tool.cache)


def _add_thinking(tree: dict[str, Any], conversation: Conversation, model: str, lost: set[str]) -> bool:
    """How much to reason. True if the model is asked to with a budget, which forbids other things."""
    asked = conversation.thinking
    if asked is None:
        return False
    version = traits.claude_version(model)
    adaptive = version is not None and version >= _ADAPTIVE_SINCE
    if traits.effort_of(asked) == "none":
        if not adaptive or traits.may_rest(model):
            tree["thinking"] = {"type": "disabled"}
        return False
    forced = conversation.tool_choice.mode == "required"
    if adaptive and not forced:
        _add_adaptive(tree, asked, version or _ADAPTIVE_SINCE)
        return False
    # It may not fill `max_tokens`, must not be small, and the model must be free to begin with a thought.
    limit = tree["max_tokens"]
    most = limit - max(1, min(_ROOM_FOR_AN_ANSWER, (limit - _SMALLEST_BUDGET) // 2))
    budget = max(traits.budget_of(asked, most), _SMALLEST_BUDGET)
    if budget > most or forced or not _may_begin_with_thought(tree["messages"]):
        lost.add("thinking")
        return False
    tree["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _add_adaptive(tree: dict[str, Any], asked: Thinking, version: traits.Version) -> None:
    effort = traits.effort_of(asked)
    tree["thinking"] = {"type": "adaptive"}
    if asked.shown is not None:
        tree["thinking"]["display"] = "summarized" if asked.shown else "omitted"
    if effort is not None and version >= _EFFORT_SINCE:
        allowed: tuple[Effort, ...] = ("low", "medium", "high")
        if version >= _ADAPTIVE_ONLY_SINCE:
            allowed = (*allowed, "xhigh", "max")
        tree["output_config"] = {**tree.get("output_config", {}), "effort": traits.nearest(effort, allowed)}


def _may_begin_with_thought(messages: list[dict[str, Any]]) -> bool:
    """Whether a request may think: not within a turn of calls that began without a thought.

    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks
    """
    content = messages[-1]["content"] if messages else ""
    if isinstance(content, str) or content[0]["type"] != "tool_result":
        return messages[-1]["role"] == "user" if messages else True
    return messages[-2]["content"][0]["type"] in ("thinking", "redacted_thinking")


def _add_sampling(
    tree: dict[str, Any], conversation: Conversation, model: str, reasons: bool, lost: set[str]
) -> None:
    temperature, top_p, top_k = conversation.temperature, conversation.top_p, conversation.top_k
    version = traits.claude_version(model)
    if temperature is not None and temperature > _HIGHEST_TEMPERATURE:
        lost.add("temperature")
        temperature = _HIGHEST_TEMPERATURE
    sampling: dict[str, float | None] = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
    given = {name: value for name, value in sampling.items() if value is not None}
    refused: set[str] = set()
    if version is not None and version >= _ADAPTIVE_ONLY_SINCE:
        refused = set(given)
    elif reasons:
        refused = {"temperature", "top_k", "top_p"} & given.keys()
    elif version is not None and version >= _ONE_OF_TWO_SINCE and {"temperature", "top_p"} <= given.keys():
        refused = {"top_p"}
    lost |= {name for name in refused if name == "top_k" or given[name] != _UNASKED}
    tree |= {name: value for name, value in given.items() if name not in refused}
