"""That the seam is where it is looked for; what it mends is shown by tests/e2e/test_leaving.py."""

from hypercorn.asyncio import run, tcp_server

from gproxy.server.repair import ClosingTCPServer, install


def test_the_seam_is_there_in_the_version_in_use() -> None:
    before = run.TCPServer
    try:
        run.TCPServer = tcp_server.TCPServer
        install()
        assert run.TCPServer is ClosingTCPServer
    finally:
        run.TCPServer = before
