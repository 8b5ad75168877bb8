"""One fault of Hypercorn's, mended from outside: connections that clients have closed are closed here too.

Hypercorn 0.18 waits for its idle timer before it closes a connection whose client is gone, so each one that a client
opens for a single request would hold a file descriptor for the keep-alive time. Nothing else of it is touched.
"""

from hypercorn.asyncio import run, tcp_server


class ClosingTCPServer(tcp_server.TCPServer):
    """Hypercorn's connection, which stops its idle timer when there is nothing more to read."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


def install() -> None:
    """Put it in the place of Hypercorn's own, if that is where this version of Hypercorn has it."""
    if getattr(run, "TCPServer", None) is tcp_server.TCPServer:
        run.TCPServer = ClosingTCPServer  # type: ignore[attr-defined]  # read at each connection
