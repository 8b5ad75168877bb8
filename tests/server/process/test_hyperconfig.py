"""What Hypercorn is told: nothing is left to a default that would cut a stream or say who serves."""

import asyncio
import contextlib
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer

from gproxy.config.schema import Global
from gproxy.server.process import hyperconfig
from tests.server.listening import lifespan


def test_no_default_of_its_own_ends_a_stream_or_a_connection(tmp_path: Path) -> None:
    listener = socket.socket()
    config = hyperconfig.made(Global(), listener, tmp_path, by_uvloop=True)
    assert listener.fileno() == -1, "it is Hypercorn's now"
    for bound in config.bind:
        os.close(int(bound.removeprefix("fd://")))
    assert config.read_timeout is None
    assert config.graceful_timeout >= 86_400
    assert config.keep_alive_timeout == 75
    assert config.keep_alive_max_requests > 10**12
    assert not config.include_server_header
    assert config.certfile is None


def test_many_who_come_at_once_are_taken_in_few_turns_of_the_loop(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        turns = runner.run(_turns_to_take(80, tmp_path))
    assert turns < 40


@pytest.mark.parametrize(("by_uvloop", "times"), [(True, hyperconfig.LISTENING_TIMES), (False, 1)])
def test_a_loop_that_takes_all_who_wait_has_the_listener_once(
    tmp_path: Path, by_uvloop: bool, times: int
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    config = hyperconfig.made(Global(), listener, tmp_path, by_uvloop=by_uvloop)
    for bound in config.bind:
        os.close(int(bound.removeprefix("fd://")))
    assert len(config.bind) == times


async def _turns_to_take(count: int, folder: Path) -> int:
    taken: list[asyncio.BaseTransport] = []
    stop = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await lifespan(receive, send)

    class Counting(TCPServer):
        async def run(self) -> None:
            taken.append(self.writer.transport)
            await super().run()

    listener = socket.create_server(("127.0.0.1", 0), backlog=count)
    address = listener.getsockname()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as clients:
        patch.setattr("hypercorn.asyncio.run.TCPServer", Counting)
        config = hyperconfig.made(Global(), listener, folder, by_uvloop=True)
        serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
        clients.enter_context(first := socket.create_connection(address))
        while not taken:  # so it listens
            await asyncio.sleep(0)
        for _ in range(count):
            clients.enter_context(socket.create_connection(address))
        turns = 0
        while len(taken) <= count:
            turns += 1
            await asyncio.sleep(0)
        first.close()
    stop.set()
    await serving
    return turns


def test_tls_is_on_where_both_files_are_named_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    both = replace(Global(), tls_certificate="cert.pem", tls_key=str(tmp_path / "elsewhere" / "key.pem"))
    assert hyperconfig.tls_files(Global(), tmp_path) is None
    assert hyperconfig.tls_files(replace(both, tls_key=""), tmp_path) is None
    assert hyperconfig.tls_files(both, tmp_path) == (
        tmp_path / "cert.pem",
        tmp_path / "elsewhere" / "key.pem",
    )


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_key_that_others_can_read_is_told_of(tmp_path: Path, mode: int, told: bool) -> None:
    key = tmp_path / "key.pem"
    key.touch()
    key.chmod(mode)
    both = replace(Global(), tls_certificate="cert.pem", tls_key="key.pem")
    assert hyperconfig.readable_key(both, tmp_path) == (key if told else None)
    assert hyperconfig.readable_key(Global(), tmp_path) is None


def test_roots_key_may_be_read_by_the_group_that_it_was_given_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.pem"
    key.touch()
    monkeypatch.setattr("os.geteuid", lambda: key.stat().st_uid + 1)
    both = replace(Global(), tls_certificate="cert.pem", tls_key="key.pem")
    for mode, told in ((0o640, key.stat().st_uid != 0), (0o644, True)):
        key.chmod(mode)
        assert (hyperconfig.readable_key(both, tmp_path) == key) == told
