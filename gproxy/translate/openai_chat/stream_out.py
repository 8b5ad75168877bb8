"""Deltas as a stream of chat completion chunks for a client.

Whole completions are in `answers.py`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import GatewayError
from gproxy.protocols import envelopes
from gproxy.translate.base import ClientFacts
from gproxy.translate.model import (
    Added,
    AnswerPart,
    Cited,
    Closed,
    Delta,
    Finished,
    Opened,
    Reasoning,
    Refusal,
    Signature,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.translate.openai_chat.answers import (
    annotation_of,
    call_for_client,
    reason_of,
    usage_for_client,
)
from gproxy.translate.openai_chat.reasoning import detail_of
from gproxy.values import Usage

_encode = msgspec.json.Encoder().encode
_EMPTY = b"{}"


class ChatWriter:
    """Writes one stream. Usage goes out in a chunk of its own, if the client asked for it and there is any."""

    def __init__(self, client: ClientFacts) -> None:
        head = {
            "id": f"chatcmpl-{client.answer_id}",
            "object": "chat.completion.chunk",
            "created": client.created,
            "model": client.model,
        }
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._rest = b',"usage":null}\n\n' if client.asked_usage else b"}\n\n"
        self._asked_usage = client.asked_usage
        self._usage: Usage | None = None
        self._open: AnswerPart | None = None
        self._calls = 0
        self._offset = 0  # of the open text in the content
        self._said = 0  # characters of content
        self._listed_so_far: Counter[str] = Counter()  # elements of each array
        self._thought: list[str] = []
        self._signature: Signature | None = None
        self._refused = False

    def feed(self, delta: Delta) -> bytes:
        match delta:
            case Added(text):
                return self._chunk(self._added(text))
            case Opened(part):
                return self._opened(part)
            case Closed():
                return self._closed()
            case Cited(citation):
                return self._listed("annotations", annotation_of(citation, self._offset))
            case Signed(signature):
                self._signature = signature
                return b""
            case UsageSeen(usage):
                self._usage = usage
                return b""
            case Started():
                return self._chunk({"role": "assistant", "content": ""})
            case Finished(reason):
                return self._finished(reason_of(reason, self._refused))

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def abort(self, error: GatewayError, request_id: str) -> bytes:
        return envelopes.openai_event(error, request_id)

    def _opened(self, part: AnswerPart) -> bytes:
        self._open = part
        if isinstance(part, ToolCall):
            self._calls += 1
            return self._chunk({"tool_calls": [{"index": self._calls - 1, **call_for_client(part)}]})
        if isinstance(part, Text):
            self._offset = self._said
        elif isinstance(part, Reasoning):
            self._thought, self._signature = [], part.signature
        else:
            self._refused = True
        return b""

    def _added(self, text: str) -> Mapping[str, Any]:
        part = self._open
        if isinstance(part, Text):
            self._said += len(text)
            return {"content": text}
        if isinstance(part, ToolCall):
            piece = {"custom": {"input": text}} if part.freeform else {"function": {"arguments": text}}
            return {"tool_calls": [{"index": self._calls - 1, **piece}]}
        if isinstance(part, Refusal):
            return {"refusal": text}
        self._thought.append(text)
        return {"reasoning_content": text}

    def _closed(self) -> bytes:
        part = self._open
        self._open = None
        if not isinstance(part, Reasoning) or self._signature is None:
            return b""
        # The client must send its text back beside the signature, in one object.
        signed = replace(part, text="".join(self._thought), signature=self._signature)
        return self._listed("reasoning_details", detail_of(signed) or {})

    def _listed(self, name: str, item: dict[str, Any]) -> bytes:
        """An element of an array, with its place in it: the SDK puts arrays together by that, and fails without."""
        index = self._listed_so_far[name]
        self._listed_so_far[name] += 1
        return self._chunk({name: [{"index": index, **item}]})

    def _finished(self, reason: str) -> bytes:
        out = self._choice(_EMPTY, _encode(reason)) + self._rest
        if self._asked_usage and self._usage is not None:
            out += self._head + b'],"usage":' + _encode(usage_for_client(self._usage)) + b"}\n\n"
        return out

    def _chunk(self, delta: Mapping[str, Any]) -> bytes:
        return self._choice(_encode(delta), b"null") + self._rest

    def _choice(self, delta: bytes, reason: bytes) -> bytes:
        return b"%b%b%b%b%b" % (
            self._head,
            b'{"index":0,"delta":',
            delta,
            b',"logprobs":null,"finish_reason":' + reason,
            b"}]",
        )
