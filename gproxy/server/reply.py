"""The answer to one request, as ASGI messages: whole or in pieces, always with its request id.

What stands in it is decided by others; this only knows whether the head is out.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gproxy.errors import GatewayError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class Reply:
    """One answer. `error_body` makes an error's body in the dialect of the route that was called.

    `streaming`: events are going out, so that an error can still be told as one.
    """

    def __init__(self, send: Send, request_id: str, error_body: Callable[[GatewayError, str], bytes]) -> None:
        self._send = send
        self._error_body = error_body
        self.request_id = request_id
        self.started = False
        self.streaming = False
        self.status = 0
        self._own: list[tuple[bytes, bytes]] = [(b"x-gproxy-request-id", request_id.encode())]

    def add_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Headers of ours that are to go out with the answer, whatever it is."""
        self._own += [(name.encode(), value.encode()) for name, value in headers]

    async def send_with_id(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's `send` for an answer that is made elsewhere: it gets the request's id too."""
        if message["type"] == "http.response.start":
            await self.start(message["status"], message["headers"])
        else:
            await self._send(message)

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self.status = status
        headers = [*headers, *self._own]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def start_stream(self, status: int, headers: Headers) -> None:
        self.streaming = True
        await self.start(status, [*headers, *STREAM_HEADERS])

    async def piece(self, data: bytes) -> None:
        """Part of the body; returns when the connection can take more."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        self.streaming = False
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.end(body)

    async def error(self, error: GatewayError, *, close: bool = False) -> None:
        """The error as the whole answer; `close`: and nothing more on this connection."""
        extra = [(name.encode(), value.encode()) for name, value in error.headers]
        if close:
            extra.append((b"connection", b"close"))
        body = self._error_body(error, self.request_id)
        await self.whole(error.status, [(b"content-type", b"application/json"), *extra], body)
