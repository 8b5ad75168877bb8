"""What `gproxy.server.transport.h1client` is compared with, answer by answer and fault by fault: the same by aiohttp.

Faults of aiohttp's that no upstream may be let make are mended here; where it is looser than it should be, the tests
say so.
"""

import asyncio
import errno
import io
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace

import aiohttp
import httpx
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

POOL_KEEP_ALIVE_SECONDS = 15.0
"""How long an idle connection is kept: less than upstreams keep theirs, so that theirs seldom ends first."""

STALE_SECONDS = 1.0
"""A kept connection that had ended before the request came is known for that so soon. One that ends later had an
upstream at work behind it."""

MOST_STALE = 2
"""More kept connections do not end by chance under one request: it is what ends them."""

READ_BYTES = 64 * 1024
"""An answer is read on until twice as much is there for somebody who does not take it."""

_NO_DEFAULTS = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """One pool for all origins, to be made inside the running loop.

    Redirects, cookies, decompression, time limits and environment proxies are off. `request.extensions` may hold
    `proxy` (a URL, or "") and `connected`, which is called each time that the request has got a connection.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        traced = aiohttp.TraceConfig()
        traced.on_connection_create_end.append(_on_new)
        traced.on_connection_reuseconn.append(_on_reused)
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=POOL_KEEP_ALIVE_SECONDS, ssl=context if context is not None else True
        )
        connector._factory = partial(_connection, asyncio.get_running_loop())
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BYTES,
            timeout=aiohttp.ClientTimeout(),
            skip_auto_headers=_NO_DEFAULTS,
            trace_configs=[traced],
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The head of the answer; the body is read from its stream. Raises httpx.TransportError."""
        context = _Context(request.extensions.get("connected", lambda: None))
        stale = 0
        while True:
            context.reused_at = None
            try:
                answer = await self._session.request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=request.headers.multi_items(),
                    data=_body(request.content),
                    allow_redirects=False,
                    proxy=request.extensions.get("proxy") or None,
                    trace_request_ctx=context,
                )
            except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, ssl.SSLError) as error:
                raise httpx.ConnectError(str(error)) from error
            except (aiohttp.InvalidURL, ValueError) as error:
                raise httpx.UnsupportedProtocol(str(error)) from error
            except (aiohttp.ClientError, OSError) as error:
                # The peer closed a kept connection at once and before any byte of an answer, which is how an idle
                # one ends: the request goes out once more.
                if stale < MOST_STALE and context.stale and _ended_unanswered(error):
                    stale += 1
                    continue
                raise httpx.ReadError(str(error)) from error
            break
        return httpx.Response(
            answer.status,
            headers=answer.raw_headers,
            stream=AnswerStream(answer),
            request=request,
        )

    async def aclose(self) -> None:
        await self._session.close()


def _body(content: bytes) -> bytes | io.BytesIO | None:
    # Bytes are handed to the connection at once; from a file, in pieces as it takes them.
    return (content if len(content) <= READ_BYTES else io.BytesIO(content)) or None


def _ended_unanswered(error: Exception) -> bool:
    """Whether a connection was closed or reset with nothing of an answer in it."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is the part of a head that came
    return isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)


class _Connection(ResponseHandler):
    """aiohttp's side of a connection, without three faults of aiohttp 3.14."""

    def close(self) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size():
            # In order, what is unsent would go out first, to an upstream that may never take it.
            reset_on_close(self.transport)
            self.abort()
        else:
            super().close()

    def data_received(self, data: bytes) -> None:
        payload = self._payload
        super().data_received(data)
        if self.exception() is not None and payload is not None and not payload.is_eof():
            # What is malformed inside a body would be told to the next request alone: this one would wait on.
            payload.set_exception(aiohttp.ClientPayloadError("malformed"))

    def is_connected(self) -> bool:
        """Asked when a kept connection is to be used again. Not one on which something has come that nobody had
        asked for: it would be taken for the answer to the next request."""
        return super().is_connected() and not self.should_close


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """When its socket is closed, the other side is told at once, and the system keeps nothing for it."""
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _connection(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Connection(loop)


class _Context:
    """What is known of the connection that one request got."""

    def __init__(self, connected: Callable[[], None]) -> None:
        self.connected = connected
        self.reused_at: float | None = None

    @property
    def stale(self) -> bool:
        """Whether it was a kept one, and not long ago."""
        now = asyncio.get_running_loop().time()
        return self.reused_at is not None and now - self.reused_at < STALE_SECONDS


async def _on_new(session: aiohttp.ClientSession, trace: SimpleNamespace, params: object) -> None:
    context: _Context = trace.trace_request_ctx
    context.connected()


async def _on_reused(session: aiohttp.ClientSession, trace: SimpleNamespace, params: object) -> None:
    context: _Context = trace.trace_request_ctx
    context.reused_at = asyncio.get_running_loop().time()
    context.connected()


class AnswerStream(httpx.AsyncByteStream):
    """The body as it comes in, by `read` or as an iterator; and the head that it came with."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.status = answer.status
        self.headers = list(answer.raw_headers)
        self._answer = answer

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises httpx.ReadError."""
        try:
            return await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error)) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def abort(self) -> None:
        """Close the connection, unless the body was read to its end and it is back in the pool."""
        self._answer.close()

    async def aclose(self) -> None:
        self.abort()
