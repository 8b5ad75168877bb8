"""From an opened answer to the client: the model's name restored, usage read, the row committed before the end.

Which answer it is was decided by `opening.py`. What a client that leaves means is `pipeline.py`'s to record.
"""

import asyncio

from gproxy.errors import (
    AnswerBroken,
    GatewayError,
    UpstreamFailed,
    UpstreamFault,
    UpstreamTimeout,
    without_frames,
)
from gproxy.protocols.answers import is_crowded
from gproxy.protocols.base import Event
from gproxy.protocols.tap import StreamTap
from gproxy.server.request import refusal
from gproxy.server.request.crossing import Crossed
from gproxy.server.request.journal import Journal
from gproxy.server.request.opened import Opened
from gproxy.server.request.reply import JSON_LINE, PIECE_BYTES, Headers, Reply, lines
from gproxy.server.request.settlement import Settlement
from gproxy.server.request.turns import Turn
from gproxy.server.request.upstream import Answer
from gproxy.server.tasks import Tasks
from gproxy.translate.tap import TranslatingTap

_LINGER_SECONDS = 1.0
"""How long the upstream may take to end a stream whose last event has gone out, before its connection is closed."""


async def relay(opened: Opened, journal: Journal, reply: Reply, settlement: Settlement, tasks: Tasks) -> None:
    """Send the answer. Raises Unavailable if its row cannot be written and nothing has gone out yet.

    `tasks` gets what is left to do with the upstream when the client has all of its answer.
    """
    if opened.refused:
        return await _refusal(opened, journal, reply, settlement)
    if opened.body is not None:
        body = _whole(opened, opened.body, journal)
    elif opened.tap is not None:
        return await _streamed(opened, opened.tap, journal, reply, settlement, tasks)
    elif opened.crossed is not None:
        body = _crossed(opened.crossed, journal)
    else:
        return await _raw(opened, journal, reply, settlement)
    status, told = opened.answer.status, opened.lines()
    journal.first_byte()
    if len(body) > PIECE_BYTES:
        return await _in_pieces(status, opened.headers(), body, journal, reply, settlement)
    journal.ended(status, "ok")
    await settlement.settle(journal)
    return await reply.whole(status, told, body)


async def _refusal(opened: Opened, journal: Journal, reply: Reply, settlement: Settlement) -> None:
    call = journal.call
    if opened.spent is not None and opened.spent.reported:
        journal.observed(opened.spent, whole=True)
    journal.ended(opened.refused, "upstream_error", f"the upstream answered {opened.refused}")
    await settlement.settle(journal)
    scrubber = refusal.scrubber(call.snapshot, opened.answer.sent)
    headers = [h for h in opened.headers() if h[0] != b"content-type" and scrubber.data(h[1]) == h[1]]
    body = refusal.body_of(call, opened.refused, opened.body or b"", reply.request_id, scrubber)
    await reply.whole(opened.refused, lines(headers) + JSON_LINE, body)


def _whole(opened: Opened, body: bytes, journal: Journal) -> bytes:
    """The answer as it goes out, its usage read."""
    call = journal.call
    usage = opened.usage
    told = usage is not None and usage.output_tokens is not None
    output = 0 if told else len(body) if is_crowded(body) else call.protocol.output_text(Event(body, body))
    journal.observed(usage, whole=True, output_bytes=output)
    opened.body = None  # the answer is held once, for as long as its client takes over it
    return call.protocol.restore_body(body, call.facts.model)


def _crossed(crossed: Crossed, journal: Journal) -> bytes:
    journal.observed(crossed.usage, whole=True, output_bytes=crossed.output_bytes)
    return crossed.body


async def _in_pieces(
    status: int, headers: Headers, body: bytes, journal: Journal, reply: Reply, settlement: Settlement
) -> None:
    """A large answer, of which all but the last piece goes out before its row is written: its client may leave with a
    part."""
    await reply.start(status, [*headers, (b"content-length", str(len(body)).encode())])
    last = len(body) - PIECE_BYTES
    for at in range(0, last, PIECE_BYTES):
        await reply.piece(body[at : min(at + PIECE_BYTES, last)])
    await asyncio.sleep(0)  # some engines tell a moment after the last piece that nobody takes it
    journal.ended(status, "ok")
    try:
        await settlement.settle(journal, begun=True)
    except GatewayError:
        return  # nobody is answered in full without a row: the message is left without an end
    await reply.end(body[last:])


async def _streamed(
    opened: Opened,
    tap: StreamTap | TranslatingTap,
    journal: Journal,
    reply: Reply,
    settlement: Settlement,
    tasks: Tasks,
) -> None:
    """A stream. One that is there from its first to its last event goes out at once, as a whole answer does."""
    answer, head = opened.answer, opened.lines()
    held = opened.first if tap.terminal and len(opened.first) <= PIECE_BYTES else None
    fault: UpstreamFault | None = None
    try:
        if held is None:
            await reply.start_stream(answer.status, head)
            await reply.piece(opened.first)
        journal.first_byte()
        if held is None:
            await _events(answer, tap, reply)
        rest = tap.end()
        if tap.failed:
            fault = AnswerBroken("the upstream reported an error inside the stream")
            scrubber = refusal.scrubber(journal.call.snapshot, answer.sent)
            told = refusal.error_of(tap.failed, tap.failure, scrubber)
            ending = rest + tap.abort(told, reply.request_id)
        elif tap.complete:
            ending = rest + tap.tail
        else:
            fault = AnswerBroken("the stream ended before its end")
            ending = rest + tap.abort(_told(fault), reply.request_id)
    except UpstreamFault as caught:
        fault = without_frames(caught)
        ending = tap.abort(_told(fault), reply.request_id)
    finally:
        # Also for the row of a client that leaves here.
        journal.observed(tap.usage, whole=tap.complete, output_bytes=tap.output_bytes)
    journal.ended(answer.status, "upstream_error" if fault else "ok", fault.reason if fault else None)
    try:
        await settlement.settle(journal, begun=held is None)
    except GatewayError as unwritten:
        if held is not None:
            raise
        ending = tap.abort(unwritten, reply.request_id)
    if held is not None:
        await reply.start_stream(answer.status, head)
    await reply.end((held or b"") + ending)
    opened.closed = True
    if not answer.over:
        tasks.spawn(_linger(opened))


async def _events(answer: Answer, tap: StreamTap | TranslatingTap, reply: Reply) -> None:
    """Send on what comes until the terminal event, a failure or the end of the input. Raises UpstreamFault."""

    def take(data: bytes) -> bool:
        out = tap.feed(data)
        if tap.behind:
            sent, turn = [out], Turn()
            while tap.behind and not turn.over:
                sent.append(tap.feed(b""))
            out = b"".join(sent)
        flows = not out or reply.push(out)
        return flows and tap.waits

    ended = False
    while tap.behind or (tap.waits and not ended):
        if tap.behind:
            await asyncio.sleep(0)
            take(b"")
        else:
            ended = await answer.pour(take)
        await reply.flow()


def _told(fault: UpstreamFault) -> GatewayError:
    """What ends a broken stream, in place of a good end."""
    kind = UpstreamTimeout if fault.timed_out else UpstreamFailed
    return kind(f"The upstream failed: {fault.reason}.")


async def _raw(opened: Opened, journal: Journal, reply: Reply, settlement: Settlement) -> None:
    answer = opened.answer
    await reply.start(answer.status, opened.headers())
    try:
        while data := await answer.read(first=journal.ttft_ms is None):
            journal.first_byte()
            await reply.piece(data)
    except UpstreamFault as fault:
        # No event can be put into bytes of this kind: the message is left without an end.
        journal.ended(answer.status, "upstream_error", fault.reason)
        settlement.settle_late(journal)
        return
    journal.ended(answer.status, "ok")
    try:
        await settlement.settle(journal, begun=True)
    except GatewayError:
        return  # likewise: nobody is answered in full without a row
    await reply.end()


async def _linger(opened: Opened) -> None:
    """Read the upstream's end, so that its connection can be used again."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while await opened.answer.read():
                pass
    except (TimeoutError, UpstreamFault):
        pass
    finally:
        opened.answer.close()
