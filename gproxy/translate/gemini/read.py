"""A client's generateContent request as a conversation: everything but its contents.

The contents are read in `contents.py`.
"""

from collections.abc import Mapping
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import fields
from gproxy.translate.base import ReadRequest
from gproxy.translate.gemini.contents import read_contents, read_system
from gproxy.translate.gemini.openapi import json_schema
from gproxy.translate.gemini.spelling import camel, one, several
from gproxy.translate.hosted import left_out
from gproxy.translate.model import EFFORTS, Conversation, Effort, Format, Thinking, Tool, ToolChoice

_KNOWN = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model", "labels"}
)
_CONFIGS = frozenset(
    {"temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "seed", "presencePenalty"}
    | {"frequencyPenalty", "candidateCount", "responseMimeType", "responseSchema", "responseJsonSchema"}
    | {"_responseJsonSchema", "responseModalities", "thinkingConfig"}
)
_OF_FUNCTIONS = frozenset({"name", "description", "parameters", "parametersJsonSchema"})
_SAYS_NOTHING: dict[str, Any] = {
    "safetySettings": [],
    "store": False,
    "serviceTier": "standard",
    "responseLogprobs": False,
    "mediaResolution": "MEDIA_RESOLUTION_UNSPECIFIED",
}
_MODES = {"AUTO": "auto", "MODE_UNSPECIFIED": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}
_TEXT, _JSON = "text/plain", "application/json"


def read_request(tree: Mapping[str, Any]) -> ReadRequest:
    """The conversation in a request. Raises BadRequest: for what is malformed, and for what cannot be left out."""
    tree = camel(tree)
    lost = _unknown(tree, _KNOWN, "")
    if "cachedContent" in lost:
        raise BadRequest("`cachedContent` is at another provider: send what it holds.")
    config = one(tree, "generationConfig")
    lost |= _unknown(config, _CONFIGS, "generationConfig.")
    _refuse(config)
    contents = several(tree, "contents")
    if not contents:
        raise fields.wrong("contents", "", "an array that is not empty")
    where = "generationConfig"
    conversation = Conversation(
        system=read_system(one(tree, "systemInstruction"), "systemInstruction"),
        turns=read_contents(contents, lost),
        tools=_tools(tree, lost),
        tool_choice=_tool_choice(one(tree, "toolConfig"), lost),
        max_output=fields.whole(config, "maxOutputTokens", where),
        temperature=fields.number(config, "temperature", where),
        top_p=fields.number(config, "topP", where),
        top_k=fields.whole(config, "topK", where),
        stop=fields.texts(config, "stopSequences", where),
        seed=fields.whole(config, "seed", where),
        presence_penalty=fields.number(config, "presencePenalty", where),
        frequency_penalty=fields.number(config, "frequencyPenalty", where),
        format=_format(config),
        thinking=_thinking(config),
        metadata=_labels(fields.an_object(tree, "labels")),
    )
    return ReadRequest(conversation, frozenset(lost))


def _unknown(tree: Mapping[str, Any], known: frozenset[str], prefix: str) -> set[str]:
    return {
        f"{prefix}{name}"
        for name in fields.unknown(tree, known)
        if name not in _SAYS_NOTHING or tree[name] != _SAYS_NOTHING[name]
    }


def _refuse(config: Mapping[str, Any]) -> None:
    where = "generationConfig"
    if (fields.whole(config, "candidateCount", where) or 1) > 1:
        raise BadRequest(
            "`candidateCount` above 1 cannot be translated for this model's provider: ask once for each answer."
        )
    modalities = {text.upper() for text in fields.texts(config, "responseModalities", where)}
    if not modalities <= {"TEXT", "MODALITY_UNSPECIFIED"}:
        raise BadRequest(
            "`responseModalities` other than text cannot be translated for this model's provider."
        )


def _tools(tree: Mapping[str, Any], lost: set[str]) -> tuple[Tool, ...]:
    """The functions. Tools that Google runs (search, code, …) are nobody else's: they are lost."""
    tools: list[Tool] = []
    for at, tool in enumerate(several(tree, "tools")):
        others = fields.unknown(tool, frozenset({"functionDeclarations"}))
        lost |= {left_out(name, f"tools[{at}]") for name in sorted(others)}
        where = f"tools[{at}].functionDeclarations"
        for number, function in enumerate(several(tool, "functionDeclarations", f"tools[{at}]")):
            tools.append(_function(function, f"{where}[{number}]", lost))
    return tuple(tools)


def _function(function: Mapping[str, Any], where: str, lost: set[str]) -> Tool:
    lost |= {f"functionDeclarations.{name}" for name in fields.unknown(function, _OF_FUNCTIONS)}
    schema: Mapping[str, Any] | None = None
    if function.get("parametersJsonSchema") is not None:
        schema = fields.an_object(function, "parametersJsonSchema", where)
    elif function.get("parameters") is not None:
        schema = json_schema(fields.an_object(function, "parameters", where))
    return Tool(
        name=fields.required(function, "name", where),
        description=fields.text(function, "description", where),
        schema=schema,
    )


def _tool_choice(config: Mapping[str, Any], lost: set[str]) -> ToolChoice:
    lost |= _unknown(config, frozenset({"functionCallingConfig"}), "toolConfig.")
    where = "toolConfig.functionCallingConfig"
    calling = one(config, "functionCallingConfig", "toolConfig")
    mode = (fields.text(calling, "mode", where) or "AUTO").upper()
    names = fields.texts(calling, "allowedFunctionNames", where)
    if mode == "VALIDATED":
        lost.add(f"{where}.mode")  # that arguments keep to the schema
    match _MODES.get(mode):
        case "auto":
            return ToolChoice("auto", names)
        case "required":
            return ToolChoice("required", names)
        case "none":
            return ToolChoice("none")
    raise fields.wrong("mode", where, "AUTO, ANY, NONE or VALIDATED")


def _format(config: Mapping[str, Any]) -> Format | None:
    where = "generationConfig"
    wanted = fields.text(config, "responseMimeType", where)
    schema: Mapping[str, Any] | None = None
    for name in ("responseJsonSchema", "_responseJsonSchema"):
        if config.get(name) is not None:
            schema = fields.an_object(config, name, where)
    if schema is None and config.get("responseSchema") is not None:
        schema = json_schema(fields.an_object(config, "responseSchema", where))
    if wanted not in ("", _TEXT, _JSON):
        raise BadRequest(f"`{where}.responseMimeType` {fields.short(wanted)} cannot be translated.")
    return None if schema is None and wanted != _JSON else Format(schema)


def _thinking(config: Mapping[str, Any]) -> Thinking | None:
    where = "generationConfig.thinkingConfig"
    given = one(config, "thinkingConfig", "generationConfig")
    if not given:
        return None
    budget = fields.whole(given, "thinkingBudget", where)
    if budget is not None and budget < 0:
        budget = None  # as the model sees fit
    shown = fields.flag(given, "includeThoughts", where)
    return Thinking(_level(fields.text(given, "thinkingLevel", where).lower(), where), budget, shown)


def _level(level: str, where: str) -> Effort | None:
    if level in ("", "thinking_level_unspecified"):
        return None
    found = next((effort for effort in EFFORTS if effort == level), None)
    if found is None:
        raise fields.wrong("thinkingLevel", where, "MINIMAL, LOW, MEDIUM or HIGH")
    return found


def _labels(given: Mapping[str, Any]) -> dict[str, str]:
    return {name: fields.text(given, name, "labels") for name in given}
