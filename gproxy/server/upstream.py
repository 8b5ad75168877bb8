"""Sends one attempt to an upstream, gives back its answer, and calls every fault by its name.

Which attempt is made, and what its answer means, is decided in `routing/failover.py` and `opening.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from gproxy.config import schema
from gproxy.errors import (
    AnswerBroken,
    AnswerRefused,
    ConnectFailed,
    ConnectTimedOut,
    FirstByteTimedOut,
    IdleTimedOut,
)
from gproxy.providers.demo_wire import DemoAnswer
from gproxy.server import coding
from gproxy.server.transport import AiohttpTransport, AnswerStream

MAX_WHOLE_ANSWER = 128 * 1024 * 1024
"""Largest answer that is held in memory: one that is not a stream and has to be read before it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to one upstream. `proxy` is a URL or "". `offline`: instead of sending, play this.

    `deadline` is on the event loop's clock, None for none.
    """

    method: str = "POST"
    url: str
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    settings: schema.Settings
    proxy: str = ""
    deadline: float | None = None
    offline: Callable[[], DemoAnswer] | None = None


class Answer:
    """The head of an upstream's answer, and its body to be read. Close it in every case."""

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        read: Callable[[], Awaitable[bytes]],
        close: Callable[[], object],
        attempt: Attempt,
    ) -> None:
        self.status = status
        self.headers = headers
        self._read = read
        self.first_byte_timeout_s = attempt.settings.first_byte_timeout_s
        self._idle = attempt.settings.idle_timeout_s
        self._deadline = attempt.deadline
        self._close = close
        self._decoder = self._decoder_for(self.header(b"content-encoding"))

    def header(self, name: bytes) -> str:
        return next((v.decode("latin-1").strip() for n, v in self.headers if n.lower() == name), "")

    @property
    def media(self) -> str:
        """The content type without its parameters, lower case."""
        return self.header(b"content-type").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """The next piece, decoded; b"" at the end. Raises IdleTimedOut or AnswerBroken."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._idle
        if self._deadline is not None:
            until = min(until, self._deadline)
        try:
            while True:
                async with asyncio.timeout_at(until):
                    data = await self._read()
                if self._decoder is None:
                    return data
                decoded = self._decoder.feed(data) if data else self._decoder.end()
                if decoded or not data:
                    return decoded
        except TimeoutError:
            raise IdleTimedOut("the answer stopped coming") from None
        except (httpx.TransportError, coding.CodingBroken) as error:
            raise AnswerBroken("the connection ended inside the answer") from error
        except coding.OutputTooLarge:
            raise AnswerBroken("the answer is too large when decoded") from None

    async def whole(self, cap: int = MAX_WHOLE_ANSWER) -> bytes:
        """All of the body. Raises as `read` does, and AnswerBroken beyond `cap` bytes."""
        pieces: list[bytes] = []
        size = 0
        while data := await self.read():
            pieces.append(data)
            size += len(data)
            if size > cap:
                raise AnswerBroken(f"the answer is larger than {cap} bytes")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Give the connection up, unless the body was read to its end."""
        self._close()

    def _decoder_for(self, header: str) -> coding.Decoder | None:
        # We ask for identity; some answer with a coding all the same.
        codings = coding.codings_of(header)
        if not codings:
            return None
        try:
            return coding.Decoder(codings, MAX_WHOLE_ANSWER)
        except LookupError:
            self.close()
            raise AnswerRefused("it answered in an unknown content-encoding") from None


class Upstream:
    """The one client of this process, to be made inside its running loop."""

    def __init__(self) -> None:
        self._transport = AiohttpTransport()

    async def send(self, attempt: Attempt, on_its_way: Callable[[], None] = lambda: None) -> Answer:
        """The head of the answer. Raises ConnectFailed, ConnectTimedOut, FirstByteTimedOut, AnswerBroken or
        AnswerRefused."""
        if attempt.offline is not None:
            on_its_way()
            return _play(attempt.offline(), attempt)
        settings = attempt.settings
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout_at(attempt.deadline)
        under_way = False

        def connected() -> None:
            # From here on the upstream is at work; the time that a connection took has a limit of its own.
            nonlocal under_way
            under_way = True
            on_its_way()
            until = loop.time() + settings.first_byte_timeout_s
            limit.reschedule(until if attempt.deadline is None else min(until, attempt.deadline))

        request = httpx.Request(
            attempt.method,
            attempt.url,
            headers=attempt.headers,
            content=attempt.body,
            extensions={
                "timeout": {"connect": settings.connect_timeout_s},
                "proxy": attempt.proxy,
                "connected": connected,
            },
        )
        try:
            async with limit:
                response = await self._transport.handle_async_request(request)
        except TimeoutError:
            if not under_way:
                raise ConnectTimedOut("no connection in time") from None
            raise FirstByteTimedOut("no answer in time") from None
        except httpx.ConnectTimeout:
            raise ConnectTimedOut("no connection in time") from None
        except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
            raise ConnectFailed("no connection") from error
        except httpx.TransportError as error:
            raise AnswerBroken("the connection ended before the answer") from error
        stream = response.stream
        assert isinstance(stream, AnswerStream)
        return Answer(response.status_code, response.headers.raw, stream.read, stream.abort, attempt)

    async def close(self) -> None:
        await self._transport.aclose()


def _play(answer: DemoAnswer, attempt: Attempt) -> Answer:
    """An answer that is made here: its pauses are waited for, nothing is sent."""
    chunks = iter(answer.chunks)

    async def read() -> bytes:
        pause, data = next(chunks, (0.0, b""))
        if pause:
            await asyncio.sleep(pause)
        return data

    headers = [(b"content-type", answer.content_type.encode())]
    return Answer(answer.status, headers, read, lambda: None, attempt)
