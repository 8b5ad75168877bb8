"""One gateway and one upstream in a loop of their own, that can be asked thousands of times.

What is asked, and what must come of it, is `targets.py`'s.
"""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from gproxy.config.schema import PROTOCOLS
from gproxy.server.engine import repair
from tests.kit import answers
from tests.kit.calls import CALLS, Call
from tests.server.listening import Served, listening
from tests.server.parts import ALICE, Front, Peer, Seen, Visit, peer, provider, serving

T = TypeVar("T")

PRICES = "price_tiers = [{ price_input_tokens = 1.0, price_output_tokens = 2.0 }]\n"
SPEAKERS = {name.replace("_", "-"): (name,) for name in PROTOCOLS} | {"all": tuple(PROTOCOLS)}
"""A provider that speaks each dialect alone, and one that speaks all of them. All serve the model `m` alone."""

DEADLINE_S = 20.0
QUIET_S = 0.05
"""A connection on which nothing comes for so long is closed by its client."""

_SEAMS = repair._SEAMS


@dataclass
class Says:
    """How the upstream answers from now on. None: well, whatever it is asked."""

    status: int = 200
    media: str = "application/json"
    chunks: Sequence[bytes] = ()
    headers: Sequence[str] = ()
    whole: bool = False


class House:
    """Use as a context manager. `faults` is what was logged as an error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._sockets = AsyncExitStack()
        self._served: dict[str, Served] = {}
        self.says: Says | None = None
        self.faults: list[str] = []
        self._handler = _Faults(self.faults)
        self._front: Front
        self._peer: Peer

    def __enter__(self) -> Self:
        self._runner.run(self._start())
        logging.getLogger().addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._handler)
        self._runner.run(self._sockets.aclose())
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _start(self) -> None:
        self._peer = await self._stack.enter_async_context(peer(self._answer))
        text = ALICE
        for name, protocols in SPEAKERS.items():
            text += provider(self._peer.url, name, protocols=protocols)
            text += f'[[models]]\nprovider_name = "{name}"\nmodel_id = "m"\n{PRICES}'
        self._front = await self._stack.enter_async_context(serving(text, self._folder))

    async def _listen(self, engine: str) -> Served:
        """The gateway behind sockets, as `engine` serves it; Hypercorn is mended, as it is in a server."""
        if engine not in self._served:
            await self._sockets.aclose()
            self._served.clear()
            self._sockets.callback(
                _put_back, [(place, name, getattr(place, name)) for place, name, *_ in _SEAMS]
            )
            if engine == "hypercorn":
                repair.install()
            listened = listening(self._front.gateway, engine)
            self._served[engine] = await self._sockets.enter_async_context(listened)
        return self._served[engine]

    def tell(self, engine: str, pieces: Sequence[bytes], least: int) -> tuple[bytes, list[Seen]]:
        """All that is answered to bytes on one connection, and what the upstream was asked for their sake.

        The client closes its side when so many answers have begun and nothing more comes. Raises TimeoutError if
        they do not come, or if the server does not close then.
        """
        got = self.run(lambda: self._told(engine, pieces, least))
        seen = list(self._peer.seen)
        del self._peer.seen[:]
        return got, seen

    async def _told(self, engine: str, pieces: Sequence[bytes], least: int) -> bytes:
        served = await self._listen(engine)
        wire = await served.connect()
        got = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                wire.write(piece)
                await wire.writer.drain()
                await asyncio.sleep(0)
            while got.count(b"HTTP/1.1 ") < least and (data := await wire.reader.read(65536)):
                got += data
            with contextlib.suppress(TimeoutError):
                while data := await asyncio.wait_for(wire.reader.read(65536), QUIET_S):
                    got += data
            with contextlib.suppress(OSError):  # it is closed already
                wire.writer.write_eof()
            got += await wire.rest()
        wire.close()
        served.seen.clear()
        served.forget()
        while served.engine is not None and served.engine.connections:
            await asyncio.sleep(0.001)
        return got

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        says = self.says or self._well(seen)
        lines = [f"HTTP/1.1 {says.status} Said", f"content-type: {says.media}", *says.headers]
        if says.whole:
            body = b"".join(says.chunks)
            writer.write(
                "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body
            )
            return
        writer.write("\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode("latin-1"))
        for chunk in filter(None, says.chunks):
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await asyncio.sleep(0)  # a read of its own at the other side, or nearly
        writer.write(b"0\r\n\r\n")

    def _well(self, seen: Seen) -> Says:
        good = good_answer(seen.target, json.loads(seen.body))
        return Says(media=good.content_type, chunks=good.chunks)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` comes to, in this loop."""

        async def bounded() -> T:
            async with asyncio.timeout(DEADLINE_S):
                return await work()

        return self._runner.run(bounded())

    def ask(self, path: str, body: bytes, **scoped: Any) -> tuple[Visit, list[Seen]]:
        """The answer to one request, and what the upstream was asked for its sake."""
        before = len(self._peer.seen)
        visit = self.run(lambda: self._front.ask(path, body, **scoped))
        seen = self._peer.seen[before:]
        del self._peer.seen[:]
        return visit, seen

    def call(
        self, call: Call, speaker: str, body: bytes, query: str | None = None
    ) -> tuple[Visit, list[Seen]]:
        """The same for an operation of a provider's."""
        path, _, usual = call.url("m", speaker).partition("?")
        return self.ask(path, body, query=usual if query is None else query)


def good_answer(target: str, fields: Any) -> answers.Answer:
    """What a provider answers to a request for `target`, the same each time."""
    path, _, query = target.partition("?")
    known = [end for end in answers.BY_PATH if path.endswith(end)]
    say = answers.BY_PATH[max(known, key=len)] if known else answers.BY_ACTION[path.rpartition(":")[2]]
    return say(answers.Ask("u1", "m", fields, query, random.Random(5)))


def _put_back(found: list[tuple[Any, str, Any]]) -> None:
    for place, name, value in found:
        setattr(place, name, value)


TRANSLATED = [call for call in CALLS if call.column and "count" not in call.id]
"""Operations that providers of other dialects may be asked for, too."""


class _Faults(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(self.format(record))
