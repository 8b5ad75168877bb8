"""One request about to be opened, with what a process has for all of its requests."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from gproxy.config.snapshot import Credential
from gproxy.errors import (
    GatewayError,
    UpstreamFailed,
)
from gproxy.protocols import openai_chat
from gproxy.protocols.base import Protocol
from gproxy.server.request.asking import Ways
from gproxy.server.request.health import HealthBook
from gproxy.server.request.journal import Journal
from gproxy.server.request.opened import Opened
from gproxy.server.request.opening import Opener
from gproxy.server.request.tokens import Tokens
from gproxy.server.request.upstream import Upstream
from gproxy.server.tasks import Tasks
from gproxy.values import Route, Target
from tests.server.parts import (
    ALICE,
    Headers,
    call,
    snapshot,
)

BODY = b'{"model": "m", "messages": []}'
STREAMED = b'{"model": "m", "messages": [], "stream": true}'
SAYING = b'{"model": "m", "messages": [{"role": "user", "content": "Hello"}]}'
SDK_HEADERS: Headers = [
    (b"user-agent", b"a client"),
    (b"x-stainless-lang", b"python"),
    (b"openai-beta", b"x"),
    (b"authorization", b"Bearer sk-client"),
]
MESSAGE = {
    "type": "message",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
TWO = ("sk-first-secret", "sk-second-secret")


@dataclass
class Place:
    """What a process has for all its requests."""

    upstream: Upstream
    health: HealthBook
    tasks: Tasks
    store: Path


class Opening:
    """One request about to be opened under the configuration `text`; opened again, another with the same head."""

    def __init__(
        self,
        place: Place,
        text: str,
        body: bytes = BODY,
        protocol: Protocol = openai_chat.CHAT,
        headers: Headers | None = None,
        targets: tuple[Target, ...] = (Target("up", "m"),),
        strategy: str = "failover",
    ) -> None:
        self.foreseen: list[Target] = []
        self.opener = Opener(
            place.upstream,
            Tokens(place.upstream, place.tasks),
            place.health,
            Ways("own-id"),
            frozenset({"free"}),
            self.foreseen.append,
        )
        path_model = "m" if "{model}" in protocol.paths[0] else None
        here = snapshot(text + ALICE)
        place.health.adopt(here)
        self.call = call(here, body, protocol, model=path_model, headers=headers)
        self.journal = Journal(self.call, Route("m", targets, strategy=strategy))
        self.course = self.opener.course(self.call, self.journal.route)

    def credential(self) -> Credential:
        """The first of the provider `up`."""
        return self.call.snapshot.providers["up"].credentials[0]

    async def open(self) -> Opened:
        return await self.opener.open(self.journal, self.journal.route, self.course)

    async def taken(self) -> Opened:
        """Opened, and given up again."""
        opened = await self.open()
        opened.answer.close()
        return opened

    async def failed(self, kind: type[GatewayError] = UpstreamFailed) -> GatewayError:
        with pytest.raises(kind) as raised:
            await self.open()
        return raised.value
