import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from gproxy.server.transport import dialing
from gproxy.server.transport.dialing import dial, dial_all
from tests.kit.settings import closed_port
from tests.server.transport.test_h1connect import certify


def answering(answer: bytes | None, wrap: Callable[[socket.socket], socket.socket] = lambda s: s) -> str:
    """The address of a peer that gives its one client that answer; None: it takes it, and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as plain:
            plain.settimeout(10)
            try:
                with wrap(plain) as client:
                    client.recv(1000)
                    if answer is not None:
                        client.sendall(answer)
                    client.recv(1000)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_one_that_answers_tells_its_time() -> None:
    there = format_datetime(datetime.now(UTC) - timedelta(seconds=100), usegmt=True)
    found = dial(answering(f"HTTP/1.1 404 No\r\nDate: {there}\r\n\r\n".encode()), 5)
    assert (found.host, found.failed) == ("127.0.0.1", "")
    assert found.ahead_s == pytest.approx(100, abs=5)


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: no date\r\n\r\n"])
def test_one_without_a_time_is_reached(head: str) -> None:
    found = dial(answering(head.encode()), 5)
    assert (found.failed, found.ahead_s) == ("", None)


def test_each_step_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = dial(f"http://127.0.0.1:{closed_port()}", 5)
    assert (refused.failed, refused.told) == ("TCP", "connection refused")
    garbled = dial(answering(b"220 smtp ready\r\n"), 5)
    assert (garbled.failed, garbled.told) == ("HTTP", "its answer is no HTTP")
    silent = dial(answering(None), 0.3)
    assert (silent.failed, silent.ahead_s) == ("", None)

    cert = certify(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert)
    secure = answering(b"", lambda s: context.wrap_socket(s, server_side=True))
    own = dial(secure.replace("http:", "https:"), 5)
    assert (own.failed, own.told) == ("TLS", "TLS failed: certificate not trusted")

    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    nameless = dial("https://no-such-name.invalid", 5)
    assert (nameless.failed, nameless.told) == ("DNS", "name not found (DNS)")


@pytest.fixture
def plain() -> Iterator[str]:
    """The address of a server that waits for the end of a head, as many do, and answers it in plain HTTP."""

    class Plain(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            told = b""
            while not told.endswith(b"\r\n\r\n"):
                if not (more := self.request.recv(1000)):
                    return
                told += more
            self.wfile.write(b"HTTP/1.1 404 No\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Plain) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_one_that_speaks_plain_http_is_told_from_one_whose_tls_fails(plain: str) -> None:
    assert dial(plain, 5).failed == ""
    silent = dial(plain.replace("http:", "https:"), 0.3)
    assert (silent.failed, silent.told) == ("TLS", "it speaks no TLS")
    refusing = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").replace("http:", "https:")
    found = dial(refusing, 5)
    assert (found.failed, found.told) == ("TLS", "it speaks no TLS")
    broken = dial(answering(b"").replace("http:", "https:"), 0.3)
    assert (broken.failed, broken.told) == ("TLS", "no answer in time")


@pytest.fixture
def shy(tmp_path: Path) -> Iterator[Callable[[bool], str]]:
    """The address of a server that closes without a word on what is no TLS; `shy(True)` speaks that."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certify(tmp_path))
    speaks = threading.Event()

    class Shy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            begins_tls = self.request.recv(1, socket.MSG_PEEK) == b"\x16"
            if begins_tls and speaks.is_set():
                context.wrap_socket(self.request, server_side=True).close()
            else:
                self.request.recv(1000)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Shy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def address(tls: bool) -> str:
            if tls:
                speaks.set()
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield address
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("tls", "told"), [(False, ("", "")), (True, ("HTTP", "it speaks TLS alone"))])
def test_one_that_closes_without_an_answer_is_reached_unless_it_speaks_tls(
    shy: Callable[[bool], str], tls: bool, told: tuple[str, str]
) -> None:
    found = dial(shy(tls), 5)
    assert (found.failed, found.told) == told


def test_a_look_up_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def dial_slowly(url: str, within_s: float) -> dialing.Dialed:
        held.wait(20)
        return dialing.Dialed("late", 0)

    monkeypatch.setattr(dialing, "dial", dial_slowly)
    try:
        found = dial_all(["http://slow.invalid"], 0.2)
    finally:
        held.set()
    assert [(d.host, d.failed, d.told) for d in found.values()] == [
        ("slow.invalid", "DNS", "nothing within 0.2 s")
    ]


def test_all_are_dialed_each_once() -> None:
    urls = [f"http://127.0.0.1:{closed_port()}", answering(b"HTTP/1.1 200 OK\r\n\r\n")]
    found = dial_all([*urls, urls[0]], 5)
    assert [found[url].failed for url in urls] == ["TCP", ""]
