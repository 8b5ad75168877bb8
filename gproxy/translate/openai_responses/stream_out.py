"""Deltas as a stream of Responses events for a client.

Whole responses are in `answers.py`.
"""

from dataclasses import replace
from typing import Any

import msgspec

from gproxy.errors import GatewayError
from gproxy.protocols import envelopes
from gproxy.translate.base import ClientFacts
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
    Refusal,
    Signature,
    Signed,
    Started,
    Text,
    ToolCall,
    UsageSeen,
)
from gproxy.translate.openai_responses.answers import (
    Item,
    annotation_of,
    empty_response,
    items_for_client,
    response_for_client,
)
from gproxy.values import Usage

_encode = msgspec.json.Encoder().encode
_NOTHING_SAID: dict[str, Any] = {"content": [], "summary": [], "encrypted_content": None}


class ResponsesWriter:
    """Writes one stream. Each part is an item of the output, told whole again when it is closed, as is the response.

    The order of events: https://platform.openai.com/docs/api-reference/responses-streaming
    """

    def __init__(self, client: ClientFacts) -> None:
        self._client = client
        self._number = 0  # of the next event
        self._output: list[Item] = []
        self._usage: Usage | None = None
        self._open: AnswerPart = Text("")
        self._place: Item = {}  # where the open part stands: ids and indexes
        self._kind = ""  # of the open part's events
        self._delta = b""  # an event of more of it, up to its number
        self._texts: list[str] = []
        self._citations: list[Citation] = []
        self._signature: Signature | None = None
        self._refused = False
        self._last: tuple[str, dict[str, Any]] = ("", {})

    def feed(self, delta: Delta) -> bytes:
        match delta:
            case Added(text):
                return self._added(text)
            case Opened(part):
                return self._opened(part)
            case Closed():
                return self._closed()
            case Cited(citation):
                return self._cited(citation)
            case Signed(signature):
                self._signature = signature
            case UsageSeen(usage):
                self._usage = usage
            case Started():
                response = {"response": empty_response(self._client)}
                return self._event("response.created", response) + self._event(
                    "response.in_progress", response
                )
            case Finished(reason):
                response = response_for_client(self._client, self._output, self._usage, reason, self._refused)
                self._last = (f"response.{response['status']}", {"response": response})
        return b""

    def end(self) -> bytes:
        return self._event(*self._last)

    def abort(self, error: GatewayError, _request_id: str) -> bytes:
        return envelopes.numbered_responses_event(error, self._number)

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        data = _encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _opened(self, part: AnswerPart) -> bytes:
        self._open, self._texts, self._citations = part, [], []
        self._signature = part.signature if isinstance(part, Reasoning) else None
        *before, item = items_for_client(part, self._client, len(self._output))
        out = b""
        for kept in before:
            at = {"output_index": len(self._output)}
            out += self._event("response.output_item.added", {**at, "item": kept})
            out += self._event("response.output_item.done", {**at, "item": kept})
            self._output.append(kept)
        at = {"output_index": len(self._output)}
        empty = {name: _NOTHING_SAID.get(name, value) for name, value in item.items()}
        if "status" in item:
            empty["status"] = "in_progress"
        out += self._event("response.output_item.added", {**at, "item": empty})
        self._place = {"item_id": item["id"], **at}
        if isinstance(part, ToolCall):
            self._kind = "custom_tool_call_input" if part.freeform else "function_call_arguments"
        elif isinstance(part, Reasoning):
            self._kind = "reasoning_summary_text"
            self._place["summary_index"] = 0
        else:
            self._kind = "refusal" if isinstance(part, Refusal) else "output_text"
            self._refused = self._refused or isinstance(part, Refusal)
            self._place["content_index"] = 0
            (content,) = item["content"]
            out += self._event("response.content_part.added", {**self._place, "part": content})
        self._delta = self._start_of_delta()
        return out

    def _start_of_delta(self) -> bytes:
        kind = f"response.{self._kind}.delta"
        extra: Item = {"logprobs": []} if isinstance(self._open, Text) else {}
        fields = _encode({"type": kind, **self._place, **extra})
        return b"event: %b\ndata: %b" % (kind.encode(), fields[:-1]) + b',"sequence_number":'

    def _added(self, text: str) -> bytes:
        out = b""
        if isinstance(self._open, Reasoning) and not self._texts:
            out = self._summary_part("added", "")
        self._texts.append(text)
        out += b'%b%d,"delta":%b}\n\n' % (self._delta, self._number, _encode(text))
        self._number += 1
        return out

    def _summary_part(self, step: str, text: str) -> bytes:
        part = {"type": "summary_text", "text": text}
        return self._event(f"response.reasoning_summary_part.{step}", {**self._place, "part": part})

    def _cited(self, citation: Citation) -> bytes:
        index = len(self._citations)
        self._citations.append(citation)
        return self._event(
            "response.output_text.annotation.added",
            {**self._place, "annotation_index": index, "annotation": annotation_of(citation)},
        )

    def _closed(self) -> bytes:
        part, text, out = self._open, "".join(self._texts), b""
        match part:
            case ToolCall():
                name = "input" if part.freeform else "arguments"
                whole: AnswerPart = replace(part, arguments=text, signature=None)
                out = self._done({name: text})
            case Reasoning():
                whole = replace(part, text=text, signature=self._signature)
            case Text():
                whole = Text(text, tuple(self._citations))
                out = self._done({"text": text, "logprobs": []})
            case Refusal():
                whole = Refusal(text)
                out = self._done({"refusal": text})
        (item,) = items_for_client(whole, self._client, len(self._output))
        for content in item.get("content", ()):
            out += self._event("response.content_part.done", {**self._place, "part": content})
        for summary in item.get("summary", ()):
            if not self._texts:
                out += self._summary_part("added", "")
            out += self._done({"text": summary["text"]}) + self._summary_part("done", summary["text"])
        at = {"output_index": len(self._output)}
        self._output.append(item)
        return out + self._event("response.output_item.done", {**at, "item": item})

    def _done(self, fields: dict[str, Any]) -> bytes:
        return self._event(f"response.{self._kind}.done", {**self._place, **fields})
