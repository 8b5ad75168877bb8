"""The fast engine gets what Hypercorn accepts in the clear, and nothing where Hypercorn is another than we know."""

import asyncio
import gc
from typing import Any

import pytest
from hypercorn.asyncio import run, tcp_server

from gproxy.server.engine import handover
from gproxy.server.engine.engine import Engine
from tests.server.engine.test_http1 import until
from tests.server.listening import asgi, echo, listening, request


def test_there_is_no_obstacle_with_the_hypercorn_that_we_ask_for() -> None:
    assert handover.obstacle() is None


class Other(tcp_server.TCPServer):
    def __init__(self, reader: Any, writer: Any) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (handover, "version", lambda _: "0.19.0"),
        (tcp_server, "TCPServer", Other),
        (tcp_server, "TCPServer", None),
        (run, "TCPServer", object),
    ],
)
def test_a_hypercorn_that_is_another_is_an_obstacle(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any
) -> None:
    monkeypatch.setattr(owner, name, value)
    assert handover.obstacle()


@pytest.mark.parametrize(
    ("early", "ends", "answer"),
    [
        (request(body=b"abc"), False, b"HTTP/1.1 200"),
        (request("content-length: 3"), False, b"HTTP/1.1 200"),
        (request(body=b"abc"), True, b"HTTP/1.1 200"),
        (b"", True, b""),
    ],
)
async def test_bytes_and_an_end_that_came_before_the_handover_are_not_lost(
    early: bytes, ends: bool, answer: bytes
) -> None:
    """Hypercorn's reader may have got both before the engine is asked."""
    accepted: list[asyncio.StreamReader] = []
    go = asyncio.Event()
    engine = Engine(asgi(echo))

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(reader)
        await go.wait()
        await handover._hand_over(engine, {}, reader, writer)

    async with await asyncio.start_server(late, "127.0.0.1", 0) as server, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(early)
        if ends:
            writer.write_eof()
        while not accepted or len(accepted[0]._buffer) < len(early) or accepted[0]._eof is not ends:  # type: ignore[attr-defined]
            await asyncio.sleep(0.005)
        go.set()
        if not ends:
            writer.write(b"" if early.endswith(b"abc") else b"abc")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(answer)
            writer.write_eof()
        else:
            assert (await reader.read()).startswith(answer)
        await reader.read()
        writer.close()
        while engine.connections:
            await asyncio.sleep(0.005)


@pytest.mark.both_loops
async def test_a_connection_that_is_over_leaves_no_streams_to_be_found_among_garbage() -> None:
    def streams() -> int:
        return sum(isinstance(it, asyncio.StreamReaderProtocol) for it in gc.get_objects())

    async with listening(echo) as served:
        gc.collect()
        gc.disable()
        try:
            before = streams()
            wire = await served.connect()
            wire.write(request())
            assert (await wire.answer()).status == 200
            wire.close()
            del wire
            served.forget()
            await until(lambda: streams() == before)
        finally:
            gc.enable()


async def test_a_connection_over_tls_stays_with_hypercorn() -> None:
    made: list[Any] = []

    class Kept:
        def __init__(self, *given: Any) -> None:
            made.append(given)

    class Secure:
        def get_extra_info(self, name: str) -> object:
            return object() if name == "ssl_object" else None

    original = run.TCPServer  # type: ignore[attr-defined]  # to be put back
    run.TCPServer = Kept  # type: ignore[attr-defined]
    try:
        handover.install(Engine(asgi(echo)))
        assert isinstance(run.TCPServer("app", "loop", "config", "context", {}, None, Secure()), Kept)  # type: ignore[attr-defined]
    finally:
        run.TCPServer = original  # type: ignore[attr-defined]
    assert len(made) == 1
