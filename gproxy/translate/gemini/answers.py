"""Whole answers of generateContent: read, and written for a client.

Streams of them are in `stream_in.py` and `stream_out.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken
from gproxy.protocols.answers import mapping, objects
from gproxy.protocols.gemini import usage_of
from gproxy.translate import media
from gproxy.translate.arguments import object_of
from gproxy.translate.base import ClientFacts
from gproxy.translate.gemini import thoughts
from gproxy.translate.gemini.carriers import carried_by_call
from gproxy.translate.model import (
    Answer,
    AnswerPart,
    Citation,
    Finish,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from gproxy.values import Usage

Wire = dict[str, Any]

_REFUSED = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}
    | {"IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR"}
)
_BROKEN = frozenset(
    {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"}
    | {"MISSING_THOUGHT_SIGNATURE"}
)
_REASONS: dict[Finish, str] = {"length": "MAX_TOKENS", "refused": "SAFETY"}


def read_answer(tree: Mapping[str, Any]) -> Answer:
    """The first candidate, or that the prompt was blocked. Raises AnswerBroken if there is neither."""
    usage = usage_of(None, tree.get("usageMetadata"))
    candidate = first_candidate(tree.get("candidates"))
    if candidate is None:
        if is_blocked(tree.get("promptFeedback")):
            return Answer((), "refused", usage)
        raise AnswerBroken("the answer holds no candidate")
    wires = objects(mapping(candidate.get("content")).get("parts"))
    parts = [part for wire in wires for part in parts_of(wire)]
    at = next((at for at in reversed(range(len(parts))) if isinstance(parts[at], Text)), None)
    if at is not None and isinstance(cited := parts[at], Text):
        parts[at] = replace(cited, citations=citations_of(candidate, cited.text))
    return Answer(tuple(parts), finish_of(candidate.get("finishReason"), parts), usage)


def first_candidate(candidates: object) -> Mapping[str, Any] | None:
    return next((found for found in objects(candidates) if found.get("index", 0) in (0, None)), None)


def is_blocked(feedback: object) -> bool:
    """Whether the prompt was not answered at all, by safety rules."""
    return bool(mapping(feedback).get("blockReason"))


def parts_of(wire: Mapping[str, Any]) -> list[AnswerPart]:
    """What one part of an answer says. An image is a text that shows it, as the other dialects have no images."""
    signature = signature_of(wire)
    if isinstance(called := wire.get("functionCall"), dict):
        given = called.get("args")
        arguments = msgspec.json.encode(given).decode() if given else "{}"
        return [ToolCall(_string(called, "id"), _string(called, "name"), arguments, signature)]
    if isinstance(blob := wire.get("inlineData"), dict):
        return [Text(f"![]({media.data_url(_string(blob, 'mimeType'), _string(blob, 'data'))})")]
    text = _string(wire, "text")
    if wire.get("thought") is True:
        return [Reasoning(text, signature)] if text or signature is not None else []
    said: list[AnswerPart] = [Text(text)] if text else []
    # The signature of a text is kept as that of a thought without text behind it.
    return said if signature is None else [*said, Reasoning("", signature, redacted=True)]


def signature_of(wire: Mapping[str, Any]) -> Signature | None:
    """The signature of an answer's part; what we gave a client of Gemini's may come from a gproxy upstream."""
    return thoughts.from_client(_string(wire, "thoughtSignature"))


def _string(tree: Mapping[str, Any], name: str) -> str:
    value = tree.get(name)
    return value if isinstance(value, str) else ""


def finish_of(reason: object, parts: Sequence[AnswerPart]) -> Finish:
    """Why it ended; Gemini says `STOP` of an answer that calls functions.

    Raises AnswerBroken for one that says nothing, since the model did not call a function as it is done.
    """
    if not isinstance(reason, str):
        reason = ""
    if reason in _REFUSED:
        return "refused"
    if reason == "MAX_TOKENS":
        return "length"
    if reason in _BROKEN and all(isinstance(part, Reasoning) for part in parts):
        raise AnswerBroken(f"the model's answer ended with {reason}")
    return "tools" if any(isinstance(part, ToolCall) for part in parts) else "stop"


def citations_of(candidate: Mapping[str, Any], text: str) -> tuple[Citation, ...]:
    """The web pages that a candidate's text is taken from, by `groundingMetadata` and `citationMetadata`.

    Both count the text in bytes.
    """
    grounding = mapping(candidate.get("groundingMetadata"))
    pages = [mapping(chunk.get("web")) for chunk in objects(grounding.get("groundingChunks"))]
    found: list[Citation] = []
    for support in objects(grounding.get("groundingSupports")):
        numbers = support.get("groundingChunkIndices")
        for number in numbers if isinstance(numbers, list) else ():
            if type(number) is int and 0 <= number < len(pages):
                found.append(_citation(pages[number], mapping(support.get("segment")), text))
    cited = mapping(candidate.get("citationMetadata"))
    for source in objects(cited.get("citationSources")) + objects(cited.get("citations")):
        found.append(_citation(source, source, text))
    return tuple(citation for citation in found if citation.url)


def _citation(page: Mapping[str, Any], segment: Mapping[str, Any], text: str) -> Citation:
    start, end = (_characters(text, segment.get(name)) for name in ("startIndex", "endIndex"))
    return Citation(_string(page, "uri"), _string(page, "title"), start, end)


def _characters(text: str, index: object) -> int:
    """How many characters of the text its first bytes are."""
    if type(index) is not int or index <= 0:
        return 0
    return min(index, len(text)) if text.isascii() else len(text.encode()[:index].decode(errors="ignore"))


def write_answer(answer: Answer, client: ClientFacts) -> Wire:
    """The answer for the client."""
    parts: list[Wire] = []
    before: list[AnswerPart] | None = []
    for part in answer.parts:
        if (wire := part_for_client(part, before)) is not None:
            parts.append(wire)
        before = None if isinstance(part, ToolCall) else [*(before or ()), part]
    candidate: Wire = {"content": {"role": "model", "parts": parts}}
    cited = [part for part in answer.parts if isinstance(part, Text) and part.citations]
    if cited:
        candidate["groundingMetadata"] = grounding_for_client(cited)
    candidate |= {"finishReason": reason_of(answer.finish), "index": 0}
    tree: Wire = {"candidates": [candidate]}
    if answer.usage is not None:
        tree["usageMetadata"] = usage_for_client(answer.usage)
    return tree | {"modelVersion": client.model, "responseId": client.answer_id}


def reason_of(finish: Finish) -> str:
    return _REASONS.get(finish, "STOP")


def part_for_client(part: AnswerPart, before: Sequence[AnswerPart] | None = None) -> Wire | None:
    """A part of an answer; None for a text that is empty.

    A call may carry what was thought `before` it. For one directly behind another it is None: of calls side by side,
    the first one is signed.
    """
    match part:
        case Text(text) | Refusal(text):
            return {"text": text} if text else None
        case ToolCall():
            call = {"id": part.id, "name": part.name, "args": object_of(part.arguments)}
            signed = _signed(part.signature)
            if not signed and before is not None:
                signed = {"thoughtSignature": carried_by_call(before)}
            return {"functionCall": call} | signed
        case Reasoning(text, signature, redacted):
            if redacted:
                return {"text": ""} | _signed(signature)
            return {"text": text, "thought": True} | _signed(signature)


def _signed(signature: Signature | None) -> Wire:
    return {} if signature is None else {"thoughtSignature": thoughts.worn(signature)}


def grounding_for_client(texts: Iterable[Text]) -> Wire:
    """The sources of texts, as if Google's search had found them."""
    chunks: list[Wire] = []
    supports: list[Wire] = []
    for part in texts:
        for cited in part.citations:
            start, end = (len(part.text[:at].encode()) for at in (cited.start, cited.end))
            segment = {"startIndex": start, "endIndex": end, "text": part.text[cited.start : cited.end]}
            supports.append({"segment": segment, "groundingChunkIndices": [len(chunks)]})
            chunks.append({"web": {"uri": cited.url, "title": cited.title}})
    return {"groundingChunks": chunks, "groundingSupports": supports}


def usage_for_client(usage: Usage) -> Wire:
    """`usageMetadata`: the prompt without results of built-in tools, candidates without thoughts."""
    tools, thought = usage.tool_tokens or 0, usage.reasoning_tokens or 0
    counts = {
        "promptTokenCount": max(0, (usage.input_tokens or 0) - tools),
        "cachedContentTokenCount": usage.cache_read_tokens,
        "candidatesTokenCount": max(0, (usage.output_tokens or 0) - thought),
        "thoughtsTokenCount": usage.reasoning_tokens,
        "toolUsePromptTokenCount": usage.tool_tokens,
        "totalTokenCount": usage.total_tokens or 0,
    }
    return {name: count for name, count in counts.items() if count is not None}
