"""Sends one attempt to an upstream, gives back its answer, and calls every fault by its name.

Which attempt is made, and what its answer means, is decided in `routing/failover.py` and `opening.py`.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import httpx
from msgspec import Struct

from gproxy.config import schema
from gproxy.errors import (
    AnswerBroken,
    AnswerRefused,
    ConnectFailed,
    ConnectTimedOut,
    FirstByteTimedOut,
    GatewayError,
    IdleTimedOut,
    UpstreamFault,
)
from gproxy.providers.demo_wire import DemoAnswer
from gproxy.server.descriptors import exhausted
from gproxy.server.request import coding
from gproxy.server.request.capture import CALLED_OFF, AttemptTrace
from gproxy.server.transport.h1client import Form, H1Transport, Headers, TimedOut, form_of
from gproxy.server.transport.h1exchange import Take
from gproxy.server.transport.h1head import Told, shape_of
from gproxy.server.transport.unconnected import is_reset, why

MAX_WHOLE_ANSWER = 128 * 1024 * 1024
"""Largest answer that is held in memory: one that is not a stream and has to be read before it is sent."""

_CUT_OFF = "the connection ended inside the answer"
_OUT_OF_TIME = "the time for the whole request ran out"


@dataclass(slots=True)
class Way:
    """What requests to one place have in common. `headers` are ours, `further` a client's; `proxy` is a URL
    or "". `ready` is its form, once that was made."""

    url: str
    headers: Headers = field(default=(), repr=False)
    proxy: str = field(default="", repr=False)
    method: str = "POST"
    further: Headers = field(default=(), repr=False)
    _base: "Way | None" = field(default=None, repr=False)
    ready: Form | None = field(default=None, repr=False)

    def along(self, further: Headers) -> "Way":
        """The same with further headers."""
        return Way(self.url, self.headers, self.proxy, self.method, further, self)

    def form(self) -> Form:
        """For the transport, made when it is first used. Raises httpx.UnsupportedProtocol."""
        if self.ready is None:
            if self._base is None:
                form = form_of(self.method, self.url, self.headers, self.proxy)
            else:
                form = self._base.form()
            self.ready = form.further(self.further)
        return self.ready


class Attempt(Struct, frozen=True):
    """One request to one upstream, by `way`. `offline`: instead of sending, play this.

    `deadline` is on the event loop's clock.
    """

    way: Way
    settings: schema.Settings
    body: bytes = b""
    deadline: float = math.inf
    offline: Callable[[], DemoAnswer] | None = None

    def __repr__(self) -> str:
        return f"Attempt({self.way})"  # the rest may hold secrets


class Source(Protocol):
    """An answer as it comes in. `complete`: all of it has come. `over`: and been read. `heard`: when the last piece
    came, on the loop's clock, where they are poured. `told`: its headers."""

    status: int
    complete: bool
    heard: float
    told: Told

    @property
    def over(self) -> bool: ...

    async def read(self, until: float) -> bytes:
        """The next piece, b"" at the end. Raises TimeoutError at `until` on the loop's clock."""

    def taken(self) -> bytes:
        """All that has come and was not read."""

    async def pour(self, take: Take, until: float) -> bool:
        """Pieces go to `take` as they come, until that returns False; whether it was the end. Raises as `read`."""

    def abort(self) -> None: ...


class Answer(Struct):
    """The head of an upstream's answer, and its body to be read. Close it in every case.

    `sent` are the headers of ours that it answers. `idle_s`: so long it may pause. `trace` hears of what comes, where
    attempts are logged.
    """

    status: int
    told: Told
    sent: Headers
    idle_s: float
    _source: Source
    _now: Callable[[], float]
    _first_byte_until: float
    _deadline: float
    trace: AttemptTrace | None = None
    _decoder: coding.Decoder | None = None

    def header(self, name: bytes) -> str:
        """The first value of a header, "" if it is absent. `name` is lower case."""
        value = self.told.get(name)
        return "" if value is None else value.decode("latin-1").strip()

    @property
    def media(self) -> str:
        """The content type without its parameters, lower case."""
        return _media(self.told.get(b"content-type") or b"")

    def read(self, *, first: bool = False) -> Coroutine[Any, Any, bytes]:
        """The next piece, decoded; b"" at the end. Raises FirstByteTimedOut, IdleTimedOut or AnswerBroken.

        `first`: the answer has not begun (a stream, until its first event), and has first_byte_timeout_s to do so,
        counted from when it was asked for; after that, each piece has idle_timeout_s.
        """
        return self._next(first) if self.trace is None else self._told(self.trace, first)

    async def _told(self, trace: AttemptTrace, first: bool) -> bytes:
        try:
            data = await self._next(first)
        except UpstreamFault as fault:
            trace.failed(fault.reason)
            raise
        trace.piece(data)
        return data

    async def _next(self, first: bool) -> bytes:
        now = self._now()
        until = min(self._first_byte_until if first else now + self.idle_s, self._deadline)
        try:
            if now >= until:
                raise TimeoutError  # an upstream that always has something ready would else be read on for ever
            while True:
                data = await self._source.read(until)
                if self._decoder is None:
                    return data
                decoded = await asyncio.to_thread(self._decoder.feed, data) if data else self._decoder.end()
                if decoded or not data:
                    return decoded
        except TimeoutError:
            raise self._late(until, first) from None
        except (httpx.TransportError, coding.CodingBroken) as error:
            raise AnswerBroken(_CUT_OFF) from error
        except coding.OutputTooLarge:
            raise AnswerBroken("the answer is too large when decoded") from None

    def _late(self, until: float, first: bool) -> UpstreamFault:
        kind = FirstByteTimedOut if first else IdleTimedOut
        if until == self._deadline:
            return kind(_OUT_OF_TIME)
        return kind("no answer in time" if first else "the answer stopped coming")

    async def pour(self, take: Take) -> bool:
        """Hand pieces to `take` until that returns False; whether the answer has ended. Raises as `read` does, and
        what `take` raises.

        Where no one else looks at them on the way, `take` is called from the event loop as they come.
        """
        if self.trace is not None or self._decoder is not None:
            data = await self.read()
            if data:
                take(data)
            return not data
        source, loop = self._source, asyncio.get_running_loop()
        source.heard = loop.time()
        while True:
            until = min(source.heard + self.idle_s, self._deadline)
            try:
                if loop.time() >= until:
                    raise TimeoutError
                return await source.pour(take, until)
            except TimeoutError:
                if until == self._deadline or source.heard + self.idle_s <= until:
                    raise self._late(until, first=False) from None
            except httpx.TransportError as error:
                raise AnswerBroken(_CUT_OFF) from error

    @property
    def over(self) -> bool:
        """All of it has been read, and nobody is to hear of its end."""
        return self._source.over and self._decoder is None and self.trace is None

    def at_hand(self, cap: int = MAX_WHOLE_ANSWER) -> bytes | None:
        """What `whole` gives, without waiting for it; None where that takes time."""
        if not self._source.complete or self._decoder is not None or self.trace is not None:
            return None
        data = self._source.taken()
        if len(data) > cap:
            raise _too_large(cap)
        return data

    async def whole(self, cap: int = MAX_WHOLE_ANSWER) -> bytes:
        """All of the body. Raises as `read` does, and AnswerBroken beyond `cap` bytes."""
        come = self.at_hand(cap)
        if come is not None:
            return come
        pieces: list[bytes] = []
        size = 0
        while data := await self.read(first=not pieces):
            pieces.append(data)
            size += len(data)
            if size > cap:
                raise _too_large(cap)
            if self.over:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Give the connection up, unless the body was read to its end."""
        self._source.abort()
        if self.trace is not None:
            self.trace.ended()

    def decode(self) -> None:
        """Undo the codings that it says it has: we ask for identity, and some use one all the same.

        Raises AnswerRefused.
        """
        codings = coding.codings_of(self.header(b"content-encoding"))
        if not codings:
            return
        try:
            self._decoder = coding.Decoder(codings, MAX_WHOLE_ANSWER)
        except LookupError:
            self.close()
            raise AnswerRefused("it answered in an unknown content-encoding") from None


class Upstream:
    """The one client of this process, to be made inside its running loop. `now` is the loop's clock."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self._transport = H1Transport()

    async def send(
        self,
        attempt: Attempt,
        on_its_way: Callable[[], None] = lambda: None,
        trace: AttemptTrace | None = None,
    ) -> Answer:
        """The head of the answer. Raises ConnectFailed, ConnectTimedOut, FirstByteTimedOut, AnswerBroken or
        AnswerRefused, and Unavailable where this process can open no connection at all.

        `trace` hears of it all, where attempts are logged.
        """
        if trace is not None:
            return await self._told(attempt, on_its_way, trace)
        settings, way, deadline = attempt.settings, attempt.way, attempt.deadline
        source: Source
        if attempt.offline is not None:
            on_its_way()
            source, until = _Played(attempt.offline()), self.now() + settings.first_byte_timeout_s
        else:
            try:
                source = exchange = await self._transport.send(
                    way.ready or way.form(),
                    attempt.body,
                    on_its_way,
                    settings.connect_timeout_s,
                    settings.first_byte_timeout_s,
                    deadline,
                )
            except TimedOut as late:
                raise _late(late, deadline) from None
            except httpx.TransportError as error:
                raise _fault(error) from error
            until = exchange.until
        answer = Answer(
            source.status,
            source.told,
            way.headers,
            settings.idle_timeout_s,
            source,
            self.now,
            until,
            deadline,
        )
        if b"content-encoding" in source.told.shape.at:
            answer.decode()
        return answer

    async def _told(self, attempt: Attempt, on_its_way: Callable[[], None], trace: AttemptTrace) -> Answer:
        try:
            answer = await self.send(attempt, on_its_way)
        except BaseException as error:  # cancelled too: the attempt was made
            trace.failed(error.reason if isinstance(error, UpstreamFault) else CALLED_OFF)
            trace.ended()
            raise
        trace.answered(answer.status, answer.told.all())
        answer.trace = trace
        return answer

    async def close(self) -> None:
        await self._transport.aclose()


@lru_cache(maxsize=256)
def _media(content_type: bytes) -> str:
    return content_type.decode("latin-1").partition(";")[0].strip().lower()


def _late(late: TimedOut, deadline: float) -> UpstreamFault:
    # Once it is connected the upstream is at work; the time that a connection took has a limit of its own.
    kind = FirstByteTimedOut if late.connected else ConnectTimedOut
    if late.until == deadline:
        return kind(_OUT_OF_TIME)
    return kind("no answer in time" if late.connected else "no connection in time")


def _fault(error: httpx.TransportError) -> GatewayError | UpstreamFault:
    if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
        return exhausted(error) or ConnectFailed(why(error))
    ended = "was reset" if is_reset(error) else "ended"
    return AnswerBroken(f"the connection {ended} before the answer")


def _too_large(cap: int) -> AnswerBroken:
    return AnswerBroken(f"the answer is larger than {cap} bytes")


class _Played:
    """An answer that is made here: its pauses are waited for, nothing is sent."""

    complete = over = False
    heard = 0.0

    def __init__(self, answer: DemoAnswer) -> None:
        self.status = answer.status
        self.told = Told(shape_of((b"content-type",)), (answer.content_type.encode(),))
        self._chunks = iter(answer.chunks)

    async def read(self, until: float) -> bytes:
        pause, data = next(self._chunks, (0.0, b""))
        if pause:
            async with asyncio.timeout_at(until):
                await asyncio.sleep(pause)
        return data

    def taken(self) -> bytes:
        return b"".join(data for _, data in self._chunks)

    async def pour(self, take: Take, until: float) -> bool:
        data = await self.read(until)
        if data:
            self.heard = asyncio.get_running_loop().time()
            take(data)
        return not data

    def abort(self) -> None:
        """There is nothing to give up."""
