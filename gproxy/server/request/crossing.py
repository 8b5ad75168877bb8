"""One target that is asked in another dialect than its client's: what it is sent, and its answer for the client.

How dialects are translated is `translate/`'s, which of a provider's is taken `translate/carrying.py`'s; what becomes
of the attempt is `opening.py`'s.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gproxy.errors import AnswerBroken, BadRequest
from gproxy.protocols import anthropic_messages, estimate, gemini, strict
from gproxy.protocols.base import Event, Protocol
from gproxy.protocols.headers import client_headers
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.openai_embeddings import EMBEDDINGS
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.protocols.sse import SseFramer
from gproxy.protocols.tap import Framer
from gproxy.protocols.writing import of_tree
from gproxy.providers import endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.server.request.edge import Call
from gproxy.translate import counting, embeddings, exchange
from gproxy.translate.base import ClientFacts, Dialect, TargetFacts, Tree
from gproxy.translate.carrying import carrying
from gproxy.translate.counting import COUNTERS
from gproxy.translate.registry import DIALECTS
from gproxy.translate.tap import TranslatingTap
from gproxy.values import Target, Usage

_UNTRANSLATED, _ESTIMATED = b"x-gproxy-untranslated", b"x-gproxy-estimated"
_JSON, _EVENTS = b"application/json", b"text/event-stream; charset=utf-8"

MOST_EVENTS = 250_000
"""Of a stream that is put together to a whole answer: none has so many, and each takes room."""

_STEP_BYTES = 64 * 1024

QUERY = "alt=sse"
"""The query of every request to a target: it means something to Gemini alone, and there that streams are SSE."""

_WHOLE: Mapping[str, Protocol] = {
    p.name: p for p in (CHAT, RESPONSES, anthropic_messages.MESSAGES, gemini.GENERATE)
}
_STREAMED = {**_WHOLE, gemini.STREAM.name: gemini.STREAM}
_COUNTING = {p.name: p for p in (anthropic_messages.COUNT_TOKENS, gemini.COUNT_TOKENS)}

# The operations that can be asked in another dialect.
_TALKS = frozenset(p.operation for p in (*_WHOLE.values(), *_STREAMED.values()))
_COUNTS = frozenset(p.operation for p in _COUNTING.values())
_EMBEDS = frozenset(p.operation for p in (EMBEDDINGS, gemini.EMBED, gemini.BATCH_EMBED))


@dataclass(frozen=True, slots=True)
class Crossed:
    """A whole answer in the client's dialect, and what the target's said of itself. `estimated`: it said nothing,
    and the answer is a guess of ours."""

    body: bytes
    usage: Usage | None = None
    output_bytes: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The event by which a stream failed: the HTTP status that it stands for, its data, and what was used by then."""

    status: int
    data: bytes
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Talk:
    """The two sides of a conversation, which may be streamed."""

    client: Dialect
    target: Dialect
    facts: ClientFacts

    def translation(self) -> exchange.StreamTranslation:
        return exchange.StreamTranslation(self.target, self.client, self.facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What one target is asked, and by which of its operations (`protocol`).

    `untranslated` is the header's value, "" if nothing was lost. `talk` is None for what is never streamed.
    `estimate` is what the client is told where the target does not: of a count; `asks` is False if nobody is asked.
    """

    protocol: Protocol
    body: bytes = field(repr=False)
    untranslated: str
    tell: Callable[[Tree], Mapping[str, Any]]
    talk: Talk | None = None
    asks_usage: bool = False
    estimate: bytes = b""
    asks: bool = True

    def answer(self, body: bytes) -> Crossed:
        """A whole answer. Raises AnswerBroken if it is none."""
        told = encoded(self.tell(_tree(body)))
        usage, output = self.protocol.usage_in_body(body), self.protocol.output_text(Event(body, body))
        return Crossed(told, usage, output)

    def tap(self, framer: Framer) -> TranslatingTap:
        """What watches and translates a stream. Raises AnswerBroken where there can be none."""
        return TranslatingTap(self.protocol, framer, self._talk().translation())

    def streamed(self, body: bytes) -> tuple[TranslatingTap, bytes]:
        """A whole answer as a stream, and what goes out of it before its tail. Raises AnswerBroken."""
        tap = self.tap(SseFramer())
        return tap, tap.whole(body, _tree(body))

    def collected(self, stream: bytes) -> Crossed | Failed:
        """A stream that nobody asked for as a whole answer, or the event by which it failed. Raises AnswerBroken."""
        talk, events = self._talk(), _events(stream)
        protocol, usage, output = self.protocol, None, 0
        for event in events:
            usage = protocol.usage_in_event(event, usage)
            if failed := protocol.error_in_event(event):
                return Failed(failed, event.data or b"", usage)
            output += protocol.output_text(event)
        told = exchange.collected(talk.target, talk.client, events, talk.facts)
        return Crossed(encoded(told), usage, output)

    def headers(
        self, upstream: Sequence[tuple[bytes, bytes]], *, stream: bool = False, estimated: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Those of the answer to the client: what an upstream says of its own dialect stays behind."""
        sse = stream and self.talk is not None and self.talk.facts.sse
        found = [(b"content-type", _EVENTS if sse else _JSON), *client_headers(upstream, across=True)]
        if self.untranslated:
            found.append((_UNTRANSLATED, self.untranslated.encode()))
        if estimated:
            found.append((_ESTIMATED, b"true"))
        return found

    def _talk(self) -> Talk:
        if self.talk is None:
            raise AnswerBroken("it answered with a stream where there is none")
        return self.talk


def _events(stream: bytes) -> list[Event]:
    """The events of a whole stream that say anything. Raises AnswerBroken beyond MOST_EVENTS."""
    framer = SseFramer()
    events: list[Event] = []
    for at in range(0, len(stream), _STEP_BYTES):
        events += [event for event in framer.feed(stream[at : at + _STEP_BYTES]) if event.data is not None]
        if len(events) > MOST_EVENTS:
            raise AnswerBroken(f"the answer is a stream of more than {MOST_EVENTS} events")
    return events + framer.end()


def carrier(call: Call, target: Target) -> str:
    """The dialect in which a target is asked that does not speak the call's; "" if there is none.

    A count that the target's provider has no way to make is of the call's own: it is estimated.
    """
    operation, client = call.protocol.operation, call.protocol.name
    provider = call.snapshot.providers[target.provider]
    spoken = endpoints.speaks(CHANNELS[provider.channel], provider.settings)
    if operation in _TALKS:
        return carrying(client, spoken, endpoints.known_as(provider, target.model))
    if operation in _EMBEDS:
        return embeddings.carrier(client, spoken)
    if operation not in _COUNTS or not spoken & DIALECTS.keys():
        return ""
    return next((name for name in COUNTERS if name in spoken), client)


async def cross(call: Call, target: Target, ask_usage: bool) -> Crossing:
    """The call in the dialect that `carrier` gives.

    `ask_usage`: a stream is asked to report usage, where that has to be asked for. Raises BadRequest for what is
    malformed, and for what the target cannot be told and must be.
    """
    if not _is_large(call):
        return _crossing(call, target, ask_usage)
    return await asyncio.to_thread(_crossing, call, target, ask_usage)


def _is_large(call: Call) -> bool:
    return len(call.facts.body.text) > strict.LARGE_BYTES


def _asked(call: Call, tree: Tree) -> bytes:
    return of_tree(tree) if _is_large(call) else encoded(tree)


def _crossing(call: Call, target: Target, ask_usage: bool) -> Crossing:
    operation = call.protocol.operation
    if operation in _TALKS:
        return _conversation(call, target, ask_usage)
    return _embeddings(call, target) if operation in _EMBEDS else _count(call, target)


def _conversation(call: Call, target: Target, ask_usage: bool) -> Crossing:
    facts, name = call.facts, carrier(call, target)
    client, other = DIALECTS[call.protocol.name], DIALECTS[name]
    provider = call.snapshot.providers[target.provider]
    channel = CHANNELS[provider.channel]
    model = endpoints.asked_model(channel, provider.settings, target.model)
    asked = TargetFacts(
        model=model,
        known_as=endpoints.known_as(provider, target.model),
        stream=facts.stream,
        ask_usage=ask_usage,
        top_k=channel.top_k,
    )
    translated = exchange.request(client, other, facts.body.tree, asked)
    protocol = (_STREAMED if facts.stream else _WHOLE)[name]
    known = ClientFacts(
        model=facts.model,
        answer_id=call.request_id.removeprefix("req_"),
        created=int(call.started_at),
        asked_usage=facts.asked_usage,
        sse=facts.sse,
        names=translated.names,
        freeform=translated.freeform,
    )
    return Crossing(
        protocol=protocol,
        body=_asked(call, translated.tree),
        untranslated=exchange.untranslated(translated.lost),
        tell=lambda tree: exchange.answer(other, client, tree, known),
        talk=Talk(client, other, known),
        asks_usage=ask_usage and facts.stream and protocol is CHAT,
    )


def _count(call: Call, target: Target) -> Crossing:
    client, name = call.protocol.name, carrier(call, target)
    tree, counter = call.facts.body.tree, COUNTERS[client]
    guess = encoded(counting.estimated(counter, tree))
    if name == client:
        return Crossing(
            protocol=call.protocol,
            body=b"",
            untranslated="",
            tell=lambda told: told,
            estimate=guess,
            asks=False,
        )
    other = COUNTERS[name]
    asked = counting.request(counter, other, tree, TargetFacts(model=target.model))
    return Crossing(
        protocol=_COUNTING[name],
        body=_asked(call, asked.tree),
        untranslated=exchange.untranslated(asked.lost),
        tell=lambda told: counting.answer(other, counter, told),
        estimate=guess,
    )


def _embeddings(call: Call, target: Target) -> Crossing:
    tree, model = call.facts.body.tree, call.facts.model
    if call.protocol is EMBEDDINGS:
        asked = embeddings.for_gemini(tree, target.model)
        guess = estimate.input_tokens(tree)
        return Crossing(
            protocol=gemini.BATCH_EMBED,
            body=_asked(call, asked.tree),
            untranslated=exchange.untranslated(asked.lost),
            tell=lambda told: embeddings.from_gemini(told, asked, model, guess),
        )
    asked = embeddings.for_openai(tree, target.model)
    return Crossing(
        protocol=EMBEDDINGS,
        body=_asked(call, asked.tree),
        untranslated=exchange.untranslated(asked.lost),
        tell=lambda told: embeddings.from_openai(told, asked),
    )


def encoded(tree: Mapping[str, Any]) -> bytes:
    """A body as JSON."""
    try:
        return msgspec.json.encode(tree)
    except OverflowError:  # a whole number beyond 64 bits, in a schema or an argument
        return json.dumps(tree, ensure_ascii=False).encode()


def _tree(body: bytes) -> Tree:
    try:
        tree = msgspec.json.decode(body)
    except (ValueError, RecursionError):
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
