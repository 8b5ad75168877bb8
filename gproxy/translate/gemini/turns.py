"""A conversation's turns as the contents of a generateContent request.

The user begins there; results of functions are a content of their own, directly after their calls and as many.
No ids are written: Vertex AI refuses them, and all pair calls and results by name and order.
"""

import re
from collections.abc import Sequence
from typing import Any

from gproxy.errors import BadRequest
from gproxy.translate import freeform, ids, media, signatures
from gproxy.translate.arguments import object_of
from gproxy.translate.gemini import models
from gproxy.translate.gemini.thoughts import DIALECT, UNSIGNED
from gproxy.translate.model import (
    Audio,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from gproxy.translate.turns import merged, settled

Wire = dict[str, Any]

_LONGEST_NAME = 64
_BEGINS_A_NAME = re.compile(r"[A-Za-z_]")
_PLACEHOLDER = "."
_SEE_BELOW = "See the image or file below."
_ROLES = {"model": "model", "tool": "user", "user": "user"}


def function_name(name: str) -> str:
    """The name of a tool as Gemini takes it: it begins with a letter or `_`, and has 64 characters at most."""
    if _BEGINS_A_NAME.match(name):
        return ids.fitting_name(name, _LONGEST_NAME)
    return "_" + ids.fitting_name(name, _LONGEST_NAME - 1)


def written_contents(turns: Sequence[Turn], model: str, lost: set[str]) -> list[Wire]:
    """The contents. Raises BadRequest for what cannot be said."""
    if any(turn.role == "system" for turn in turns):
        lost.add("messages[].role")  # instructions on the way are said by the user
    writer = _Turns(model, lost)
    sides = merged(side for turn in settled(turns) for side in writer.sides(turn))
    if not sides or sides[0][0] != "user":
        sides.insert(0, ("user", [{"text": _PLACEHOLDER}]))
    return [{"role": _ROLES[side], "parts": parts} for side, parts in sides]


class _Turns:
    """Writes turns for one model; what it cannot say is added to `lost`."""

    def __init__(self, model: str, lost: set[str]) -> None:
        self._lost = lost
        self._wants_signatures = models.wants_signatures(model)
        self._media_in_results = models.takes_media_in_results(model)
        self._names: dict[str, str] = {}  # of the functions, by the ids of their calls

    def sides(self, turn: Turn) -> list[tuple[str, list[Wire]]]:
        """What a turn says, by the side that says it."""
        if any(getattr(part, "cache", "") for part in turn.parts):
            self._lost.add("cache_control")
        if turn.role == "assistant":
            return [("model", self._said(turn.parts))]
        if turn.role == "tool":
            beside: list[Wire] = []
            results = [self._result(part, beside) for part in turn.parts if isinstance(part, ToolResult)]
            return [("tool", results), ("user", beside)]
        return [("user", [wire for part in turn.parts for wire in self._given(part)])]

    def _given(self, part: Part) -> list[Wire]:
        match part:
            case Text(text):
                return [{"text": text}] if text else []
            case Image() | File():
                return [self._medium(part)]
            case Audio(data, format):
                return [{"inlineData": {"mimeType": f"audio/{format}", "data": data}}]
        raise BadRequest(f"A user's turn cannot hold a part of the kind {type(part).__name__}.")

    def _medium(self, part: Image | File) -> Wire:
        if isinstance(part, Image) and part.detail:
            self._lost.add("detail")
        if isinstance(part, File) and part.name:
            self._lost.add("filename")
        if part.url:
            media_type = media.type_of(part.url)
            return {"fileData": ({"mimeType": media_type} if media_type else {}) | {"fileUri": part.url}}
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}

    def _said(self, parts: Sequence[Part]) -> list[Wire]:
        said: list[Wire] = []
        signed = not self._wants_signatures
        for part in parts:
            match part:
                case Text(text) | Refusal(text):
                    if text:
                        said.append({"text": text})
                    if isinstance(part, Text) and part.citations:
                        self._lost.add("citations")
                case Reasoning():
                    self._add_thought(said, part)
                case ToolCall():
                    # Of calls side by side, the first one is signed.
                    said.append(self._call(part, UNSIGNED if not signed else ""))
                    signed = True
                case _:
                    raise BadRequest(
                        f"An assistant's turn cannot hold a part of the kind {type(part).__name__}."
                    )
        return said

    def _add_thought(self, said: list[Wire], part: Reasoning) -> None:
        """A thought that Gemini signed; one without text is the signature of the text before it."""
        signature = signatures.valid_for(part.signature, DIALECT)
        if not signature:
            self._lost.add("reasoning")
        elif not part.redacted:
            said.append({"text": part.text, "thought": True, "thoughtSignature": signature})
        elif said and said[-1].keys() == {"text"}:
            said[-1]["thoughtSignature"] = signature
        else:
            said.append({"text": "", "thoughtSignature": signature})

    def _call(self, call: ToolCall, unsigned: str) -> Wire:
        name = self._names[call.id] = function_name(call.name)
        wire: Wire = {"functionCall": {"name": name, "args": object_of(freeform.arguments_of(call))}}
        signature = signatures.valid_for(call.signature, DIALECT) or unsigned
        if signature:
            wire["thoughtSignature"] = signature
        return wire

    def _result(self, result: ToolResult, beside: list[Wire]) -> Wire:
        """A result; its images and files stand in it, or for older models in a user's content after it."""
        if any(part.cache for part in result.parts):
            self._lost.add("cache_control")
        texts = [part.text for part in result.parts if isinstance(part, Text)]
        others = [self._medium(part) for part in result.parts if not isinstance(part, Text)]
        told = "\n".join(texts)
        if others and not texts and not self._media_in_results:
            told = _SEE_BELOW
        response = {"name": self._names[result.call_id]}
        wire: Wire = {**response, "response": {"error" if result.is_error else "output": told}}
        if others and self._media_in_results:
            wire["parts"] = others
        else:
            beside += others
        return {"functionResponse": wire}
