"""The addresses that are listened on. How evenly workers are reached, `tests/e2e/test_workers.py` shows."""

import contextlib
import os
import socket
import sys

import pytest

from gproxy.config.schema import Global
from gproxy.server.process.listeners import UNSENT_BYTES, holder, listen, url, vacate


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_there_is_a_socket_for_each_worker_at_one_address(workers: int) -> None:
    sockets = listen(Global(port=0, workers=workers))
    try:
        assert len(sockets) == workers
        (address,) = {each.getsockname() for each in sockets}
        assert address[1] > 0
        socket.create_connection(address, 5).close()
    finally:
        for each in sockets:
            each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="one queue for all")
def test_who_comes_while_a_worker_is_away_is_led_to_another() -> None:
    def waiting() -> list[int]:
        """How many of forty connections are in each queue."""
        clients = [socket.create_connection(address, 5) for _ in range(40)]
        found = [0, 0]
        for number, each in enumerate(sockets):
            each.setblocking(False)
            with contextlib.suppress(OSError):  # none, or it does not listen
                while True:
                    each.accept()[0].close()
                    found[number] += 1
        for client in clients:
            client.close()
        return found

    sockets = listen(Global(port=0, workers=2))
    address = sockets[0].getsockname()
    try:
        assert 0 not in waiting()
        vacate(sockets, 1, True)
        assert waiting() == [40, 0]
        vacate(sockets, 1, False)
        assert 0 not in waiting()
    finally:
        for each in sockets:
            each.close()


def test_a_queue_of_all_stays_open() -> None:
    (listener,) = listen(Global(port=0))
    with listener:
        vacate([listener, listener], 1, True)
        socket.create_connection(listener.getsockname(), 5).close()


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system cannot be asked")
def test_the_system_takes_over_only_so_much_for_a_slow_client() -> None:
    (listener,) = listen(Global(port=0))
    with listener, socket.create_connection(listener.getsockname(), 5), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("second", [1, 3])
def test_an_address_where_a_server_listens_is_refused(first: int, second: int) -> None:
    sockets = listen(Global(port=0, workers=first))
    try:
        port = sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen(Global(port=port, workers=second))
    finally:
        for each in sockets:
            each.close()
    for each in listen(Global(port=port, workers=second)):
        each.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError, match=r"\w"):
        listen(Global(host=host, port=0, workers=2))


@pytest.mark.parametrize(("tls", "scheme"), [("", "http"), ("x.pem", "https")])
def test_the_url_names_the_port_that_was_found(tls: str, scheme: str) -> None:
    settings = Global(port=0, tls_certificate=tls, tls_key=tls)
    (listener,) = listen(settings)
    with listener:
        assert url(settings, listener) == f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_stands_in_brackets() -> None:
    settings = Global(host="::1", port=0, workers=2)
    sockets = listen(settings)
    assert url(settings, sockets[0]).startswith("http://[::1]:")
    for each in sockets:
        each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="known on Linux alone")
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_has_a_port_is_known(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server((address, 0), family=family) as taken:
        port = taken.getsockname()[1]
        assert holder(port).endswith(f", process {os.getpid()}")
    assert holder(port) == ""
