"""From an opened answer to the client: the model's name restored, usage read, the row committed before the end.

Which answer it is was decided by `opening.py`. What a client that leaves means is `pipeline.py`'s to record.
"""

import asyncio
import json

from gproxy.errors import (
    AnswerBroken,
    BadRequest,
    GatewayError,
    UpstreamFailed,
    UpstreamFault,
    UpstreamTimeout,
)
from gproxy.protocols.base import Event
from gproxy.protocols.headers import client_headers
from gproxy.protocols.tap import StreamTap
from gproxy.server.edge import Call
from gproxy.server.journal import Journal
from gproxy.server.opening import Opened
from gproxy.server.reply import Reply
from gproxy.server.settlement import Settlement

_LINGER_SECONDS = 1.0
"""How long the upstream may take to end a stream whose last event has gone out, before its connection is closed."""

_MAX_TOLD = 2000

_MIN_SECRET = 8
"""A shorter one is a word like another, and no provider's key."""


async def relay(opened: Opened, journal: Journal, reply: Reply, settlement: Settlement) -> None:
    """Send the answer. Raises Unavailable if its row cannot be written and nothing has gone out yet."""
    if opened.refused:
        await _refusal(opened, journal, reply, settlement)
    elif opened.tap is not None:
        await _stream(opened, opened.tap, journal, reply, settlement)
    elif opened.body is not None:
        await _whole(opened, opened.body, journal, reply, settlement)
    else:
        await _raw(opened, journal, reply, settlement)


async def _refusal(opened: Opened, journal: Journal, reply: Reply, settlement: Settlement) -> None:
    call = journal.call
    journal.ended(opened.refused, "upstream_error", f"the upstream answered {opened.refused}")
    await settlement.settle(journal)
    headers = [h for h in client_headers(opened.answer.headers) if h[0] != b"content-type"]
    body = _refusal_body(call, opened.body or b"", opened.refused, reply.request_id)
    await reply.whole(opened.refused, [*headers, (b"content-type", b"application/json")], body)


async def _whole(opened: Opened, body: bytes, journal: Journal, reply: Reply, settlement: Settlement) -> None:
    call = journal.call
    usage = call.protocol.usage_in_body(body)
    output = call.protocol.output_text(Event(body, body)) if usage is None else 0
    journal.observed(usage, whole=True, output_bytes=output)
    journal.first_byte()
    journal.ended(opened.answer.status, "ok")
    restored = call.protocol.restore_body(body, call.facts.model)
    await settlement.settle(journal)
    await reply.whole(opened.answer.status, client_headers(opened.answer.headers), restored)


async def _stream(
    opened: Opened, tap: StreamTap, journal: Journal, reply: Reply, settlement: Settlement
) -> None:
    answer = opened.answer
    await reply.start_stream(answer.status, client_headers(answer.headers))
    fault: UpstreamFault | None = None
    try:
        if opened.first:
            await reply.piece(opened.first)
        journal.first_byte()
        while not tap.terminal and (data := await answer.read()):
            if out := tap.feed(data):
                await reply.piece(out)
        rest = tap.end()
        if tap.failed is not None:
            # The upstream's own error event has been passed on: it ends the stream.
            fault = AnswerBroken("the upstream reported an error inside the stream")
            ending = rest + tap.tail
        elif tap.complete:
            ending = rest + tap.tail
        else:
            fault = AnswerBroken("the stream ended before its end")
            ending = rest + tap.abort(_told(fault), reply.request_id)
    except UpstreamFault as caught:
        fault = caught
        ending = tap.abort(_told(fault), reply.request_id)
    finally:
        # Also for the row of a client that leaves here.
        journal.observed(tap.usage, whole=tap.complete, output_bytes=tap.output_bytes)
    journal.ended(answer.status, "upstream_error" if fault else "ok", fault.reason if fault else None)
    await _settle_in_stream(journal, settlement)
    await reply.end(ending)
    await _finish(opened)


def _told(fault: UpstreamFault) -> GatewayError:
    """What ends a broken stream, in place of a good end."""
    kind = UpstreamTimeout if fault.timed_out else UpstreamFailed
    return kind(f"The upstream failed: {fault.reason}.")


async def _raw(opened: Opened, journal: Journal, reply: Reply, settlement: Settlement) -> None:
    answer = opened.answer
    await reply.start(answer.status, client_headers(answer.headers))
    try:
        while data := await answer.read():
            journal.first_byte()
            await reply.piece(data)
    except UpstreamFault as fault:
        # No event can be put into bytes of this kind: the message is left without an end.
        journal.ended(answer.status, "upstream_error", fault.reason)
        await _settle_in_stream(journal, settlement)
        return
    journal.ended(answer.status, "ok")
    await _settle_in_stream(journal, settlement)
    await reply.end()


async def _settle_in_stream(journal: Journal, settlement: Settlement) -> None:
    try:
        await settlement.settle(journal)
    except GatewayError as error:
        # The answer is already with the client: /ready and the log tell of the store, the client need not.
        journal.error = error.message


async def _finish(opened: Opened) -> None:
    """Read the upstream's end, so that its connection can be used again."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while await opened.answer.read():
                pass
    except (TimeoutError, UpstreamFault):
        pass


def _refusal_body(call: Call, body: bytes, status: int, request_id: str) -> bytes:
    """The upstream's own error if it has the dialect's shape, else its text in it; without any of our secrets."""
    secrets = (c.secret or "" for p in call.snapshot.providers.values() for c in p.credentials)
    for secret in sorted(secrets, key=len, reverse=True):  # one may begin like another
        if len(secret) >= _MIN_SECRET:
            body = body.replace(secret.encode(), b"[redacted]")
    try:
        tree = json.loads(body)
    except ValueError:
        tree = None
    if isinstance(tree, list) and len(tree) == 1:
        tree = tree[0]  # Gemini's error inside an array stream
        body = json.dumps(tree).encode()
    if isinstance(tree, dict) and isinstance(tree.get("error"), dict):
        return body
    text = body.decode("utf-8", "replace").strip()[:_MAX_TOLD] if tree is not None else ""
    error = BadRequest(text or f"The upstream answered {status}.")
    error.status = status
    return call.protocol.error_body(error, request_id)
