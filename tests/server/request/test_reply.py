import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import pytest

from gproxy.errors import BadRequest, RateLimited
from gproxy.protocols import envelopes
from gproxy.server.request.reply import PIECE_BYTES, Reply, new_request_id
from tests.server.parts import Visit


class Patient:
    """A client that hears why it is cut."""

    def __init__(self, hear: Callable[[str], object]) -> None:
        self.hear = hear

    def cut(self, why: str) -> None:
        self.hear(why)


@pytest.fixture
def visit() -> Visit:
    return Visit()


@pytest.fixture
def reply(visit: Visit) -> Reply:
    return Reply("req_1", envelopes.anthropic_body, send=visit.send)


async def test_a_whole_answer_has_its_length_and_its_request_id(visit: Visit, reply: Reply) -> None:
    await reply.whole(201, b"content-type: text/plain\r\n", b"hello")
    assert (visit.status, visit.body, visit.ended) == (201, b"hello", True)
    assert visit.header("content-length") == "5"
    assert visit.header("content-type") == "text/plain"
    assert visit.header("x-gproxy-request-id") == "req_1"


async def test_a_stream_tells_those_in_between_not_to_hold_it_back(visit: Visit, reply: Reply) -> None:
    await reply.start_stream(200, b"")
    await reply.piece(b"a")
    assert not visit.ended
    await reply.end(b"b")
    assert (visit.body, visit.ended) == (b"ab", True)
    assert visit.header("cache-control") == "no-cache"
    assert visit.header("x-accel-buffering") == "no"
    assert visit.header("x-gproxy-request-id") == "req_1"
    assert visit.header("content-length") is None


async def test_it_knows_whether_its_head_is_out_and_whether_events_are_going(reply: Reply) -> None:
    assert (reply.started, reply.streaming, reply.status) == (False, False, 0)
    await reply.start_stream(200, b"")
    assert (reply.started, reply.streaming, reply.status) == (True, True, 200)
    await reply.end()
    assert (reply.started, reply.streaming) == (True, False)


async def test_a_plain_answer_in_pieces_is_no_stream_of_events(visit: Visit, reply: Reply) -> None:
    await reply.start(200, [])
    assert not reply.streaming
    assert visit.header("cache-control") is None


async def test_an_error_is_the_whole_answer_in_the_dialect_of_its_route(visit: Visit, reply: Reply) -> None:
    await reply.error(RateLimited("Slow down.", headers=(("retry-after", "3"),)))
    assert (visit.status, visit.ended) == (429, True)
    assert visit.header("content-type") == "application/json"
    assert visit.header("retry-after") == "3"
    assert visit.header("connection") is None
    assert visit.json() == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow down."},
        "request_id": "req_1",
    }


async def test_an_error_may_end_the_connection(visit: Visit, reply: Reply) -> None:
    await reply.error(BadRequest("No."), close=True)
    assert visit.header("connection") == "close"


# Clients that take nothing.


class SlowReader(Visit):
    """Takes each message after `pause` seconds; None: never."""

    def __init__(self, pause: float | None) -> None:
        super().__init__()
        self._pause = pause

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self._pause is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self._pause)
        await super().send(message)


async def test_nothing_is_written_in_larger_pieces_than_a_slow_client_can_take(
    visit: Visit, reply: Reply
) -> None:
    body = bytes(range(256)) * 1000
    await reply.whole(200, b"", body)
    sizes = [len(message["body"]) for message in visit.messages[1:]]
    assert max(sizes) <= PIECE_BYTES
    assert (visit.body, visit.ended) == (body, True)
    assert visit.header("content-length") == str(len(body))


async def test_a_client_that_takes_nothing_is_told_of_in_time() -> None:
    loop = asyncio.get_running_loop()
    stalled: asyncio.Future[str] = loop.create_future()
    reply = Reply("req_1", envelopes.openai_body, Patient(stalled.set_result), send=SlowReader(None).send)
    reply.write_timeout_s = 0.2
    began = loop.time()
    sending = asyncio.create_task(reply.start_stream(200, b""))
    assert await asyncio.wait_for(stalled, 5) == "the client took nothing for 0.2 s"
    assert 0.19 < loop.time() - began < 5
    sending.cancel()
    await asyncio.wait([sending])
    reply.close()


async def test_it_is_the_last_piece_whose_time_counts() -> None:
    """However long the answer has been going on, and however long there was nothing to send."""
    loop = asyncio.get_running_loop()
    stalled: asyncio.Future[str] = loop.create_future()
    reader = SlowReader(0.0)
    reply = Reply("req_1", envelopes.openai_body, Patient(stalled.set_result), send=reader.send)
    reply.write_timeout_s = 0.2
    await reply.start_stream(200, b"")
    await asyncio.sleep(0.3)
    await reply.piece(b"a")
    assert not stalled.done()
    reader._pause = None
    began = loop.time()
    sending = asyncio.create_task(reply.piece(b"b"))
    await asyncio.wait_for(stalled, 5)
    assert 0.19 < loop.time() - began < 5
    sending.cancel()
    await asyncio.wait([sending])
    reply.close()


async def test_a_slow_client_that_goes_on_reading_is_let_be() -> None:
    told: list[str] = []
    reader = SlowReader(0.05)
    reply = Reply("req_1", envelopes.openai_body, Patient(told.append), send=reader.send)
    reply.write_timeout_s = 0.2
    await reply.whole(200, b"", bytes(PIECE_BYTES * 8))
    reply.close()
    assert (told, len(reader.body)) == ([], PIECE_BYTES * 8)


async def test_nobody_is_looked_after_when_all_is_said() -> None:
    told: list[str] = []
    reply = Reply("req_1", envelopes.openai_body, Patient(told.append), send=SlowReader(None).send)
    reply.write_timeout_s = 0.05
    sending = asyncio.create_task(reply.start_stream(200, b""))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait([sending])
    reply.close()
    await asyncio.sleep(0.1)
    assert told == []


async def test_nothing_goes_out_to_a_client_that_has_left(visit: Visit, reply: Reply) -> None:
    await reply.start_stream(200, b"")
    reply.silence()
    await reply.piece(b"a")
    await reply.end(b"b")
    assert len(visit.messages) == 1


# Without messages.


class Tape:
    """A `Wire` that keeps what is put on it."""

    def __init__(self) -> None:
        self.blocked = False
        self.flow = asyncio.Event()
        self.own = b""
        self.closing = False
        self.head: tuple[int, list[tuple[bytes, bytes]]] = (0, [])
        self.body: list[tuple[bytes, bool]] = []

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], own: bytes) -> None:
        self.head = status, [*headers]
        self.own = own

    def answer(self, status: int, told: bytes, own: bytes, body: bytes, close: bool) -> bool:
        self.stream(status, told, own)
        self.put(body, more=False)
        self.closing = close
        return not self.blocked

    def stream(self, status: int, told: bytes, own: bytes) -> None:
        self.head = status, []
        self.own = told + own

    def put(self, body: bytes, more: bool) -> bool:
        self.body.append((body, more))
        return not self.blocked

    def push(self, body: bytes) -> bool:
        return self.put(body, more=True)

    async def taken(self) -> None:
        await self.flow.wait()


async def unused(_: MutableMapping[str, Any]) -> None:
    raise AssertionError("a message beside the wire")


async def test_where_there_is_a_wire_it_takes_the_answer_and_no_message_is_made() -> None:
    tape = Tape()
    reply = Reply("req_1", envelopes.openai_body, wire=tape, send=unused)
    await reply.whole(201, b"content-type: text/plain\r\n", b"hello")
    assert tape.head == (201, [])
    assert tape.own == b"content-type: text/plain\r\nx-gproxy-request-id: req_1\r\n"
    assert not tape.closing
    assert tape.body == [(b"hello", False)]
    assert reply.check is None


async def test_what_an_application_sends_goes_over_the_wire_too() -> None:
    tape = Tape()
    reply = Reply("req_1", envelopes.openai_body, wire=tape, send=unused)
    await reply.send_with_id({"type": "http.response.start", "status": 200, "headers": []})
    await reply.send_with_id({"type": "http.response.body", "body": b"a", "more_body": True})
    await reply.send_with_id({"type": "http.response.body"})
    assert (tape.head, tape.own) == ((200, []), b"x-gproxy-request-id: req_1\r\n")
    assert tape.body == [(b"a", True), (b"", False)]


async def test_a_wire_that_is_blocked_is_waited_for_and_the_time_is_counted() -> None:
    tape, stalled = Tape(), asyncio.Event()
    reply = Reply("req_1", envelopes.openai_body, Patient(lambda _: stalled.set()), tape, unused)
    reply.write_timeout_s = 0.05
    await reply.start(200, [])
    tape.blocked = True
    sending = asyncio.create_task(reply.piece(b"a"))
    await asyncio.wait_for(stalled.wait(), 5)
    assert not sending.done()
    tape.flow.set()
    await sending
    reply.close()


async def test_a_whole_answer_that_is_not_taken_is_waited_for_too() -> None:
    tape, stalled = Tape(), asyncio.Event()
    reply = Reply("req_1", envelopes.openai_body, Patient(lambda _: stalled.set()), tape, unused)
    reply.write_timeout_s = 0.05
    tape.blocked = True
    sending = asyncio.create_task(reply.whole(200, b"", b"a"))
    await asyncio.wait_for(stalled.wait(), 5)
    assert not sending.done()
    tape.flow.set()
    await sending
    reply.close()


async def test_nothing_goes_over_the_wire_to_a_client_that_has_left() -> None:
    tape = Tape()
    reply = Reply("req_1", envelopes.openai_body, wire=tape, send=unused)
    await reply.start(200, [])
    reply.silence()
    await reply.end(b"a")
    assert tape.body == []
    reply.close()


async def test_what_is_pushed_goes_out_at_once_or_waits_for_the_flow() -> None:
    tape, large = Tape(), bytes(PIECE_BYTES + 1)
    reply = Reply("req_1", envelopes.openai_body, wire=tape, send=unused)
    await reply.start_stream(200, b"content-type: text/event-stream\r\n")
    told = b"content-type: text/event-stream\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
    assert (tape.head[0], tape.own) == (200, told + b"x-gproxy-request-id: req_1\r\n")
    assert reply.push(b"a")
    assert not reply.push(large)
    assert tape.body == [(b"a", True)]
    await reply.flow()
    assert tape.body == [(b"a", True), (large[:-1], True), (large[-1:], True)]
    tape.blocked = True
    assert not reply.push(b"b")
    assert tape.body[3:] == [(b"b", True)]


async def test_by_messages_what_is_pushed_waits_for_the_flow() -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    reply = Reply("req_1", envelopes.openai_body, send=send)
    await reply.start_stream(200, b"")
    assert (b"cache-control", b"no-cache") in sent[0]["headers"]
    assert not reply.push(b"a")
    await reply.flow()
    await reply.flow()
    assert sent[1:] == [{"type": "http.response.body", "body": b"a", "more_body": True}]
    reply.close()


async def test_a_wire_that_was_blocked_by_a_push_is_waited_for() -> None:
    tape, stalled = Tape(), asyncio.Event()
    reply = Reply("req_1", envelopes.openai_body, Patient(lambda _: stalled.set()), tape, unused)
    reply.write_timeout_s = 0.05
    await reply.start(200, [])
    await reply.flow()
    tape.blocked = True
    assert not reply.push(b"a")
    waiting = asyncio.create_task(reply.flow())
    await asyncio.wait_for(stalled.wait(), 5)
    assert not waiting.done()
    tape.flow.set()
    await waiting
    reply.close()


def test_ids_are_of_one_length_and_none_comes_twice() -> None:
    ids = [new_request_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert {len(each) for each in ids} == {28}


_FORKED = """
import os
from gproxy.server.request.reply import new_request_id
new_request_id()
child = os.fork()
os.write(1, b"%b\\n" % new_request_id()[-12:].encode())
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_and_its_child_draw_others() -> None:
    told = subprocess.run((sys.executable, "-c", _FORKED), capture_output=True, check=True).stdout
    assert len(set(told.split())) == 2
