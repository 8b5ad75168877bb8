"""Deltas as a stream of generateContent answers for a client: server-sent events, or one growing JSON array.

Whole answers are in `answers.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import GatewayError
from gproxy.protocols import envelopes
from gproxy.translate.base import ClientFacts
from gproxy.translate.gemini.answers import (
    grounding_for_client,
    part_for_client,
    reason_of,
    usage_for_client,
)
from gproxy.translate.model import (
    Added,
    AnswerPart,
    Citation,
    Cited,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Signature,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.values import Usage

_encode = msgspec.json.Encoder().encode
_EMPTY: dict[str, Any] = {"text": ""}


class GeminiWriter:
    """Writes one stream. A call goes out when it is whole; the last chunk has the reason and the usage."""

    def __init__(self, client: ClientFacts) -> None:
        self._sse = client.sse
        self._foot = b"," + _encode({"modelVersion": client.model, "responseId": client.answer_id})[1:]
        self._chunks = 0
        self._usage: Usage | None = None
        self._open: AnswerPart = Text("")
        self._told: list[str] = []  # of the open part
        self._before: list[AnswerPart] | None = []  # what was said since the last call, None for nothing
        self._signature: Signature | None = None
        self._sources: list[Citation] = []
        self._last = b""

    def feed(self, delta: Delta) -> bytes:
        match delta:
            case Added(text):
                self._told.append(text)
                return b"" if isinstance(self._open, ToolCall) else self._part(_with_text(self._open, text))
            case Opened(part):
                self._open, self._told, self._sources = part, [], []
                self._signature = part.signature if isinstance(part, Reasoning) else None
                return b""
            case Closed():
                return self._closed()
            case Signed(signature):
                self._signature = signature
                return b""
            case Cited(citation):
                self._sources.append(citation)
                return b""
            case UsageSeen(usage):
                self._usage = usage
                return b""
            case Started():
                return b""
            case Finished(reason):
                self._last = self._chunk(_EMPTY, {"finishReason": reason_of(reason)}, self._usage)
                return b""

    def end(self) -> bytes:
        return self._last if self._sse else self._last + b"\n]"

    def abort(self, error: GatewayError, request_id: str) -> bytes:
        if self._sse:
            return envelopes.gemini_event(error, request_id)
        return (b",\n" if self._chunks else b"[") + envelopes.gemini_body(error, request_id) + b"\n]"

    def _closed(self) -> bytes:
        part, text = self._open, "".join(self._told)
        if isinstance(part, ToolCall):
            before, self._before = self._before, None
            return self._part(replace(part, arguments=text), before)
        if isinstance(part, Reasoning):
            self._before = [*(self._before or ()), replace(part, text=text, signature=self._signature)]
            if self._signature is None:
                return b""
            return self._part(replace(part, text="", signature=self._signature))
        self._before = [*(self._before or ()), Text(text)]
        if self._sources:
            cited = grounding_for_client([Text(text, tuple(self._sources))])
            return self._chunk(_EMPTY, {"groundingMetadata": cited})
        return b""

    def _part(self, part: AnswerPart, before: Sequence[AnswerPart] | None = None) -> bytes:
        return self._chunk(part_for_client(part, before) or _EMPTY, {})

    def _chunk(self, part: dict[str, Any], beside: dict[str, Any], usage: Usage | None = None) -> bytes:
        candidate = {"content": {"role": "model", "parts": [part]}, **beside, "index": 0}
        tree: dict[str, Any] = {"candidates": [candidate]}
        if usage is not None:
            tree["usageMetadata"] = usage_for_client(usage)
        body = _encode(tree)[:-1] + self._foot
        self._chunks += 1
        if self._sse:
            return b"data: " + body + b"\n\n"
        return (b",\n" if self._chunks > 1 else b"[") + body


def _with_text(part: AnswerPart, text: str) -> AnswerPart:
    """A piece of the part, without its signature, which comes last."""
    return Reasoning(text) if isinstance(part, Reasoning) else Text(text)
