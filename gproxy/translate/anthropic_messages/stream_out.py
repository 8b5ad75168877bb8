"""Deltas as a stream of Messages events for a client.

Whole messages are in `answers.py`.
"""

from typing import Any

import msgspec

from gproxy.errors import GatewayError
from gproxy.protocols import envelopes
from gproxy.translate import signatures
from gproxy.translate.anthropic_messages.answers import (
    blocks_for_client,
    citation_for_client,
    empty_message,
    reason_of,
    thought_before,
    usage_for_client,
)
from gproxy.translate.anthropic_messages.messages import DIALECT
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
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.values import Usage

_encode = msgspec.json.Encoder().encode
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'


class MessagesWriter:
    """Writes one stream.

    `message_start` tells the input tokens if they are known by then, else 0; `message_delta` has all counts.
    """

    def __init__(self, client: ClientFacts) -> None:
        self._client = client
        self._usage = Usage()
        self._index = -1
        self._open: AnswerPart = Text("")
        self._unsigned = False  # the open part is a thought whose signature has not come

    def feed(self, delta: Delta) -> bytes:
        match delta:
            case Added(text):
                return _DELTA % (self._index, _encode(self._added(text)))
            case Opened(part):
                return self._opened(part)
            case Closed():
                signed = self._signed(signatures.OF_NOBODY) if self._unsigned else b""
                return signed + _STOP % self._index
            case Signed(signature):
                return self._signed(signatures.worn(signature, DIALECT))
            case Cited(citation):
                cited = {"type": "citations_delta", "citation": citation_for_client(citation)}
                return _DELTA % (self._index, _encode(cited))
            case UsageSeen(usage):
                self._usage = usage
                return b""
            case Finished(reason, stop_sequence):
                return self._finished(reason_of(reason), stop_sequence)
            case Started():
                return self._started()

    def end(self) -> bytes:
        return b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def abort(self, error: GatewayError, request_id: str) -> bytes:
        return envelopes.anthropic_event(error, request_id)

    def _started(self) -> bytes:
        message = {**empty_message(self._client), "usage": usage_for_client(self._usage)}
        return _event("message_start", {"message": message})

    def _opened(self, part: AnswerPart) -> bytes:
        before = b""
        if isinstance(part, ToolCall):
            for block in thought_before(part):
                before += self._block(block | {"signature": ""})
                before += self._signed(block["signature"]) + _STOP % self._index
        self._open = part
        self._unsigned = isinstance(part, Reasoning) and not part.redacted
        block = blocks_for_client(part)[-1]
        return before + self._block(block | {"signature": ""} if self._unsigned else block)

    def _signed(self, signature: str) -> bytes:
        self._unsigned = False
        return _DELTA % (self._index, _encode({"type": "signature_delta", "signature": signature}))

    def _block(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        return _event("content_block_start", {"index": self._index, "content_block": block})

    def _added(self, text: str) -> dict[str, str]:
        if isinstance(self._open, ToolCall):
            return {"type": "input_json_delta", "partial_json": text}
        if isinstance(self._open, Reasoning):
            return {"type": "thinking_delta", "thinking": text}
        return {"type": "text_delta", "text": text}

    def _finished(self, reason: str, stop_sequence: str) -> bytes:
        delta = {"stop_reason": reason, "stop_sequence": stop_sequence or None}
        return _event("message_delta", {"delta": delta, "usage": usage_for_client(self._usage)})


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **fields}))
