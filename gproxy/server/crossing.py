"""One target that is asked in another dialect than its client's: what it is sent, and its answer for the client.

How dialects are translated is `translate/`'s, which of a provider's is taken `translate/carrying.py`'s; what becomes
of the attempt is `opening.py`'s.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.protocols import anthropic_messages, gemini
from gproxy.protocols.base import Event, Protocol
from gproxy.protocols.headers import client_headers
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.protocols.sse import SseFramer
from gproxy.protocols.tap import Framer
from gproxy.providers import endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.server.edge import Call
from gproxy.translate import exchange
from gproxy.translate.base import ClientFacts, Dialect, TargetFacts, Tree
from gproxy.translate.carrying import carrying
from gproxy.translate.registry import DIALECTS
from gproxy.translate.tap import TranslatingTap
from gproxy.values import Target, Usage

_LARGE_BODY = 1024 * 1024
_UNTRANSLATED = b"x-gproxy-untranslated"
_JSON, _EVENTS = b"application/json", b"text/event-stream; charset=utf-8"

QUERY = "alt=sse"
"""The query of every request to a target: it means something to Gemini alone, and there that streams are SSE."""

_WHOLE: Mapping[str, Protocol] = {
    p.name: p for p in (CHAT, RESPONSES, anthropic_messages.MESSAGES, gemini.GENERATE)
}
_STREAMED = {**_WHOLE, gemini.STREAM.name: gemini.STREAM}
_TRANSLATED = frozenset(p.operation for p in (*_WHOLE.values(), *_STREAMED.values()))
"""The operations that can be asked in another dialect."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A whole answer in the client's dialect, and what the target's said of itself."""

    body: bytes
    usage: Usage | None
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """What one target is asked, and by which of its operations (`protocol`).

    `untranslated` is the header's value, "" if nothing was lost.
    """

    protocol: Protocol
    body: bytes = field(repr=False)
    untranslated: str
    asks_usage: bool
    _client: Dialect
    _target: Dialect
    _facts: ClientFacts

    def answer(self, body: bytes) -> Crossed:
        """A whole answer. Raises AnswerBroken if it is none."""
        told = exchange.answer(self._target, self._client, _tree(body), self._facts)
        return Crossed(
            _encoded(told), self.protocol.usage_in_body(body), self.protocol.output_text(Event(body, body))
        )

    def tap(self, framer: Framer) -> TranslatingTap:
        """What watches and translates a stream."""
        translation = exchange.StreamTranslation(self._target, self._client, self._facts)
        return TranslatingTap(self.protocol, framer, translation)

    def streamed(self, body: bytes) -> tuple[TranslatingTap, bytes]:
        """A whole answer as a stream, and what goes out of it before its tail. Raises AnswerBroken."""
        tap = self.tap(SseFramer())
        return tap, tap.whole(body, _tree(body))

    def collected(self, stream: bytes) -> Crossed | Event:
        """A stream that nobody asked for as a whole answer, or the event by which it failed. Raises AnswerBroken."""
        framer = SseFramer()
        events = framer.feed(stream) + framer.end()
        protocol, usage, output = self.protocol, None, 0
        for event in events:
            if protocol.error_in_event(event):
                return event
            usage = protocol.usage_in_event(event, usage)
            output += protocol.output_text(event)
        told = exchange.collected(self._target, self._client, events, self._facts)
        return Crossed(_encoded(told), usage, output)

    def headers(
        self, upstream: Iterable[tuple[bytes, bytes]], *, stream: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Those of the answer to the client: what an upstream says of its own dialect stays behind."""
        media = _EVENTS if stream and self._facts.sse else _JSON
        found = [(b"content-type", media), *client_headers(upstream, across=True)]
        if self.untranslated:
            found.append((_UNTRANSLATED, self.untranslated.encode()))
        return found


def carrier(call: Call, target: Target) -> str:
    """The dialect in which a target is asked that does not speak the call's; "" if there is none."""
    if call.protocol.operation not in _TRANSLATED:
        return ""
    provider = call.snapshot.providers[target.provider]
    spoken = endpoints.surely_speaks(CHANNELS[provider.channel], provider.settings)
    return carrying(call.protocol.name, spoken, target.model)


async def cross(call: Call, target: Target, ask_usage: bool) -> Crossing:
    """The call in the dialect that `carrier` gives.

    `ask_usage`: a stream is asked to report usage, where that has to be asked for. Raises BadRequest for what is
    malformed, and for what the target cannot be told and must be.
    """
    if len(call.facts.body.text) < _LARGE_BODY:
        return _crossing(call, target, ask_usage)
    return await asyncio.to_thread(_crossing, call, target, ask_usage)


def _crossing(call: Call, target: Target, ask_usage: bool) -> Crossing:
    facts, name = call.facts, carrier(call, target)
    client, other = DIALECTS[call.protocol.name], DIALECTS[name]
    asked = TargetFacts(model=target.model, stream=facts.stream, ask_usage=ask_usage)
    translated = exchange.request(client, other, facts.body.tree, asked)
    protocol = (_STREAMED if facts.stream else _WHOLE)[name]
    return Crossing(
        protocol,
        _encoded(translated.tree),
        exchange.untranslated(translated.lost),
        ask_usage and facts.stream and protocol is CHAT,
        client,
        other,
        ClientFacts(
            model=facts.model,
            answer_id=call.request_id.removeprefix("req_"),
            created=int(call.started_at),
            asked_usage=facts.asked_usage,
            sse=facts.sse,
            names=translated.names,
            freeform=translated.freeform,
        ),
    )


def _encoded(tree: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(tree)
    except OverflowError:  # a whole number beyond 64 bits, in a schema or an argument
        return json.dumps(tree, ensure_ascii=False).encode()


def _tree(body: bytes) -> Tree:
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise AnswerBroken("it answered with a JSON body that is none") from None
    if not isinstance(tree, dict):
        raise AnswerBroken("it answered with a JSON body that is no object")
    return tree


def unspoken(call: Call, target: Target) -> BadRequest:
    """The refusal of a call that a target can be asked in no dialect."""
    provider = call.snapshot.providers[target.provider]
    spoken = ", ".join(sorted(endpoints.speaks(CHANNELS[provider.channel], provider.settings)))
    return BadRequest(
        f"This request is in the dialect {call.protocol.name}, but the provider {provider.name} of the model "
        f"speaks {spoken}, and {call.protocol.operation} cannot be translated to that."
    )
