"""All connections of a process: many at once, those that wait until others are begun, and the end."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from typing import Any

from gproxy.server.engine import http1
from gproxy.server.engine.engine import Engine
from gproxy.server.engine.gate import MOST_BEGUN, Gate
from tests.server.engine.test_http1 import numbered, until
from tests.server.listening import WAIT_S, Served, Wire, asgi, echo, echo_after, listening, reply, request

# Many.


async def test_256_connections_each_get_their_own_answers() -> None:
    async with listening(echo) as served:

        async def one(number: int) -> None:
            wire = await served.connect()
            for at in range(5):
                id = number * 10 + at
                wire.write(numbered(id, b"%d" % id, chunked=bool(at % 2)))
                answer = (await wire.answer()).json()
                assert answer["target"] == f"/{id}?"
                assert answer["digest"] == hashlib.sha256(b"%d" % id).hexdigest()
            wire.close()

        await asyncio.gather(*map(one, range(256)))
        assert served.engine is not None
        await until(lambda: not served.engine.connections)


# Those that wait.


def shut(served: Served) -> Gate:
    """Have whoever comes wait, until `_next_turn` is called."""
    assert served.engine is not None
    gate = served.engine.terms.gate
    gate._room, gate._due = 0, True
    return gate


async def test_what_comes_all_at_once_is_begun_in_several_turns() -> None:
    turn = 0

    def count() -> None:
        nonlocal turn
        turn += 1
        ticking[0] = loop.call_soon(count)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun[turn] += 1
        await echo(scope, receive, send)

    loop = asyncio.get_running_loop()
    begun: Counter[int] = Counter()
    async with listening(app) as served:
        wires = [await served.connect() for _ in range(5 * MOST_BEGUN)]
        for wire in wires:  # known to the engine, and idle
            wire.write(request())
            assert (await wire.answer()).status == 200
        begun.clear()
        ticking = [loop.call_soon(count)]
        for number, wire in enumerate(wires):
            wire.write(numbered(number, b"%d" % number, chunked=False))
        answers = [(await wire.answer()).json()["target"] for wire in wires]
        ticking[0].cancel()
    assert answers == [f"/{number}?" for number in range(len(wires))]
    assert begun.total() == len(wires)
    assert max(begun.values()) <= MOST_BEGUN


async def test_a_large_body_that_waits_is_not_read_on_and_comes_whole() -> None:
    body = bytes(range(256)) * 20_000
    async with listening(echo) as served:
        gate, wire = shut(served), await served.connect()
        wire.write(numbered(1, body, chunked=False))
        await until(lambda: served.engine and any(c.paused for c in served.engine.connections))
        assert served.engine is not None
        (connection,) = served.engine.connections
        assert len(connection._kept) < http1.MAX_PIPELINED
        gate._next_turn()
        assert (await wire.answer()).json()["digest"] == hashlib.sha256(body).hexdigest()


async def test_several_requests_that_wait_on_one_connection_are_answered_in_their_order() -> None:
    async with listening(echo) as served:
        gate, wire = shut(served), await served.connect()
        for number in range(3):
            wire.write(numbered(number, b"x" * 20_000, chunked=False))
        await until(lambda: len(gate._waiting) == 1)
        gate._next_turn()
        assert [(await wire.answer()).json()["target"] for _ in range(3)] == ["/0?", "/1?", "/2?"]


async def test_who_sends_much_while_waiting_is_seen_to_leave_when_begun() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()

    async with listening(app) as served:
        gate, wire = shut(served), await served.connect()
        wire.write(request() + b"".join(numbered(n, b"x" * 30_000, chunked=False) for n in range(10)))
        await until(lambda: served.engine and any(c.paused for c in served.engine.connections))
        gate._next_turn()
        await until(lambda: served.seen)
        assert served.engine is not None
        (connection,) = served.engine.connections
        wire.close()
        await until(lambda: connection._left)
        go.set()


async def test_who_leaves_while_waiting_is_not_begun() -> None:
    async with listening(echo) as served:
        gate, gone, stays = shut(served), await served.connect(), await served.connect()
        for wire in (gone, stays):
            wire.write(request())
        await until(lambda: len(gate._waiting) == 2)
        gone.close()
        await until(lambda: served.engine and len(served.engine.connections) == 1)
        gate._next_turn()
        assert (await stays.answer()).status == 200
        assert len(served.seen) == 1


async def test_who_waits_when_the_server_is_to_end_is_answered_first() -> None:
    async with listening(echo, linger=0.2, look=0.05) as served:
        gate, whole, part = shut(served), await served.connect(), await served.connect()
        whole.write(request())
        part.write(b"GET /x HTTP/1.1\r\n")
        await until(lambda: len(gate._waiting) == 2)
        served.drain()
        gate._next_turn()
        answer = await whole.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await whole.rest() == b""
        assert (await part.answer()).status == 408, "its head is not waited for as long as it would be"


async def test_who_waits_when_nobody_is_waited_for_any_more_is_not_begun() -> None:
    async with listening(echo) as served:
        gate, wire = shut(served), await served.connect()
        wire.write(request())
        await until(lambda: len(gate._waiting) == 1)
        served.drain()
        assert served.engine is not None
        served.engine.cut_off()
        gate._next_turn()
        assert await wire.rest() == b""
        assert served.seen == []


async def test_a_line_that_belongs_to_nothing_and_waits_holds_the_end_up_for_nobody() -> None:
    async with listening(echo) as served:
        gate, wire = shut(served), await served.connect()
        wire.write(b"\r\n")
        await until(lambda: len(gate._waiting) == 1)
        served.drain()
        gate._next_turn()
        assert await asyncio.wait_for(wire.rest(), WAIT_S) == b""


async def test_an_idle_time_that_is_up_ends_nobody_who_waits() -> None:
    async with listening(echo, idle=0.1, look=0.01) as served:
        gate, wire = shut(served), await served.connect()
        wire.write(request())
        await until(lambda: len(gate._waiting) == 1)
        assert served.engine is not None
        (connection,) = served.engine.connections
        await until(lambda: connection.loop.time() > connection._deadline + 0.05)
        gate._next_turn()
        assert (await wire.answer()).status == 200


async def test_what_one_connection_has_sent_is_known_of_others_until_nobody_sends_it_again() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            await go.wait()
        await echo(scope, receive, send)

    async with listening(app, idle=0.1, look=0.01) as served:
        assert served.engine is not None
        known = served.engine.terms.known
        busy = await served.connect()
        busy.write(request(line="GET /x HTTP/1.1"))
        for name in "aab":
            wire = await served.connect()
            wire.write(request(f"x: {name}", body=b"1"))
            assert ["x", name] in (await wire.answer()).json()["headers"]
        assert known._young or known._old
        await until(lambda: not (known._young or known._old))
        assert served.engine.connections
        go.set()
        assert (await busy.answer()).status == 200


async def test_nothing_is_known_once_all_connections_are_closed() -> None:
    async with listening(echo, look=0.01) as served:
        assert served.engine is not None
        wire = await served.connect()
        wire.write(request(body=b"1"))
        await wire.answer()
        known = served.engine.terms.known
        assert known._young or known._old
        wire.close()
        await until(lambda: not (known._young or known._old))


# The end.


async def test_what_is_idle_is_closed_at_once_and_what_is_not_may_finish() -> None:
    go = asyncio.Event()
    async with listening(echo_after(go)) as served:
        fresh, idle, busy = [await served.connect() for _ in range(3)]
        idle.write(request())
        assert "connection" not in (await idle.answer()).headers
        busy.write(request(line="GET /wait HTTP/1.1") + request(line="GET /behind HTTP/1.1"))
        await until(lambda: len(served.seen) == 2)
        served.drain()
        assert await fresh.rest() == b""
        assert await idle.rest() == b""
        go.set()
        answer = await busy.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await busy.rest() == b""


async def test_what_has_come_and_is_not_read_yet_is_answered_though_its_connection_was_idle() -> None:
    async with listening(echo) as served:
        wire = await served.connect()
        wire.write(request())
        assert (await wire.answer()).status == 200
        wire.write(request())
        served.drain()
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await wire.rest() == b""


async def test_a_head_that_has_begun_to_come_holds_the_end_up_for_a_moment_only() -> None:
    async with listening(echo, linger=0.2, look=0.05) as served:
        prompt, slow = [await served.connect() for _ in range(2)]
        for wire in (prompt, slow):
            wire.write(b"GET /x HTTP/1.1\r\n")
        await until(lambda: served.engine and sum(bool(c._buffer) for c in served.engine.connections) == 2)
        served.drain()
        prompt.write(b"host: a\r\n\r\n")
        answer = await prompt.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert (await slow.answer()).status == 408
        assert await slow.rest() == b""


async def test_nobody_is_waited_for_any_more_whose_answer_is_made_or_whose_request_is_not_there() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await go.wait()
        await reply(send, bytes(20_000_000) if scope["path"] == "/large" else b"x")

    async with listening(app) as served:
        assert served.engine is not None
        stuck, part, busy = [await served.connect() for _ in range(3)]
        stuck.write(request(line="GET /large HTTP/1.1"))
        part.write(b"GET /x HTTP/1.1\r\n")
        busy.write(request(line="GET /wait HTTP/1.1"))
        engine = served.engine
        await until(lambda: len(served.seen) == 2 and any(c._buffer for c in engine.connections))
        await until(lambda: any(c.blocked for c in engine.connections))
        served.drain()
        engine.cut_off()
        await until(lambda: len(engine.connections) == 1)
        assert await part.rest() == b""
        go.set()
        assert (await busy.answer()).body == b"x"
        assert await busy.rest() == b""


async def test_nothing_is_left_when_the_server_is_ended_by_force() -> None:
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    engine = Engine(asgi(app))
    serving: list[asyncio.Task[Any]] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        with contextlib.suppress(asyncio.CancelledError):
            await engine.serve(writer.transport, b"", False, {"state": {}})

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        wire = Wire(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        wire.write(request())
        await until(lambda: any(c._exchange for c in engine.connections))
        serving[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving[0]
        assert ended.is_set(), "what the application had to do last is waited for"
        assert engine.connections == set()
        assert await wire.rest() == b""
        wire.close()
