"""An upstream's answer as far as it must be read to know what it is, before anything of it goes to the client.

What follows from it, for the next attempt and for the credential, is `opening.py`'s; sending it on is `relay.py`'s.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator

from msgspec import Struct

from gproxy.errors import AnswerRefused, UpstreamFault
from gproxy.protocols import strict
from gproxy.protocols.answers import MOST_CONTAINERS, is_crowded, is_json
from gproxy.protocols.base import Event
from gproxy.protocols.complaint import complaint_of
from gproxy.protocols.headers import CLIENT, HOP, LOOKED_AT, all_pass, client_headers
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.sse import MAX_EVENT_BYTES, SseFramer
from gproxy.protocols.tap import StreamTap
from gproxy.routing import verdicts
from gproxy.routing.credentials import Failure
from gproxy.routing.verdicts import Verdict
from gproxy.server.request.crossing import Crossed, Crossing, Failed
from gproxy.server.request.edge import Call
from gproxy.server.request.reply import lines
from gproxy.server.request.turns import Turn
from gproxy.server.request.upstream import Answer
from gproxy.translate.tap import TranslatingTap
from gproxy.values import Usage

_ERROR_BODY_SECONDS = 2.0
"""How long is waited for what an error says, where another attempt can be made meanwhile."""

_MAX_ERROR_BODY = 1024 * 1024

_MAX_BEFORE_FIRST = MAX_EVENT_BYTES + 1024 * 1024
"""Most bytes that are held before a stream's first event: one event of the largest, and comments in front of it."""

_HOPS = frozenset((HOP,))

_EMPTY = re.compile(rb"\s*(?:\{\s*\}|\[\s*\])\s*")


class Opened(Struct):
    """An answer with its head read, before anything of it has gone to the client.

    Exactly one holds: `tap` is set (a stream: `first` is what it already let through), or `body` is the whole
    answer and `usage` what it reported, or `crossed` is that in the client's dialect, or none: bytes to pass on
    unread. `refused`: an error of the upstream's that is the client's own; `spent`: what it reported, inside a 200,
    of its usage. `crossing`: the upstream was asked in another dialect. `closed`: nothing of the answer is left to be
    closed, or a task has been given it that does so.
    """

    answer: Answer
    body: bytes | None = None
    usage: Usage | None = None
    closed: bool = False
    tap: StreamTap | TranslatingTap | None = None
    first: bytes = b""
    refused: int = 0
    spent: Usage | None = None
    crossing: Crossing | None = None
    crossed: Crossed | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those that the client is to see."""
        received = self.answer.told.of(LOOKED_AT)
        if self.crossing is None:
            return client_headers(received)
        guessed = self.crossed is not None and self.crossed.estimated
        return self.crossing.headers(received, stream=self.tap is not None, estimated=guessed)

    def lines(self) -> bytes:
        """The same as lines of a head."""
        if self.crossing is None:
            told = self.answer.told
            shape = told.shape
            picked = shape.of(CLIENT)
            values = told.under(picked)
            if all_pass(values, told.under(shape.of(_HOPS)) if HOP in shape.at else ()):
                return picked.form % values
        return lines(self.headers())


async def look(call: Call, answer: Answer, withhold_usage: bool, crossing: Crossing | None) -> Opened:
    """Read enough of an answer to know what it is; if that fails it is closed. Raises UpstreamFault."""
    try:
        if answer.status != 200 and verdicts.judge(answer.status) is not Verdict.ANSWER:
            body = await _error_body(answer)
            answer.close()
            return Opened(answer, body=body, refused=answer.status, crossing=crossing)
        if crossing is not None:
            return await _across(call, answer, crossing)
        media = answer.media
        if media == "application/json" or _is_json(media):
            if call.facts.stream and not call.facts.sse:
                return await _first_event(answer, _tap(call, JsonArrayFramer(), withhold_usage))
            come = answer.at_hand()
            body = await answer.whole() if come is None else come
            if not (body.startswith(b'{"') and body.endswith(b"}")):
                _check_json(body)
            usage = call.protocol.usage_in_body(body)
            if usage is None and not is_json(body):  # what has told its usage has been read as JSON
                raise AnswerRefused("it answered 200 with broken JSON")
            failed = call.protocol.error_in_event(Event(body, body))
            if failed is not None:
                return Opened(answer, body, refused=failed, spent=usage)
            return Opened(answer, body, usage, come is not None)
        if media == "text/event-stream":
            return await _first_event(answer, _tap(call, SseFramer(), withhold_usage))
        if call.protocol.binary and media not in ("", "text/html"):
            return Opened(answer)
        raise _is_none(media)
    except BaseException as error:  # a client that leaves cancels this: its upstream is closed all the same
        if answer.trace is not None and isinstance(error, UpstreamFault):
            answer.trace.failed(error.reason)
        answer.close()
        raise


async def _across(call: Call, answer: Answer, crossing: Crossing) -> Opened:
    """The same for an answer in another dialect, which comes in the form that was asked for or in the other."""
    media, asked_stream = answer.media, call.facts.stream
    if media == "text/event-stream":
        if asked_stream:
            opened = await _first_event(answer, crossing.tap(SseFramer()))
            opened.crossing = crossing
            return opened
        stream = await answer.whole()
        if len(stream) > strict.LARGE_BYTES:  # of events without end, for all that is known
            found = await asyncio.to_thread(crossing.collected, stream)
        else:
            found = crossing.collected(stream)
        if isinstance(found, Failed):
            refused, spent = found.status, found.usage
            return Opened(answer, body=found.data, refused=refused, spent=spent, crossing=crossing)
        return Opened(answer, crossed=found, crossing=crossing)
    if not _is_json(media):
        raise _is_none(media)
    body = await answer.whole()
    _check_json(body)
    if is_crowded(body):
        raise AnswerRefused(f"its answer holds more than {MOST_CONTAINERS} objects and arrays")
    failed = crossing.protocol.error_in_event(Event(body, body))
    if failed is not None:
        spent = crossing.protocol.usage_in_body(body)
        return Opened(answer, body, refused=failed, spent=spent, crossing=crossing)
    if not asked_stream:
        return Opened(answer, crossed=crossing.answer(body), crossing=crossing)
    tap, first = crossing.streamed(body)
    return Opened(answer, tap=tap, first=first, crossing=crossing)


def _is_json(media: str) -> bool:
    return media == "application/json" or media.endswith("+json")


def _is_none(media: str) -> AnswerRefused:
    return AnswerRefused(f"it answered 200 with {media or 'no content type'}")


def _check_json(body: bytes) -> None:
    """Raises AnswerRefused for what cannot be an answer in JSON."""
    if body.lstrip()[:1] not in (b"{", b"[") or body.rstrip()[-1:] not in (b"}", b"]"):
        raise AnswerRefused("it answered 200 without a JSON body")
    if _EMPTY.fullmatch(body):
        raise AnswerRefused("it answered 200 with an empty body")


async def _error_body(answer: Answer) -> bytes:
    """The body of an error, as far as it is of use; for the logs, where they keep bodies, it is read in every case.

    Raises UpstreamFault if the client should see it and cannot."""
    if answer.status in verdicts.CLIENT_FAULTS:
        return await answer.whole(_MAX_ERROR_BODY)
    telling = answer.status in verdicts.TELLING
    if telling or (answer.trace is not None and answer.trace.keeps_answer):
        with contextlib.suppress(UpstreamFault, TimeoutError):
            async with asyncio.timeout(_ERROR_BODY_SECONDS):
                body = await answer.whole(_MAX_ERROR_BODY)
                # What is read for the log alone decides nothing: no log changes what is done.
                return body if telling else b""
    return b""


def _tap(call: Call, framer: SseFramer | JsonArrayFramer, withhold_usage: bool) -> StreamTap:
    return StreamTap(call.protocol, framer, client_model=call.facts.model, withhold_usage=withhold_usage)


async def _first_event(answer: Answer, tap: StreamTap | TranslatingTap) -> Opened:
    """A stream up to its first event, so that an error inside a 200 is seen while another attempt can be made."""
    first: list[bytes] = []
    held = 0
    turn = Turn()
    while not tap.first_seen:
        come = answer.at_hand()
        data = await answer.read(first=True) if come is None else come
        held += len(data)
        if not data:
            first.append(tap.end())
            break
        first.append(tap.feed(data))
        while tap.behind:
            await turn.shared()
            first.append(tap.feed(b""))
        if held > _MAX_BEFORE_FIRST and not tap.first_seen:
            raise AnswerRefused("it sent comments and no event")
    if tap.failed is not None:
        answer.close()
        return Opened(answer, body=tap.failure, refused=tap.failed, spent=tap.usage)
    if not tap.first_seen:
        raise AnswerRefused("it answered 200 with an empty stream")
    return Opened(answer, tap=tap, first=b"".join(first))


def failure_in(call: Call, opened: Opened, *, keyless: bool) -> Failure | None:
    """Why another attempt has to be made after a refusal, None for an error that goes to the client."""
    complaint = complaint_of(opened.answer.header, opened.body or b"", time.time())
    said = Said(call) if opened.refused in verdicts.TELLING else ()
    if verdicts.judge(opened.refused, complaint, said) is Verdict.PASS:
        return None
    return verdicts.failure_of(opened.refused, complaint, said, keyless=keyless)


class Said:
    """The texts that the client sent, also as they read without escapes; made when they are looked at, which is
    seldom: of a large body it takes long."""

    def __init__(self, call: Call) -> None:
        self._facts = call.facts

    def __iter__(self) -> Iterator[str]:
        yield self._facts.model
        yield self._facts.body.text
        if "\\u" in self._facts.body.text:
            yield json.dumps(self._facts.body.tree, ensure_ascii=False)
